package traffic

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// sleeper waits for points in time. Go's own timers end up to a millisecond late on a
// machine that is otherwise idle, longer than a decision takes; the kernel's, asked with
// no slack by a thread of its own, some 60 µs here.
type sleeper struct{ slack int }

// newSleeper binds the goroutine to its thread until close.
func newSleeper() *sleeper {
	runtime.LockOSThread()
	slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) != nil {
		slack = 0 // later wake-ups, which Result.Lateness tells
	}
	return &sleeper{slack: slack}
}

// until returns at a time, or at once if it is past.
func (*sleeper) until(t time.Time) {
	for {
		d := time.Until(t)
		if d <= 0 {
			return
		}
		wait := unix.NsecToTimespec(int64(d))
		_ = unix.Nanosleep(&wait, nil) // interrupted: again
	}
}

func (s *sleeper) close() {
	if s.slack > 0 {
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(s.slack), 0, 0, 0) // the thread goes back to all
	}
	runtime.UnlockOSThread()
}
