package profilestore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"rapport/profilestore/journal"
)

const (
	// MaxFuture is how far in the future an event may be dated; beyond it the
	// sender's clock is wrong.
	MaxFuture = 5 * time.Minute
	// MaxEventBytes is the greatest size of an event in the journal.
	MaxEventBytes = 64 << 10
	// MaxTextBytes is the greatest length of a text field.
	MaxTextBytes = 4096

	minTime = -62_135_596_800_000_000 // year 1, microseconds
	maxTime = 253_402_300_799_999_999 // the last of year 9999
)

// ErrStopped means that the store takes no more events, because some that are
// durable could not be applied; a restart applies them.
var ErrStopped = errors.New("the profile store has stopped taking events until a restart")

// Outcome is what became of an event.
type Outcome uint8

// The outcomes of Ingest.
const (
	Accepted  Outcome = iota // new, durable and visible
	Duplicate                // it had been taken before; nothing changed
	Refused                  // it can't be taken; see the error
)

// IngestResult is what became of one event.
type IngestResult struct {
	Outcome Outcome
	Err     error // why it was refused
}

// An EventError says why an event was refused.
type EventError struct {
	ID      string
	Message string
}

func (e *EventError) Error() string { return fmt.Sprintf("event %.80q: %s", e.ID, e.Message) }

// Ingest takes events. When it returns without error, those accepted or
// duplicate are durable and visible to the next View, and those refused have
// changed nothing; results are in the order of events. Logged is set to the
// current time in events that have none, or one in the future, and Tables to the set
// of reference table versions in force.
//
// After an error none is known to be taken, and some may be: sending them all
// again is safe. An error that wraps journal.ErrFailed lasts until a restart.
func (s *Store) Ingest(ctx context.Context, events []*Event) ([]IngestResult, error) {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		return nil, ErrClosed
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	call := &ingestCall{results: make([]IngestResult, len(events)), fates: make([]eventFate, len(events))}
	entries := make([]*journal.Entry, 0, len(events))
	now := s.clock()
	for i, e := range events {
		p, payload, err := s.prepare(e, now)
		if err != nil {
			call.results[i] = IngestResult{Outcome: Refused, Err: err}
			continue
		}
		p.call, p.index = call, i
		entries = append(entries, &journal.Entry{Payload: payload, Tag: p})
	}
	if len(entries) == 0 {
		s.fates.count(call)
		return call.results, nil
	}
	call.wait.Add(len(entries))
	if _, err := s.journal.Append(ctx, entries...); err != nil {
		return nil, err
	}
	call.wait.Wait()
	if err := s.Err(); err != nil {
		return nil, err
	}
	s.fates.count(call)
	return call.results, nil
}

// prepare checks an event and derives what it changes.
func (s *Store) prepare(e *Event, now int64) (*pendingEntry, []byte, error) {
	refuse := func(format string, args ...any) (*pendingEntry, []byte, error) {
		return nil, nil, &EventError{ID: e.ID, Message: fmt.Sprintf(format, args...)}
	}
	if e.ID == "" {
		return refuse("it has no id: give each event one, the same when it is sent again")
	}
	if e.Type == "" {
		return refuse("it has no type")
	}
	identity, err := ParseIdentity(e.Identity)
	if err != nil {
		return refuse("%v", err)
	}
	if limit := now + MaxFuture.Microseconds(); e.Time < minTime || e.Time > limit {
		if e.Time > limit {
			s.fates.refusedFuture.Add(1)
		}
		return refuse("its time %s is more than %v in the future, or before the year 1: check the sender's clock", Time(e.Time), MaxFuture)
	}
	if why, blocked := s.schema.BlockedIdentity(identity); blocked {
		return refuse("%s", why)
	}
	e.Identity = identity
	if e.Logged == 0 || e.Logged > now {
		e.Logged = now // one from the future would make the past look older than it is
	}
	if _, _, err := interactionOf(e); err != nil {
		return nil, nil, err
	}
	e.Tables = s.tableSet()
	changes, err := s.mapper.Map(e, nil)
	if err != nil {
		return nil, nil, err // it names the event
	}
	for _, c := range changes {
		switch c.Value.kind {
		case KindText:
			if s.schema.fields[c.Slot].Type == TypeSet {
				if err := CheckElement(c.Value.text); err != nil {
					return refuse("%s: the element %.80q %v", s.schema.fields[c.Slot].Name, c.Value.text, err)
				}
			} else if len(c.Value.text) > MaxTextBytes {
				return refuse("%s would be a text of %d bytes: at most %d", s.schema.fields[c.Slot].Name, len(c.Value.text), MaxTextBytes)
			}
		case KindTime:
			if at := c.Value.Micros(); at < minTime || at > maxTime {
				return refuse("%s would be a time outside the years 1 to 9999", s.schema.fields[c.Slot].Name)
			}
		case KindUnknown, KindNumber, KindFlag, KindSet:
		}
	}
	payload, err := encodeEvent(nil, e)
	if err != nil {
		return refuse("%v", err)
	}
	if len(payload) > MaxEventBytes {
		return refuse("it has %d bytes: at most %d", len(payload), MaxEventBytes)
	}
	return &pendingEntry{key: identity, event: e, changes: changes}, payload, nil
}

// ingestCall is one call of Ingest or ChangeIdentities, waiting for its entries to be
// applied.
type ingestCall struct {
	results []IngestResult
	fates   []eventFate // of those accepted
	wait    sync.WaitGroup
}

// pendingEntry is an event, or a part of a change of identities, on its way from the
// journal to the record of one node.
type pendingEntry struct {
	seq  uint64
	key  string // of the node
	call *ingestCall

	event   *Event
	changes []Change
	index   int  // in the call
	look    bool // the record has had it since before the replay, and stays as it is

	// Of a replay only: what has not been done yet, see read.
	unread, unmapped bool
	attributes       []byte

	ties *tiesChange // or else
}

// committed receives each durable entry, in journal order.
func (s *Store) committed(seq uint64, e *journal.Entry) {
	switch p := e.Tag.(type) {
	case *pendingEntry:
		p.seq = seq
		s.hand(p)
	case *pendingTies:
		for _, g := range p.change.groups {
			g.Epoch = seq
		}
		for _, key := range p.keys {
			s.hand(&pendingEntry{seq: seq, key: key, call: p.call, ties: p.change})
		}
	}
	s.handed.Store(seq)
}

func (s *Store) hand(p *pendingEntry) {
	w := s.writerOf(p.key)
	w.progress.handed.Add(1)
	w.queue <- p
}

// writers is how many goroutines apply entries. An identity belongs to one, by its shard
// of the cache. Few of them, so that each has a good part of a journal's group to apply
// at once: what a transaction costs is then shared.
const writers = 4

// writerOf returns the writer of a node.
func (s *Store) writerOf(key string) *writer { return &s.writers[s.cache.shardOf(key)%writers] }

// writer applies the entries of some shards, in journal order.
type writer struct {
	queue    chan *pendingEntry
	done     chan struct{}
	progress progress
	// found, in a replay, are the events that were found in their records, to the entry
	// that was the first: see observer.
	found map[replayedEvent]uint64
}

// applyBatch is how many events a writer applies at once: a group of the
// journal.
const applyBatch = 512

// start starts the writer. In a replay nobody waits for entries.
func (w *writer) start(s *Store, replaying bool) {
	w.queue = make(chan *pendingEntry, applyBatch)
	w.done = make(chan struct{})
	w.found = nil
	if replaying {
		w.found = make(map[replayedEvent]uint64)
	}
	go func() {
		defer close(w.done)
		batch := make([]*pendingEntry, 0, applyBatch)
		for p := range w.queue {
			batch = append(batch[:0], p)
			for len(batch) < applyBatch && len(w.queue) > 0 {
				batch = append(batch, <-w.queue)
			}
			if s.applyAll(w, batch) {
				w.progress.last.Store(batch[len(batch)-1].seq)
				w.progress.finished.Add(uint64(len(batch)))
			}
			for i, p := range batch {
				if p.call != nil {
					p.call.wait.Done()
				}
				batch[i] = nil
			}
		}
	}()
}

func (w *writer) stop() {
	close(w.queue)
	<-w.done
}

// applyAll applies entries of one writer to the engine and the cache. It reports whether
// it could.
func (s *Store) applyAll(w *writer, batch []*pendingEntry) bool {
	if s.failed.Load() != nil {
		return false
	}
	err := s.applyBatch(context.Background(), w, batch)
	switch {
	case err == nil:
	case w.found != nil:
		s.failed.CompareAndSwap(nil, &err)
	default:
		err = fmt.Errorf("%w: %w", ErrStopped, err)
		if s.failed.CompareAndSwap(nil, &err) {
			s.log.Error("the profile store stopped taking events", "error", err)
		}
	}
	return err == nil
}

// applyBatch applies entries of one writer to the engine, then to the cache, and sets
// their results.
func (s *Store) applyBatch(ctx context.Context, w *writer, batch []*pendingEntry) error {
	group := make(map[string]int, len(batch))
	var keys []string
	var entries [][]*pendingEntry
	for _, p := range batch {
		i, ok := group[p.key]
		if !ok {
			i = len(keys)
			group[p.key] = i
			keys = append(keys, p.key)
			entries = append(entries, nil)
		}
		entries[i] = append(entries[i], p)
	}
	made := make([]change, len(keys))
	ops := make([]Op, len(keys))
	for i := range ops {
		ops[i] = Op{Key: []byte(keys[i]), Change: func(old []byte) []byte {
			made[i] = s.change(old, entries[i])
			return made[i].encoded
		}}
	}
	touched := s.cache.applies(keys, group)
	if err := s.engine.Apply(ctx, ops); err != nil {
		return err
	}
	deltas := make([]*delta, len(keys))
	var others []*pendingEntry
	for i := range made {
		if made[i].err != nil {
			return made[i].err
		}
		s.pruned.Add(uint64(made[i].pruned))
		deltas[i] = made[i].delta
		others = append(others, made[i].others...)
	}
	for i := range touched {
		touched[i].wrote(keys, deltas)
	}
	if s.observer.to != nil {
		s.tell(w, made)
	}
	if len(others) == 0 {
		return nil
	}
	return s.applyBatch(ctx, w, others) // other nodes of the same identities; they pass nothing on
}

// change is what entries make of a record.
type change struct {
	delta   *delta
	encoded []byte // nil where nothing changed
	pruned  int
	others  []*pendingEntry // what belongs to another node of the identity
	err     error

	observed []observation
}

// change applies entries to one encoded record and prunes it. It may be called again
// with the same entries.
func (s *Store) change(old []byte, entries []*pendingEntry) (c change) {
	if old != nil {
		if c.delta, c.err = decodeRecord(entries[0].key, old); c.err != nil {
			c.err = fmt.Errorf("%s: %w", identityOf(entries[0].key), c.err)
			return c
		}
	}
	edit, past := c.delta.edit(), s.snapshots.horizon.Load()
	edit.plain = s.partial
	before := edit.applied
	changed := false
	for _, p := range entries {
		if p.ties != nil {
			changed = edit.ties.apply(p.seq, p.key, p.ties) || changed
			continue
		}
		if n := edit.ties.holder(p.seq, p.event.Time); n > 0 { // this is the identity's first node
			other := *p
			other.key = nodeKey(p.key, n)
			c.others = append(c.others, &other)
			continue
		}
		if p.unread || p.unmapped {
			apply := !p.look && p.seq > edit.applied
			if apply || s.observer.wants(p) {
				if c.err = p.read(s, apply); c.err != nil {
					return c
				}
			}
		}
		became := appliedSeen
		if !p.look {
			became = edit.apply(p.seq, p.event, p.changes, s.schema)
		}
		if became == appliedFull {
			c.pruned += edit.prune(s.schema, past)
			became = edit.apply(p.seq, p.event, p.changes, s.schema)
		}
		changed = changed || became == appliedNew
		if s.observer.wants(p) {
			if x, ok := edit.observed(p, became, before); ok {
				c.observed = append(c.observed, x)
			}
		}
		if p.call != nil { // else it is a replay
			p.call.results[p.index], p.call.fates[p.index] = resultOf(became, p.event), edit.fate
		}
	}
	if changed {
		c.pruned += edit.prune(s.schema, past)
		c.delta, c.encoded = edit.delta, edit.encodeRecord(entries[0].key)
	}
	return c
}

func resultOf(became applied, e *Event) IngestResult {
	switch became {
	case appliedSeen:
		return IngestResult{Outcome: Duplicate}
	case appliedFull:
		return IngestResult{Outcome: Refused, Err: &EventError{ID: e.ID, Message: fmt.Sprintf(
			"%s has so many events that its record is full: ids are kept for %v; send this event again later, and look at what sends so many", e.Identity, IDHorizon)}}
	case appliedNew:
	}
	return IngestResult{Outcome: Accepted}
}
