// Package reftable keeps reference tables: versioned facts from outside, such as the
// area of each cell of the network or the kind of each phone number, which event
// rules and the rules of catalogues look up by a text key. A table is loaded as a whole from a CSV file, as an
// immutable numbered version; one version of each is in force, and a rollback puts
// an earlier one back.
//
// It knows nothing of events and profiles: package rules asks it, and the schema
// says which tables there are. It is for profilestore's neighbours and the server.
package reftable

import (
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The errors of Activate, Rollback and List.
var (
	ErrNotFound  = errors.New("there is no such reference table, or no such version of it")
	ErrDamaged   = errors.New("the version of the reference table is damaged")
	ErrNoEarlier = errors.New("there is no earlier version of the reference table to go back to")
)

// Tables are the reference tables of a data folder, in DATA/tables. They are safe
// for concurrent use.
//
// An event means what the tables said when it was first logged, also when the
// delta records are derived from the journal again years later: a cell that has
// become a broker's since does not make a broker's visitor of who passed it before.
// So the versions in force together form a set with a number, each activation makes
// the next one, and an event's entry in the journal has the number of its set: a
// byte or two. Keeping the answers themselves in the journal lost: a rule that is
// added later could not ask another question of an old event.
//
// A set names every table that the schema declared while it was in force, one of
// which nothing was loaded with version 0: every key gives "". To an event of before
// a table was declared it is what it was when it began: the version in the first
// set that names it. That never changes either. So a table that is loaded before
// the schema declares it also serves the events that are in the journal by then.
//
// Version files are never removed: the journal may need any of them.
type Tables struct {
	dir   string
	names []string
	log   *slog.Logger

	current atomic.Pointer[Versions]

	mu       sync.Mutex // guards what follows, and files
	sets     setsFile
	past     []*Versions // sets that events named lately, besides the current one
	reported map[string]bool
}

// Versions are the versions of all tables in a set, open: what one decision reads, so
// that an activation meanwhile does not change it. They are immutable and safe for
// concurrent use. They implement [rapport/profilestore/rules.TableSet].
type Versions struct {
	set      uint64
	names    []string
	versions []*version // by the table's place in names; nil where nothing is loaded
}

// Set returns the number of the set, by which [Tables.Versions] finds it again.
func (v *Versions) Set() uint64 { return v.set }

// All lists the tables in the order of the schema, each with the number of its version;
// 0 where nothing is loaded.
func (v *Versions) All() iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for i, name := range v.names {
			if !yield(name, v.versions[i].number()) {
				return
			}
		}
	}
}

// Find returns what a table, by its place in the schema, has for a key; false if it has
// no row for it or nothing is loaded.
func (v *Versions) Find(table int, key string) (string, bool) {
	value := v.versions[table].lookup(key)
	return value, value != "" // no row has an empty value: see Load
}

// maxPast is how many sets besides the current one stay open. A replay goes through
// sets in the order of their numbers, but for events that were under way when a
// version was activated.
const maxPast = 3

// Open opens the tables of a schema, by their names. The folder need not exist. It
// fails if a version in force is damaged: to map events without it would keep
// their mistakes.
func Open(dir string, names []string, log *slog.Logger) (*Tables, error) {
	if log == nil {
		log = slog.Default()
	}
	t := &Tables{dir: dir, names: slices.Clone(names), log: log, reported: make(map[string]bool)}
	if err := t.sets.read(dir); err != nil {
		return nil, err
	}
	if err := t.begin(); err != nil {
		return nil, err
	}
	now := &Versions{set: t.sets.last().Number, names: t.names, versions: make([]*version, len(names))}
	for i, name := range names {
		var err error
		if now.versions[i], err = openVersion(t.folder(name), t.sets.last().Versions[name]); err != nil {
			return nil, fmt.Errorf("reference table %s: %w; load what it was loaded from again, which repairs it (rapport table load --no-activate), or put the file back from a backup", name, err)
		}
	}
	t.current.Store(now)
	return t, nil
}

// begin makes a set that names every table, if there is none.
func (t *Tables) begin() error {
	versions := maps.Clone(t.sets.last().Versions)
	if versions == nil {
		versions = make(map[string]int64)
	}
	for _, name := range t.names {
		if _, ok := versions[name]; ok {
			continue
		}
		numbers, err := t.folder(name).versions()
		if err != nil {
			return err
		}
		versions[name] = 0
		if len(numbers) > 0 {
			versions[name] = numbers[0]
		}
	}
	if len(versions) == len(t.sets.last().Versions) {
		return nil
	}
	sets := t.sets.with(versions, time.Now())
	if err := sets.write(t.dir); err != nil {
		return err
	}
	t.sets = sets
	return nil
}

func (t *Tables) folder(name string) folder { return folder{root: t.dir, table: name} }

// Set returns the number of the set of versions in force; 0 if no table has ever
// been declared.
func (t *Tables) Set() uint64 { return t.current.Load().set }

// Current returns the versions in force.
func (t *Tables) Current() *Versions { return t.current.Load() }

// Versions returns the versions of a set by its number, for a replay: exactly those that
// were in force, or an error, where Lookup makes do with what there is. The error is
// [ErrNotFound] for a set that is not known, else [ErrDamaged].
func (t *Tables) Versions(set uint64) (*Versions, error) {
	if now := t.current.Load(); now.set == set {
		return now, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if set == 0 { // before any table was declared
		return &Versions{names: t.names, versions: make([]*version, len(t.names))}, nil
	}
	if t.sets.find(set) == nil {
		return nil, fmt.Errorf("%w: no set of reference tables has the number %d", ErrNotFound, set)
	}
	r := &Versions{set: set, names: t.names, versions: make([]*version, len(t.names))}
	for i, name := range t.names {
		v, err := t.open(i, t.sets.version(set, name))
		if err != nil {
			return nil, fmt.Errorf("reference table %s of set %d: %w", name, set, err)
		}
		r.versions[i] = v
	}
	if !slices.ContainsFunc(t.past, func(p *Versions) bool { return p.set == set }) {
		t.keep(r)
	}
	return r, nil
}

// Pick returns versions of tables by their numbers, in the places of names, which may be
// those of an earlier schema; a table without a number, or with 0, is empty. It is for a
// replay: it returns exactly these versions or an error, [ErrNotFound] or [ErrDamaged].
func (t *Tables) Pick(names []string, numbers map[string]int64) (*Versions, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &Versions{names: slices.Clone(names), versions: make([]*version, len(names))}
	for i, name := range names {
		var err error
		if k := slices.Index(t.names, name); k >= 0 {
			r.versions[i], err = t.open(k, numbers[name])
		} else {
			r.versions[i], err = openVersion(t.folder(name), numbers[name])
		}
		if err != nil {
			return nil, fmt.Errorf("reference table %s: %w", name, err)
		}
	}
	return r, nil
}

// Lookup returns what a table, by its place in the schema, has for a key, in the
// version that a set has of it; "" if it has no row for the key.
func (t *Tables) Lookup(set uint64, table int, key string) string {
	r := t.current.Load()
	if r.set != set {
		r = t.resolveSlow(set)
	}
	return r.versions[table].lookup(key)
}

// resolveSlow returns a set that is not the current one, with its versions open.
func (t *Tables) resolveSlow(set uint64) *Versions {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.current.Load()
	if now.set == set { // by now
		return now
	}
	if i := slices.IndexFunc(t.past, func(r *Versions) bool { return r.set == set }); i >= 0 {
		return t.past[i]
	}
	r := &Versions{set: set, names: t.names, versions: slices.Clone(now.versions)}
	if set != 0 && t.sets.find(set) == nil {
		t.report(fmt.Sprintf("set %d", set), "the journal has events of a set of reference tables that is not known here: they are mapped by the versions in force", "set", set)
		t.sets.reserve(set)
	} else {
		for i, name := range t.names {
			number := t.sets.version(set, name)
			v, err := t.open(i, number)
			if err != nil {
				t.report(fmt.Sprintf("%s %d", name, number), "a version of a reference table can't be read: events of its time are mapped by the version in force", "table", name, "version", number, "error", err)
				continue
			}
			r.versions[i] = v
		}
	}
	t.keep(r)
	return r
}

// open returns a version of a table, if need be from its file.
func (t *Tables) open(i int, number int64) (*version, error) {
	for _, r := range append([]*Versions{t.current.Load()}, t.past...) {
		if v := r.versions[i]; v.number() == number {
			return v, nil
		}
	}
	return openVersion(t.folder(t.names[i]), number)
}

// keep keeps a set open, and lets go of the one that was opened first.
func (t *Tables) keep(r *Versions) {
	t.past = append(t.past, r)
	t.past = slices.Clone(t.past[max(0, len(t.past)-maxPast):])
}

// report logs a problem once.
func (t *Tables) report(key, message string, args ...any) {
	if !t.reported[key] {
		t.reported[key] = true
		t.log.Error(message, args...)
	}
}

// Activate puts a version of a table in force, durably, and returns the number of
// the one before, 0 if there was none. It reads the version completely first.
// Activating the one in force verifies it and changes nothing.
func (t *Tables) Activate(table string, number int64) (active Info, previous int64, err error) {
	return t.change(table, func(sets *setsFile) (int64, error) {
		numbers, err := t.folder(table).versions()
		if err != nil {
			return 0, err
		}
		if !slices.Contains(numbers, number) {
			return 0, fmt.Errorf("%w: table %s has no version %d, only %s", ErrNotFound, table, number, numberNames(numbers))
		}
		if before := sets.last().Versions[table]; before != 0 && before != number {
			earlier := append(slices.Clone(sets.Earlier[table]), before)
			sets.Earlier = maps.Clone(sets.Earlier)
			if sets.Earlier == nil {
				sets.Earlier = make(map[string][]int64)
			}
			sets.Earlier[table] = earlier[max(0, len(earlier)-maxEarlier):]
		}
		return number, nil
	})
}

// Rollback puts the version in force that was before the present one, and returns
// the number of the one that was rolled back. A second rollback goes one further
// back.
func (t *Tables) Rollback(table string) (active Info, previous int64, err error) {
	return t.change(table, func(sets *setsFile) (int64, error) {
		earlier := sets.Earlier[table]
		if len(earlier) == 0 {
			return 0, fmt.Errorf("%w: table %s", ErrNoEarlier, table)
		}
		last := len(earlier) - 1
		sets.Earlier = maps.Clone(sets.Earlier)
		sets.Earlier[table] = slices.Clone(earlier[:last])
		return earlier[last], nil
	})
}

// change puts the version of a table in force that decide says.
func (t *Tables) change(table string, decide func(*setsFile) (int64, error)) (Info, int64, error) {
	i, err := t.place(table)
	if err != nil {
		return Info{}, 0, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	sets := t.sets
	previous := sets.last().Versions[table]
	number, err := decide(&sets)
	if err != nil {
		return Info{}, 0, err
	}
	v, err := openVersion(t.folder(table), number)
	if err != nil {
		return Info{}, 0, fmt.Errorf("reference table %s: %w", table, err)
	}
	active := v.info(table, StateActive)
	if number == previous {
		return active, previous, nil
	}
	versions := maps.Clone(sets.last().Versions)
	versions[table] = number
	sets = sets.with(versions, time.Now())
	if err := sets.write(t.dir); err != nil {
		return Info{}, 0, err
	}
	t.sets = sets
	now := t.current.Load()
	next := &Versions{set: sets.last().Number, names: t.names, versions: slices.Clone(now.versions)}
	next.versions[i] = v
	t.keep(now) // for events that are being mapped
	t.current.Store(next)
	return active, previous, nil
}

// Pointers returns the number of the version of a table that is in force, and of
// the one that Rollback would put back; 0 where there is none.
func (t *Tables) Pointers(table string) (active, earlier int64, err error) {
	if _, err := t.place(table); err != nil {
		return 0, 0, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if list := t.sets.Earlier[table]; len(list) > 0 {
		earlier = list[len(list)-1]
	}
	return t.sets.last().Versions[table], earlier, nil
}

func (t *Tables) place(table string) (int, error) {
	i := slices.Index(t.names, table)
	if i < 0 {
		return 0, fmt.Errorf("%w: the schema declares no table %q, only %s", ErrNotFound, table, textNames(t.names))
	}
	return i, nil
}

// List returns the versions of a table, or of all if table is empty: in the order
// of the schema, newest first. They include those that other processes have made.
func (t *Tables) List(table string) ([]Info, error) {
	names := t.names
	if table != "" {
		if _, err := t.place(table); err != nil {
			return nil, err
		}
		names = []string{table}
	}
	var infos []Info
	for _, name := range names {
		active, _, err := t.Pointers(name)
		if err != nil {
			return nil, err
		}
		list, err := t.folder(name).list(active)
		if err != nil {
			return nil, err
		}
		infos = append(infos, list...)
	}
	return infos, nil
}

// InForce returns the version of a table that is in force, by its place in the
// schema; the zero Info but for the name where nothing is loaded.
func (t *Tables) InForce(table int) Info {
	v := t.current.Load().versions[table]
	if v == nil {
		return Info{Table: t.names[table]}
	}
	return v.info(t.names[table], StateActive)
}
