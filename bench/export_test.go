package bench

import "time"

// SetLoad makes the load on a server small and short.
func (s *Suite) SetLoad(customers int, warm, measured time.Duration) {
	s.scale = &loadScale{customers: customers, warm: warm, measured: measured}
}
