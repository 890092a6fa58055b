package server

import (
	"context"
	"slices"
	"sync"
	"time"

	"rapport/profilestore"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/evidence"
)

const (
	// readEvery is how often decisions get a new reading of what came of offers, if
	// something did.
	readEvery = time.Second
	// saveEvery is how often the counts are written into their file, if they changed. It
	// bounds what a restart after a crash reads again, not what it knows.
	saveEvery = 5 * time.Second
	// saveAhead is how many entries of the journal the counts may be ahead of their file,
	// also if none of them changed anything: it bounds what a restart reads, too.
	saveAhead = profilestore.DefaultCheckpointEntries / 2
)

// learning keeps the counts that propensities are learned from, and gives decisions
// readings of them.
type learning struct {
	counter *evidence.Counter
	stop    context.CancelFunc
	wait    sync.WaitGroup
}

// openLearning reads the counts. What the journal has and they lack comes when the
// profile store opens.
func (s *Server) openLearning() error {
	names := evidence.Names{}
	if version, err := s.catalogs.Current(); err == nil {
		if m, err := catalog.Parse(version.Files); err == nil {
			names = messageNames(m)
		}
	}
	var err error
	s.learning.counter, err = evidence.Open(s.folder.path("evidence"), names, s.log)
	return err
}

// observer is told of contacts and outcomes.
func (x *learning) observer() profilestore.InteractionObserver {
	if x.counter == nil {
		return nil
	}
	return x.counter
}

// start follows the store until halt.
func (x *learning) start(s *Server) {
	x.counter.Advance(s.store.Applied())
	ctx, cancel := context.WithCancel(context.Background())
	x.stop = cancel
	x.wait.Go(func() {
		ticker := time.NewTicker(readEvery)
		defer ticker.Stop()
		saved, due, failed := x.counter.Number(), time.Now().Add(saveEvery), false
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			s.readEvidence()
			stats := x.counter.Stats()
			far := stats.Position-stats.Saved >= saveAhead && !failed
			if n := x.counter.Number(); !far && (n == saved && !failed || time.Now().Before(due)) {
				continue
			}
			saved, due = x.counter.Number(), time.Now().Add(saveEvery)
			err := x.counter.Save()
			if err != nil && !failed {
				s.log.Warn("what propensities are learned from can't be saved; it is tried again, and nothing is lost while the journal is there", "error", err)
			}
			failed = err != nil
		}
	})
}

// halt ends what start began, if it did.
func (x *learning) halt() {
	if x.stop != nil {
		x.stop()
	}
	x.wait.Wait()
}

// finish counts and saves all of a store that is closed.
func (x *learning) finish(store *profilestore.Store) error {
	if x.stop == nil {
		return nil
	}
	x.counter.Advance(store.Applied())
	return x.counter.Save()
}

// readEvidence gives the decisions that begin from now on what has come of offers.
func (s *Server) readEvidence() {
	s.learning.counter.Advance(s.store.Applied())
	if l := s.acquire(); l != nil {
		l.read(s.learning.counter)
		s.release(l)
	}
}

// read takes a new reading, if something has changed.
func (l *live) read(c *evidence.Counter) {
	if len(l.learners) == 0 && l.evidence.Load() != nil {
		return
	}
	var number uint64
	var counts []decide.EvidenceCount
	c.Read(func(n uint64, count func(evidence.Key) uint64) {
		if old := l.evidence.Load(); old != nil && old.Number == n {
			return
		}
		number = n
		counts = make([]decide.EvidenceCount, len(l.learners))
		for i, x := range l.learners {
			o, ch := &l.compiled.Offers[x.Offer], l.compiled.Channels[x.Channel].ID
			counts[i] = decide.EvidenceCount{
				Offer: x.Offer, Channel: x.Channel,
				Presented: count(evidence.Key{Offer: o.ID, Channel: ch}),
				Successes: count(evidence.Key{Offer: o.ID, Channel: ch, Outcome: o.Propensity.Success}),
			}
		}
	})
	if counts == nil {
		return
	}
	if e, err := decide.NewEvidence(l.compiled, number, counts); err == nil { // the places are the catalogue's
		l.evidence.Store(e)
	}
}

// offerChannel is an offer in a channel, by their places in the catalogue.
type offerChannel struct{ Offer, Channel int }

// offerChannels returns which offers can be made in which channels, each once, in
// catalogue order: those that learn, or all.
func offerChannels(c *catalog.Compiled, learners bool) []offerChannel {
	var out []offerChannel
	add := func(x *catalog.Candidate) {
		if !learners || c.Offers[x.Offer].Propensity.StartEvidence > 0 {
			out = append(out, offerChannel{x.Offer, x.Channel})
		}
	}
	for _, s := range c.Scenarios {
		for i := range s.Candidates {
			add(&s.Candidates[i])
		}
	}
	for i := range c.Touchpoints {
		if x := c.Touchpoints[i].Fallback; x != nil {
			add(x)
		}
	}
	slices.SortFunc(out, func(a, b offerChannel) int {
		if a.Offer != b.Offer {
			return a.Offer - b.Offer
		}
		return a.Channel - b.Channel
	})
	return slices.Compact(out)
}

// catalogNames are the names that are counted however many others are.
func catalogNames(c *catalog.Compiled) evidence.Names {
	n := newNames(len(c.Offers), len(c.Channels))
	for i := range c.Offers {
		n.Offers[c.Offers[i].ID] = true
		if success := c.Offers[i].Propensity.Success; success != "" {
			n.Outcomes[success] = true
		}
	}
	for i := range c.Channels {
		n.Channels[c.Channels[i].ID] = true
	}
	return n
}

// messageNames are the same of a catalogue that is not compiled yet, for which the
// profile store has to be open.
func messageNames(m *rapportv1.Catalog) evidence.Names {
	n := newNames(len(m.GetOffers()), len(m.GetChannels()))
	for _, o := range m.GetOffers() {
		n.Offers[o.GetId()] = true
		if success := o.GetPropensity().GetSuccess(); success != "" {
			n.Outcomes[success] = true
		}
	}
	for _, ch := range m.GetChannels() {
		n.Channels[ch.GetId()] = true
	}
	return n
}

func newNames(offers, channels int) evidence.Names {
	return evidence.Names{
		Offers: make(map[string]bool, offers), Channels: make(map[string]bool, channels),
		Outcomes: map[string]bool{catalog.Accepted: true},
	}
}
