package server

import (
	"context"
	"time"

	"rapport/server/decisionlog"
	"rapport/server/explain"
	"rapport/server/ledger"
)

// SetClock sets the clock of decisions, events and circuit breakers.
func (c *Config) SetClock(now func() time.Time) { c.now = now }

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

// Explain explains a decision.
func (s *Server) Explain(ctx context.Context, r *decisionlog.Record) (*explain.Explanation, error) {
	return explain.Explain(ctx, decisionlog.Replayer{Sources: s.replays}, r)
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

// SimulationNumbers returns a customer's place in the order of a simulation, and the seed
// of the customer's decisions.
func SimulationNumbers(seed uint64, customer string) (order, own uint64) {
	return numbersOf(seed, customer)
}

// SetSimulatedAtOnce sets how many customers a simulation holds at once.
func (c *Config) SetSimulatedAtOnce(n int) { c.simulatedAtOnce = n }

// HoldSimulating makes the server look as if a simulation were running.
func (s *Server) HoldSimulating() (release func()) {
	s.simulating.Lock()
	return s.simulating.Unlock
}

// LedgerState returns what the ledger has counted, and what is used up.
func (s *Server) LedgerState() (ledger.Stats, []ledger.Reading) {
	return s.ledger.Stats(), s.ledger.Readings()
}
