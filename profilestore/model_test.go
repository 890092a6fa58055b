package profilestore_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rapport/profilestore"
	"rapport/profilestore/memory"
)

const hour = 60 * minute

// modelSchema has a field of each type, fed by both kinds of origin where the type
// can have both. Windows are short, so that schedules go beyond them.
func modelSchema(t testing.TB) *profilestore.Schema {
	t.Helper()
	s, err := newModelSchema(false)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newModelSchema returns the schema, or one with more fields, in which another rule feeds
// a field that is there: see modelclones_test.go.
func newModelSchema(more bool) (*profilestore.Schema, error) {
	set := &profilestore.EventRule{On: "true", Set: "x"}
	add := &profilestore.EventRule{On: "true", Add: "x"}
	since := &profilestore.EventRule{On: "true", Add: "x", Reset: "x"}
	in := &profilestore.EventRule{On: "true", In: "x"}
	const none = profilestore.NoDecimals
	fields := []profilestore.Field{
		{Name: "value.balance", Type: profilestore.TypeNumber, Batch: "bi", Decimals: 2, Events: set},
		{Name: "usage.data_mb", Type: profilestore.TypeCounter, Batch: "bi", Decimals: 3, Events: add},
		{Name: "service.plan", Type: profilestore.TypeText, Batch: "sc", Decimals: none},
		{Name: "usage.calls", Type: profilestore.TypeCounter, Decimals: 0, Events: add},
		{Name: "tag.vip", Type: profilestore.TypeFlag, Batch: "sc", Default: true, Decimals: none},
		{Name: "usage.day_mb", Type: profilestore.TypeCounter, Batch: "bi", Decimals: 3, Window: 24 * time.Hour, Bucket: 6 * time.Hour, Events: add},
		{Name: "usage.recent", Type: profilestore.TypeCounter, Decimals: 0, Window: 12 * time.Hour, Bucket: time.Hour, Events: add},
		{Name: "value.peak", Type: profilestore.TypeMax, Batch: "bi", Decimals: 2, Events: set},
		{Name: "value.least", Type: profilestore.TypeMin, Decimals: none, Events: set},
		{Name: "marketing.owned", Type: profilestore.TypeSet, Batch: "bi", Decimals: none, Events: add},
		{Name: "preference.liked", Type: profilestore.TypeSet, Decimals: none, Events: add},
		{Name: "usage.missed", Type: profilestore.TypeCounter, Decimals: 0, Events: since},
		{Name: "location.stay", Type: profilestore.TypeDwell, Decimals: none, Events: in},
		{Name: "location.day", Type: profilestore.TypeDwell, Decimals: none, Window: 24 * time.Hour, Events: in},
		{Name: "service.calls", Type: profilestore.TypeCounter, Batch: "sc", Decimals: 0, Events: add},
	}
	if more {
		fields = withClones(fields)
	}
	return profilestore.NewSchema([]profilestore.Source{{ID: "bi"}, {ID: "sc"}}, fields, modelNamespaces...)
}

// modelNamespaces have a rule of each kind.
var modelNamespaces = []profilestore.Namespace{
	{ID: "customer", Max: 2},
	{ID: "msisdn", Holding: 12 * time.Hour},
	{ID: "cookie", Weak: true},
}

// modelIdentities are in the order of groups.
var modelIdentities = []string{"customer:1", "customer:2", "customer:3", "msisdn:1", "msisdn:2", "cookie:1"}

// modelMapper maps the events of the model; its types are its event types.
type modelMapper struct{}

func (modelMapper) Map(e *profilestore.Event, dst []profilestore.Change) ([]profilestore.Change, error) {
	put := func(slot int, op profilestore.ChangeOp, v profilestore.Value) {
		dst = append(dst, profilestore.Change{Slot: slot, Op: op, Value: v})
	}
	text, _ := e.Attributes["product"].(string)
	n := profilestore.Number(amount(e))
	switch e.Type {
	case "balance":
		put(0, profilestore.Assign, n)
		dst[len(dst)-1].Priority = int8(priority(e))
	case "use":
		for _, slot := range []int{1, 5} {
			put(slot, profilestore.Assign, n)
		}
		for _, slot := range []int{3, 6, 11, 14} {
			put(slot, profilestore.Assign, profilestore.Number(1))
		}
	case "reset":
		put(11, profilestore.Reset, profilestore.Value{})
	case "peak":
		put(7, profilestore.Assign, n)
		put(8, profilestore.Assign, n)
	case "buy", "drop":
		op := profilestore.Assign
		if e.Type == "drop" {
			op = profilestore.Remove
		}
		put(9, op, profilestore.Text(text))
		put(10, op, profilestore.Text(text))
	case "in", "out":
		put(12, profilestore.Assign, profilestore.Flag(e.Type == "in"))
		put(13, profilestore.Assign, profilestore.Flag(e.Type == "in"))
	}
	return dst, nil
}

// priority is that of an event for value.balance.
func priority(e *profilestore.Event) int {
	p, _ := e.Attributes["priority"].(float64)
	return int(p)
}

// modelEvent is an event and when it was logged.
type modelEvent struct {
	*profilestore.Event
	logged int64
	seq    uint64 // its entry in the journal
	taken  bool   // it was not sent before
}

// model is the naive twin of the store: all distinct events of each node in the
// order of the journal, every snapshot that exists, and the links that stand. It prunes
// nothing. What it knows of links is in modellinks_test.go.
type model struct {
	events  map[string][]modelEvent // by node
	sent    map[string][]modelEvent // likewise, with those that were sent again
	seen    map[string]int64        // when an id was last accepted, by node/id
	total   int
	sources map[string]*modelSource
	links   []modelLink
	apart   map[[2]string]bool // nodes, both ways
	ends    map[string][]int64 // when an identity was given up, ascending
}

type modelSource struct {
	loads       map[int64]*modelLoad // sealed, by generation
	active      int64
	earlier     []int64
	asOf, cut   int64    // the horizon
	base        [2]int64 // it when the base was written
	prunedSince bool     // something was pruned since the last activation
}

// modelLoad is what a snapshot says of each identity that has a row in it.
type modelLoad struct {
	asOf, cut int64
	rows      map[string]modelRow
}

type modelRow struct {
	balance, use, peak float64
	hops               []float64
	owned              []string
	plan               string
	calls              int
}

func newModel() *model {
	m := &model{
		events: make(map[string][]modelEvent), sent: make(map[string][]modelEvent), seen: make(map[string]int64), sources: make(map[string]*modelSource),
		apart: make(map[[2]string]bool), ends: make(map[string][]int64),
	}
	for _, source := range []string{"bi", "sc"} {
		m.sources[source] = &modelSource{loads: make(map[int64]*modelLoad), asOf: math.MinInt64, cut: math.MinInt64, base: [2]int64{math.MinInt64, math.MinInt64}}
	}
	return m
}

// advance moves the horizon to what all snapshots that can be activated cover.
func (x *modelSource) advance() {
	asOf, cut := int64(math.MaxInt64), int64(math.MaxInt64)
	for _, l := range x.loads {
		asOf, cut = min(asOf, l.asOf), min(cut, l.cut)
	}
	if len(x.loads) >= 2 {
		x.asOf, x.cut = max(x.asOf, asOf), max(x.cut, cut)
	}
}

// rows returns the active snapshot of a source, and what it says of nodes, in their
// order: those who had the identity at the as-of time.
func (m *model) rows(source string, nodes ...string) (l *modelLoad, rows []modelRow) {
	if l = m.sources[source].loads[m.sources[source].active]; l == nil {
		return nil, nil
	}
	for _, n := range nodes {
		if r, ok := l.rows[identity(n)]; ok && m.holder(identity(n), l.asOf-1) == n {
			rows = append(rows, r)
		}
	}
	return l, rows
}

func floor(t, width int64) int64 {
	r := t % width
	if r < 0 {
		r += width
	}
	return t - r
}

// want returns what the fields of a customer of these nodes must be when they are read
// at now, as text.
func (m *model) want(nodes []string, now int64) []string {
	bi, rows := m.rows("bi", nodes...)
	sc, scRows := m.rows("sc", nodes...)
	hasBI, hasSC := len(rows) > 0, len(scRows) > 0
	covered := func(l *modelLoad, e modelEvent) bool { return e.Time < l.asOf && e.logged < l.cut }
	number := func(f float64) string { return profilestore.Number(f).String() }

	var events []modelEvent
	missed, present, inWindow := 0, 0.0, 0.0
	for _, n := range nodes {
		events = append(events, m.events[n]...)
		since, moves := m.ordered(n)
		missed += since
		present, inWindow = max(present, stay(moves, now)), max(inWindow, timeIn(moves, now-24*hour, now))
	}
	slices.SortStableFunc(events, byTime)

	var balance *modelEvent
	var use, day float64
	var calls, recent, scCalls int
	least, peak := math.Inf(1), math.Inf(-1)
	owned, liked := make(map[string]bool), make(map[string]bool)
	for _, row := range rows {
		use, peak = use+row.use, max(peak, row.peak)
		for k, hop := range row.hops {
			if bi.asOf-int64(k+1)*6*hour >= now-24*hour && bi.asOf-int64(k+1)*6*hour <= now {
				day += hop
			}
		}
		for _, p := range row.owned {
			owned[p] = true
		}
	}
	for _, row := range scRows {
		scCalls += row.calls
	}
	for _, e := range events {
		product, _ := e.Attributes["product"].(string)
		switch e.Type {
		case "balance":
			if balance == nil || standsOver(e.Event, balance.Event) {
				balance = &e
			}
		case "use":
			calls++
			if hasSC && !covered(sc, e) {
				scCalls++
			}
			if hasBI && !covered(bi, e) {
				use += amount(e.Event)
				if begin := floor(e.Time, quarter); begin >= now-24*hour && begin <= now {
					day += amount(e.Event)
				}
			}
			if begin := floor(e.Time, hour); begin >= now-12*hour && begin <= now {
				recent++
			}
		case "peak":
			peak, least = max(peak, amount(e.Event)), min(least, amount(e.Event))
		case "buy", "drop":
			liked[product] = e.Type == "buy"
			if hasBI && e.Time >= bi.asOf {
				owned[product] = e.Type == "buy"
			}
		}
	}
	out := []string{"unknown", "unknown", "unknown", number(float64(calls)), "unknown", "unknown", number(float64(recent)), "unknown", "unknown", "unknown", setText(liked), number(float64(missed))}
	switch {
	case balance != nil && (!hasBI || balance.Time >= bi.asOf):
		out[0] = number(amount(balance.Event))
	case hasBI:
		out[0] = number(rows[0].balance)
	}
	if hasBI {
		out[1], out[5], out[9] = number(use), number(day), setText(owned)
		if !math.IsInf(peak, 0) {
			out[7] = number(peak)
		}
	}
	if hasSC {
		out[2], out[4] = scRows[0].plan, "true"
	}
	if !math.IsInf(least, 0) {
		out[8] = number(least)
	}
	out = append(out, number(present), number(inWindow), "unknown")
	if hasSC {
		out[14] = number(float64(scCalls))
	}
	return out
}

func byTime(a, b modelEvent) int { return cmp.Compare(a.Time, b.Time) }

// ordered returns what depends on the order of a node's events, which takes none that is
// too late: how often there was use since the last reset, and the moves in their order.
func (m *model) ordered(node string) (missed int, moves []modelEvent) {
	newest, reset := int64(math.MinInt64), int64(math.MinInt64)
	for _, e := range m.events[node] {
		newest = max(newest, e.Time)
		if e.Time < newest-48*hour {
			continue
		}
		switch e.Type {
		case "in", "out":
			moves = append(moves, e)
		case "reset":
			reset = max(reset, e.Time)
		}
	}
	for _, e := range m.events[node] {
		if e.Type == "use" && e.Time >= reset {
			missed++
		}
	}
	slices.SortFunc(moves, byTime)
	return missed, moves
}

// standsOver reports whether an event decides over one of before it in the journal, or of
// an earlier node.
func standsOver(e, f *profilestore.Event) bool {
	id := func(e *profilestore.Event) uint64 {
		sum := sha256.Sum256([]byte(e.ID))
		return binary.LittleEndian.Uint64(sum[:])
	}
	return cmp.Or(cmp.Compare(e.Time, f.Time), cmp.Compare(priority(e), priority(f)), cmp.Compare(id(e), id(f))) >= 0
}

func setText(set map[string]bool) string {
	var in []string
	for p, ok := range set {
		if ok {
			in = append(in, p)
		}
	}
	return profilestore.Set(in...).String()
}

// isIn reports whether the customer is there at a time, from moves in their order.
func isIn(moves []modelEvent, at int64) bool {
	in := false
	for _, e := range moves {
		if e.Time <= at {
			in = e.Type == "in"
		}
	}
	return in
}

// stay returns how long the customer has been there, in minutes.
func stay(moves []modelEvent, now int64) float64 {
	if !isIn(moves, now) {
		return 0
	}
	begin := now
	for _, e := range slices.Backward(moves) {
		if e.Time > now {
			continue
		}
		if e.Type == "out" {
			break
		}
		begin = e.Time
	}
	return float64(now-begin) / float64(minute)
}

// timeIn returns how many minutes between two times the customer was there.
func timeIn(moves []modelEvent, from, to int64) float64 {
	at := []int64{from, to}
	for _, e := range moves {
		if e.Time > from && e.Time < to {
			at = append(at, e.Time)
		}
	}
	slices.Sort(at)
	total := int64(0)
	for i := 1; i < len(at); i++ {
		if isIn(moves, at[i-1]) {
			total += at[i] - at[i-1]
		}
	}
	return float64(total) / float64(minute)
}

func read(v *profilestore.View, s *profilestore.Schema, now int64) []string {
	out := make([]string, len(s.Fields()))
	for slot := range out {
		out[slot] = v.At(now).Get(slot).String()
	}
	return out
}

// schedule is one run of the model test.
type schedule struct {
	*rapid.T
	h          *house
	m          *model
	had        map[string]bool // cases that occurred
	checkpoint []byte          // as it was when the store was opened
	restarted  bool
	// From which entry of the journal on fields know of events, by what they mean: those
	// that are in force, and those of the base.
	more           bool
	from, baseFrom map[string]stretch
	entries        uint64 // the next of the journal, when the store was closed
	// checkpointed: there was a checkpoint since the store was opened.
	checkpointed bool
	linked       bool // since the last start
	pruned       uint64
}

// TestModel runs random schedules of events, redelivery, loads of two sources,
// rollbacks, activations, crashes and losses of the delta records, against a fold
// over everything that ever happened, for every type of field, read at several
// times. The batch jobs of the schedules are honest: what they say of a counter is
// the sum of the events that they cover. Snapshots are removed as they get old, so
// records are pruned all the time, and a load that does not reach the horizon must be
// refused. The beginning of the journal is removed now and then, which must not make any
// difference.
//
// That it would notice is shown by TestPlantedMistakes.
func TestModel(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a store on disk")
	}
	scratch := memoryDir(t)
	counts := make(map[string]int)
	schedules := 0
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(scratch, "store") //nolint:usetesting // one for each schedule, removed after it
		if err != nil {
			rt.Fatal(err)
		}
		s := &schedule{T: rt, m: newModel(), had: make(map[string]bool), h: &house{
			dir: dir, schema: modelSchema(t), mapper: modelMapper{}, now: 20_000*day + 7*minute,
			cache:        rapid.SampledFrom([]int{0, 64, 10_000}).Draw(rt, "cache"),
			segmentBytes: rapid.SampledFrom([]int64{300, 1000, 0}).Draw(rt, "segment"),
		}}
		// Badger takes most of a schedule's time, and what is tested is above it.
		if rapid.IntRange(0, 9).Draw(rt, "engine") < 9 {
			s.h.memory, s.h.versions = new(memory.Memory), newVersions()
		} else {
			s.had["badger"] = true
		}
		s.derived()
		s.open()
		defer func() {
			if err := s.h.store.Close(); err != nil {
				rt.Error(err)
			}
			if err := os.RemoveAll(dir); err != nil {
				rt.Error(err)
			}
		}()
		steps := map[string]func(){
			"events": s.ingest, "load": s.load, "identities": s.identities, "rollback": s.rollback, "activate": s.activate,
			"retain": s.retain, "schema": s.changeSchema, "checkpoint": s.makeCheckpoint,
			"crash": func() { s.reopen(true, false) }, "restart": func() { s.reopen(false, false) }, "rebuild": func() { s.reopen(false, true) },
		}
		order := []string{
			"events", "load", "identities", "events", "load", "rollback", "identities", "events", "load", "rollback", "crash", "activate", "rebuild", "restart",
			"checkpoint", "retain", "schema", "identities", "retain",
		}
		for i := range rapid.IntRange(12, 40).Draw(rt, "steps") {
			s.h.now += rapid.SampledFrom([]int64{0, 1, 14, 15, 60, 200, 700, 1500}).Draw(rt, "minutes") * minute
			steps[rapid.SampledFrom(order).Draw(rt, "step")]()
			s.compare()
			if i%6 == 5 {
				s.walk()
			}
		}
		schedules++
		for c, had := range s.had {
			if had {
				counts[c]++
			}
		}
	})
	cases := []string{
		"duplicate", "redelivery after a crash", "late", "late for the batch", "out of order", "future", "too late", "late reset", "late move", "reset", "outside the window",
		"element overtaken by a batch", "load bi", "load sc", "load before the horizon", "rollback", "activation", "pruned", "rollback over a prune", "crash", "rebuild", "rebuild after a prune",
		"a customer without a row", "events later than the as-of time", "same time, another priority", "a walk sees a group", "a walk sees a group by its second member",
		"link", "unlink", "unlink after events on both sides", "separation", "reconciliation", "recycling", "event for an earlier holder", "event for a later holder",
		"refused: a weak identity", "refused: separated", "refused: too many of a namespace", "refused: the holding period", "a weak identity loses a link",
		"checkpoint", "crash after a checkpoint", "removal from the journal", "removal by an old base", "crash after a removal", "rebuild after a removal",
		"another schema", "another schema after a removal", "a field that has lost its beginning",
		"two rows in one source", "a link replayed after a crash", "a link rebuilt",
	}
	for _, c := range cases {
		share := 100 * float64(counts[c]) / float64(schedules)
		t.Logf("%5.1f%% of %d schedules: %s", share, schedules, c)
		if share < 5 && schedules >= 500 || counts[c] == 0 && schedules >= 100 {
			t.Errorf("too few schedules had %q", c)
		}
	}
}

func (s *schedule) open() {
	if err := s.h.open(); err != nil {
		s.Fatal(err)
	}
	for _, x := range s.m.sources {
		x.advance()
	}
	s.pruned = 0
	if s.h.versions != nil {
		clear(s.h.versions.made)
	}
	s.readCheckpoint()
}

func (s *schedule) readCheckpoint() {
	var err error
	if s.checkpoint, err = os.ReadFile(filepath.Join(s.h.dir, "deltas", "CHECKPOINT")); err != nil {
		s.Fatal(err)
	}
}

// makeCheckpoint makes one as the store does now and then: a crash goes back there.
func (s *schedule) makeCheckpoint() {
	if err := s.h.store.CheckpointNow(context.Background()); err != nil {
		s.Fatal(err)
	}
	s.had["checkpoint"], s.checkpointed = true, true
	s.readCheckpoint()
}

// retain removes what can be removed of the journal.
func (s *schedule) retain() {
	files, err := filepath.Glob(filepath.Join(s.h.dir, "journal", "*.journal"))
	if err != nil {
		s.Fatal(err)
	}
	for i, n := 0, rapid.IntRange(1, len(files)).Draw(s.T, "files"); i < n; i++ {
		if err := os.Chtimes(files[i], time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			s.Fatal(err)
		}
	}
	before := s.base()
	removed, err := s.h.store.Retain(context.Background(), time.Now().Add(-time.Minute))
	if err != nil {
		s.Fatal(err)
	}
	s.readCheckpoint()
	if after := s.base(); after != before {
		for _, x := range s.m.sources {
			x.base = [2]int64{x.asOf, x.cut}
		}
		s.baseFrom = maps.Clone(s.from)
	} else if len(removed) > 0 {
		s.had["removal by an old base"] = true
	}
	s.had["removal from the journal"] = s.had["removal from the journal"] || len(removed) > 0
}

// base returns which base there is.
func (s *schedule) base() string {
	files, err := filepath.Glob(filepath.Join(s.h.dir, "base", "*"))
	if err != nil || len(files) > 1 {
		s.Fatal(files, err)
	}
	if len(files) == 0 {
		return ""
	}
	content, err := os.ReadFile(files[0]) // another one may be of the same entry
	if err != nil {
		s.Fatal(err)
	}
	return string(content)
}

// reopen closes and opens the store; after a crash the checkpoint is as old as the
// last start, and after a loss the delta records are gone.
func (s *schedule) reopen(crash, lost bool) {
	s.had["restart"] = true
	s.entries = s.h.store.Stats().JournalNext
	removed := s.h.store.JournalFirst() > 1
	s.had["crash after a removal"] = s.had["crash after a removal"] || crash && removed
	s.had["rebuild after a removal"] = s.had["rebuild after a removal"] || lost && removed
	s.had["crash after a checkpoint"] = s.had["crash after a checkpoint"] || crash && s.checkpointed
	s.checkpointed = false
	if s.h.versions != nil {
		s.h.versions.closed = crash
	}
	if err := s.h.store.Close(); err != nil {
		s.Fatal(err)
	}
	switch {
	case crash:
		s.had["crash"], s.restarted = true, true
		s.had["a link replayed after a crash"] = s.had["a link replayed after a crash"] || s.linked
		if s.h.versions != nil {
			if err := s.h.versions.crash(s.T, s.h); err != nil {
				s.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(s.h.dir, "deltas", "CHECKPOINT"), s.checkpoint, 0o600); err != nil {
			s.Fatal(err)
		}
	case lost:
		s.had["rebuild"] = true
		s.had["rebuild after a prune"] = s.had["rebuild after a prune"] || s.had["pruned"]
		if err := os.RemoveAll(filepath.Join(s.h.dir, "deltas")); err != nil {
			s.Fatal(err)
		}
		s.had["a link rebuilt"] = s.had["a link rebuilt"] || len(s.m.links) > 0
		if s.h.versions != nil {
			clear(s.h.versions.latest)
		}
		for _, x := range s.m.sources {
			x.asOf, x.cut = x.base[0], x.base[1]
		}
		s.derived()
	}
	if s.h.versions != nil {
		s.h.versions.closed = false
	}
	s.linked = false
	s.open()
}

func (s *schedule) ingest() {
	var batch []*profilestore.Event
	var want []profilestore.Outcome
	next := s.h.store.Stats().JournalNext
	for range rapid.IntRange(1, 6).Draw(s.T, "events") {
		customer := rapid.SampledFrom(busiest).Draw(s.T, "identity")
		id := fmt.Sprintf("e%d", rapid.IntRange(0, 60).Draw(s.T, "id"))
		late := rapid.SampledFrom([]int64{-4, 0, 0, 1, 20, 100, 600, 1500, 2879, 3000, 5000}).Draw(s.T, "late by")
		e := event(id, rapid.SampledFrom([]string{"balance", "use", "use", "use", "use", "use", "reset", "peak", "buy", "drop", "in", "in", "out"}).Draw(s.T, "type"), customer,
			s.h.now-late*minute-int64(s.m.total)*7, float64(rapid.IntRange(1, 4000).Draw(s.T, "amount"))/4)
		e.Attributes["product"] = rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(s.T, "product")
		e.Identity = customer
		if e.Type == "balance" { // these alone may happen at the same time
			e.Time = floor(s.h.now-late*minute, 12*hour)
			e.Attributes["priority"] = float64(rapid.IntRange(-2, 2).Draw(s.T, "priority"))
		}
		batch = append(batch, e)
		node := s.m.holder(customer, e.Time)
		s.had["event for a later holder"] = s.had["event for a later holder"] || node != customer
		s.had["event for an earlier holder"] = s.had["event for an earlier holder"] || node != s.m.node(customer)
		entry := modelEvent{Event: e, logged: s.h.now, seq: next + uint64(len(batch)) - 1}
		at, ok := s.m.seen[node+"/"+id]
		again := ok && at >= s.h.now-48*hour
		entry.taken = !again
		s.m.sent[node] = append(s.m.sent[node], entry)
		if again {
			s.had["duplicate"] = true
			s.had["redelivery after a crash"] = s.had["redelivery after a crash"] || s.restarted
			want = append(want, profilestore.Duplicate)
			continue
		}
		s.m.seen[node+"/"+id] = s.h.now
		want = append(want, profilestore.Accepted)
		s.note(node, e, late)
		s.m.total++
		s.m.events[node] = append(s.m.events[node], entry)
	}
	results, err := s.h.store.Ingest(context.Background(), batch)
	if err != nil {
		s.Fatal(err)
	}
	for i, r := range results {
		if r.Outcome != want[i] {
			s.Fatalf("event %d: outcome %v, want %v (%v)", i, r.Outcome, want[i], r.Err)
		}
	}
	if n := s.h.store.Stats().Pruned; n > s.pruned {
		s.pruned = n
		for _, e := range batch {
			s.notePruned(s.m.holder(e.Identity, e.Time))
		}
	}
}

// notePruned records whether cells of a node's record are covered by all retained
// snapshots, so that they were pruned when it changed.
func (s *schedule) notePruned(node string) {
	for _, x := range s.m.sources {
		for _, e := range s.m.events[node] {
			if e.Type == "use" && floor(e.Time, quarter)+quarter <= x.asOf && floor(e.logged, quarter)+quarter <= x.cut {
				s.had["pruned"], x.prunedSince = true, true
			}
		}
	}
}

// note records which cases a new event makes.
func (s *schedule) note(node string, e *profilestore.Event, late int64) {
	had := func(c string, ok bool) { s.had[c] = s.had[c] || ok }
	had("late", late > 15)
	had("future", late < 0)
	had("reset", e.Type == "reset")
	if e.Type == "balance" {
		for _, x := range s.m.events[node] {
			had("same time, another priority", x.Type == "balance" && x.Time == e.Time && priority(x.Event) != priority(e))
			had("same time, same priority", x.Type == "balance" && x.Time == e.Time && priority(x.Event) == priority(e))
		}
	}
	order := e.Type == "reset" || e.Type == "in" || e.Type == "out"
	had("too late", order && late > 48*60)
	had("outside the window", e.Type == "use" && late > 24*60)
	before := s.m.events[node]
	had("out of order", slices.ContainsFunc(before, func(x modelEvent) bool { return x.Time > e.Time }))
	overtakes := func(types ...string) bool {
		return late <= 48*60 && slices.ContainsFunc(before, func(x modelEvent) bool { return x.Time > e.Time && slices.Contains(types, x.Type) })
	}
	had("late reset", e.Type == "reset" && overtakes("use"))
	had("late move", (e.Type == "in" || e.Type == "out") && overtakes("in", "out"))
	bi, rows := s.m.rows("bi", node)
	if bi == nil {
		return
	}
	ok := len(rows) > 0
	had("late for the batch", ok && e.Time < bi.asOf)
	had("events later than the as-of time", ok && e.Time >= bi.asOf)
	had("element overtaken by a batch", ok && (e.Type == "buy" || e.Type == "drop") && e.Time < bi.asOf)
}

// load makes the batch job of a source run and its snapshot current.
func (s *schedule) load() {
	source := rapid.SampledFrom([]string{"bi", "bi", "bi", "sc"}).Draw(s.T, "source")
	x := s.m.sources[source]
	cut := s.h.now/quarter*quarter - rapid.SampledFrom([]int64{0, 1, 40, 200}).Draw(s.T, "cut")*quarter
	asOf := cut - rapid.SampledFrom([]int64{0, 1, 8, 96}).Draw(s.T, "as-of")*quarter
	l := &modelLoad{asOf: asOf, cut: cut, rows: make(map[string]modelRow)}
	var csv strings.Builder
	if source == "bi" {
		csv.WriteString("customer,value.balance,usage.data_mb,usage.day_mb,value.peak,marketing.owned\n")
	} else {
		csv.WriteString("customer,service.plan,tag.vip,service.calls\n")
	}
	for i, c := range modelIdentities {
		if rapid.IntRange(0, 6).Draw(s.T, "absent") < []int{1, 1, 1, 4, 4, 7}[i] {
			s.had["a customer without a row"] = true
			continue
		}
		r := s.job(l, s.m.holder(c, l.asOf-1))
		l.rows[c] = r
		if source == "sc" {
			fmt.Fprintf(&csv, "%s,%s,,%d\n", c, r.plan, r.calls)
			continue
		}
		peak := ""
		if !math.IsInf(r.peak, 0) {
			peak = fmt.Sprint(r.peak)
		}
		hops := make([]string, len(r.hops))
		for k, hop := range r.hops {
			hops[k] = fmt.Sprint(hop)
		}
		fmt.Fprintf(&csv, "%s,%v,%v,%s,%s,%s\n", c, r.balance, r.use, strings.Join(hops, ";"), peak, strings.Join(r.owned, "; "))
	}
	file := filepath.Join(s.h.dir, "input.csv")
	if err := os.WriteFile(file, []byte(csv.String()), 0o600); err != nil {
		s.Fatal(err)
	}
	report, err := s.h.loadFile(source, asOf, cut, file, rapid.IntRange(2, 3).Draw(s.T, "retain"))
	if asOf < x.asOf || cut < x.cut {
		s.had["load before the horizon"] = true
		if !errors.Is(err, profilestore.ErrSnapshotPruned) {
			s.Fatalf("a load as of %d and %d, before the horizon %d and %d: %v", asOf, cut, x.asOf, x.cut, err)
		}
		return
	}
	if err != nil {
		s.Fatal(err)
	}
	s.had["load "+source] = true
	for _, n := range report.Removed {
		delete(x.loads, n)
	}
	x.loads[report.Snapshot.Generation] = l
	x.use(report.Snapshot.Generation)
	if rapid.Bool().Draw(s.T, "and events") { // which find what can now be pruned
		s.compare()
		s.ingest()
	}
}

// job is an honest batch job: what it says of one node.
func (s *schedule) job(l *modelLoad, node string) modelRow {
	r := modelRow{balance: float64(rapid.IntRange(0, 10_000).Draw(s.T, "cents")) / 100, hops: make([]float64, 4), plan: fmt.Sprintf("plan%d", s.h.now)}
	r.peak = math.Inf(-1)
	if rapid.Bool().Draw(s.T, "older peak") {
		r.peak = 500
	}
	for _, e := range s.m.events[node] {
		if e.Time >= l.asOf || e.logged >= l.cut {
			continue
		}
		switch e.Type {
		case "use":
			r.use += amount(e.Event)
			r.calls++
			if k := (l.asOf - e.Time - 1) / (6 * hour); k < 4 {
				r.hops[k] += amount(e.Event)
			}
		case "peak":
			r.peak = max(r.peak, amount(e.Event))
		}
	}
	for _, p := range []string{"a", "b", "c"} {
		if rapid.Bool().Draw(s.T, "owned") {
			r.owned = append(r.owned, p)
		}
	}
	slices.Reverse(r.owned)
	return r
}

// use makes a generation the active one.
func (x *modelSource) use(generation int64) {
	if generation != x.active && x.active != 0 {
		x.earlier = append(x.earlier, x.active)
	}
	x.active = generation
	x.prunedSince = false
	x.advance()
}

func (s *schedule) rollback() {
	source := rapid.SampledFrom([]string{"bi", "bi", "bi", "sc"}).Draw(s.T, "source")
	x := s.m.sources[source]
	place := len(x.earlier) - 1
	for place >= 0 && (x.loads[x.earlier[place]] == nil || x.earlier[place] == x.active) {
		place--
	}
	_, _, err := s.h.store.Snapshots().Rollback(context.Background(), source)
	if place < 0 {
		if !errors.Is(err, profilestore.ErrNoEarlierSnapshot) {
			s.Fatalf("rollback without an earlier snapshot: %v", err)
		}
		return
	}
	if err != nil {
		s.Fatal(err)
	}
	s.had["rollback"] = true
	s.had["rollback over a prune"] = s.had["rollback over a prune"] || x.prunedSince
	x.active, x.earlier = x.earlier[place], x.earlier[:place]
	x.advance()
}

func (s *schedule) activate() {
	source := rapid.SampledFrom([]string{"bi", "bi", "sc"}).Draw(s.T, "source")
	x := s.m.sources[source]
	if len(x.loads) == 0 {
		return
	}
	generation := rapid.SampledFrom(slices.Sorted(maps.Keys(x.loads))).Draw(s.T, "generation")
	if _, _, err := s.h.store.Snapshots().Activate(context.Background(), source, generation); err != nil {
		s.Fatal(err)
	}
	s.had["activation"] = true
	x.use(generation)
}

// compare compares every customer's view with the model: now, at a time to come, and
// at one that has passed.
func (s *schedule) compare() {
	later := rapid.SampledFrom([]int64{1, 100, 721, 1440, 2000}).Draw(s.T, "later") * minute
	earlier := rapid.SampledFrom([]int64{1, 100, 721, 1440, 2800}).Draw(s.T, "earlier") * minute
	for i, c := range modelIdentities {
		v, err := s.h.store.View(context.Background(), c)
		if err != nil {
			s.Fatal(err)
		}
		nodes := s.m.group(s.m.node(c))
		if !slices.Equal(s.members(v.Group()), nodes) || v.Customer() != s.m.lead(nodes) {
			s.Fatalf("%s: the customer is %s, with %v, want %s with %v", c, v.Customer(), s.members(v.Group()), s.m.lead(nodes), nodes)
		}
		_, rows := s.m.rows("bi", nodes...)
		s.had["two rows in one source"] = s.had["two rows in one source"] || len(rows) > 1
		times := []int64{s.h.now, s.h.now + later, s.h.now - earlier}
		if i > 2 {
			times = times[:1]
		}
		for _, now := range times {
			got, want := read(v, s.h.schema, now), s.want(nodes, now)
			for slot, f := range s.h.schema.Fields() {
				if got[slot] != want[slot] {
					s.Fatalf("%s, of %v, read %v after now: %s is %s, want %s", c, nodes, time.Duration(now-s.h.now)*time.Microsecond, f.Name, got[slot], want[slot])
				}
			}
		}
	}
}
