package decisionlog

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
)

// Absence says why a decision is not in the log.
type Absence uint8

// The reasons, from the surest.
const (
	AbsentNever   Absence = iota // nothing that was to be kept of its time is missing, and it is not there
	AbsentExpired                // it would be older than what is kept
	AbsentLost                   // something of its time was dropped, damaged, or lost with a process
)

// NotFoundError says that a decision is not in the log, and why.
type NotFoundError struct {
	ID     ulid.ULID
	Why    Absence
	Oldest time.Time // for AbsentExpired: the earliest decision that is kept, zero if there is none
}

// Error implements error.
func (e *NotFoundError) Error() string {
	at := ulid.Time(e.ID.Time()).UTC().Format(time.RFC3339)
	switch e.Why {
	case AbsentExpired:
		if e.Oldest.IsZero() {
			return fmt.Sprintf("decision %s of %s is no longer kept", e.ID, at)
		}
		return fmt.Sprintf("decision %s of %s is no longer kept: the oldest in the log is of %s", e.ID, at, e.Oldest.UTC().Format(time.RFC3339))
	case AbsentLost:
		return fmt.Sprintf("decision %s is not in the log; records of %s were lost, and its may be among them", e.ID, at)
	case AbsentNever:
	}
	return fmt.Sprintf("decision %s is not in the log, which has all that was to be kept of %s: was it a dry run, or another server's?", e.ID, at)
}

// Query says which records are wanted. The zero value wants all, oldest first.
type Query struct {
	// From and Until are between which times decisions were made, by their ids, which
	// have milliseconds; Until is not included. Zero: without limit.
	From, Until time.Time
	// Customer is the Hash of the records wanted; 0: all.
	Customer uint64
	// Newest first; else oldest first. Those of a millisecond are in the order of their ids.
	Newest bool
	// Limit is how many at most; 0: all.
	Limit int
	// Skipped, if not nil, is told of what could not be read.
	Skipped func(Damage)
}

// span returns between which times of ids a query looks.
func (q *Query) span() span {
	s := span{0, math.MaxInt64}
	if !q.From.IsZero() {
		s.from = q.From.UnixMilli()
	}
	if !q.Until.IsZero() {
		s.to = q.Until.Add(time.Millisecond-1).UnixMilli() - 1
	}
	return s
}

// writeWait is how long a search waits for what was added before it to be written.
const writeWait = 2 * time.Second

// written waits until what was added before can be found. That it can't is no error:
// what is on the disk can be.
func (l *Log) written(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, writeWait)
	defer cancel()
	_ = l.await(ctx, false)
}

// Find reads the record of a decision into r. A decision that was added before is found,
// unless the disk does not take it within two seconds. If there is none the error is a
// *NotFoundError.
func (l *Log) Find(ctx context.Context, id ulid.ULID, r *Record) error {
	ms := int64(id.Time())
	if ok, err := l.find(ctx, id, r); ok || err != nil {
		return err
	}
	if l.recent(ms) {
		l.written(ctx)
		if ok, err := l.find(ctx, id, r); ok || err != nil {
			return err
		}
	}
	return l.absent(id)
}

// recent reports whether a decision may not have been written yet.
func (l *Log) recent(ms int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.store.live
	return s == nil || s.ids.empty() || ms > s.ids.to-time.Minute.Milliseconds()
}

func (l *Log) find(ctx context.Context, id ulid.ULID, r *Record) (bool, error) {
	ms := int64(id.Time())
	rd := reader{l: l}
	for _, p := range slices.Backward(l.within(span{ms, ms})) {
		s := p.segment
		c, err := l.contentsOf(s)
		if err != nil {
			rd.unreadable(s, err)
			continue
		}
		for i := range c.frames {
			f := &c.frames[i]
			if !f.ids.has(ms) {
				continue
			}
			if err := ctx.Err(); err != nil {
				return false, err
			}
			b := rd.block(s, f)
			if b == nil {
				continue
			}
			for k := range b.Len() {
				if b.ID(k) == id {
					if err := b.Record(k, r); err == nil {
						return true, nil
					}
					rd.broken(s, f, k)
				}
			}
		}
	}
	return false, nil
}

// part is what a segment was at one moment.
type part struct {
	*segment
	ids  span
	size int64
}

// within returns the segments that have ids of a span, in the order of writing.
func (l *Log) within(x span) (out []part) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if x.from = max(x.from, l.horizon()); x.empty() {
		return nil
	}
	for _, s := range l.store.segments {
		if s.ids.meets(x) {
			out = append(out, part{s, s.ids, s.size})
		}
	}
	return out
}

// tellsOfLoss reports whether a frame tells of a loss of decisions of a time.
func (l *Log) tellsOfLoss(ms int64) bool {
	l.mu.Lock()
	var tell []*segment
	for _, s := range l.store.segments {
		if s.lost.has(ms) {
			tell = append(tell, s)
		}
	}
	l.mu.Unlock()
	return slices.ContainsFunc(tell, func(s *segment) bool {
		c, err := l.contentsOf(s)
		return err != nil || slices.ContainsFunc(c.losses, func(x loss) bool { return x.has(ms) })
	})
}

// lossSlack is how much earlier than the last record that was written the first of those
// that were lost with a process may have been decided.
const lossSlack = 10_000

// absent returns why a decision is not found.
func (l *Log) absent(id ulid.ULID) error {
	e := &NotFoundError{ID: id}
	ms := int64(id.Time())
	lost := l.tellsOfLoss(ms)
	l.mu.Lock()
	defer l.mu.Unlock()
	oldest := noSpan
	lost = lost || l.lost.has(ms)
	for i, s := range l.store.segments {
		oldest = oldest.with(s.ids)
		next := int64(math.MaxInt64)
		if i+1 < len(l.store.segments) {
			next = l.store.segments[i+1].first
		}
		if s.seq <= l.store.old {
			next = min(next, l.store.opened)
		}
		switch {
		case s.unknown:
			lost = lost || s.first <= ms && ms <= next
		case !s.sealed && s.seq <= l.store.old: // of this process each loss is known
			lost = lost || s.last()-lossSlack <= ms && ms <= next
		}
	}
	for _, x := range l.known {
		lost = lost || x.has(ms)
	}
	switch {
	case ms < l.horizon() || !oldest.empty() && ms < oldest.from && !lost:
		e.Why = AbsentExpired
		if !oldest.empty() {
			e.Oldest = time.UnixMilli(max(oldest.from, l.horizon()))
		}
	case lost:
		e.Why = AbsentLost
	}
	return e
}

// Each calls f for the records that a query wants, in order. It holds a few blocks in
// memory however many there are, and reads while others write: what was added before the
// call is seen, unless the disk does not take it within two seconds. f may keep what the record has, but not the *Record. What is
// damaged is skipped, counted, and told to q.Skipped; an error is f's or the context's.
//
// It merges: a heap has segments and blocks by the least id that they can have, and
// opened blocks by their next record. What is first is opened, or given to f. Blocks
// overlap by the few milliseconds in which decisions overtake each other, so that two or
// three are open at a time; only where the clock has stepped back by much are there more,
// and never is anything sorted that has to be in memory whole.
func (l *Log) Each(ctx context.Context, q Query, f func(*Record) error) error {
	l.written(ctx)
	m := merge{q: &q, span: q.span(), rd: reader{l: l, skipped: q.Skipped}}
	l.mu.Lock()
	m.span.from = max(m.span.from, l.horizon())
	l.mu.Unlock()
	for _, p := range l.within(m.span) {
		m.push(node{kind: nodeSegment, s: p.segment, size: p.size, key: m.bound(p.ids)})
	}
	var r Record
	for n := 0; len(m.nodes) > 0 && (q.Limit <= 0 || n < q.Limit); {
		if err := ctx.Err(); err != nil {
			return err
		}
		switch x := &m.nodes[0]; x.kind {
		case nodeSegment:
			m.openSegment(heap.Pop(&m).(node)) //nolint:errcheck,forcetypeassert // the heap has nothing else
		case nodeBlock:
			m.openBlock(heap.Pop(&m).(node)) //nolint:errcheck,forcetypeassert // the heap has nothing else
		case nodeRecords:
			k := int(x.rows[0])
			s, at, b := x.s, x.at, x.block
			if x.rows = x.rows[1:]; len(x.rows) == 0 {
				heap.Pop(&m)
			} else {
				x.key = b.ID(int(x.rows[0]))
				heap.Fix(&m, 0)
			}
			if b.Record(k, &r) != nil {
				m.rd.broken(s, &at, k)
				continue
			}
			n++
			if err := f(&r); err != nil {
				return err
			}
		}
	}
	return nil
}

type nodeKind uint8

const (
	nodeSegment nodeKind = iota
	nodeBlock
	nodeRecords
)

// node is a segment, a frame of it, or the records of that which are still to come.
type node struct {
	key   ulid.ULID // no id in it comes before this one
	kind  nodeKind
	s     *segment
	size  int64 // of it: what has been written since has other bounds
	at    frameAt
	block *Block
	rows  []int32 // in order
}

// merge is what Each goes through. It implements heap.Interface.
type merge struct {
	q     *Query
	span  span
	nodes []node
	rd    reader
}

func (m *merge) Len() int      { return len(m.nodes) }
func (m *merge) Swap(i, j int) { m.nodes[i], m.nodes[j] = m.nodes[j], m.nodes[i] }
func (m *merge) Push(x any)    { m.nodes = append(m.nodes, x.(node)) } //nolint:errcheck,forcetypeassert // push pushes nodes
func (m *merge) push(x node)   { heap.Push(m, x) }

// Pop implements heap.Interface.
func (m *merge) Pop() any {
	last := len(m.nodes) - 1
	x := m.nodes[last]
	m.nodes[last] = node{}
	m.nodes = m.nodes[:last]
	return x
}

// Less implements heap.Interface: by id, then where records are; what has yet to be
// opened comes first, since it may have the same id.
func (m *merge) Less(i, j int) bool {
	a, b := &m.nodes[i], &m.nodes[j]
	c := bytes.Compare(a.key[:], b.key[:])
	if c == 0 && (a.kind == nodeRecords) == (b.kind == nodeRecords) {
		c = cmp.Or(cmp.Compare(a.s.seq, b.s.seq), cmp.Compare(a.at.offset, b.at.offset))
	} else if c == 0 {
		return a.kind != nodeRecords
	}
	if m.q.Newest {
		return c > 0
	}
	return c < 0
}

// bound returns the first id that something with ids of a span can have.
func (m *merge) bound(ids span) (id ulid.ULID) {
	if m.q.Newest {
		_ = id.SetTime(clampTime(ids.to)) // it is in range
		for i := 6; i < len(id); i++ {
			id[i] = 0xff
		}
		return id
	}
	_ = id.SetTime(clampTime(ids.from)) // it is in range
	return id
}

func clampTime(ms int64) uint64 { return min(uint64(max(ms, 0)), ulid.MaxTime()) }

func (m *merge) openSegment(x node) {
	c, err := m.rd.search(x.s, x.size, m.q.Customer)
	if err != nil {
		m.rd.unreadable(x.s, err)
		return
	}
	for i := range c.damage {
		if m.q.Skipped != nil && c.damage[i].meets(m.span) {
			m.q.Skipped(c.damage[i].Damage)
		}
	}
	for i := range c.frames {
		if c.frames[i].ids.meets(m.span) && c.frames[i].offset < x.size {
			m.push(node{kind: nodeBlock, s: x.s, at: c.frames[i], key: m.bound(c.frames[i].ids)})
		}
	}
}

func (m *merge) openBlock(x node) {
	b := m.rd.block(x.s, &x.at)
	if b == nil {
		return
	}
	for k := range b.Len() {
		id := b.ID(k)
		if m.span.has(int64(id.Time())) && (m.q.Customer == 0 || b.Hash(k) == m.q.Customer) {
			x.rows = append(x.rows, int32(k))
		}
	}
	if len(x.rows) == 0 {
		return
	}
	slices.SortFunc(x.rows, func(i, j int32) int {
		a, c := b.ID(int(i)), b.ID(int(j))
		return cmp.Or(bytes.Compare(a[:], c[:]), cmp.Compare(i, j))
	})
	if m.q.Newest {
		slices.Reverse(x.rows)
	}
	x.kind, x.block, x.key = nodeRecords, b, b.ID(int(x.rows[0]))
	m.push(x)
}

// maxHeld is how many frames of segments are held in memory besides those of the segment
// that is written to.
const maxHeld = 1 << 16

// contentsOf returns what is known of a segment, and reads its headers if need be.
func (l *Log) contentsOf(s *segment) (*contents, error) {
	l.mu.Lock()
	if c := s.contents; c != nil {
		l.store.tick++
		s.used = l.store.tick
		c = &contents{frames: c.frames, losses: c.losses, damage: c.damage}
		l.mu.Unlock()
		return c, nil
	}
	size := s.size
	l.mu.Unlock()
	c, err := scanFile(s.path, s.seq, size, nil)
	if err != nil {
		return nil, err
	}
	l.learn(c)
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.contents == nil {
		l.hold(s, c)
	}
	return c, nil
}

// hold keeps what headers say in memory, and gives up others for it.
func (l *Log) hold(s *segment, c *contents) {
	t := &l.store
	t.tick++
	s.contents, s.used = c, t.tick
	t.held += len(c.frames)
	for t.held > maxHeld {
		var first *segment
		for _, x := range t.segments {
			if x.contents != nil && x != t.live && x != s && (first == nil || x.used < first.used) {
				first = x
			}
		}
		if first == nil {
			return
		}
		t.held -= len(first.contents.frames)
		first.contents = nil
	}
}

type damageKey struct {
	seq    uint32
	offset int64
}

// maxKnown is how many damages are remembered.
const maxKnown = 1000

// learn notes the damage in a segment.
func (l *Log) learn(c *contents) {
	for i := range c.damage {
		l.damaged(c.damage[i])
	}
}

// damaged notes a damage the first time.
func (l *Log) damaged(d damaged) {
	seq, _, _ := parseSegment(filepath.Base(d.Path))
	key := damageKey{seq, d.Offset}
	l.mu.Lock()
	_, known := l.known[key]
	known = known || len(l.known) == maxKnown
	if !known {
		l.known[key] = d.span
		l.counts.Damaged++
		l.counts.LastDamage = d.Damage
		l.failed(errors.New(d.String()))
	}
	l.mu.Unlock()
	if !known {
		l.o.Logger.Error("a part of the decision log is damaged", "path", d.Path, "offset", d.Offset, "bytes", d.Bytes, "what", d.What)
	}
}

// reader reads blocks. It is not safe for concurrent use.
type reader struct {
	l       *Log
	skipped func(Damage)
	packed  []byte
}

// search returns the frames of a segment that can have records of a customer.
func (rd *reader) search(s *segment, size int64, customer uint64) (*contents, error) {
	l := rd.l
	if customer == 0 {
		return l.contentsOf(s)
	}
	want := shortHash(customer)
	c, err := scanFile(s.path, s.seq, size, func(_ *header, hashes []byte) bool {
		for ; len(hashes) >= hashBytes; hashes = hashes[hashBytes:] {
			if binary.LittleEndian.Uint32(hashes) == want {
				return true
			}
		}
		return false
	})
	if err == nil {
		l.learn(c)
	}
	return c, err
}

// block reads a block, nil if that is damaged.
func (rd *reader) block(s *segment, f *frameAt) *Block {
	b, err := rd.read(s, f)
	if err == nil {
		return b
	}
	if !errors.Is(err, os.ErrNotExist) { // the segment may have been removed meanwhile
		rd.skip(damaged{Damage{s.path, f.offset, f.size(), err.Error()}, f.ids})
	}
	return nil
}

func (rd *reader) read(s *segment, f *frameAt) (b *Block, err error) {
	file, err := os.Open(s.path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return rd.unpack(file, f)
}

// unpack reads the block of a frame.
func (rd *reader) unpack(file source, f *frameAt) (*Block, error) {
	rd.packed = slices.Grow(rd.packed[:0], int(f.packed))[:f.packed]
	if _, err := file.ReadAt(rd.packed, f.offset+headerBytes+int64(f.hashes())); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if crc32.Checksum(rd.packed, castagnoli) != f.sum {
		return nil, fmt.Errorf("%w: the checksum is another", ErrDamaged)
	}
	raw, err := rd.l.unzip.DecodeAll(rd.packed, make([]byte, 0, f.raw))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	b, err := ReadBlock(raw)
	if err == nil && b.Len() != int(f.records) {
		err = fmt.Errorf("%w: %d records in place of %d", ErrDamaged, b.Len(), f.records)
	}
	return b, err
}

func (rd *reader) skip(d damaged) {
	rd.l.damaged(d)
	if rd.skipped != nil {
		rd.skipped(d.Damage)
	}
}

func (rd *reader) broken(s *segment, f *frameAt, k int) {
	rd.skip(damaged{Damage{s.path, f.offset, f.size(), fmt.Sprintf("record %d of %d is none", k+1, f.records)}, f.ids})
}

// unreadable notes a segment that can't be read.
func (rd *reader) unreadable(s *segment, err error) {
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	rd.l.mu.Lock()
	d := damaged{Damage{s.path, 0, s.size, err.Error()}, s.ids}
	rd.l.mu.Unlock()
	rd.skip(d)
}
