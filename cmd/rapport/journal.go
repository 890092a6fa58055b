package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rapport/profilestore"
	"rapport/server"
)

// journalCmd works on the journal of events.
type journalCmd struct {
	List   journalListCmd   `cmd:"" help:"List the files of the journal."`
	Verify journalVerifyCmd `cmd:"" help:"Read all of the journal and say what is damaged."`
	Export journalExportCmd `cmd:"" help:"Write events of the journal as lines of JSON."`
	Base   journalBaseCmd   `cmd:"" help:"Write a new base of what is kept of customers."`
}

// Help is shown by --help.
func (journalCmd) Help() string {
	return `Every event that was taken, and every change of identities, is an entry of the journal, with a number;
what is kept of customers besides batch loads is derived from it. It is kept for ever, unless the server
has the setting journal-retain. Then the oldest files are removed, whole ones; what they said of customers
stays in the base, a file in DATA/base.

Journal and base hold personal data: who may read the data folder may read them.`
}

type journalListCmd struct{}

// Help is shown by --help.
func (journalListCmd) Help() string {
	return `A server may have the data folder open.

Examples:

	rapport journal list --data DATA
	rapport journal list --data DATA --json`
}

// journalFile is a file of the journal, as --json prints it.
type journalFile struct {
	File    string    `json:"file"`
	First   uint64    `json:"first"`
	Last    uint64    `json:"last"`
	Bytes   int64     `json:"bytes"`
	Logged  time.Time `json:"logged,omitzero"`
	Written time.Time `json:"written"`
}

// journalBase is a base, as --json prints it.
type journalBase struct {
	File     string    `json:"file"`
	Position uint64    `json:"position"`
	Records  uint64    `json:"records"`
	Bytes    int64     `json:"bytes"`
	Made     time.Time `json:"made"`
	Schema   string    `json:"schema"`
}

func baseOf(b *profilestore.BaseInfo) *journalBase {
	if b == nil {
		return nil
	}
	return &journalBase{b.Path, b.Position, b.Records, b.Bytes, b.Made, b.Schema}
}

// Run lists the files.
func (journalListCmd) Run(ctx context.Context, a *app) error {
	data, err := a.target.folder("the journal is part of a data folder")
	if err != nil {
		return err
	}
	if err := checkDataFolder(data); err != nil {
		return err
	}
	segments, base, err := profilestore.ListJournal(ctx, data)
	if err != nil {
		return err
	}
	files := make([]journalFile, len(segments))
	total := int64(0)
	for i, x := range segments {
		files[i] = journalFile{File: x.Path, First: x.First, Last: x.Next - 1, Bytes: x.Bytes, Written: x.Written.UTC().Truncate(time.Second)}
		if x.Logged != 0 {
			files[i].Logged = time.UnixMicro(x.Logged).UTC()
		}
		total += x.Bytes
	}
	if a.json {
		return a.printJSON(struct {
			Files []journalFile `json:"files"`
			Base  *journalBase  `json:"base,omitempty"`
		}{files, baseOf(base)})
	}
	if len(files) == 0 {
		writef(a.err, "there is no journal yet\n")
		return nil
	}
	t := newTable("FILE", ">FIRST", ">LAST", ">SIZE", "FIRST LOGGED", "LAST WRITTEN")
	for _, f := range files {
		logged := none
		if !f.Logged.IsZero() {
			logged = f.Logged.Format(time.RFC3339)
		}
		t.add(f.File, f.First, f.Last, formatBytes(f.Bytes), logged, f.Written.Format(time.RFC3339))
	}
	if err := t.write(a.out); err != nil {
		return err
	}
	first, next := segments[0].First, segments[len(segments)-1].Next
	writef(a.out, "\n%s, %s, %s\n", plural(len(files), "file"), plural(next-first, "entry"), formatBytes(total))
	if base != nil {
		writef(a.out, "base %s, of %s, stands for the entries up to %d: %s, %s\n", base.Path, base.Made.Format(time.RFC3339), base.Position, plural(base.Records, "record"), formatBytes(base.Bytes))
	}
	return nil
}

type journalVerifyCmd struct{}

// Help is shown by --help.
func (journalVerifyCmd) Help() string {
	return `Reads all of the journal, and the base if there is one, and compares each entry with its checksum. A
server may have the data folder open, and goes on. Each damage is named with file, byte and the numbers
of the entries that can't be read for it. Nothing is changed. The exit code is 1 if anything is damaged.

A server reads only what it needs when it starts, so verify now and then, and before old backups go.

Examples:

	rapport journal verify --data DATA
	rapport journal verify --data DATA --json`
}

// journalDamage is a damage, as --json prints it.
type journalDamage struct {
	File   string `json:"file"`
	Offset int64  `json:"offset"`
	Reason string `json:"reason"`
	From   uint64 `json:"from,omitempty"`
	Lost   uint64 `json:"lost"`
	Open   bool   `json:"open,omitempty"` // up to the end, and nobody knows how many
}

// Run reads the journal.
func (journalVerifyCmd) Run(ctx context.Context, a *app) error {
	data, err := a.target.folder("the journal is part of a data folder")
	if err != nil {
		return err
	}
	if err := checkDataFolder(data); err != nil {
		return err
	}
	var bar *progress
	started := time.Now()
	v, err := profilestore.VerifyJournal(ctx, data, func(done, total int64) {
		if bar == nil {
			b := a.progress("verifying", total)
			bar = &b
		}
		bar.at(done)
	})
	if bar != nil {
		bar.end()
	}
	if err != nil {
		return err
	}
	took := time.Since(started)
	damages := make([]journalDamage, 0, len(v.Journal.Damages)+1)
	for _, d := range v.Journal.Damages {
		damages = append(damages, journalDamage{d.File, d.Offset, d.Reason, d.From, d.Lost, d.Open})
	}
	damagedBase, _ := errors.AsType[*profilestore.BaseError](v.BaseError)
	if damagedBase != nil {
		damages = append(damages, journalDamage{File: damagedBase.File, Offset: damagedBase.Offset, Reason: damagedBase.Reason})
	}
	if a.json {
		err = a.printJSON(struct {
			First    uint64          `json:"first"`
			Next     uint64          `json:"next"`
			Records  uint64          `json:"records"`
			Files    int             `json:"files"`
			Bytes    int64           `json:"bytes"`
			Seconds  float64         `json:"seconds"`
			Tail     int64           `json:"incompleteBytes,omitempty"`
			Base     *journalBase    `json:"base,omitempty"`
			NoBase   bool            `json:"baseMissing,omitempty"`
			Damages  []journalDamage `json:"damages"`
			Complete bool            `json:"undamaged"`
		}{
			v.Journal.First, v.Journal.Next, v.Journal.Records, v.Journal.Segments, v.Journal.Bytes, took.Seconds(), v.Journal.Tail,
			baseOf(v.Base), v.Missing, damages, len(damages) == 0 && !v.Missing,
		})
	} else {
		err = printVerified(a, v, damages, took)
	}
	if err == nil && (len(damages) > 0 || v.Missing) {
		err = errReported
	}
	return err
}

// printVerified says what was found, for people.
func printVerified(a *app, v *profilestore.JournalVerification, damages []journalDamage, took time.Duration) error {
	for _, d := range damages {
		writef(a.err, "%s\n", printable(fmt.Sprintf("%s: damaged at byte %d: %s%s", d.File, d.Offset, d.Reason, d.lost())))
	}
	if v.Missing {
		writef(a.err, "the entries before %d have been removed, and there is no base that stands for them\n", v.Journal.First)
	}
	if n := v.Journal.Tail; n > 0 {
		writef(a.err, "%s at the end of the last file are no complete group: one that is just being written, or that a crash has cut short; it was not acknowledged\n", formatBytes(n))
	}
	bytes := v.Journal.Bytes
	what := fmt.Sprintf("%s from %d in %s", plural(v.Journal.Records, "entry"), v.Journal.First, plural(v.Journal.Segments, "file"))
	if v.Base != nil {
		bytes += v.Base.Bytes
		what += fmt.Sprintf(", a base of %s at %d", plural(v.Base.Records, "record"), v.Base.Position)
	}
	rate := float64(bytes) / max(took.Seconds(), 1e-6)
	_, err := fmt.Fprintf(a.out, "%s: %s in %v, %s a second\n", what, formatBytes(bytes), took.Round(time.Millisecond), formatBytes(int64(rate)))
	if err != nil {
		return err
	}
	switch {
	case len(damages) > 0:
		_, err = fmt.Fprintf(a.out, "%s: put back the files from a backup; do not delete or shorten them\n", plural(len(damages), "damage"))
	case !v.Missing:
		_, err = fmt.Fprintf(a.out, "nothing is damaged\n")
	}
	return err
}

// lost says which entries can't be read.
func (d *journalDamage) lost() string {
	switch {
	case d.From == 0:
		return ""
	case d.Open:
		return fmt.Sprintf("; all entries from %d on can't be read", d.From)
	case d.Lost == 0:
		return "; no entry is lost"
	case d.Lost == 1:
		return fmt.Sprintf("; entry %d can't be read", d.From)
	}
	return fmt.Sprintf("; entries %d to %d can't be read", d.From, d.From+d.Lost-1)
}

type journalBaseCmd struct{}

// Help is shown by --help.
func (journalBaseCmd) Help() string {
	return `Writes a new base: a copy of all that is derived from the journal, with checksums, up to the present entry.
It takes the place of the one before. No server may have the data folder open. A server that has the
setting journal-retain writes one by itself when it needs it; by hand it is for a base that was found to
be damaged, and to make a rebuild shorter. It holds personal data, and only its owner can read the file.

Examples:

	rapport journal base --data DATA`
}

// Run writes a base.
func (journalBaseCmd) Run(ctx context.Context, a *app) error {
	config, err := a.offlineConfig("a base is part of a data folder")
	if err != nil {
		return err
	}
	started := time.Now()
	b, err := server.WriteBase(ctx, config, nil)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(baseOf(b))
	}
	_, err = fmt.Fprintf(a.out, "wrote %s: %s, %s, up to entry %d, in %v\n", b.Path, plural(b.Records, "record"), formatBytes(b.Bytes), b.Position, time.Since(started).Round(time.Millisecond))
	return err
}

// offlineConfig is the configuration of a server that this process opens on the data
// folder and asks nothing.
func (a *app) offlineConfig(why string) (server.Config, error) {
	data, err := a.target.folder(why)
	if err != nil {
		return server.Config{}, err
	}
	if err := checkDataFolder(data); err != nil {
		return server.Config{}, err
	}
	config := server.Config{Data: data, Logger: a.logger(), Version: programVersion()}
	return config, a.strategies.apply(&config)
}
