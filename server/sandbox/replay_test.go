package sandbox_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rapport/profilestore"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/sandbox"
)

// replayVariable tells a test process that it is the second one: a folder with
// the modules to run, and where the digests go.
const replayVariable = "RAPPORT_TEST_REPLAY"

const (
	replayCandidates = 12
	replayCalls      = 10_000
)

// replayed are the strategies of which calls are replayed.
var replayed = []struct {
	name       string
	wasm       func(t testing.TB) []byte
	cache      func() string // of compiled code, if it takes long to make
	parameters map[string]float64
	calls      func() int
}{
	{name: "C", wasm: func(t testing.TB) []byte { return committed(t, rememberC) }, calls: replayAll},
	{name: "AssemblyScript", wasm: func(t testing.TB) []byte { return committed(t, rememberAS) }, parameters: map[string]float64{"globals": 1}, calls: replayAll},
	{name: "Go", wasm: goWasm(upsell), cache: goCache, calls: replayAll},
	{name: "Go that remembers", wasm: goWasm(tricky), cache: goCache, parameters: map[string]float64{"mode": 22}, calls: replayAll},
}

func replayAll() int {
	if underRace {
		return replayCalls / 20
	}
	return replayCalls
}

func goWasm(folder string) func(t testing.TB) []byte {
	return func(t testing.TB) []byte {
		_, wasm := goGuest(t, folder)
		return wasm
	}
}

func goCache() string { return goGuests.dir }

// replayRanking is call number i, the same in every process: a customer of whom
// more or less is known, numbers that are ordinary or not, and now and then one
// that makes the strategy trap.
func replayRanking(i int) *decide.Ranking {
	random := rand.New(rand.NewPCG(uint64(i), 2026))
	q := ranking(random, 1+random.IntN(replayCandidates), replayCandidates)
	slices.Sort(q.Candidates)
	q.Now += random.Int64N(1e15) - 5e14
	known := func(v profilestore.Value) profilestore.Value {
		if random.IntN(4) == 0 {
			return profilestore.Unknown()
		}
		return v
	}
	segment := []string{"", "gold", "a-b-c-d", "büro-of-a-🐈", strings.Repeat("long-", random.IntN(200))}[random.IntN(5)]
	if random.IntN(200) == 0 {
		segment = "trap"
	}
	q.Profile = profile{
		slotARPU:    known(profilestore.Number(100 * random.ExpFloat64())),
		slotHeavy:   known(profilestore.Flag(random.IntN(2) == 0)),
		slotSegment: known(profilestore.Text(segment)),
		slotJoined:  known(profilestore.Time(q.Now - random.Int64N(1e15))),
	}
	odd := []float64{0, math.Copysign(0, -1), math.SmallestNonzeroFloat64, math.MaxFloat64, -1e300, 1 + 0x1p-52}
	for _, column := range [][]float64{q.Propensity, q.Value, q.Weight, q.Lever} {
		if random.IntN(20) == 0 {
			column[random.IntN(len(column))] = odd[random.IntN(len(odd))]
		}
	}
	return q
}

// replayDigest is the digest of all that a call reported: scores to the bit,
// reasons and vetoes, or the fault. What a call reports besides, as the fuel that
// it used, belongs into outcomeOf.
func replayDigest(outcome []byte) string {
	sum := sha256.Sum256(outcome)
	return hex.EncodeToString(sum[:8])
}

// replay makes the calls of a strategy, in an order, and returns the digest of
// each.
func replay(t *testing.T, s *sandbox.Strategy, order []int) []string {
	t.Helper()
	digests := make([]string, len(order))
	for _, i := range order {
		digests[i] = replayDigest(outcomeOf(t, s, replayRanking(i)))
	}
	return digests
}

// A decision made again elsewhere has the same answer: 10,000 calls of strategies
// in C, AssemblyScript and Go, and the same in a second process, in another order
// and with another pool.
func TestReplay(t *testing.T) {
	if os.Getenv(replayVariable) != "" {
		t.Skip("this is the second process")
	}
	folder := t.TempDir()
	counts, first := make([]int, len(replayed)), make(map[string][]string)
	for k, r := range replayed {
		counts[k] = r.calls()
		wasm := r.wasm(t)
		if err := os.WriteFile(filepath.Join(folder, r.name+".wasm"), wasm, 0o600); err != nil {
			t.Fatal(err)
		}
		cache := ""
		if r.cache != nil {
			cache = r.cache()
		}
		if err := os.WriteFile(filepath.Join(folder, r.name+".cache"), []byte(cache), 0o600); err != nil {
			t.Fatal(err)
		}
		s := replayBind(t, wasm, cache, r.parameters, 1)
		order := make([]int, counts[k])
		for i := range order {
			order[i] = i
		}
		first[r.name] = replay(t, s, order)
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
		got := s.Stats()
		distinct := len(slices.Compact(slices.Sorted(slices.Values(first[r.name]))))
		t.Logf("%s: %d calls, %d of them faults, %d distinct outcomes", r.name, got.Calls, got.Faults, distinct)
		if distinct < counts[k]*9/10 {
			t.Errorf("%s: %d distinct outcomes of %d calls: this shows little", r.name, distinct, counts[k])
		}
	}

	second := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestReplayInSecondProcess$", "-test.count=1")
	second.Env = append(os.Environ(), replayVariable+"="+folder)
	if text, err := second.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for k, r := range replayed {
		text, err := os.ReadFile(filepath.Join(folder, r.name+".digests"))
		if err != nil {
			t.Fatal(err)
		}
		digests := strings.Fields(string(text))
		if len(digests) != counts[k] {
			t.Fatalf("%s: %d digests of the second process, %d of this", r.name, len(digests), counts[k])
		}
		differ := 0
		for i, d := range digests {
			if d != first[r.name][i] {
				if differ == 0 {
					t.Errorf("%s: call %d has the digest %s, and %s in a second process", r.name, i, first[r.name][i], d)
				}
				differ++
			}
		}
		if differ > 0 {
			t.Errorf("%s: %d of %d calls differ", r.name, differ, counts[k])
		}
	}
}

// The second process of TestReplay.
func TestReplayInSecondProcess(t *testing.T) {
	folder := os.Getenv(replayVariable)
	if folder == "" {
		t.Skip("TestReplay runs this")
	}
	for _, r := range replayed {
		wasm := committed(t, filepath.Join(folder, r.name+".wasm"))
		cache := string(committed(t, filepath.Join(folder, r.name+".cache")))
		s := replayBind(t, wasm, cache, r.parameters, 3)
		digests := replay(t, s, rand.New(rand.NewPCG(1, 1)).Perm(r.calls()))
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
		var text bytes.Buffer
		for _, d := range digests {
			text.WriteString(d + "\n")
		}
		if err := os.WriteFile(filepath.Join(folder, r.name+".digests"), text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func replayBind(t *testing.T, wasm []byte, cache string, parameters map[string]float64, pool int) *sandbox.Strategy {
	t.Helper()
	m := compile(t, newRuntime(t, sandbox.Options{CacheDir: cache}), wasm)
	c, sc := rememberFixture(t, replayCandidates)
	sc.Strategy = &catalog.StrategyUse{Parameters: parameters}
	return bindTo(t, m, c, sc, sandbox.PoolOptions{Size: pool})
}
