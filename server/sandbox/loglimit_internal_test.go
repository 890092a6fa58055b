package sandbox

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestLogLimit(t *testing.T) {
	var out bytes.Buffer
	c := &clock{time.Unix(1_800_000_000, 0)}
	l := newLogLimit(slog.New(slog.NewTextHandler(&out, nil)))
	l.now = c.now
	lines := func() int { return strings.Count(out.String(), "msg=chatter") }
	for range 10 * logBurst {
		l.write(slog.LevelInfo, "chatter")
	}
	if got := lines(); got != logBurst {
		t.Errorf("%d lines at once, want %d", got, logBurst)
	}
	// A second buys logRate lines, the first of which says what was dropped.
	c.t = c.t.Add(time.Second)
	for range logBurst {
		l.write(slog.LevelInfo, "chatter")
	}
	if got := lines(); got != logBurst+logRate {
		t.Errorf("%d lines after a second, want %d", got, logBurst+logRate)
	}
	if want := "lines=1800"; strings.Count(out.String(), want) != 1 {
		t.Errorf("the log does not say %s once", want)
	}
	// A day buys no more than a burst.
	c.t = c.t.Add(24 * time.Hour)
	before := lines()
	for range 10 * logBurst {
		l.write(slog.LevelInfo, "chatter")
	}
	if got := lines() - before; got != logBurst {
		t.Errorf("%d lines after a day, want %d", got, logBurst)
	}
}
