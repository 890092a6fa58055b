package server

import "time"

// SetClock sets the clock of the circuit breakers.
func (c *Config) SetClock(now func() time.Time) { c.now = now }

// HoldCounting makes the server look as if segments were being counted.
func (s *Server) HoldCounting() (release func()) {
	s.counting.Lock()
	return s.counting.Unlock
}

// BeginStopping makes the server stop what takes long.
func (s *Server) BeginStopping() { s.stopping.Store(true) }
