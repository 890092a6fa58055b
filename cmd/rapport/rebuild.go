package main

import (
	"context"
	"fmt"
	"time"

	"rapport/profilestore"
	"rapport/server"
)

// rebuildCmd derives the delta records anew.
type rebuildCmd struct{}

// Help is shown by --help.
func (rebuildCmd) Help() string {
	return `Removes what was derived from events (DATA/deltas) and derives it anew from the journal, and from the base
where the journal's beginning has been removed. Batch loads stay as they are. No server may have the data
folder open. Journal and base are checked first; if they are damaged nothing is removed. If it is
interrupted, the next start of a server goes on.

It is not needed after a change of the schema: the next start of a server does the same then.

Examples:

	rapport rebuild --data DATA`
}

// Run rebuilds.
func (rebuildCmd) Run(ctx context.Context, a *app) error {
	config, err := a.offlineConfig("what is rebuilt is part of a data folder")
	if err != nil {
		return err
	}
	shown := shownProgress{app: a}
	config.OnReplay = func(p profilestore.ReplayProgress) { shown.at(p.What, int64(p.Done), int64(p.Total)) }
	r, err := server.Rebuild(ctx, config, func(done, total int64) { shown.at("checking", done, total) })
	shown.end()
	if err != nil {
		return err
	}
	rate := float64(r.Entries) / max(r.Took.Seconds(), 1e-6)
	if a.json {
		return a.printJSON(struct {
			Entries uint64  `json:"entries"`
			Base    uint64  `json:"base,omitempty"` // entries up to here are in the base
			Seconds float64 `json:"seconds"`
		}{r.Entries, r.Base, r.Took.Seconds()})
	}
	from := ""
	if r.Base > 0 {
		from = fmt.Sprintf("the base of entry %d and ", r.Base)
	}
	_, err = fmt.Fprintf(a.out, "derived from %s%s in %v, %.0f a second\n", from, plural(r.Entries, "entry"), r.Took.Round(time.Millisecond), rate)
	return err
}

// shownProgress shows one piece of work after the other.
type shownProgress struct {
	app  *app
	what string
	bar  progress
}

func (s *shownProgress) at(what string, done, total int64) {
	if what != s.what {
		s.end()
		s.what, s.bar = what, s.app.progress(what, total)
	}
	s.bar.at(done)
}

func (s *shownProgress) end() {
	if s.what != "" {
		s.bar.end()
		s.what = ""
	}
}
