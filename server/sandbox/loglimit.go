package sandbox

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// What a strategy's instances may write to the log together: logBurst lines at
// once, and logRate a second on average.
const (
	logBurst = 200
	logRate  = 20
)

// logLimit passes lines of a strategy on to the log, as long as they are not too
// many: a bucket of tokens, which time fills. What is dropped is counted, and the
// count is logged with the next line that passes. A strategy that logs a line in
// each call would else write thousands a second, of which nobody reads one. It is
// safe for concurrent use.
type logLimit struct {
	log *slog.Logger
	now func() time.Time

	mu      sync.Mutex
	tokens  float64
	last    time.Time
	dropped int
}

func newLogLimit(log *slog.Logger) *logLimit {
	return &logLimit{log: log, now: time.Now, tokens: logBurst}
}

// write logs a line, or drops it.
func (l *logLimit) write(level slog.Level, message string, args ...any) {
	dropped, ok := l.take()
	if !ok {
		return
	}
	if dropped > 0 {
		l.log.Warn("lines of a strategy were dropped: it logs too much", "lines", dropped)
	}
	l.log.Log(context.Background(), level, message, args...)
}

// take takes a token, and returns how many lines were dropped since the last one.
func (l *logLimit) take() (dropped int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if !l.last.IsZero() {
		l.tokens = min(logBurst, l.tokens+logRate*now.Sub(l.last).Seconds())
	}
	l.last = now
	if l.tokens < 1 {
		l.dropped++
		return 0, false
	}
	l.tokens--
	dropped, l.dropped = l.dropped, 0
	return dropped, true
}
