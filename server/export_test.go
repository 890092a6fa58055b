package server

import "time"

// SetClock sets the clock of the circuit breakers.
func (c *Config) SetClock(now func() time.Time) { c.now = now }
