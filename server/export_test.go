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

// AgeToken returns a token as it would be if the decision had been made earlier.
func (s *Server) AgeToken(text string, by time.Duration) (string, error) {
	t, err := s.tokens.open(text, time.Now().UnixMicro())
	if err != nil {
		return "", err
	}
	t.time, t.expires = t.time-by.Microseconds(), t.expires-by.Microseconds()
	return s.tokens.seal(t), nil
}
