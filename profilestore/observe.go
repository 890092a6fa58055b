package profilestore

import (
	"math"
	"sync/atomic"
)

// InteractionObserver is told of every contact and outcome that a store takes, each
// once however often its event is sent, and over crashes: what is counted from them is
// then a function of the journal, like the records.
//
// The store has no position of its own in what the observer keeps. The observer says up
// to where in the journal it has kept all, and is told again of what came after. Which
// of two events with one id was taken can be told from a record as long as it has the
// id, so one that was taken before a crash is found again. For an old position, see
// took.
type InteractionObserver interface {
	// Begin is called once, before anything else, with the name of the journal and the
	// sequence number that its next entry will get. It returns the first entry of which
	// it wants to be told, 1 or more. An error keeps the store from opening.
	Begin(journal string, next uint64) (from uint64, err error)

	// Restore is called before Begin where the beginning of the journal has been removed,
	// with what State returned before that; nil if it was never called. It is for an
	// observer that has lost what it kept, or not yet kept anything.
	Restore(state []byte)

	// Kept returns up to which entry it has kept everything so that it survives loss of
	// power. The journal is not removed beyond.
	Kept() uint64

	// State returns what an observer needs to begin after an entry of the journal that is
	// applied or later; everything up to applied has been told.
	State(applied uint64) []byte

	// Observe is called with interactions after they have been applied to the records
	// and before they are acknowledged, from several goroutines. All entries up to
	// applied have been told before. list is valid during the call, what it refers to
	// may be kept and must not be changed.
	Observe(list []Observed, applied uint64)
}

// Observed is a contact or an outcome that was taken.
type Observed struct {
	Seq uint64 // the number of its entry in the journal
	Interaction
}

// observation is an interaction on its way to the observer.
type observation struct {
	Observed
	again bool // it was in the record before the replay
	event replayedEvent
}

// replayedEvent identifies an event in a replay.
type replayedEvent struct {
	key    string // of the node
	id     uint64
	logged int64
}

// observer is the store's side of an InteractionObserver.
type observer struct {
	to   InteractionObserver // nil: nobody
	from uint64
}

// maxFound bounds how many events a writer remembers in a replay. Those with one id and one time of
// logging are neighbours in the journal: the clock has moved on a microsecond later.
const maxFound = 1 << 16

// foundBefore is how many entries a replay looks at before the first of which the
// observer wants to be told, for the same reason.
const foundBefore = 4096

// wants reports whether the observer may have to be told of an entry.
func (o *observer) wants(p *pendingEntry) bool {
	return o.to != nil && p.seq+foundBefore >= o.from && (p.event.Type == ContactEvent || p.event.Type == OutcomeEvent)
}

// observed returns what the observer is told of an entry, false if nothing: the event
// was not taken, or has nothing that can be read. before is the last entry that the
// record had before the entries of this change.
func (d *deltaEdit) observed(p *pendingEntry, became applied, before uint64) (x observation, ok bool) {
	again := p.look || p.call == nil && p.seq <= before
	if became != appliedNew && !(again && d.took(p.event)) {
		return x, false
	}
	in, is, err := interactionOf(p.event)
	if !is || err != nil {
		return x, false
	}
	return observation{
		Observed: Observed{p.seq, in}, again: again,
		event: replayedEvent{p.key, eventHash(p.event.ID), p.event.Logged},
	}, true
}

// took reports whether the record took an event that a replay comes to again: it has the
// id with the same time of logging, while one that was sent again has it with the first
// one's. Ids of more than IDHorizon ago may have been forgotten, see forget; such an
// event counts, since few are sent twice.
func (d *deltaEdit) took(e *Event) bool {
	id := eventHash(e.ID)
	oldest, has := int64(math.MaxInt64), false
	for _, x := range d.seen {
		if x.id == id {
			if x.logged == e.Logged {
				return true
			}
			has = true // and may have been taken again after IDHorizon
		}
		oldest = min(oldest, x.logged)
	}
	return !has && e.Logged < oldest && e.Logged < d.newest-horizonMicros
}

// tell tells the observer what entries were, after a writer has applied them.
func (s *Store) tell(w *writer, made []change) {
	o := &s.observer
	var list []Observed
	for i := range made {
		for _, x := range made[i].observed {
			if x.again {
				first, ok := w.found[x.event]
				if ok && first != x.Seq {
					continue
				}
				if len(w.found) >= maxFound {
					clear(w.found)
				}
				w.found[x.event] = x.Seq
			}
			if x.Seq >= o.from {
				list = append(list, x.Observed)
			}
		}
	}
	if len(list) == 0 {
		return
	}
	o.to.Observe(list, s.Applied())
}

// progress is how far a writer is.
type progress struct {
	handed, finished atomic.Uint64 // how many entries it was given, and has applied
	last             atomic.Uint64 // the number of the one applied last
}

// Applied returns up to which entry of the journal everything has been applied, and the
// InteractionObserver told. It never falls. Of entries that are being applied it may
// lag behind.
func (s *Store) Applied() uint64 {
	// What the journal had handed over before the writers are looked at is finished if
	// they have nothing left. The order of the loads matters.
	applied := s.handed.Load()
	for i := range s.writers {
		w := &s.writers[i].progress
		finished := w.finished.Load()
		last := w.last.Load()
		if w.handed.Load() != finished {
			applied = min(applied, max(last, 1)-1) // one entry may have several parts
		}
	}
	for {
		old := s.applied.Load()
		if applied <= old {
			return old
		}
		if s.applied.CompareAndSwap(old, applied) {
			return applied
		}
	}
}
