//go:build !linux

package traffic

import "time"

// sleeper waits for points in time, as well as Go's timers do.
type sleeper struct{}

func newSleeper() sleeper { return sleeper{} }

// until returns at a time, or at once if it is past.
func (sleeper) until(t time.Time) {
	if d := time.Until(t); d > 0 {
		<-time.After(d)
	}
}

func (sleeper) close() {}
