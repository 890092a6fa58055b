package bench

import "time"

// SetGuests lends the suite guests that are compiled already.
func (s *Suite) SetGuests(g *Guests) { s.guests, s.lent = g, true }

// SetLoad makes the load on a server small and short.
func (s *Suite) SetLoad(customers int, warm, measured time.Duration) {
	s.scale = &loadScale{customers: customers, warm: warm, measured: measured, recovery: time.Second}
}
