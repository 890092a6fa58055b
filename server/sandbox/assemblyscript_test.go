package sandbox_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"rapport/profilestore"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/sandbox"
)

//go:generate go run ./testdata/generate

// The strategies that remember, in C and AssemblyScript. They are committed, so
// that tests of other languages than Go need nothing but Go.
const (
	rememberFolder = "testdata/remembers"
	rememberC      = rememberFolder + "/remembers_c.wasm"
	rememberAS     = rememberFolder + "/remembers_as.wasm"
)

// committed returns a module that is committed.
func committed(t testing.TB, path string) []byte {
	t.Helper()
	wasm, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

// The committed modules are those of the checksums. That they are what their
// sources make, .ci/run shows.
func TestCommittedGuestsHaveTheirChecksums(t *testing.T) {
	for folder, paths := range map[string][]string{
		rememberFolder: {rememberC, rememberAS},
		goldenFolder:   slices.Collect(maps.Values(goldenModules)),
		exampleFolder:  slices.Collect(maps.Values(exampleModules)),
	} {
		sums := string(committed(t, folder+"/SHA256SUMS"))
		for _, path := range paths {
			if line := fmt.Sprintf("%x  %s\n", sha256.Sum256(committed(t, path)), filepath.Base(path)); !strings.Contains(sums, line) {
				t.Errorf("SHA256SUMS does not have the line %s: run go generate ./server/sandbox", line)
			}
		}
	}
}

// rememberFixture is a catalogue whose offers have all that the strategies read.
func rememberFixture(t testing.TB, n int) (*catalog.Compiled, *catalog.Scenario) {
	t.Helper()
	c, sc := fixture(t, n)
	for i := range c.Offers {
		if i%4 == 0 {
			c.Offers[i].Attributes["kind"] = profilestore.Text(strings.Repeat("k€", i))
		}
	}
	return c, sc
}

// A strategy in AssemblyScript reads everything through rapport.ts, and gives
// scores, reasons and vetoes.
func TestAssemblyScriptStrategyReadsEverything(t *testing.T) {
	const n = 70
	log := new(logBuffer)
	m := compile(t, newRuntime(t, sandbox.Options{Logger: log.logger()}), committed(t, rememberAS))
	c, sc := rememberFixture(t, n)
	s := bindTo(t, m, c, sc, sandbox.PoolOptions{Size: 1})
	random := rand.New(rand.NewPCG(5, 6))
	reasons, vetoes := make(map[string]int), 0
	for i := range 50 {
		q := ranking(random, 1+random.IntN(n), n)
		if i%3 > 0 {
			q.Profile = profile{
				slotARPU: numberOf(5 + 60*random.Float64()), slotHeavy: profilestore.Flag(i%2 == 0),
				slotSegment: textOf([]string{"gold", "büro-of-a-🐈"}[i%2]), slotJoined: timeOf(q.Now - int64(i)*86_400_000_000),
			}
		}
		rank(t, s, q)
		want, wantReason, wantVeto := remembered(q, c)
		for k := range want {
			if math.Float64bits(q.Score[k]) != math.Float64bits(want[k]) || s.Info().Reasons[q.Reason[k]] != wantReason[k] || q.Veto[k] != wantVeto[k] {
				t.Fatalf("call %d, candidate %d: %v %q %v, want %v %q %v", i, k,
					q.Score[k], s.Info().Reasons[q.Reason[k]], q.Veto[k], want[k], wantReason[k], wantVeto[k])
			}
			reasons[wantReason[k]]++
			if wantVeto[k] {
				vetoes++
			}
		}
	}
	t.Logf("%d vetoes; reasons %v", vetoes, reasons)
	if vetoes == 0 || len(reasons) != 4 {
		t.Error("not everything was tried")
	}

	q := simple(5)
	q.Profile = profile{slotSegment: textOf("trap")}
	fault := new(sandbox.FaultError)
	if err := s.Rank(context.Background(), q); !errors.As(err, &fault) || fault.Kind != sandbox.FaultPanic ||
		!strings.HasPrefix(fault.Message, "panic: half way (server/sandbox/testdata/remembers/remembers.ts:") {
		t.Errorf("an exception: %v", err)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if want := `level=WARN msg="4 words, `; !strings.Contains(log.String(), want) {
		t.Errorf("the log does not have %s", want)
	}
}

// remembered is what testdata/remembers/remembers.ts answers if it remembers
// nothing, computed here.
func remembered(q *decide.Ranking, c *catalog.Compiled) (score []float64, reason []string, veto []bool) {
	p := func(slot int) profilestore.Value { return q.Profile.Get(slot) }
	segment := "nobody"
	if p(slotSegment).Known() {
		segment = p(slotSegment).Text()
	}
	base := float64(1+10+1000) + float64(q.Seed>>40)
	heavy := p(slotHeavy).Known() && p(slotHeavy).Flag()
	if p(slotHeavy).Known() {
		base += map[bool]float64{true: 1000, false: 2000}[heavy]
	}
	if p(slotJoined).Known() {
		base += float64((q.Now - p(slotJoined).Micros()) / 86_400_000_000)
	}
	arpu := 20.0
	if p(slotARPU).Known() {
		arpu = p(slotARPU).Number()
	}
	units := func(text string) float64 { return float64(len(utf16.Encode([]rune(text)))) } // as JavaScript counts
	words := strings.Split(segment, "-")
	for i, k := range q.Candidates {
		offer, channel := c.Offers[k].Attributes, c.Channels[k%2].Attributes
		x, why, not := float64(q.Propensity[i]*q.Value[i])*q.Weight[i]*q.Lever[i], "", false
		x += base / float64(len(words)+int(k%3))
		if kind := offer["kind"]; kind.Known() {
			x += units(kind.Text() + segment)
		}
		x -= channel["cost"].Number()
		if price := offer["price"]; price.Known() && price.Number() > 4*arpu {
			not, why = true, "TOO_DEAR"
		} else if price.Known() && price.Number() > arpu {
			x += math.Sqrt(price.Number() - arpu)
			why = "STEP_UP"
		}
		if data := offer["data"]; data.Known() && data.Flag() && heavy {
			x *= 1.5
			why = "DATA_FAN"
		}
		score, reason, veto = append(score, x), append(reason, why), append(veto, not)
	}
	median := slices.Sorted(slices.Values(score))[len(score)/2]
	score[0] = median
	return score, reason, veto
}
