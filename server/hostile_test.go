package server_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"rapport/sdk/abi"
	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/sandbox/wasm/wasmgen"
)

// hostile is a strategy in parts, each of them code as wasmgen.Parse has it. Without
// any it is a good one, for which all candidates are equal. It reads the profile
// field value.balance.
type hostile struct {
	name, version string

	before string // it runs before candidates are scored
	score  string // it leaves the score of a candidate
}

// Where a hostile strategy has things, and its functions.
const (
	hostileArena    = 1 << 16
	hostileManifest = 1024
	hostileText     = 512 // what it says in its last moments, as an iovec at hostileIovec
	hostileIovec    = 256
	hostileWords    = "panic: the end\n"

	funcWrite = 0 // fd_write
	funcDeep  = 6
)

// Its rank function. Locals: the length, the frame, the number of candidates, a
// counter.
const hostileRank = `
	i32.const %[1]d  i32.load offset=60  i32.const %[1]d  i32.add  local.set 1
	local.get 1  i32.load offset=16  local.set 2
	%[2]s
	block loop
		local.get 3  local.get 2  i32.ge_u  br_if 1
		local.get 1  local.get 1  i32.load offset=76  i32.add  local.get 3  i32.const 8  i32.mul  i32.add
		%[3]s  f64.store
		local.get 3  i32.const 1  i32.add  local.set 3
		br 0
	end end
	local.get 2  i64.extend_i32_u  i64.const 32  i64.shl`

// The things that it may do before, and a score.
const (
	doLoop  = `loop br 0 end`
	doTrap  = `unreachable`
	doDeep  = `i32.const 1  call 6  drop`
	doPanic = `i32.const 2  i32.const 256  i32.const 1  i32.const 768  call 0  drop  unreachable`
	// It traps for customers whose balance is above 10.
	doTrapRich = `local.get 1  local.get 1  i32.load offset=52  i32.add  f64.load  f64.const 10  f64.gt  if unreachable end`
	nanScore   = `f64.const nan`
)

// bytes returns the module.
func (g hostile) bytes(t testing.TB) []byte {
	t.Helper()
	parse := func(text string) []wasmgen.Instr {
		t.Helper()
		code, err := wasmgen.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	at := func(address int) wasmgen.Instr { return parse(fmt.Sprintf("i32.const %d", address))[0] }
	score := g.score
	if score == "" {
		score = "f64.const 1"
	}
	manifest := fmt.Sprintf(`{"abi":1,"name":%q,"version":%q,"description":"","profile":[{"name":"value.balance","type":"number"}],"offer":[],"channel":[],"candidate":[],"parameters":[],"reasons":[],"fuel":{"base":500000,"per_candidate":1000}}`, g.name, g.version)
	m := wasmgen.Module{
		Imports: []wasmgen.Import{{Module: abi.ImportWASI, Name: "fd_write", Kind: wasmgen.KindFunc, Func: "iiii:i"}},
		Memory:  &wasmgen.Memory{Min: 4},
		Funcs: []wasmgen.Func{
			{Type: ":"},
			{Type: ":I", Body: parse(fmt.Sprintf("i64.const %d", int64(abi.PackSpan(hostileManifest, uint32(len(manifest))))))},
			{Type: "i:i", Body: []wasmgen.Instr{at(hostileArena)}},
			{Type: "ii:i", Body: parse("i32.const 0")},
			{Type: "i:I", Locals: "iii", Body: parse(fmt.Sprintf(hostileRank, hostileArena, g.before, score))},
			{Type: "i:i", Locals: strings.Repeat("I", 200), Body: parse(fmt.Sprintf("local.get 0  i32.const 1  i32.add  call %d", funcDeep))},
		},
		Data: []wasmgen.Data{
			{Offset: at(hostileManifest), Bytes: []byte(manifest)},
			{Offset: at(hostileText), Bytes: []byte(hostileWords)},
			{Offset: at(hostileIovec), Bytes: []byte{0, hostileText >> 8, 0, 0, byte(len(hostileWords)), 0, 0, 0}},
		},
	}
	m.Exports = append(m.Exports, wasmgen.Export{Name: abi.ExportMemory, Kind: wasmgen.KindMemory})
	for i, name := range []string{abi.ExportMarker, abi.ExportDescribe, abi.ExportArena, abi.ExportConfigure, abi.ExportRank} {
		m.Exports = append(m.Exports, wasmgen.Export{Name: name, Kind: wasmgen.KindFunc, Index: uint32(funcWrite + 1 + i)})
	}
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fakeClock is a clock that a test moves.
type fakeClock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *fakeClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *fakeClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// logText is a log in memory, at level warn.
type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write takes a line.
func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// lines returns how many lines have all of the texts.
func (l *logText) lines(texts ...string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
			n++
		}
	}
	return n
}

// newHostileHouse serves hostile strategies, each live and at the touchpoint that
// has its name, and a good one at web.home.
func newHostileHouse(t testing.TB, strategies ...hostile) (*house, *fakeClock, *logText) {
	t.Helper()
	clock, log := &fakeClock{t: time.Unix(1_800_000_000, 0)}, new(logText)
	h := open(t, newData(t), func(c *server.Config) {
		c.SetClock(clock.now)
		c.Deadline = 30 * time.Second // a busy machine is no reason to degrade
		c.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	})
	load(t, h.dir, "bi", "customer,value.balance,usage.data_mb\n1,3.5,6000\n2,50,10.25\n")
	activate := &rapportv1.ActivateSnapshotRequest{Source: "bi", Generation: 2}
	if _, err := h.snapshots().ActivateSnapshot(context.Background(), connect.NewRequest(activate)); err != nil {
		t.Fatal(err)
	}
	catalog := rivals(4)
	for _, g := range strategies {
		h.upload(t, g.bytes(t), nil)
		h.release(t, g.name, g.version)
		catalog = strings.Replace(catalog, "touchpoints: [", fmt.Sprintf("touchpoints: [{id: web.%s, channel: web, slots: 3}, ", g.name), 1)
		catalog += fmt.Sprintf("  - {id: %s, touchpoints: [web.%[1]s], offers: [o0, o1, o2, o3], strategy: {name: %[1]s}}\n", g.name)
	}
	if _, err := h.publish(catalog); err != nil {
		t.Fatal(err)
	}
	return h, clock, log
}

// strategy returns the newest version of a strategy as it is listed.
func (h *house) strategy(t testing.TB, name string) *rapportv1.Strategy {
	t.Helper()
	res, err := h.strategies().ListStrategies(context.Background(), connect.NewRequest(&rapportv1.ListStrategiesRequest{Name: name}))
	if err != nil {
		t.Fatal(err)
	}
	return res.Msg.GetStrategies()[0]
}

const (
	failed    = rapportv1.DegradationKind_DEGRADATION_KIND_STRATEGY_FAILED
	suspended = rapportv1.DegradationKind_DEGRADATION_KIND_STRATEGY_SUSPENDED
)

// faultsToSuspend is how many faults in a row suspend a version.
const faultsToSuspend = 10

// TestHostileStrategies: whatever a strategy does, the built-in arbitration ranks in
// its place and the answer says why; after some faults it is not called any more,
// after a while it is tried again; and no other strategy is concerned.
func TestHostileStrategies(t *testing.T) {
	cases := []struct {
		hostile
		fault, message string
		spends         bool // all of its fuel
	}{
		{hostile{name: "loops", version: "1", before: doLoop}, "fuel", "it used all of its 504000 units of fuel", true},
		{hostile{name: "traps", version: "1", before: doTrap}, "trap", "unreachable", false},
		{hostile{name: "panics", version: "1", before: doPanic}, "panic", "panic: the end", false},
		{hostile{name: "recurs", version: "1", before: doDeep}, "stack", "nested too deep", false},
		{hostile{name: "guesses", version: "1", score: nanScore}, "score", "NaN", false},
	}
	all := make([]hostile, len(cases))
	for i := range cases {
		all[i] = cases[i].hostile
	}
	h, clock, log := newHostileHouse(t, all...)
	want := slate(h.decide(t, "1", "web.loops")) // as the built-in arbitration ranks
	good := slate(h.decide(t, "1", "web.home"))
	ask := func(name string, kind rapportv1.DegradationKind, fault string) *rapportv1.DecideResponse {
		t.Helper()
		r := h.decide(t, "1", "web."+name)
		if d := r.GetDegradations(); len(d) != 1 || d[0].GetKind() != kind || d[0].GetFault() != fault || r.GetRankedBy().GetName() != "builtin" || slate(r) != want {
			t.Fatalf("%s: ranked by %v, slate %s (want %s), degradations %v (want %v %s)", name, r.GetRankedBy(), slate(r), want, d, kind, fault)
		}
		if r := h.decide(t, "1", "web.home"); len(r.GetDegradations()) > 0 || r.GetRankedBy().GetName() != "pvcl" || slate(r) != good {
			t.Fatalf("beside %s: %v", name, r)
		}
		return r
	}
	for i, c := range cases {
		begun := 0
		if i == 0 {
			begun = 1 // the question above
		}
		for range faultsToSuspend - begun {
			r := ask(c.name, failed, c.fault)
			if d := r.GetDegradations()[0].GetDetail(); !strings.Contains(d, c.message) {
				t.Fatalf("%s: %q, want %q", c.name, d, c.message)
			}
			if used, limit := r.GetRankedBy().GetFuelUsed(), r.GetRankedBy().GetFuelLimit(); limit != 504_000 || used < 1 || used > limit || (used == limit) != c.spends {
				t.Fatalf("%s used %d units of fuel of %d", c.name, used, limit)
			}
		}
		for range 3 {
			ask(c.name, suspended, "")
		}
		until := clock.now().Add(5 * time.Second)
		s := h.strategy(t, c.name)
		if n := s.GetCounts(); n.GetRanked() != 0 || n.GetFuel() != 0 || n.GetFaults()[c.fault] != faultsToSuspend || len(n.GetFaults()) != 1 || n.GetSuspended() != 3 || !s.GetSuspendedUntil().AsTime().Equal(until) {
			t.Errorf("%s is listed as %v", c.name, s)
		}
		labels := fmt.Sprintf(`strategy=%q,version="1"} `, c.name)
		for metric, want := range map[string]float64{
			fmt.Sprintf("rapport_strategy_faults_total{kind=%q,%s", c.fault, labels): faultsToSuspend,
			"rapport_strategy_suspended_total{" + labels:                             3,
			"rapport_strategy_breaker_open{" + labels:                                1,
			"rapport_strategy_rankings_total{" + labels:                              0,
			"rapport_strategy_faults_total{kind=\"" + c.fault + "\"":                 faultsToSuspend, // of no other strategy
		} {
			if got := h.metric(t, metric); got != want {
				t.Errorf("%s%v, want %v", metric, got, want)
			}
		}
		if log.lines("strategy suspended: it kept failing", "strategy="+c.name, "until=") != 1 {
			t.Errorf("that %s is suspended is not in the log once", c.name)
		}
		// The one call that is tried fails too: it is suspended for twice as long.
		clock.add(5 * time.Second)
		ask(c.name, failed, c.fault)
		ask(c.name, suspended, "")
		clock.add(5 * time.Second)
		ask(c.name, suspended, "")
		if log.lines("strategy suspended: it kept failing", "strategy="+c.name) != 2 {
			t.Errorf("that %s is suspended again is not in the log", c.name)
		}
	}
	if got := h.metric(t, `rapport_degradations_total{kind="strategy_suspended"}`); got != 5*float64(len(cases)) {
		t.Errorf("%v degradations because a strategy is suspended", got)
	}
	h.stop() // faults are logged by those who restore instances
	for _, c := range cases {
		if n := log.lines(`msg="strategy fault"`, "strategy="+c.name, "version=1", "scenario="+c.name, "kind="+c.fault, c.message); n != faultsToSuspend+1 {
			t.Errorf("%d lines in the log about %s", n, c.name)
		}
	}
}

// TestStrategyRecovers: a strategy that fails for some customers is suspended for all,
// and called again when it has ranked a few decisions.
func TestStrategyRecovers(t *testing.T) {
	const poor, rich = "1", "2"
	h, clock, log := newHostileHouse(t, hostile{name: "moody", version: "1", before: doTrapRich})
	ask := func(customer string, kind rapportv1.DegradationKind) {
		t.Helper()
		r := h.decide(t, customer, "web.moody")
		d := r.GetDegradations()
		if kind == 0 && (len(d) > 0 || r.GetRankedBy().GetName() != "moody" || r.GetRankedBy().GetFuelUsed() <= 0) || kind != 0 && (len(d) != 1 || d[0].GetKind() != kind) {
			t.Fatalf("customer %s: ranked by %v, degradations %v, want %v", customer, r.GetRankedBy(), d, kind)
		}
	}
	ask(poor, 0)
	for range faultsToSuspend {
		ask(rich, failed)
	}
	ask(poor, suspended)
	clock.add(5 * time.Second)
	for range 3 { // one at a time is tried
		if h.strategy(t, "moody").GetSuspendedUntil() == nil || h.metric(t, `rapport_strategy_breaker_open{strategy="moody"`) != 1 {
			t.Error("it is not suspended any more")
		}
		ask(poor, 0)
	}
	if h.strategy(t, "moody").GetSuspendedUntil() != nil || h.metric(t, `rapport_strategy_breaker_open{strategy="moody"`) != 0 {
		t.Error("it is still suspended")
	}
	ask(rich, failed)
	ask(poor, 0)
	c := h.strategy(t, "moody").GetCounts()
	if c.GetRanked() != 5 || c.GetFaults()["trap"] != faultsToSuspend+1 || c.GetSuspended() != 1 || c.GetFuel() < 5*20 || c.GetFuel() > 5*504_000 {
		t.Errorf("counts: %v", c)
	}
	if a, b := log.lines("strategy suspended: it kept failing"), log.lines("strategy called again: it has stopped failing", "strategy=moody", "version=1"); a != 1 || b != 1 {
		t.Errorf("the log says %d times that it is suspended, and %d times that it is called again", a, b)
	}
}

// TestShadowDoesNotSuspend: a version that fails in shadow is not called there for a
// while; a scenario that names it goes on with it, and so does its release.
func TestShadowDoesNotSuspend(t *testing.T) {
	const poor, rich = "1", "2"
	h, _, log := newHostileHouse(t, hostile{name: "moody", version: "1"})
	h.upload(t, hostile{name: "moody", version: "2", before: doTrapRich}.bytes(t), nil)
	named := strings.Replace(rivals(4), "strategy: {name: pvcl, version: 1.0.0}", "strategy: {name: moody, version: \"2\"}", 1)
	if _, err := h.publish(strings.Replace(named, "strategy: {name: pvcl}", "strategy: {name: moody}", 1)); err != nil {
		t.Fatal(err)
	}
	release := func(stage rapportv1.StrategyStage) {
		t.Helper()
		_, err := h.strategies().ReleaseStrategy(context.Background(), connect.NewRequest(&rapportv1.ReleaseStrategyRequest{Name: "moody", Version: "2", Stage: stage}))
		if err != nil {
			t.Fatal(err)
		}
	}
	ask := func(customer, touchpoint, version string) {
		t.Helper()
		if r := h.decide(t, customer, touchpoint); len(r.GetDegradations()) > 0 || r.GetRankedBy().GetVersion() != version {
			t.Fatalf("customer %s at %s: ranked by %v, degradations %v", customer, touchpoint, r.GetRankedBy(), r.GetDegradations())
		}
	}
	release(shadow)
	s := h.strategy(t, "moody")
	for s.GetCounts().GetShadow().GetSuspended() < 5 {
		ask(rich, "web.home", "1")
		ask(poor, "web.side", "2")
		s = h.strategy(t, "moody")
	}
	t.Logf("in shadow: %v", s.GetCounts().GetShadow())
	if s.GetVersion() != "2" || s.GetSuspendedUntil() != nil || s.GetCounts().GetShadow().GetFaults()["trap"] != faultsToSuspend || len(s.GetCounts().GetFaults()) > 0 {
		t.Errorf("listed as %v", s)
	}
	release(live)
	ask(poor, "web.home", "2")
	ask(poor, "web.side", "2")
	if n := log.lines("strategy suspended: it kept failing", "scenario=home", "aside=true"); n != 1 {
		t.Errorf("that it is suspended in shadow is in the log %d times", n)
	}
}
