package sandbox_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"flag"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rapport/profilestore"
	"rapport/sdk/rapporttest"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/sandbox"
)

// One strategy, written in four languages, ranks the same 200 decisions. What each
// answers has the same bits, and those that it had when golden.txt was written.

var updateGolden = flag.Bool("update-golden", false, "write testdata/golden/golden.txt")

const (
	goldenFolder     = "testdata/golden"
	goldenProgram    = goldenFolder + "/program" // in Go
	goldenDecisions  = 200
	goldenCandidates = 90
	goldenFloor      = -2.5
)

// goldenModules are the strategy in other languages than Go.
var goldenModules = map[string]string{
	"C":              goldenFolder + "/golden_c.wasm",
	"AssemblyScript": goldenFolder + "/golden_as.wasm",
	"Rust":           goldenFolder + "/golden_rs.wasm",
}

// goldenWorld is a catalogue of one scenario, and decisions in it, as the server has
// them and as authors write them.
type goldenWorld struct {
	compiled  *catalog.Compiled
	scenario  *catalog.Scenario
	rankings  []*decide.Ranking
	decisions []rapporttest.Decision
}

// valueOf is a value as authors write it.
func valueOf(v profilestore.Value) any {
	switch v.Kind() {
	case profilestore.KindNumber:
		return v.Number()
	case profilestore.KindFlag:
		return v.Flag()
	case profilestore.KindText:
		return v.Text()
	case profilestore.KindTime:
		return time.UnixMicro(v.Micros())
	case profilestore.KindSet:
		return slices.Collect(v.Elements())
	case profilestore.KindUnknown:
	}
	return nil
}

func newGoldenWorld(t testing.TB) *goldenWorld {
	t.Helper()
	fields := []profilestore.Field{
		{Name: "value.arpu", Type: profilestore.TypeNumber, Batch: "bi"},
		{Name: "tag.high_traffic", Type: profilestore.TypeFlag, Batch: "bi"},
		{Name: "general.customer_type", Type: profilestore.TypeText, Batch: "bi"},
		{Name: "general.customer_since", Type: profilestore.TypeTime, Batch: "bi"},
		{Name: "marketing.owned", Type: profilestore.TypeSet, Batch: "bi"},
		{Name: "usage.calls", Type: profilestore.TypeCounter, Batch: "bi"},
	}
	schema, err := profilestore.NewSchema([]profilestore.Source{{ID: "bi"}}, fields)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(200, 4))
	context := []catalog.ContextField{{Name: "other", Kind: profilestore.KindFlag}, {Name: "willingness", Kind: profilestore.KindNumber}, {Name: "role", Kind: profilestore.KindText}}
	w := &goldenWorld{
		compiled: &catalog.Compiled{Schema: schema, Context: context},
		scenario: &catalog.Scenario{ID: "golden", Strategy: &catalog.StrategyUse{Parameters: map[string]float64{"floor": goldenFloor}}},
	}
	maybe := func(a map[string]profilestore.Value, name string, v profilestore.Value) {
		if random.IntN(5) > 0 || len(w.scenario.Candidates) == 0 {
			a[name] = v
		}
	}
	for i := range 3 {
		a := map[string]profilestore.Value{"cost": profilestore.Number(0.3 * float64(i)), "human": profilestore.Flag(i > 0)}
		maybe(a, "tone", profilestore.Text([]string{"cold", "warm", "büro"}[i]))
		w.compiled.Channels = append(w.compiled.Channels, catalog.Channel{ID: fmt.Sprint("channel", i), Attributes: a})
	}
	for i := range goldenCandidates / 2 { // each offer in two channels
		a := map[string]profilestore.Value{"value": profilestore.Number(float64(i))}
		maybe(a, "price", profilestore.Number(100*random.Float64()))
		maybe(a, "data", profilestore.Flag(random.IntN(2) == 0))
		product := goldenProducts[random.IntN(len(goldenProducts))]
		if random.IntN(3) == 0 {
			product = fmt.Sprint("thing_", random.IntN(62))
		}
		maybe(a, "product", profilestore.Text(product))
		w.compiled.Offers = append(w.compiled.Offers, catalog.Offer{ID: fmt.Sprint("offer", i), Attributes: a})
		for k := range 2 {
			w.scenario.Candidates = append(w.scenario.Candidates, catalog.Candidate{Offer: i, Channel: (i + k) % 3})
		}
	}
	w.compiled.Scenarios = []*catalog.Scenario{w.scenario}
	for range goldenDecisions {
		w.draw(random, fields)
	}
	return w
}

var (
	goldenProducts = []string{"plan_a", "plan", "plan_ab", "Zürich", "北京", "none", "x"}
	goldenTypes    = []string{"Büro", "Buro", "private", ""}
	goldenRoles    = []string{"agent", "agents", "store"}
)

// draw draws a decision, and writes it down in both ways.
func (w *goldenWorld) draw(random *rand.Rand, fields []profilestore.Field) {
	known := func(v profilestore.Value) profilestore.Value {
		if random.IntN(5) == 0 {
			return profilestore.Unknown()
		}
		return v
	}
	pick := func(list []string) string { return list[random.IntN(len(list))] }
	q := ranking(random, 1+random.IntN(goldenCandidates), goldenCandidates)
	slices.Sort(q.Candidates)
	q.Now += random.Int64N(1e14)
	q.Chance = make([]float64, len(q.Candidates))
	var owned []string
	for range random.IntN(5) {
		owned = append(owned, pick(goldenProducts))
	}
	if random.IntN(3) == 0 { // many, among which SDKs look in another way
		for range random.IntN(90) {
			owned = append(owned, fmt.Sprint("thing_", random.IntN(60)))
		}
	}
	q.Profile = profile{
		known(numberOf(100 * random.Float64())), known(profilestore.Flag(random.IntN(2) == 0)), known(textOf(pick(goldenTypes))),
		known(timeOf(q.Now - random.Int64N(1e15))), known(profilestore.Set(owned...)), known(numberOf(float64(random.IntN(100)))),
	}
	q.Context = []profilestore.Value{profilestore.Flag(true), known(numberOf(4 * random.NormFloat64())), known(textOf(pick(goldenRoles)))}
	happened := w.happened(random, q.Now)
	q.History = profilestore.HistoryOf(q.Now, happened...)

	d := rapporttest.Decision{
		Now: time.UnixMicro(q.Now), Seed: q.Seed, Profile: make(map[string]any), Parameters: w.scenario.Strategy.Parameters,
	}
	for i, f := range fields {
		if v := q.Profile.Get(i); v.Known() {
			d.Profile[f.Name] = valueOf(v)
		}
	}
	for i, f := range w.compiled.Context[1:] {
		if v := q.Context[i+1]; v.Known() {
			d.Profile["context."+f.Name] = valueOf(v)
		}
	}
	for i, k := range q.Candidates {
		candidate := w.scenario.Candidates[k]
		offer, channel := w.compiled.Offers[candidate.Offer], w.compiled.Channels[candidate.Channel]
		c := rapporttest.Candidate{
			Offer: make(map[string]any), Channel: make(map[string]any), History: naiveHistory(happened, q.Now, offer.ID),
			Propensity: q.Propensity[i], Value: q.Value[i], Weight: q.Weight[i], Lever: q.Lever[i],
		}
		for name, v := range offer.Attributes {
			c.Offer[name] = valueOf(v)
		}
		for name, v := range channel.Attributes {
			c.Channel[name] = valueOf(v)
		}
		d.Candidates = append(d.Candidates, c)
	}
	w.rankings, w.decisions = append(w.rankings, q), append(w.decisions, d)
}

// happened draws what came of offers before.
func (w *goldenWorld) happened(random *rand.Rand, now int64) []profilestore.Interaction {
	var list []profilestore.Interaction
	if random.IntN(4) == 0 {
		return nil
	}
	for range random.IntN(200) {
		x := profilestore.Interaction{
			Time:    now - random.Int64N(60*24*3600*1e6),
			Channel: fmt.Sprint("channel", random.IntN(3)),
			Items:   []profilestore.Item{{Offer: fmt.Sprint("offer", random.IntN(20)), Class: "marketing"}},
		}
		x.Outcome = []string{"", "", "rejected", "accepted", "clicked"}[random.IntN(5)]
		list = append(list, x)
	}
	return list
}

// naiveHistory counts what the columns of the history should be.
func naiveHistory(happened []profilestore.Interaction, now int64, offer string) map[string]float64 {
	const day = 24 * 3600 * 1e6
	h := map[string]float64{"times.contact": 0, "times.rejected.30d": 0}
	for _, x := range happened {
		age := float64(now - x.Time)
		switch {
		case x.Items[0].Offer != offer:
		case x.Outcome == "":
			h["times.contact"]++
		case x.Outcome == "rejected" && age < 30*day:
			h["times.rejected.30d"]++
		case x.Outcome == "accepted":
			if last, ok := h["days_since.accepted"]; !ok || age/day < last {
				h["days_since.accepted"] = age / day
			}
		}
	}
	return h
}

// goldenAnswers is what a strategy says of each decision, a line of text for each.
type goldenAnswers []string

// line writes an answer down: how many were vetoed, by reason, and a digest of all bits.
func line(results []rapporttest.Result) string {
	h := fnv.New64a()
	vetoes, reasons := 0, make(map[string]int)
	for _, r := range results {
		h.Write(fmt.Appendf(nil, "%016x %s %v %016x\n", math.Float64bits(r.Score), r.Reason, r.Veto, math.Float64bits(r.Chance)))
		reasons[r.Reason]++
		if r.Veto {
			vetoes++
		}
	}
	return fmt.Sprintf("%d candidates, %d STEP_UP, %d TIRED, %d OWNED, first %v, %016x",
		len(results), reasons["STEP_UP"], reasons["TIRED"], vetoes, results[0].Score, h.Sum64())
}

// inSandbox has a module rank all decisions.
func (w *goldenWorld) inSandbox(t *testing.T, m *sandbox.Module) (answers goldenAnswers) {
	t.Helper()
	s := bindTo(t, m, w.compiled, w.scenario, sandbox.PoolOptions{Size: 1})
	info := s.Info()
	var fuel, candidates int64
	for _, q := range w.rankings {
		clear(q.Score)
		clear(q.Chance)
		rank(t, s, q)
		var results []rapporttest.Result
		for i := range q.Candidates {
			results = append(results, rapporttest.Result{Score: q.Score[i], Reason: info.Reasons[q.Reason[i]], Veto: q.Veto[i], Chance: q.Chance[i]})
		}
		answers = append(answers, line(results))
		fuel, candidates = fuel+q.FuelUsed, candidates+int64(len(q.Candidates))
	}
	t.Logf("%d units of fuel a candidate", fuel/candidates)
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	return answers
}

// natively has the strategy in Go rank all decisions, built for a level of amd64.
func (w *goldenWorld) natively(t *testing.T, level string) (answers goldenAnswers) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "golden.test")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	build.Dir = goldenProgram
	build.Env = append(os.Environ(), "GOAMD64="+level)
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	gob.Register(time.Time{})
	gob.Register([]string{})
	in, out, stderr := new(bytes.Buffer), new(bytes.Buffer), new(bytes.Buffer)
	if err := gob.NewEncoder(in).Encode(w.decisions); err != nil {
		t.Fatal(err)
	}
	run := exec.CommandContext(t.Context(), program)
	run.Stdin, run.Stdout, run.Stderr = in, out, stderr
	if err := run.Run(); err != nil {
		if strings.Contains(stderr.String(), "microarchitecture") {
			t.Skipf("this machine is not of level %s of amd64: %s", level, stderr)
		}
		t.Fatalf("%v\n%s", err, stderr)
	}
	var results [][]rapporttest.Result
	if err := gob.NewDecoder(out).Decode(&results); err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		answers = append(answers, line(r))
	}
	return answers
}

// goldenFile returns the answers that are written down.
func goldenFile(t *testing.T) goldenAnswers {
	t.Helper()
	return strings.Split(strings.TrimSuffix(string(committed(t, goldenFolder+"/golden.txt")), "\n"), "\n")
}

func compareGolden(t *testing.T, got goldenAnswers) {
	t.Helper()
	want := goldenFile(t)
	different := 0
	for i := range max(len(got), len(want)) {
		var g, w string
		if i < len(got) {
			g = strconv.Itoa(i) + ": " + got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			if different++; different <= 3 {
				t.Errorf("got  %s\nwant %s", g, w)
			}
		}
	}
	if different > 0 {
		t.Errorf("%d of %d decisions came out differently", different, len(want))
	}
}

func TestGoldenDecisions(t *testing.T) {
	w := newGoldenWorld(t)
	t.Run("native Go", func(t *testing.T) {
		got := w.natively(t, os.Getenv("GOAMD64"))
		if *updateGolden {
			var b strings.Builder
			for i, a := range got {
				fmt.Fprintf(&b, "%d: %s\n", i, a)
			}
			if err := os.WriteFile(goldenFolder+"/golden.txt", []byte(b.String()), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		compareGolden(t, got)
	})
	t.Run("native Go that may fuse", func(t *testing.T) {
		if os.Getenv("RAPPORT_REQUIRE_TOOLS") == "" {
			t.Skip("GOAMD64=v3 has the standard library built once more: set RAPPORT_REQUIRE_TOOLS to run it")
		}
		compareGolden(t, w.natively(t, "v3"))
	})
	t.Run("Go", func(t *testing.T) {
		m, _ := goGuest(t, goldenProgram)
		compareGolden(t, w.inSandbox(t, m))
	})
	r := newRuntime(t, sandbox.Options{})
	for language, path := range goldenModules {
		t.Run(language, func(t *testing.T) {
			compareGolden(t, w.inSandbox(t, compile(t, r, committed(t, path))))
		})
	}
}

// The decisions try what they are for.
func TestGoldenDecisionsTryEverything(t *testing.T) {
	w := newGoldenWorld(t)
	counts := make(map[string]int)
	for _, d := range w.decisions {
		if len(d.Profile) == 8 {
			counts["all known"]++
		}
		if owned, _ := d.Profile["marketing.owned"].([]string); len(owned) > 20 {
			counts["many owned"]++
		}
		for name := range d.Profile {
			counts[name]++
		}
		for _, c := range d.Candidates {
			for name, x := range c.History {
				if x > 0 {
					counts[name]++
				}
			}
			if len(c.Offer) < 4 {
				counts["an attribute is unknown"]++
			}
		}
	}
	for _, text := range goldenFile(t) {
		for _, reason := range []string{"STEP_UP", "TIRED", "OWNED"} {
			if !strings.Contains(text, " 0 "+reason) {
				counts[reason]++
			}
		}
	}
	t.Log(counts)
	for _, name := range []string{
		"all known", "many owned", "value.arpu", "tag.high_traffic", "general.customer_type", "general.customer_since", "marketing.owned", "usage.calls",
		"context.willingness", "context.role", "times.contact", "times.rejected.30d", "days_since.accepted",
		"an attribute is unknown", "STEP_UP", "TIRED", "OWNED",
	} {
		if counts[name] < 20 {
			t.Errorf("%s occurs %d times", name, counts[name])
		}
	}
}

// The examples of the SDKs are one strategy, too.
func TestExamplesAgree(t *testing.T) {
	w := newGoldenWorld(t)
	w.scenario.Strategy = &catalog.StrategyUse{Parameters: map[string]float64{"reach": 1.75}}
	r := newRuntime(t, sandbox.Options{})
	var want goldenAnswers
	for language, path := range exampleModules {
		got := w.inSandbox(t, compile(t, r, committed(t, path)))
		if want == nil {
			want = got
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s answers %q, and another language %q", language, got[0], want[0])
		}
	}
	if vetoes := slices.DeleteFunc(want, func(a string) bool { return strings.Contains(a, " 0 OWNED") }); len(vetoes) < 20 {
		t.Errorf("only %d decisions have what the customer owns", len(vetoes))
	}
}
