package server_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"rapport/server"
	"rapport/server/decide"
	"rapport/server/decisionlog"
	"rapport/server/explain"
)

// explainEvery is of how many decisions one is also explained.
const explainEvery = 8

// replayed replays every decision of a server as soon as it was made, from the bytes that
// the log would write, and compares each bit.
type replayed struct {
	t      testing.TB
	server atomic.Pointer[server.Server]
	n      atomic.Int64

	mu     sync.Mutex
	blocks *decisionlog.BlockWriter
}

// replayAll has every decision of a server that is opened with config replayed, unless
// somebody else sees them. What it returns is to be told the server.
func replayAll(t testing.TB, config *server.Config) *replayed {
	r := &replayed{t: t, blocks: decisionlog.NewBlockWriter()}
	if config.Decided() == nil {
		config.SetDecided(r.check)
	}
	return r
}

func (r *replayed) check(was *decisionlog.Record) {
	s := r.server.Load()
	if s == nil {
		r.t.Error("a decision before the server is open")
		return
	}
	kept := r.reread(was)
	if kept == nil {
		return
	}
	again, err := s.Replay(context.Background(), kept, decisionlog.With{})
	if err != nil {
		r.t.Errorf("decision %s: %v", was.ID, err)
		return
	}
	for _, d := range append(kept.Differences(again), again.Missing...) {
		r.t.Errorf("decision %s: %s", was.ID, d)
	}
	if r.n.Add(1)%explainEvery == 1 { // it costs what the decision and its replay do
		r.explain(s, kept)
	}
}

// explain explains a decision, and wants a cause for every candidate that is not on the
// slate.
func (r *replayed) explain(s *server.Server, kept *decisionlog.Record) {
	x, err := s.Explain(context.Background(), kept)
	if err != nil {
		r.t.Errorf("decision %s: %v", kept.ID, err)
		return
	}
	for i := range x.At {
		for k := range x.At[i].All {
			c := &x.At[i].All[k]
			if c.Reason != decide.ReasonOffered && (c.Why == nil || c.Why.Words(explain.Plain) == "") {
				r.t.Errorf("decision %s: why is %s %s?", kept.ID, c.Offer.ID, c.Reason)
			}
		}
	}
}

// reread writes a record and reads it.
func (r *replayed) reread(was *decisionlog.Record) *decisionlog.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blocks.Reset()
	r.blocks.Add(was)
	b, err := decisionlog.ReadBlock(r.blocks.AppendTo(nil))
	kept := new(decisionlog.Record)
	if err == nil {
		err = b.Record(0, kept)
	}
	if err != nil {
		r.t.Errorf("decision %s: %v", was.ID, err)
		return nil
	}
	return kept
}
