package server

import (
	"context"
	"sync"
	"time"

	"rapport/server/ledger"
)

// ledgerTick is how often the ledger is told the time where nobody decides.
const ledgerTick = time.Second

// ledgerTime tells a ledger the time: it learns it from decisions and reports, and
// without any it would show places as taken whose reservations have long expired.
type ledgerTime struct {
	stop context.CancelFunc
	wait sync.WaitGroup
}

func (t *ledgerTime) start(l *ledger.Ledger, now func() time.Time) {
	ctx, cancel := context.WithCancel(context.Background())
	t.stop = cancel
	t.wait.Go(func() {
		ticker := time.NewTicker(ledgerTick)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if held, err := l.Begin(ctx, now().UnixMicro()); err == nil {
				held.End()
			}
		}
	})
}

// end stops it. It need not have been started.
func (t *ledgerTime) end() {
	if t.stop != nil {
		t.stop()
	}
	t.wait.Wait()
}
