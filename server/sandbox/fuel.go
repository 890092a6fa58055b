package sandbox

import (
	"time"

	"rapport/server/decide"
)

const (
	// initialFuel is what a module may use from its start to its first ranking,
	// some 30 times what a Go program does.
	initialFuel = 200_000_000
	// stackSlots is what recursive calls may take of the call stack, in slots of 8
	// bytes: 4 MiB. What calls that don't recur take comes to that, at most 1 MiB.
	stackSlots = 1 << 19
	// fuelPerMicrosecond is how much fuel a call is given for each microsecond that
	// is left until the deadline. Code takes 0.03 to 0.5 ns a unit, the dearest
	// that was found 2 (bench's reports of attacks and prices), and with denormal
	// numbers 6; code that does nothing but wait for memory, which a hostile strategy
	// may be, far more: see slow.
	fuelPerMicrosecond = 500
	// leastFuel is the fuel with which a call is not begun.
	leastFuel = 10_000
	// A call is slow if its thread ran for slowLeast, and slowTimes as long as its
	// fuel is worth.
	slowLeast = time.Millisecond
	slowTimes = 4
)

// worth returns how long a call may take that uses so much fuel.
func worth(fuel int64) time.Duration {
	return time.Duration(fuel) * time.Microsecond / fuelPerMicrosecond
}

// slow reports whether a call took much longer than its fuel is worth: whether it
// waits for memory all the time, to which fuel is blind. Its answer is as good as
// any, but the version is held to be at fault. What counts is the time that the
// thread ran, so a machine that is busy with others makes no call slow.
func slow(ran time.Duration, fuel int64) bool { return ran > slowLeast && ran > slowTimes*worth(fuel) }

// fuelLimit returns the fuel that a call for n candidates may use, without regard
// to the time: the lower of the host's limit and the strategy's.
func (s *Strategy) fuelLimit(n int) int64 {
	limit := s.module.runtime.fuel.Of(n)
	if own := s.module.manifest.Fuel; own != nil {
		limit = min(limit, own.Of(n))
	}
	return limit
}

// grant returns the fuel for a call: the limit, or less if the time that is left
// is worth less, or the caller says so. So a call ends by the deadline without
// anybody looking at a clock while it runs; and as the decision keeps what was
// given, a replay can give the same. It is 0 if there is not enough time to begin.
func (s *Strategy) grant(r *decide.Ranking) int64 {
	fuel := s.fuelLimit(len(r.Candidates))
	if r.Fuel > 0 {
		fuel = min(fuel, r.Fuel)
	}
	if !r.Deadline.IsZero() {
		worth := time.Until(r.Deadline).Microseconds() * fuelPerMicrosecond
		if worth < min(fuel, leastFuel) {
			return 0
		}
		fuel = min(fuel, worth)
	}
	return fuel
}
