package abitest

import (
	"context"
	"log/slog"
	"sync/atomic"

	"rapport/server/sandbox"
)

// lineCounter is a log handler that counts what strategies log, and passes
// everything on.
type lineCounter struct {
	next  slog.Handler
	lines *atomic.Int64
}

// Enabled has everything come here, to be counted.
func (lineCounter) Enabled(context.Context, slog.Level) bool { return true }

// Handle counts a record if a strategy has said it.
func (c lineCounter) Handle(ctx context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == sandbox.LogFrom {
			c.lines.Add(1)
		}
		return a.Key != sandbox.LogFrom
	})
	if !c.next.Enabled(ctx, r.Level) {
		return nil
	}
	return c.next.Handle(ctx, r)
}

// WithAttrs returns a handler that counts together with c.
func (c lineCounter) WithAttrs(attrs []slog.Attr) slog.Handler {
	return lineCounter{c.next.WithAttrs(attrs), c.lines}
}

// WithGroup returns a handler that counts together with c.
func (c lineCounter) WithGroup(name string) slog.Handler {
	return lineCounter{c.next.WithGroup(name), c.lines}
}
