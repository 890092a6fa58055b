package main

import (
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress shows how far a long piece of work is: a bar on stderr while a person
// is watching, nothing otherwise. What came of the work is for the command to
// say, in its last line.
type progress struct{ bar *progressbar.ProgressBar }

// progress begins to show work on so many bytes; -1 if nobody knows how many.
func (a *app) progress(what string, bytes int64) progress {
	if !isTerminal(a.err) {
		return progress{}
	}
	return progress{progressbar.NewOptions64(bytes,
		progressbar.OptionSetWriter(a.err),
		progressbar.OptionSetDescription(what),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetPredictTime(bytes > 0),
	)}
}

// at shows that so many bytes have been worked on. It is called by one goroutine.
func (p progress) at(bytes int64) {
	if p.bar != nil {
		_ = p.bar.Set64(bytes) // it only fails past the end
	}
}

// end takes the bar away.
func (p progress) end() {
	if p.bar != nil {
		_ = p.bar.Clear()
		_ = p.bar.Exit()
	}
}
