package sandbox_test

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rapport/profilestore"
	"rapport/server/catalog"
	"rapport/server/sandbox"
)

// A strategy in C reads everything through rapport.h.
func TestCStrategyReadsEverything(t *testing.T) {
	const n = 70
	wasm := readsWasm(t)
	log := new(logBuffer)
	m := compile(t, newRuntime(t, sandbox.Options{Logger: log.logger()}), wasm)
	c, sc := fixture(t, n)
	for i := range c.Offers {
		if i%4 == 0 {
			c.Offers[i].Attributes["kind"] = profilestore.Text(strings.Repeat("k", i))
		}
	}
	sc.Strategy = &catalog.StrategyUse{Parameters: map[string]float64{"offset": -7}}
	s := bindTo(t, m, c, sc, sandbox.PoolOptions{Size: 1})
	random := rand.New(rand.NewPCG(5, 6))
	for i := range 20 {
		q := ranking(random, 1+random.IntN(n), n)
		customer := -7.0
		if i%2 == 0 {
			q.Profile = profile{slotARPU: numberOf(29.85), slotHeavy: profilestore.Flag(i%4 == 0), slotSegment: textOf("ab"), slotJoined: timeOf(q.Now - 5)}
			customer = customer + 29.85 + map[bool]float64{true: 1000, false: 2000}[i%4 == 0] + 'a' + 'b' + 5
		}
		rank(t, s, q)
		for i, k := range q.Candidates {
			offer, channel := c.Offers[k].Attributes, c.Channels[k%2].Attributes
			want := customer + float64(q.Lever[i]*q.Value[i])
			if p := offer["price"]; p.Known() {
				want = want + p.Number() + map[bool]float64{true: 10000, false: 20000}[offer["data"].Flag()]
			}
			want += 'k' * float64(len(offer["kind"].Text()))
			want -= channel["cost"].Number()
			if q.Score[i] != want || q.Reason[i] != 1 || q.Veto[i] != (i%3 == 1) {
				t.Fatalf("candidate %d: %v %d %v, want %v", k, q.Score[i], q.Reason[i], q.Veto[i], want)
			}
		}
	}
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(log.String(), `level=WARN msg="all is read"`); got != 20 {
		t.Errorf("%d lines in the log", got)
	}
}

// readsWasm builds the strategy in C that reads everything. It needs clang, which is
// not needed to use Rapport: without it the test is skipped, but not where the
// environment says that the tools are there.
func readsWasm(t testing.TB) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "reads.wasm")
	build := exec.CommandContext(t.Context(), "clang", "--target=wasm32", "-std=c11", "-O2", "-ffp-contract=off", "-nostdlib",
		"-Wall", "-Wextra", "-Werror", "-Wl,--no-entry", "-Wl,-z,stack-size=8192", "-o", out, "testdata/reads/reads.c")
	if text, err := build.CombinedOutput(); err != nil {
		if os.Getenv("RAPPORT_REQUIRE_TOOLS") == "" {
			t.Skipf("no clang that builds for WebAssembly: %v", err)
		}
		t.Fatalf("%v\n%s", err, text)
	}
	return committed(t, out)
}
