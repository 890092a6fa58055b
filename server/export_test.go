package server

import (
	"context"
	"time"

	"rapport/profilestore"
	"rapport/server/decisionlog"
	"rapport/server/ledger"
)

// SetClock sets the clock of decisions, events and circuit breakers.
func (c *Config) SetClock(now func() time.Time) { c.now = now }

// SetEngine puts something between the store and its engine.
func (c *Config) SetEngine(wrap func(profilestore.Engine) profilestore.Engine) { c.engine = wrap }

// SetDecided sets who sees each decision as it is kept.
func (c *Config) SetDecided(f func(*decisionlog.Record)) { c.decided = f }

// SetDecisionFS sets how the decision log writes.
func (c *Config) SetDecisionFS(fs decisionlog.FS) { c.decisionFS = fs }

// Decided returns who does.
func (c *Config) Decided() func(*decisionlog.Record) { return c.decided }

// Replay makes a decision again.
func (s *Server) Replay(ctx context.Context, r *decisionlog.Record, w decisionlog.With) (*decisionlog.Replay, error) {
	return decisionlog.Replayer{Sources: s.replays}.Replay(ctx, r, w)
}

// SetLedgerFS sets how the ledger writes.
func (c *Config) SetLedgerFS(fs ledger.FS) { c.ledgerFS = fs }

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

// ReadEvidence gives decisions what has come of offers now, and not within a second.
func (s *Server) ReadEvidence() { s.readEvidence() }
