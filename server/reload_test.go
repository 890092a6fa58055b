package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/api/rapport/v1/rapportv1connect"
)

// holdings are what the process has of the system.
type holdings struct {
	descriptors, maps int
	resident          int64  // bytes
	heap              uint64 // bytes of live objects of Go's
	goroutines        int
}

// hold counts what the process has, after a garbage collection. It reports false
// where the system does not say.
func hold(t testing.TB) (h holdings, ok bool) {
	t.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	h.heap, h.goroutines = m.HeapAlloc, runtime.NumGoroutine()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return h, false
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	h.descriptors, h.maps, h.resident = len(fds), bytes.Count(maps, []byte("\n")), pages*int64(os.Getpagesize())
	return h, true
}

func (h holdings) String() string {
	return fmt.Sprintf("%d descriptors, %d maps, %.1f MB resident, %.2f MB heap, %d goroutines", h.descriptors, h.maps, float64(h.resident)/1e6, float64(h.heap)/1e6, h.goroutines)
}

// traffic asks without a pause, until it ends, and can be held for a while.
type traffic struct {
	gate     sync.RWMutex // held for reading by who decides
	stop     atomic.Bool
	workers  sync.WaitGroup
	mu       sync.Mutex
	rankedBy map[string]int // decisions by version
	bad      []string       // what should not have happened
}

// begin has so many goroutines decide at the touchpoints by turns.
func (tr *traffic) begin(h *house, workers int, touchpoints []string) {
	tr.rankedBy = make(map[string]int)
	transport := &http.Transport{MaxIdleConnsPerHost: workers}
	client := rapportv1connect.NewDecisionServiceClient(&http.Client{Transport: transport}, h.url)
	for worker := range workers {
		tr.workers.Go(func() {
			for i := 0; !tr.stop.Load(); i++ {
				tr.gate.RLock()
				res, err := client.Decide(context.Background(), connect.NewRequest(&rapportv1.DecideRequest{
					Customer: strconv.Itoa(1 + (worker+i)%50), Touchpoint: touchpoints[i%len(touchpoints)],
				}))
				tr.gate.RUnlock()
				tr.count(res, err)
			}
		})
	}
	go func() {
		tr.workers.Wait()
		transport.CloseIdleConnections()
	}()
}

func (tr *traffic) count(res *connect.Response[rapportv1.DecideResponse], err error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if err != nil {
		tr.bad = append(tr.bad, err.Error())
		return
	}
	if len(res.Msg.GetDegradations()) > 0 || len(res.Msg.GetSlate()) == 0 {
		tr.bad = append(tr.bad, res.Msg.String())
	}
	tr.rankedBy[res.Msg.GetRankedBy().GetName()+" "+res.Msg.GetRankedBy().GetVersion()]++
}

// pause waits for the decisions under way and holds the next ones.
func (tr *traffic) pause() (resume func(), decisions int) {
	tr.gate.Lock()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, n := range tr.rankedBy {
		decisions += n
	}
	return tr.gate.Unlock, decisions
}

// end ends it, and returns the decisions by version.
func (tr *traffic) end() map[string]int {
	tr.stop.Store(true)
	tr.workers.Wait()
	return tr.rankedBy
}

// swapper changes what is in service, each time in another way.
type swapper struct {
	h        *house
	random   *rand.Rand
	versions []string // of pvcl, the live one first
	upsells  []string // of the strategy in Go, likewise
	kinds    map[string]int
	catalogs [2]string
}

// swap makes one change. Half of them make another version live.
func (s *swapper) swap(t testing.TB, i int) {
	t.Helper()
	kind := []string{"live", "live", "live", "live", "live", "share", "shadow", "rollback", "catalogue", "snapshot"}[i%10]
	candidate := s.versions[1+s.random.IntN(len(s.versions)-1)]
	switch kind {
	case "live":
		if len(s.upsells) > 0 && s.random.IntN(2) == 0 {
			slices.Reverse(s.upsells)
			s.h.release(t, "upsell", s.upsells[0])
			kind = "live in Go"
			break
		}
		s.h.put(t, candidate, live, 0)
		for k, v := range s.versions {
			if v == candidate {
				s.versions[0], s.versions[k] = v, s.versions[0]
			}
		}
	case "share":
		s.h.put(t, candidate, share, 1+98*s.random.Float64())
	case "shadow": // it takes the share's place
		s.h.put(t, candidate, shadow, 0)
	case "rollback": // of the shadow
		if err := s.h.rollback(); err != nil {
			t.Fatal(err)
		}
	case "catalogue":
		if _, err := s.h.publish(s.catalogs[i/10%2]); err != nil {
			t.Fatal(err)
		}
	case "snapshot":
		activate := &rapportv1.ActivateSnapshotRequest{Source: "bi", Generation: int64(1 + i/10%2)}
		if _, err := s.h.snapshots().ActivateSnapshot(context.Background(), connect.NewRequest(activate)); err != nil {
			t.Fatal(err)
		}
	}
	s.kinds[kind]++
}

// TestReloadUnderLoad: a thousand changes of what is in service at full traffic fail
// and degrade no decision, and leave nothing behind: as many file descriptors and
// memory maps are in use at the end as after the first of them, and no more memory.
//
// Under the race detector they are two hundred. The long form, with RAPPORT_HEAVY, has
// a strategy in Go in service too, whose instances are 30 times as large.
func TestReloadUnderLoad(t *testing.T) {
	swaps, warm, every := 1000, 200, 100
	if raceDetector || testing.Short() {
		swaps, warm, every = 200, 100, 50
	}
	const workers = 4
	heavy, schema := os.Getenv("RAPPORT_HEAVY") != "", schemaYAML
	if heavy {
		schema = strings.Replace(schema, "sources:\n", "sources:\n  - {id: upsell}\n", 1) + upsellFields
	}
	h := open(t, newDataOf(t, schema), func(c *server.Config) {
		c.MaxConcurrent, c.Deadline = workers, 30*time.Second // a busy machine is no reason to refuse or degrade
	})
	s := &swapper{h: h, random: rand.New(rand.NewPCG(1, 2)), versions: []string{"1.0.0", "2.0.0", "3.0.0"}, kinds: make(map[string]int)}
	s.catalogs = [2]string{rivals(20), rivals(21)}
	if heavy {
		s.upsells = []string{"1.0.0", "1.0.1"}
	}
	touchpoints := []string{"web.home", "web.side"}
	h.upload(t, module(t, "2.0.0"), nil)
	h.upload(t, module(t, "3.0.0", equalValues, `"profile":[]=>"profile":[{"name":"value.balance","type":"number"}]`), nil)
	if heavy {
		touchpoints = append(touchpoints, "web.upsell")
		for _, version := range s.upsells {
			h.upload(t, goStrategy(t, version), nil)
			h.release(t, "upsell", version)
		}
		for i := range s.catalogs {
			s.catalogs[i] = withUpsell(s.catalogs[i])
		}
	}
	load(t, h.dir, "bi", "customer,value.balance,usage.data_mb\n1,4.5,7000\n2,50,1\n")
	for i := range s.catalogs {
		if _, err := h.publish(s.catalogs[i]); err != nil {
			t.Fatal(err)
		}
	}
	tr := new(traffic)
	tr.begin(h, workers, touchpoints)
	var first, last holdings
	measured := true
	for i := range swaps {
		s.swap(t, i)
		if (i+1)%every != 0 || i+1 < warm {
			continue
		}
		resume, decisions := tr.pause()
		h.drained(t, len(touchpoints)*(workers+1))
		last, measured = hold(t)
		resume()
		t.Logf("after %4d swaps, %6d decisions: %v", i+1, decisions, last)
		if i+1 == warm {
			first = last
		}
	}
	rankedBy := tr.end()
	t.Logf("swaps: %v; decisions by version: %v", s.kinds, rankedBy)
	if len(tr.bad) > 0 {
		t.Errorf("%d decisions have failed or were degraded; the first: %s", len(tr.bad), tr.bad[0])
	}
	for _, version := range s.versions {
		if rankedBy["pvcl "+version] == 0 {
			t.Errorf("version %s has ranked nothing", version)
		}
	}
	if !measured {
		t.Log("what the process holds is not known here")
		return
	}
	const someMaps, someHeap, someMemory = 20, 2 << 20, 16 << 20
	if last.descriptors > first.descriptors || last.goroutines > first.goroutines || last.maps > first.maps+someMaps ||
		last.heap > first.heap+someHeap || last.resident > first.resident+someMemory && !raceDetector { // which keeps some for itself
		t.Errorf("after %d swaps: %v\nafter %d swaps: %v", warm, first, swaps, last)
	}
}

// drained waits until no other instances are left than so many: those of what is in
// service.
func (h *house) drained(t testing.TB, instances int) {
	t.Helper()
	for began := time.Now(); ; {
		left := h.metric(t, "rapport_strategy_instances{")
		if left == float64(instances) {
			return
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("%v instances are left, and %d are in service", left, instances)
		}
	}
}

// metric returns the sum of the metrics whose lines begin so.
func (h *house) metric(t testing.TB, prefix string) (sum float64) {
	t.Helper()
	_, body := h.get(t, "/metrics")
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, prefix) {
			x, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:len(line)-1], 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += x
		}
	}
	return sum
}

func (h *house) release(t testing.TB, name, version string) {
	t.Helper()
	_, err := h.strategies().ReleaseStrategy(context.Background(), connect.NewRequest(&rapportv1.ReleaseStrategyRequest{Name: name, Version: version}))
	if err != nil {
		t.Fatal(err)
	}
}

// goStrategy builds the strategy in Go that comes as an example, as a version.
func goStrategy(t testing.TB, version string) []byte {
	t.Helper()
	const name = "../plugins/upsell/upsell.go"
	source, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	original, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	changed, overlay, out := filepath.Join(dir, "upsell.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "upsell.wasm")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		t.Fatal(err)
	}
	source = bytes.Replace(source, []byte(`"1.0.0"`), []byte(strconv.Quote(version)), 1)
	if err := errors.Join(os.WriteFile(changed, source, 0o600), os.WriteFile(overlay, replace, 0o600)); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-overlay", overlay, "-o", out, "rapport/plugins/upsell")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	wasm, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

// upsellFields are the profile fields that the strategy in Go reads.
const upsellFields = `  - {name: value.arpu, type: number, batch: upsell}
  - {name: tag.high_traffic, type: flag, batch: upsell}
  - {name: general.customer_type, type: text, batch: upsell}
  - {name: general.customer_since, type: time, batch: upsell}
`

// withUpsell adds a touchpoint to rivals whose offers the strategy in Go ranks.
func withUpsell(catalog string) string {
	catalog = strings.Replace(catalog, "touchpoints: [", "touchpoints: [{id: web.upsell, channel: web, slots: 3}, ", 1)
	catalog = strings.Replace(catalog, "{id: web, direction: inbound}", "{id: web, direction: inbound, cost: 0.5}", 1)
	catalog = strings.ReplaceAll(catalog, "class: care,", "class: care, attributes: {price: 20, data: true},")
	return catalog + "  - {id: upsell, touchpoints: [web.upsell], offers: [o0, o1, o2, o3, o4], strategy: {name: upsell}}\n"
}
