package main

import (
	"fmt"
	"io"
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

// lineEvery is how often a line says how far it is where nobody is watching a bar.
const lineEvery = 10 * time.Second

// rowProgress shows how far a load is: a bar while a person is watching, else a line
// now and then, for who reads the log of a job that takes an hour.
type rowProgress struct {
	a       *app
	what    string
	bar     progress
	began   time.Time
	shown   time.Time
	reading time.Duration // that it took to read the rows
}

func (a *app) rowProgress(what string) *rowProgress {
	now := time.Now()
	return &rowProgress{a: a, what: what, began: now, shown: now}
}

// at shows that so many rows were read, and so much is done of the whole work, of
// which reading them is a half.
func (p *rowProgress) at(rows, done, total int64) {
	now := time.Now()
	took := now.Sub(p.began)
	if done <= total/2 {
		p.reading = took
	}
	if p.bar.bar == nil {
		p.bar = p.a.progress(p.what, total)
	}
	if p.bar.bar != nil {
		if now.Sub(p.shown) > time.Second/4 {
			p.shown = now
			p.bar.bar.Describe(fmt.Sprintf("%s: %d rows, %.0f/s", p.what, rows, float64(rows)/max(p.reading.Seconds(), 1e-3)))
		}
		p.bar.at(done)
		return
	}
	if now.Sub(p.shown) >= lineEvery {
		p.shown = now
		writeProgress(p.a.err, p.what, rows, done, total, took, p.reading)
	}
}

// writeProgress writes how far a load is as a line.
func writeProgress(w io.Writer, what string, rows, done, total int64, took, reading time.Duration) {
	phase := "read"
	if done > total/2 {
		phase = "read, writing them"
	}
	left := time.Duration(float64(took) / float64(max(1, done)) * float64(total-done))
	writef(w, "%s: %d%%, %d rows %s, %.0f rows/s, about %v left\n",
		what, 100*done/max(1, total), rows, phase, float64(rows)/max(reading.Seconds(), 1e-3), left.Round(time.Second))
}

func (p *rowProgress) end() { p.bar.end() }
