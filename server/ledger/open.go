package ledger

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Recovery is what Open found.
type Recovery struct {
	Files, Records int
	TornBytes      int64    // at the end, of a write that a crash cut short, which nobody was told of
	Damage         []Damage // files with damage are kept with the suffix .damaged
}

// Recovery returns what Open found.
func (l *Ledger) Recovery() Recovery { return l.recovery }

// Open opens the ledger in a folder, which is made if it does not exist.
//
// A file that is damaged is no error: what can be read is used, the rest is in Recovery
// and in the log. Nor is a full disk: then nothing can be reserved until there is room.
func Open(dir string, o Options) (*Ledger, error) {
	l := &Ledger{
		o: o.withDefaults(), dir: dir, peak: noPeak,
		customers: make(map[string]*customer), reservations: make(map[ID]*reservation), pools: make(map[poolKey]*pool),
	}
	g := &log{l: l, kick: make(chan struct{}, 1), stop: make(chan struct{})}
	g.work.L, g.idle.L = &l.mu, &l.mu
	l.log = g
	g.begin()
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	files, err := listFiles(dir)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	if err := g.replay(files); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	if err := g.start(); err != nil {
		// As when a write fails later: the keeper tries anew.
		g.broken = err
		g.failures++
		l.o.Logger.Error("the ledger can't be written: nothing that is limited can be promised", "dir", dir, "error", err)
	}
	g.writer.Go(g.write)
	if l.o.SyncEvery > 0 {
		g.keeper.Go(g.keep)
	}
	if len(l.recovery.Damage) > 0 && g.broken == nil {
		for _, d := range l.recovery.Damage {
			l.o.Logger.Error("a file of the ledger is damaged and set aside: contacts that were under way may be missing", "file", d.File, "damage", d.String())
		}
		if err := g.setAside(); err != nil {
			l.o.Logger.Error("a damaged file of the ledger can't be set aside", "error", err)
			l.mu.Lock()
			g.suspect = true
			l.mu.Unlock()
		}
	}
	return l, nil
}

// listFiles returns the numbers of the files, ascending.
func listFiles(dir string) (seqs []uint64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), nameSuffix)
		if !ok {
			continue
		}
		seq, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || seq == 0 || seq > 1<<62 || len(digits) != nameDigits && (len(digits) < nameDigits || digits[0] == '0') {
			return nil, fmt.Errorf("%s is not a file of the ledger: move it away", filepath.Join(dir, e.Name()))
		}
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	return seqs, nil
}

// replay reads the files.
func (g *log) replay(seqs []uint64) error {
	l := g.l
	p := replay{l: l, texts: make(map[string]string)}
	for i, seq := range seqs {
		s := &segment{seq: seq, path: g.path(seq)}
		b, err := os.ReadFile(s.path)
		if err != nil {
			return err
		}
		g.segments = append(g.segments, s)
		g.seq = seq
		p.segment = s
		tail, damage := scan(b, seq, p.apply)
		if p.version != 0 {
			return fmt.Errorf("%s has format version %d, this version reads %d: use the version of Rapport that wrote it", s.path, p.version, formatVersion)
		}
		if n := int64(len(b)) - tail; n > 0 {
			if i < len(seqs)-1 {
				damage = append(damage, Damage{Offset: tail, Bytes: n, Reason: "no record with a good checksum, and the file is not the last"})
			} else {
				l.recovery.TornBytes = n
				if err := cut(s.path, tail); err != nil { // it matters only when it is no longer the last
					damage = append(damage, Damage{Offset: tail, Bytes: n, Reason: "torn, and can't be cut off: " + err.Error()})
				}
			}
		}
		for _, d := range damage {
			d.File = s.path
			l.recovery.Damage = append(l.recovery.Damage, d)
			s.damaged = true
		}
		s.size = tail
	}
	l.recovery.Files, l.recovery.Records = len(seqs), p.records
	l.sweep(len(l.expiry))
	l.counts = Stats{Pending: l.counts.Pending, Places: l.counts.Places}
	if n := l.recovery.TornBytes; n > 0 {
		l.o.Logger.Warn("the last write to the ledger was cut short by a crash, before anybody was told of it", "file", g.path(g.seq), "bytes", n)
	}
	return nil
}

// cut cuts a file off.
func cut(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Sync(), f.Close())
}

// start begins the file that is written to.
func (g *log) start() error {
	s, err := g.create()
	if err == nil {
		checkpoint := g.l.checkpoint(s.seq)
		if _, err = s.write(checkpoint); err == nil {
			err = s.file.Sync()
			s.size = int64(len(checkpoint))
		}
		if err != nil {
			err = errors.Join(err, g.discard(s))
		}
	}
	if err != nil { // there has to be one
		s = &segment{seq: g.seq, path: g.path(g.seq)}
	}
	g.open.peak = noPeak // of what was read, not of what will be written
	g.segments = append(g.segments, s)
	return err
}

// setAside keeps damaged files under another name, and what could be read of all files in
// a new one.
func (g *log) setAside() error {
	g.keeping.Lock()
	defer g.keeping.Unlock()
	return g.compact(true)
}

// replay applies records.
type replay struct {
	l       *Ledger
	segment *segment
	records int
	version byte              // of a file, if it is not ours
	texts   map[string]string // names that have occurred; there are few
}

// text returns a name, not as a part of a file.
func (p *replay) text(s string) string {
	if t, ok := p.texts[s]; ok {
		return t
	}
	s = strings.Clone(s)
	p.texts[s] = s
	return s
}

// apply applies a record.
func (p *replay) apply(payload []byte) error {
	r := &reader{s: string(payload)}
	p.records++
	if p.records%1024 == 0 {
		p.l.sweep(1 << 20)
	}
	switch kind(r.byte()) {
	case kindHeader:
		if v := r.byte(); v != formatVersion && !r.bad {
			p.version = v
			return nil
		}
		r.uvarint()
		return r.end()
	case kindClock:
		clock, high := r.varint(), r.varint()
		if err := r.end(); err != nil {
			return err
		}
		p.l.sweep(len(p.l.expiry))
		p.l.clock, p.l.high = clock, max(p.l.high, high)
		return nil
	case kindPool:
		return p.pool(r)
	case kindReservation:
		return p.reservation(r)
	case kindCommit:
		return p.commit(r)
	case kindCancel:
		id := r.id()
		if x := p.l.reservations[id]; x != nil && r.end() == nil {
			p.l.remove(x)
		}
		return r.end()
	}
	return fmt.Errorf("%w: a record of an unknown kind", errMalformed)
}

func (r *reader) id() (id ID) {
	copy(id[:], r.take(len(id)))
	return id
}

func (p *replay) key(r *reader) poolKey { return poolKey{p.text(r.text()), r.byte()} }

func (p *replay) pool(r *reader) error {
	type reading struct{ begin, taken int64 }
	key, floor := p.key(r), r.varint()
	readings := make([]reading, r.count(1<<20))
	for i := range readings {
		readings[i] = reading{r.varint(), r.varint()}
	}
	if err := r.end(); err != nil {
		return err
	}
	for _, x := range readings {
		p.period(key, x.begin).taken = x.taken
	}
	q := p.l.pools[key]
	if q == nil {
		q = &pool{key: key}
		p.l.pools[key] = q
	}
	q.floor = max(q.floor, floor)
	return nil
}

// period returns a period of a capacity, also one that is forgotten: something in it may
// still be reserved.
func (p *replay) period(key poolKey, begin int64) *period {
	if x := p.l.at(key, begin); x != nil {
		return x
	}
	q := p.l.pools[key]
	floor := q.floor
	q.floor = begin - 1
	x := p.l.at(key, begin)
	q.floor = floor
	return x
}

func (p *replay) reservation(r *reader) error {
	l := p.l
	size := recordHeader + len(r.s) + 1
	flags := r.byte()
	x := &reservation{id: r.id(), pending: flags&flagPending != 0}
	now := r.varint()
	x.expires = r.varint()
	name := ""
	if flags&flagKnown != 0 {
		name = r.text()
	}
	type placed struct {
		key   poolKey
		begin int64
	}
	n := r.count(maxPlaces)
	at := make([]placed, n)
	x.places = make([]place, n)
	for i := range x.places {
		at[i] = placed{p.key(r), r.varint()}
		x.places[i] = place{takenBy: p.text(r.text()), offer: p.text(r.text()), taken: r.byte() != 0}
	}
	if r.bad {
		return errMalformed
	}
	if x.pending {
		if _, err := contactOf(r.s); err != nil {
			return err
		}
		x.contact = strings.Clone(r.s)
	}
	l.observe(now)
	if old := l.reservations[x.id]; old != nil {
		l.remove(old)
	}
	if x.expires <= l.clock {
		if flags&flagAgain != 0 || x.expires <= now {
			return nil
		}
		l.stepBack(now)
	}
	if x.pending && flags&flagKnown != 0 {
		x.customer = l.customers[name]
		if x.customer == nil {
			x.customer = l.customer(strings.Clone(name))
		}
	}
	for i, y := range at {
		x.places[i].period = p.period(y.key, y.begin)
		if !x.places[i].taken {
			x.places[i].period.reserved++
			l.counts.Places++
		}
	}
	l.add(x)
	x.enter(p.segment, int32(size))
	return nil
}

func (p *replay) commit(r *reader) error {
	type taking struct {
		place int
		key   poolKey
		begin int64
	}
	id, now := r.id(), r.varint()
	took := make([]taking, r.count(maxPlaces))
	for i := range took {
		took[i] = taking{r.count1(maxPlaces), p.key(r), r.varint()}
	}
	if err := r.end(); err != nil {
		return err
	}
	p.l.observe(now)
	for _, t := range took {
		p.period(t.key, t.begin).taken++
	}
	x := p.l.reservations[id]
	if x == nil || x.expires <= p.l.clock {
		return nil
	}
	for _, t := range took {
		if t.place >= len(x.places) {
			continue
		}
		if y := &x.places[t.place]; !y.taken {
			y.taken = true
			y.period.reserved--
			p.l.counts.Places--
		}
	}
	p.l.settle(x)
	x.contact = ""
	return nil
}
