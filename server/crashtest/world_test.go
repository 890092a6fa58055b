package crashtest_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"rapport/server/api/rapport/v1/rapportv1connect"
	"rapport/server/sandbox/compilertest"
)

// fate is what is known of an operation.
type fate int

const (
	acknowledged fate = iota
	inDoubt           // the server died before it answered
	refused           // it has not happened
)

// lane is one kind of work, and the naive twin of what it has changed. Its methods are
// called one at a time.
type lane interface {
	// step does one thing. An error is something that must not be.
	step(ctx context.Context, r *rand.Rand) error
	// check says what is not as it must be after a restart. It settles what was in doubt:
	// what it finds, or repeats, is acknowledged from then on.
	check(ctx context.Context, r *rand.Rand) error
}

// world is a data folder, the server on it, the lanes that work with it, and the strike
// that ends their work.
type world struct {
	t     *testing.T
	seed  uint64
	disk  disk
	tally *tally
	lanes []lane

	server *process
	api    *clients
	audit  auditTwin

	late   bool // the server's answers; see role
	strike strike
	count  int // of operations of the strike's kind
	armed  sync.Mutex
	struck atomic.Bool // what fails from now on fails because of the strike
	end    *ending
	loads  processes

	workedAt, struckAt time.Time // when work began, and when it ended, the last time

	mu     sync.Mutex
	flying map[string]int // operations under way, by kind
}

// clients are the server's services.
type clients struct {
	profiles   rapportv1connect.ProfileServiceClient
	snapshots  rapportv1connect.SnapshotServiceClient
	tables     rapportv1connect.TableServiceClient
	catalogs   rapportv1connect.CatalogServiceClient
	strategies rapportv1connect.StrategyServiceClient
	decisions  rapportv1connect.DecisionServiceClient
	audits     rapportv1connect.AuditServiceClient
	readings   rapportv1connect.ReadingServiceClient
	transport  *http.Transport
}

func dial(url string) *clients {
	t := &http.Transport{MaxIdleConnsPerHost: 20}
	h := &http.Client{Transport: t, Timeout: 30 * time.Second}
	return &clients{
		transport:  t,
		profiles:   rapportv1connect.NewProfileServiceClient(h, url),
		snapshots:  rapportv1connect.NewSnapshotServiceClient(h, url),
		tables:     rapportv1connect.NewTableServiceClient(h, url),
		catalogs:   rapportv1connect.NewCatalogServiceClient(h, url),
		strategies: rapportv1connect.NewStrategyServiceClient(h, url),
		decisions:  rapportv1connect.NewDecisionServiceClient(h, url),
		audits:     rapportv1connect.NewAuditServiceClient(h, url),
		readings:   rapportv1connect.NewReadingServiceClient(h, url),
	}
}

// newWorld makes a data folder on a disk, with a schema and nothing else.
func newWorld(t *testing.T, seed uint64, d disk, tally *tally) (*world, error) {
	w := &world{t: t, seed: seed, disk: d, tally: tally, flying: make(map[string]int)}
	w.audit.w = w
	schema := filepath.Join(t.TempDir(), "schema.yaml")
	if err := os.WriteFile(schema, []byte(schemaYAML), 0o600); err != nil {
		return nil, err
	}
	if err := run(role{Do: "install", Data: w.data(), File: schema}); err != nil {
		return nil, err
	}
	w.lanes = []lane{
		newEventLane(w, 0), newEventLane(w, 1),
		&outcomeLane{w: w}, &capLane{w: w}, &identityLane{w: w},
		&snapshotLane{w: w, source: "bi"}, &snapshotLane{w: w, source: "crm"},
		&catalogLane{w: w}, &strategyLane{w: w}, &tableLane{w: w},
	}
	return w, nil
}

// data is the data folder.
func (w *world) data() string { return filepath.Join(w.disk.dir(), "data") }

// open starts the server and waits until it listens.
func (w *world) open() error {
	w.late = !w.late
	begun := time.Now()
	r, err := w.serverRole()
	if err != nil {
		return err
	}
	if w.server, err = start(r); err != nil {
		return err
	}
	url, err := w.server.url()
	if err != nil {
		return fmt.Errorf("it does not start again: %w", err)
	}
	w.tally.took("start", time.Since(begun))
	w.api = dial(url)
	return nil
}

// serverRole is what the server's process does.
func (w *world) serverRole() (role, error) {
	compiler, err := compilertest.Command()
	return role{Do: "serve", Data: w.data(), Compiler: compiler, Late: w.late}, err
}

// close stops the server in order.
func (w *world) close() error {
	begun := time.Now()
	w.api.transport.CloseIdleConnections()
	w.server.signal(syscall.SIGTERM)
	if err := w.server.wait(); err != nil {
		return fmt.Errorf("it does not end in order: %w", err)
	}
	w.tally.took("stop", time.Since(begun))
	return w.complaints()
}

// complaints returns an error if the server has logged one.
func (w *world) complaints() error {
	c := w.server.complaints()
	if w.disk.losesUnsynced() {
		c = slices.DeleteFunc(c, func(line string) bool {
			for _, known := range mayBeLost {
				if strings.Contains(line, known) {
					w.tally.saw("started with: "+known, 1)
					return true
				}
			}
			return false
		})
	}
	if len(c) > 0 {
		return fmt.Errorf("the server complains:\n%s", strings.Join(c, "\n"))
	}
	return nil
}

// mayBeLost is what a server may complain of when it starts on a disk that has lost what
// was not synced. The ledger is synced once a second, and can't tell what it lost since
// from damage. Badger names a table in its MANIFEST before the table's own name is
// durable, and is derived from the journal anew.
var mayBeLost = []string{
	"a file of the ledger is damaged and set aside",
	"the delta records are damaged and were set aside",
}

// check has every lane look at what is there.
func (w *world) check(ctx context.Context, r *rand.Rand) error {
	w.struck.Store(false)
	var errs []error
	for _, l := range w.lanes {
		errs = append(errs, l.check(ctx, r))
	}
	return errors.Join(append(errs, w.audit.check(ctx), w.complaints())...)
}

// work has all lanes work until the strike has come, and then ends the server.
func (w *world) work(ctx context.Context, r *rand.Rand, s strike) error {
	w.strike, w.count = s, 0
	w.end = &ending{over: make(chan struct{})}
	w.struck.Store(false)
	clear(w.flying)
	w.workedAt = time.Now()
	errs := make([]error, len(w.lanes))
	var working sync.WaitGroup
	for i, l := range w.lanes {
		own := rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))
		working.Go(func() {
			for !w.struck.Load() && errs[i] == nil {
				errs[i] = l.step(ctx, own)
			}
			if errs[i] != nil {
				w.hit(w.end) // nothing more is to be learnt
			}
		})
	}
	patience := time.AfterFunc(s.patience, func() { w.hit(w.end) })
	<-w.end.over
	patience.Stop()
	working.Wait()
	w.api.transport.CloseIdleConnections()
	if !w.disk.losesUnsynced() { // where the disk ends before the server, it may complain
		errs = append(errs, w.complaints()) //nolint:makezero // the others have a place by lane
	}
	return errors.Join(errs...)
}

// call does one operation of a kind. An error while the server is well is returned, unless
// its code is among those that say that nothing has happened.
func (w *world) call(kind string, do func() error, refusals ...connect.Code) (fate, error) {
	w.begin(kind)
	begun := time.Now()
	err := do()
	if w.ended(kind, begun, err) {
		return acknowledged, nil
	}
	for _, code := range refusals {
		if connect.CodeOf(err) == code {
			return refused, nil
		}
	}
	if w.struck.Load() {
		return inDoubt, nil
	}
	return refused, fmt.Errorf("%s: %w%s", kind, err, w.server.ending())
}

func (w *world) begin(kind string) {
	w.mu.Lock()
	w.flying[kind]++
	w.mu.Unlock()
	if kind != w.strike.kind {
		return
	}
	w.armed.Lock()
	w.count++
	now := w.count == w.strike.nth
	w.armed.Unlock()
	if now {
		w.aim()
	}
}

// aim has the strike come after a part of the operation that has begun.
func (w *world) aim() {
	const changes = 40 // of the file system, of an operation with many
	end := w.end
	hit := func() { w.hit(end) } // and not the next one, if it comes late
	if d, ok := w.disk.(interface {
		strikeAfter(n int, late bool, hit func()) bool
	}); ok && d.strikeAfter(1+int(w.strike.at*changes), w.late, hit) {
		return
	}
	delay := time.Duration(w.strike.at * float64(w.tally.typical(w.timed(w.strike.kind))))
	if w.late { // what becomes durable near the end of the work does so in the middle of this time
		delay = delay * 2 / 3
	}
	go func() {
		wait(delay)
		hit()
	}()
}

func (w *world) ended(kind string, begun time.Time, err error) (ok bool) {
	w.mu.Lock()
	w.flying[kind]--
	w.mu.Unlock()
	if err == nil {
		w.tally.took(w.timed(kind), time.Since(begun))
	}
	return err == nil
}

// timed is by which name it is known how long an operation takes.
func (w *world) timed(kind string) string {
	if w.late {
		return kind + ", answered late"
	}
	return kind
}

// ending is the end of one server's work.
type ending struct {
	once sync.Once
	over chan struct{} // closed when it has come
}

// hit ends the server, and what works beside it, once. It does not wait for that.
func (w *world) hit(e *ending) {
	e.once.Do(func() {
		w.struck.Store(true)
		w.mu.Lock()
		for kind, n := range w.flying {
			w.tally.midway(kind, n)
		}
		w.mu.Unlock()
		w.struckAt = time.Now()
		go func() {
			w.disk.cut(append(w.loads.running(), w.server))
			close(e.over)
		}()
	})
}

// wait waits precisely: sleeping is not, and the operation would be over.
func wait(d time.Duration) {
	end := time.Now().Add(d)
	if d > 3*time.Millisecond {
		time.Sleep(d - 2*time.Millisecond) //nolint:forbidigo // the moment of the strike
	}
	for time.Now().Before(end) {
	}
}

// processes are those that work beside the server.
type processes struct {
	mu  sync.Mutex
	all map[*process]bool
}

func (p *processes) running() []*process {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*process
	for x := range p.all {
		out = append(out, x)
	}
	return out
}

// beside plays a role beside the server as an operation.
func (w *world) beside(kind string, r role) (fate, error) {
	r.Late = w.late
	return w.call(kind, func() error {
		p, err := start(r)
		if err != nil {
			return err
		}
		w.loads.mu.Lock()
		if w.loads.all == nil {
			w.loads.all = make(map[*process]bool)
		}
		w.loads.all[p] = true
		w.loads.mu.Unlock()
		if w.struck.Load() { // it may have been overlooked
			p.kill()
		}
		err = p.wait()
		w.loads.mu.Lock()
		delete(w.loads.all, p)
		w.loads.mu.Unlock()
		return err
	})
}

// leftovers lists temporary files in the data folder.
func (w *world) leftovers() ([]string, error) {
	var out []string
	err := filepath.WalkDir(w.data(), func(path string, _ fs.DirEntry, err error) error {
		if err == nil && (strings.HasSuffix(path, ".tmp") || strings.HasSuffix(path, ".new")) {
			out = append(out, path)
		}
		return err
	})
	return out, err
}
