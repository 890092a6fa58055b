package profilestore_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/durable"
	"rapport/profilestore/memory"
	"rapport/profilestore/storetest"
)

// remoteEngine is an engine whose delta records are behind a network: a server
// that can get a value and compare and set one, and connections that break. It is
// here to show that [profilestore.Engine] asks for no more than that.
//
// Apply reads the records, calls the functions, and has the server put the new ones
// in the place of those it read, and begins again with the keys at which another
// was first. When a connection breaks, nobody knows whether the server has done what
// it was asked, or will yet. So a value begins with the ids of its last writes. The
// id of a write that is among them says that it was done. If it is not, and the
// write whose record it was to replace still is, it was not done, and if that one is
// the latest it may be yet, else never: its place is taken. Either way it is right
// to begin again, keeping the id. If both are out of sight, Apply returns an error.
//
// Generations are local, another engine's: sealed files do not need a network.
type remoteEngine struct {
	profilestore.GenerationEngine
	server *remoteServer
	space  string
	closed atomic.Bool
	idle   chan *remoteConn
}

// remoteWrites is how many ids of writes a value keeps.
const remoteWrites = 64

// remoteFile, in the folder of the delta records, names their space in the server.
const remoteFile = "SPACE"

// remoteMark is a key that a space has as long as the server has its values. No node is
// named so.
const remoteMark = "space"

func openRemote(ctx context.Context, server *remoteServer, dir string) (*remoteEngine, error) {
	e := &remoteEngine{GenerationEngine: memory.Generations{}, server: server, idle: make(chan *remoteConn, 128)}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	name := filepath.Join(dir, remoteFile)
	space, err := os.ReadFile(name)
	e.space = string(space)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.space = rand.Text()
		if err := e.Apply(ctx, []profilestore.Op{{Key: []byte(remoteMark), Change: func([]byte) []byte { return []byte{} }}}); err != nil {
			return nil, err
		}
		return e, os.WriteFile(name, []byte(e.space), 0o600)
	case err != nil:
		return nil, err
	}
	if _, found, err := e.Get(ctx, []byte(remoteMark), nil); !found {
		return nil, fmt.Errorf("the server has lost what %s names: remove the folder; %w", name, err)
	}
	return e, nil
}

func (e *remoteEngine) Get(ctx context.Context, key, dst []byte) ([]byte, bool, error) {
	v, err := e.read(ctx, key)
	if err != nil || !v.found {
		return dst, false, err
	}
	return append(dst, v.record...), true, nil
}

// remoteValue is what the server has for a key.
type remoteValue struct {
	found  bool
	whole  []byte
	writes []uint64 // ids, the latest first
	record []byte
}

// latest returns the id of the write that made the value, 0 if there is none.
func (v *remoteValue) latest() uint64 {
	if !v.found {
		return 0
	}
	return v.writes[0]
}

// next returns the value that a write makes of v.
func (v *remoteValue) next(id uint64, record []byte) []byte {
	ids := append([]uint64{id}, v.writes...)
	ids = ids[:min(len(ids), remoteWrites)]
	b := []byte{byte(len(ids))}
	for _, id := range ids {
		b = binary.LittleEndian.AppendUint64(b, id)
	}
	return append(b, record...)
}

// read reads the value of a key, over as many connections as it takes.
func (e *remoteEngine) read(ctx context.Context, key []byte) (*remoteValue, error) {
	if n := len(key); n == 0 || n > profilestore.MaxKey {
		return nil, fmt.Errorf("remote: a key of %d bytes", n)
	}
	for {
		answer, err := e.ask(ctx, &remoteRequest{Key: e.space + "/" + string(key)})
		if err != nil {
			return nil, err
		}
		if answer == nil {
			continue
		}
		v := &remoteValue{found: answer.Found, whole: answer.Value}
		if v.found {
			v.writes = make([]uint64, v.whole[0])
			for i := range v.writes {
				v.writes[i] = binary.LittleEndian.Uint64(v.whole[1+8*i:])
			}
			v.record = slices.Clip(v.whole[1+8*len(v.writes):])
		}
		return v, nil
	}
}

// remoteChange is an Op under way.
type remoteChange struct {
	*profilestore.Op
	old    *remoteValue
	asked  []remoteAsked
	record []byte
	done   bool
	err    error
}

// remoteAsked is a write of which nobody knows what became, or will yet.
type remoteAsked struct {
	id   uint64
	from uint64 // the write whose value it was to replace, 0 for none
}

func (e *remoteEngine) Apply(ctx context.Context, ops []profilestore.Op) error {
	rest := make([]*remoteChange, len(ops))
	for i := range ops {
		rest[i] = &remoteChange{Op: &ops[i]}
	}
	for len(rest) > 0 {
		if err := each(rest, func(c *remoteChange) { c.read(ctx, e) }); err != nil {
			return err
		}
		// Not side by side, so that one that panics panics here.
		for _, c := range rest {
			if c.done {
				continue
			}
			var old []byte
			if c.old.found {
				old = append([]byte{}, c.old.record...)
			}
			if c.record = c.Change(old); len(c.record) > profilestore.MaxRecord {
				return fmt.Errorf("remote: a record of %d bytes", len(c.record))
			}
			c.done = c.record == nil
		}
		if err := each(rest, func(c *remoteChange) { c.write(ctx, e) }); err != nil {
			return err
		}
		rest = slices.DeleteFunc(rest, func(c *remoteChange) bool { return c.done })
	}
	return nil
}

// each calls fn for all changes, some at a time.
func each(changes []*remoteChange, fn func(*remoteChange)) error {
	var all sync.WaitGroup
	work := make(chan *remoteChange)
	for range min(8, len(changes)) {
		all.Go(func() {
			for c := range work {
				fn(c)
			}
		})
	}
	for _, c := range changes {
		work <- c
	}
	close(work)
	all.Wait()
	var errs []error
	for _, c := range changes {
		errs = append(errs, c.err)
	}
	return errors.Join(errs...)
}

// read reads the record, and finds out what became of writes that were not
// answered.
func (c *remoteChange) read(ctx context.Context, e *remoteEngine) {
	c.old, c.err = e.read(ctx, c.Key)
	if c.err != nil {
		return
	}
	asked := c.asked
	c.asked = nil
	for _, a := range asked {
		switch {
		case slices.Contains(c.old.writes, a.id):
			e.server.had("a write that was done and not answered")
			c.done = true
			return
		case a.from == c.old.latest():
			e.server.had("a write that may be done yet")
			c.asked = append(c.asked, a)
		case slices.Contains(c.old.writes, a.from), a.from == 0 && len(c.old.writes) < remoteWrites:
			e.server.had("a write that can't be done any more")
		default:
			c.err = fmt.Errorf("remote: key %q: too many writes since a connection broke to say what became of one", c.Key)
		}
	}
}

func (c *remoteChange) write(ctx context.Context, e *remoteEngine) {
	if c.done {
		return
	}
	id := mathrand.Uint64() | 1
	answer, err := e.ask(ctx, &remoteRequest{
		Key: e.space + "/" + string(c.Key), Set: true,
		Expect: c.old.found, Old: c.old.whole, New: c.old.next(id, c.record),
	})
	switch {
	case err != nil:
		c.err = err
	case answer == nil:
		c.asked = append(c.asked, remoteAsked{id, c.old.latest()})
	case answer.Found:
		c.done = true
	default:
		e.server.had("a conflict")
	}
}

// ask sends a request and returns the answer; none if the connection broke, after a
// pause that grows with how often that has happened.
func (e *remoteEngine) ask(ctx context.Context, request *remoteRequest) (*remoteAnswer, error) {
	if e.closed.Load() {
		return nil, errors.New("remote: the engine is closed")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var conn *remoteConn
	select {
	case conn = <-e.idle:
	default:
		dialed, err := new(net.Dialer).DialContext(ctx, "tcp", e.server.listener.Addr().String())
		if err != nil {
			return nil, err // the server is gone for good
		}
		conn = &remoteConn{dialed, gob.NewEncoder(dialed), gob.NewDecoder(dialed)}
	}
	var answer remoteAnswer
	if err := errors.Join(conn.Encode(request), conn.Decode(&answer)); err != nil {
		_ = conn.Close()
		return nil, nil //nolint:nilerr // no answer is what the caller has to live with
	}
	select {
	case e.idle <- conn:
	default:
		_ = conn.Close()
	}
	return &answer, nil
}

// Records asks for the keys, and then for the record of each.
func (e *remoteEngine) Records(ctx context.Context, fn func(key, record []byte) error) error {
	var keys *remoteAnswer
	for keys == nil {
		var err error
		if keys, err = e.ask(ctx, &remoteRequest{Key: e.space + "/", List: true}); err != nil {
			return err
		}
	}
	for _, key := range keys.Keys {
		if key == remoteMark {
			continue
		}
		c, err := e.read(ctx, []byte(key))
		if err != nil {
			return err
		}
		if err := fn([]byte(key), c.record); err != nil {
			return err
		}
	}
	return nil
}

// Barrier has nothing to do: a write that was answered is as durable as the server.
func (e *remoteEngine) Barrier(ctx context.Context) error {
	if e.closed.Load() {
		return errors.New("remote: the engine is closed")
	}
	return ctx.Err()
}

func (e *remoteEngine) Close() error {
	e.closed.Store(true)
	for {
		select {
		case conn := <-e.idle:
			_ = conn.Close()
		default:
			return nil
		}
	}
}

type remoteConn struct {
	net.Conn
	*gob.Encoder
	*gob.Decoder
}

// remoteRequest asks for the value of a key, or to set it to New if it is Old, or if
// there is none and none is expected; or for the list of the keys that begin with Key.
type remoteRequest struct {
	Key      string
	List     bool
	Set      bool
	Expect   bool
	Old, New []byte
}

type remoteAnswer struct {
	Found bool // or that the value was set
	Value []byte
	Keys  []string
}

// remoteServer is a server of values, behind a network that takes its time and
// breaks connections: before a request is done, or after, without an answer, or it
// delivers a request after the connection is gone.
type remoteServer struct {
	listener net.Listener
	serving  sync.WaitGroup
	trouble  int // one request in so many

	mu     sync.Mutex
	values map[string][]byte
	conns  map[net.Conn]bool
	random *mathrand.Rand
	counts map[string]int
}

func startRemoteServer(t *testing.T, trouble int) *remoteServer {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &remoteServer{
		listener: listener, trouble: trouble, values: make(map[string][]byte), conns: make(map[net.Conn]bool),
		random: mathrand.New(mathrand.NewPCG(1, 2)), counts: make(map[string]int),
	}
	s.serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[conn] = true
			s.mu.Unlock()
			s.serving.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		s.mu.Lock()
		for conn := range s.conns {
			_ = conn.Close()
		}
		s.mu.Unlock()
		s.serving.Wait()
		for what, n := range s.counts {
			t.Logf("%6d times: %s", n, what)
		}
	})
	return s
}

// had counts what has occurred.
func (s *remoteServer) had(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[what]++
}

func (s *remoteServer) serve(conn net.Conn) {
	defer func() {
		_ = conn.Close()
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
	}()
	encoder, decoder := gob.NewEncoder(conn), gob.NewDecoder(conn)
	for {
		var request remoteRequest
		if err := decoder.Decode(&request); err != nil {
			return
		}
		s.mu.Lock()
		trouble, pause := s.random.IntN(3*s.trouble), s.random.IntN(20)
		s.mu.Unlock()
		if pause == 0 {
			<-time.After(100 * time.Microsecond)
		}
		switch trouble {
		case 0:
			s.had("a connection that broke before a request was done")
			return
		case 1:
			s.had("a connection that broke before the answer")
			s.do(&request)
			return
		case 2:
			s.had("a request that came after its connection broke")
			_ = conn.Close()
			<-time.After(300 * time.Microsecond)
			s.do(&request)
			return
		}
		if err := encoder.Encode(s.do(&request)); err != nil {
			return
		}
	}
}

// do does what is asked for.
func (s *remoteServer) do(r *remoteRequest) *remoteAnswer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.List {
		answer := &remoteAnswer{}
		for key := range s.values {
			if rest, ok := strings.CutPrefix(key, r.Key); ok {
				answer.Keys = append(answer.Keys, rest)
			}
		}
		return answer
	}
	value, found := s.values[r.Key]
	if !r.Set {
		return &remoteAnswer{Found: found, Value: value}
	}
	if found != r.Expect || string(value) != string(r.Old) {
		return &remoteAnswer{}
	}
	s.values[r.Key] = r.New
	return &remoteAnswer{Found: true}
}

// TestRemoteEngine: an engine behind a network that fails passes the suite as it
// is.
func TestRemoteEngine(t *testing.T) {
	server := startRemoteServer(t, 50)
	storetest.Run(t, func(t *testing.T, dir string) profilestore.Engine {
		e, err := openRemote(t.Context(), server, dir)
		if err != nil {
			t.Fatal(err)
		}
		return e
	})
}

// TestStoreOnRemoteEngine runs a store on an engine behind a network: many writers,
// restarts that lose the checkpoint or the records, and connections that break all
// the time change no customer.
func TestStoreOnRemoteEngine(t *testing.T) {
	server := startRemoteServer(t, 40)
	h := &house{dir: t.TempDir(), schema: storeSchema(t), now: 20_000 * day, cache: 10, remote: server}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.store.Close(); err != nil {
			t.Error(err)
		}
	})
	const writers, batches, batch, customers = 8, 125, 5, 40 // 5,000 events
	var mu sync.Mutex
	var calls, use [customers]float64
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			random := mathrand.New(mathrand.NewPCG(3, uint64(w)))
			for b := range batches {
				var events []*profilestore.Event
				for i := range batch {
					c := random.IntN(customers)
					mb := float64(random.IntN(1000)) / 8
					events = append(events, event(fmt.Sprintf("%d.%d.%d", w, b, i), "use", fmt.Sprint(c), h.now-int64(random.IntN(5000))*minute, mb))
					mu.Lock()
					calls[c]++
					use[c] += mb
					mu.Unlock()
				}
				results, err := h.store.Ingest(t.Context(), events)
				if err != nil {
					t.Error(err)
					return
				}
				for _, r := range results {
					if r.Outcome != profilestore.Accepted {
						t.Error(r)
					}
				}
			}
		})
	}
	writing.Wait()
	csv := "customer,value.balance,usage.data_mb\n"
	for c := range customers {
		csv += fmt.Sprintf("%d,1,100\n", c)
	}
	if err := h.loadBI(h.now-9_000*minute, h.now-9_000*minute, csv); err != nil { // before all events
		t.Fatal(err)
	}
	checkpoint := filepath.Join(h.dir, "deltas", "CHECKPOINT")
	check := func(after string) {
		t.Helper()
		for c := range customers {
			v, err := h.store.View(t.Context(), fmt.Sprintf("customer:%d", c))
			if err != nil {
				t.Fatal(err)
			}
			r := v.At(h.now)
			if got := r.Get(3).Number(); got != calls[c] {
				t.Errorf("after %s customer %d has %v calls, want %v", after, c, got, calls[c])
			}
			if got, want := r.Get(1).Number(), use[c]+100; got != want {
				t.Errorf("after %s customer %d has used %v, want %v", after, c, got, want)
			}
		}
	}
	reopen := func(between func()) uint64 {
		t.Helper()
		if err := h.store.Close(); err != nil {
			t.Fatal(err)
		}
		between()
		if err := h.open(); err != nil {
			t.Fatal(err)
		}
		return h.store.Stats().Replayed
	}
	check("the writers")
	if n := reopen(func() {}); n != 0 {
		t.Errorf("a restart replays %d events", n)
	}
	check("a restart")
	if n := reopen(func() {
		b, err := os.ReadFile(checkpoint)
		if err != nil {
			t.Fatal(err)
		}
		content, ok := durable.Unseal(b)
		if !ok {
			t.Fatalf("the checkpoint has no seal: %q", b)
		}
		old := strings.Replace(string(content), `"applied":5000`, `"applied":1000`, 1)
		if err := os.WriteFile(checkpoint, durable.Seal([]byte(old)), 0o600); err != nil {
			t.Fatal(err)
		}
	}); n != writers*batches*batch-1000 {
		t.Errorf("with an old checkpoint %d events are replayed", n)
	}
	check("a restart with an old checkpoint")
	if n := reopen(func() {
		if err := os.RemoveAll(filepath.Dir(checkpoint)); err != nil {
			t.Fatal(err)
		}
	}); n != writers*batches*batch {
		t.Errorf("without the records %d events are replayed", n)
	}
	check("a rebuild")
}
