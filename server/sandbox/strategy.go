package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rapport/profilestore"
	"rapport/sdk/abi"
	"rapport/server/catalog"
	"rapport/server/decide"
)

// TextRoom is how many bytes of text a call has room for, for each text field of
// the profile that the strategy reads. They are shared between the fields. A call
// for which there are more is not made: it ends with [FaultInput].
const TextRoom = 1 << 10

// PoolOptions size the pool of a strategy.
type PoolOptions struct {
	// Size is the number of instances, and so of calls at once; 0 is GOMAXPROCS.
	Size int
	// Restore says how memory is put back after a call. To choose is for tests and
	// benchmarks. Bind fails if the system does not have what is chosen.
	Restore Restore
	// Aside says that the calls affect nothing, as those of a version in shadow. Then
	// faults of theirs don't keep the module from being called where it counts: the
	// strategy has a circuit breaker of its own.
	Aside bool

	// Logger is told what goes wrong in calls, and what strategies say; nil: the
	// runtime's.
	Logger *slog.Logger
}

// Strategy is a module bound to a scenario of a catalogue: a decide.Ranker. It is
// safe for concurrent use.
//
// Its instances go round: a call takes one out of free, and puts it into used;
// a keeper takes it from there, puts its memory back to what it was, or replaces
// it by a new one if that can't be done, and puts it into free. So no lock is
// held while a guest runs, the request does not wait for the restore, and the
// memory that a strategy takes is bounded by the size of its pool. With a lock
// around a list instead of the channels, waiting with a deadline would need a
// second mechanism; sync.Pool would drop instances, whose memory is not Go's to
// collect, at each garbage collection.
//
// One shortcut: waking a keeper costs a call more than copying a few pages does. So
// a call that went well and left at most inlineCost to copy restores by itself,
// when its answer is copied out.
type Strategy struct {
	module  *Module
	info    decide.RankerInfo
	log     *slog.Logger
	breaker *breaker // the module's, but with PoolOptions.Aside

	guestLog *logLimit // for what the guest says, and its faults

	static  []byte // the static block, with the padding in front of the frame
	layout  abi.Static
	fields  []field
	columns []column
	// Of the columns, histories are of the history, for which it takes the offer of each
	// of the scenario's candidates.
	histories int
	offers    []string
	capacity  int // of the frame, without its guard
	texts     int // bytes of text that a frame has room for

	arena   uint32 // the same in every instance
	image   *image
	restore Restore
	pages   *pagemap // nil if the image is copied

	free    chan *instance // nil only after Close began
	used    chan *instance
	closing chan struct{}
	keepers sync.WaitGroup

	closeMu sync.Mutex
	closed  bool
	missing int // instances that Close has still to take

	calls, busy, suspended, slow, faults, fuel, replaced, grown, trapped atomic.Uint64
}

// field is a field of the profile or the context that the strategy reads.
type field struct {
	slot    int // of the profile, or −1
	context int // the place in the context
	kind    profilestore.Kind
}

// of returns the value of the field.
func (f *field) of(r *decide.Ranking) profilestore.Value {
	switch {
	case f.slot >= 0 && r.Profile != nil:
		return r.Profile.Get(f.slot)
	case f.slot < 0 && f.context < len(r.Context):
		return r.Context[f.context]
	}
	return profilestore.Value{}
}

// column is a candidate column: one of the ranking, or of the history, which is worked out
// for each call by who has the instance.
type column struct {
	of      func(*decide.Ranking) []float64
	history *abi.HistoryColumn
}

var columnsByName = map[string]func(*decide.Ranking) []float64{
	abi.ColumnPropensity: func(r *decide.Ranking) []float64 { return r.Propensity },
	abi.ColumnValue:      func(r *decide.Ranking) []float64 { return r.Value },
	abi.ColumnWeight:     func(r *decide.Ranking) []float64 { return r.Weight },
	abi.ColumnLever:      func(r *decide.Ranking) []float64 { return r.Lever },
}

var _ decide.Ranker = (*Strategy)(nil)

// Bind makes the strategy ready to rank a scenario: it writes what the strategy
// reads of offers and channels into the memory of every instance, once, and
// fills the pool. Its error is an [*UnfitError] if the two don't fit, and an
// [*InvalidError] if the module fails.
func (m *Module) Bind(ctx context.Context, c *catalog.Compiled, sc *catalog.Scenario, o PoolOptions) (*Strategy, error) {
	m.life.RLock()
	defer m.life.RUnlock()
	if m.closed {
		return nil, ErrClosed
	}
	if problems := m.Check(c, sc); len(problems) > 0 {
		return nil, &UnfitError{Strategy: m.title(), Scenario: sc.ID, Problems: problems}
	}
	size := o.Size
	if size <= 0 {
		size = runtime.GOMAXPROCS(0)
	}
	s := &Strategy{
		module: m,
		info: decide.RankerInfo{
			Name: m.manifest.Name, Version: m.manifest.Version, Digest: m.digest,
			Reasons: append([]string{""}, m.manifest.Reasons...), Chances: m.manifest.Probability,
		},
		log:     m.log().With("scenario", sc.ID),
		breaker: m.breaker,
		free:    make(chan *instance, size),
		used:    make(chan *instance, size),
		closing: make(chan struct{}),
		missing: size,
		restore: o.Restore,
	}
	if o.Logger != nil {
		s.log = o.Logger
	}
	s.guestLog = newLogLimit(s.log)
	if o.Aside {
		s.breaker = m.newBreaker(s.log.With("aside", true))
	}
	if err := s.chooseRestore(); err != nil {
		return nil, err
	}
	if err := s.layOut(c, sc); err != nil {
		return nil, err
	}
	if err := s.fill(ctx, size); err != nil {
		s.discard()
		return nil, fmt.Errorf("strategy %s: %w", m.title(), err)
	}
	m.mu.Lock()
	m.strategies[s] = struct{}{}
	m.mu.Unlock()
	for range size {
		s.keepers.Go(s.keep)
	}
	return s, nil
}

// chooseRestore makes of the kind of restore that was asked for one that there is.
func (s *Strategy) chooseRestore() error {
	r := s.module.runtime
	switch s.restore {
	case RestoreBest:
		s.restore = RestorePages
		if r.pages == nil {
			s.restore = RestoreCopy
		}
	case RestorePages, RestoreMadvise:
		if r.pages == nil {
			return fmt.Errorf("sandbox: restore by %s: %w", s.restore, r.noMap)
		}
	case RestoreCopy, RestoreFresh:
	default:
		return fmt.Errorf("sandbox: there is no way to restore called %s", s.restore)
	}
	if s.restore != RestoreCopy {
		s.pages = r.pages
	}
	return nil
}

// layOut builds the static block and decides how large a frame may be.
func (s *Strategy) layOut(c *catalog.Compiled, sc *catalog.Scenario) (err error) {
	m := s.module.manifest
	for _, in := range m.Profile {
		f := field{slot: -1}
		if name, ok := strings.CutPrefix(in.Name, abi.ContextGroup); ok {
			f.context, _ = c.ContextField(name)
			f.kind = c.Context[f.context].Kind
		} else {
			f.slot, _ = c.Schema.Lookup(in.Name)
			f.kind = c.Schema.Fields()[f.slot].Type.Kind()
		}
		s.fields = append(s.fields, f)
		if isText(f.kind) {
			s.texts += TextRoom
		}
	}
	for _, name := range m.Candidate {
		if h, ok := abi.ParseHistoryColumn(name); ok {
			s.columns = append(s.columns, column{history: &h})
			s.histories++
			continue
		}
		s.columns = append(s.columns, column{of: columnsByName[name]})
	}
	if s.histories > 0 {
		s.offers = make([]string, len(sc.Candidates))
		for i := range sc.Candidates {
			s.offers[i] = c.Offers[sc.Candidates[i].Offer].ID
		}
	}
	parameters := make([]float64, len(m.Parameters))
	for i, p := range m.Parameters {
		parameters[i] = p.Default
		if sc.Strategy == nil {
			continue
		}
		if v, ok := sc.Strategy.Parameters[p.Name]; ok {
			parameters[i] = v
		}
	}
	b := abi.NewStaticBuilder(len(sc.Candidates), parameters, len(m.Offer), len(m.Channel))
	for row, k := range sc.Candidates {
		setAttributes(b, &b.Offer, m.Offer, row, c.Offers[k.Offer].Attributes)
		setAttributes(b, &b.Channel, m.Channel, row, c.Channels[k.Channel].Attributes)
	}
	s.capacity = abi.FrameShape{
		Candidates: len(sc.Candidates), Profile: len(m.Profile), Columns: len(m.Candidate), Texts: s.texts, Probability: m.Probability,
	}.Layout().Size
	s.static = b.Build(s.capacity)
	s.layout, err = abi.ParseStatic(s.static)
	return err
}

func setAttributes(b *abi.StaticBuilder, t *abi.Table, inputs []abi.Input, row int, attributes map[string]profilestore.Value) {
	for i, in := range inputs {
		switch v := attributes[in.Name]; v.Kind() {
		case profilestore.KindText:
			t.Set(i, row, b.Text(v.Text()))
		case profilestore.KindUnknown:
		default:
			t.Set(i, row, cell(v))
		}
	}
}

// isText reports whether a value of a kind stands in the string pool: a set is a text,
// too.
func isText(k profilestore.Kind) bool { return k == profilestore.KindText || k == profilestore.KindSet }

// cell returns the cell of a value that is not a text.
func cell(v profilestore.Value) uint64 {
	switch v.Kind() {
	case profilestore.KindNumber:
		return abi.NumberCell(v.Number())
	case profilestore.KindFlag:
		return abi.FlagCell(v.Flag())
	case profilestore.KindTime:
		return abi.TimeCell(v.Micros())
	case profilestore.KindText, profilestore.KindSet, profilestore.KindUnknown:
	}
	return 0
}

// fill takes the image and fills the pool.
func (s *Strategy) fill(ctx context.Context, size int) error {
	if err := s.takeImage(ctx); err != nil {
		return err
	}
	for range size {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		in, err := s.clone()
		if err != nil {
			return err
		}
		s.free <- in
	}
	return nil
}

// takeImage initialises two instances and makes the image of them: see [image].
func (s *Strategy) takeImage(ctx context.Context) error {
	var two [2]*instance
	for i := range two {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		in, err := s.ready()
		if err != nil {
			return err
		}
		defer in.close()
		two[i] = in
	}
	two[0].host.report(s.guestLog)
	g, err := takeImage(two[0], two[1], s.pages)
	if err != nil {
		return err
	}
	s.arena, s.image = two[0].arena, g
	return nil
}

// ready makes an instance and takes it through all that a module is told before
// its first ranking.
func (s *Strategy) ready() (*instance, error) {
	in, err := s.module.initialize(s.pages)
	if err != nil {
		return nil, err
	}
	if _, err = in.call(ReasonManifest, abi.ExportDescribe); err == nil {
		in.arena, err = in.configure(s.static, s.capacity+abi.GuardSize)
	}
	if err != nil {
		in.close()
		return nil, err
	}
	return in, nil
}

// clone makes an instance of the image, for the pool.
func (s *Strategy) clone() (*instance, error) {
	in, err := s.module.instantiate(s.pages)
	if err != nil {
		return nil, err
	}
	in.arena, in.head = s.arena, abi.NewHead(len(s.fields), s.texts)
	in.head.Probability = s.module.manifest.Probability
	if in.restorer, err = s.image.attach(in, s.restore); err != nil {
		in.close()
		return nil, err
	}
	for i, v := range s.image.globals {
		in.globals[i].Set(v)
	}
	return in, nil
}

// Info says who ranks. Reasons is indexed by code.
func (s *Strategy) Info() decide.RankerInfo { return s.info }

// ImageDigest returns the SHA-256, in hexadecimal, of what every call begins with:
// the memory and the mutable globals. It is the same for the same module, catalogue
// and scenario, in every process. It reads the whole image, which takes milliseconds
// for a large one. Empty: the strategy is closed. It waits for Close.
func (s *Strategy) ImageDigest() string {
	s.closeMu.Lock()
	defer s.closeMu.Unlock()
	if s.closed {
		return ""
	}
	return s.image.digest()
}

// Rank calls the strategy, as decide.Ranker has it. Errors are decide.ErrBusy,
// decide.ErrSuspended, [ErrClosed] and [*FaultError].
//
// It waits for a free instance until the deadline. The call itself is bounded by
// fuel, of which it is given no more than the time that is left is worth.
func (s *Strategy) Rank(ctx context.Context, r *decide.Ranking) error {
	n := len(r.Candidates)
	if len(r.Score) != n || len(r.Reason) != n || len(r.Veto) != n || s.module.manifest.Probability && len(r.Chance) != n {
		return fmt.Errorf("sandbox: %d candidates, and %d, %d, %d and %d cells for scores, reasons, vetoes and probabilities", n, len(r.Score), len(r.Reason), len(r.Veto), len(r.Chance))
	}
	for _, c := range s.columns {
		if c.of != nil && len(c.of(r)) != n {
			return fmt.Errorf("sandbox: %d candidates, and a column of %d cells", n, len(c.of(r)))
		}
	}
	most := s.layout.Candidates
	for _, k := range r.Candidates {
		if uint(k) >= uint(most) || n > most {
			return fmt.Errorf("sandbox: candidate %d, of %d; the scenario has %d", k, n, most)
		}
	}
	r.FuelLimit, r.FuelUsed = 0, 0
	if n == 0 {
		return nil
	}
	breaker := s.breaker
	if r.Dry {
		breaker = alwaysClosed
	}
	if !breaker.allow() {
		s.suspended.Add(1)
		return fmt.Errorf("strategy %s: %w: it kept failing", s.module.title(), decide.ErrSuspended)
	}
	in, err := s.acquire(ctx, r.Deadline)
	if err != nil {
		breaker.abandon()
		return err
	}
	defer s.release(in)
	fuel := s.grant(r)
	if fuel == 0 {
		breaker.abandon()
		return s.late(ctx)
	}
	s.calls.Add(1)
	fault := s.call(in, r, fuel)
	s.fuel.Add(uint64(r.FuelUsed))
	switch {
	case fault == nil && slow(in.ran, r.FuelUsed):
		s.slow.Add(1)
		s.guestLog.write(slog.LevelWarn, "strategy is slow", "took", in.ran, "fuel", r.FuelUsed, "worth", worth(r.FuelUsed))
		breaker.done(true)
		return nil
	case fault == nil:
		breaker.done(false)
		return nil
	case fault.Kind.blames():
		breaker.done(true)
	default:
		breaker.abandon()
	}
	s.faults.Add(1)
	return fault
}

// acquire takes an instance out of the pool.
func (s *Strategy) acquire(ctx context.Context, deadline time.Time) (*instance, error) {
	if !deadline.IsZero() && !time.Now().Before(deadline) || ctx.Err() != nil {
		return nil, s.late(ctx)
	}
	select {
	case <-s.closing:
		return nil, ErrClosed
	default:
	}
	select {
	case in := <-s.free:
		return s.taken(in)
	default:
		return s.acquireSlow(ctx, deadline)
	}
}

// acquireSlow waits for an instance until the deadline.
func (s *Strategy) acquireSlow(ctx context.Context, deadline time.Time) (*instance, error) {
	var late <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case in := <-s.free:
		return s.taken(in)
	case <-s.closing:
		return nil, ErrClosed
	case <-late:
	case <-ctx.Done():
	}
	return nil, s.late(ctx)
}

// taken gives back what Close is to have.
func (s *Strategy) taken(in *instance) (*instance, error) {
	if in == nil {
		s.free <- nil
		return nil, ErrClosed
	}
	return in, nil
}

func (s *Strategy) late(ctx context.Context) error {
	s.busy.Add(1)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", decide.ErrBusy, cause)
	}
	return decide.ErrBusy
}

// Stats are counts since the strategy was bound.
type Stats struct {
	Size      int    // instances
	Free      int    // instances that wait for a call
	Calls     uint64 // calls that found an instance
	Busy      uint64 // calls that found none in time
	Suspended uint64 // calls that were not made, since the module kept failing
	Slow      uint64 // calls that succeeded and took much longer than their fuel is worth
	Faults    uint64 // calls that failed
	Fuel      uint64 // that all calls together used
	Replaced  uint64 // instances that were thrown away and made anew
	Grown     uint64 // of those, because their memory grew
	Faulted   uint64 // of those, because a call did not return

	Restore        Restore // how memory is put back, as it was chosen: not RestoreBest
	Image          int     // bytes of memory of each instance
	Private        int64   // bytes of all instances together that are not the image's any more; RestorePages only
	Rescans        uint64  // readings of the pagemap
	RestoredPages  uint64  // restores that copied pages back
	RestoredCopy   uint64  // restores that copied the image back
	RestoredByDrop uint64  // restores that had the system forget what was written
}

// Stats returns counts, each true at some moment of the call.
func (s *Strategy) Stats() Stats {
	c := &s.image.counts
	return Stats{
		Size: cap(s.free), Free: len(s.free),
		Calls: s.calls.Load(), Busy: s.busy.Load(), Suspended: s.suspended.Load(),
		Slow: s.slow.Load(), Faults: s.faults.Load(), Fuel: s.fuel.Load(), Replaced: s.replaced.Load(),
		Grown: s.grown.Load(), Faulted: s.trapped.Load(),
		Restore: s.restore, Image: s.image.length, Private: c.private.Load(), Rescans: c.rescans.Load(),
		RestoredPages: c.paged.Load(), RestoredCopy: c.copied.Load(), RestoredByDrop: c.dropped.Load(),
	}
}
