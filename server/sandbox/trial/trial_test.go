package trial_test

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"rapport/plugins"
	"rapport/profilestore"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/sandbox"
	"rapport/server/sandbox/abitest/faulty"
	"rapport/server/sandbox/compilertest"
	"rapport/server/sandbox/trial"
)

func runtime(t *testing.T) *sandbox.Runtime {
	t.Helper()
	compiler, err := compilertest.Command()
	if err != nil {
		t.Fatal(err)
	}
	r, err := sandbox.New(t.Context(), sandbox.Options{Compiler: compiler, NoBreaker: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

func compile(t *testing.T, wasm []byte) *sandbox.Module {
	t.Helper()
	m, err := runtime(t).Compile(t.Context(), wasm)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func faultyModule(t *testing.T, name string) []byte {
	t.Helper()
	f, ok := faulty.Get(name)
	if !ok {
		t.Fatalf("no strategy is called %q", name)
	}
	return f.Wasm
}

func read(t *testing.T, text string) *trial.Case {
	t.Helper()
	c, err := trial.Read("case.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A strategy scores random cases as the arbitration in Go does, and their slates are
// those of the pipeline.
func TestRunAgreesWithArbitration(t *testing.T) {
	m := compile(t, plugins.PVCL())
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		n := 1 + random.IntN(100)
		var b strings.Builder
		fmt.Fprintf(&b, "seed: %d\nslots: %d\ncandidates:\n", random.Uint64(), 1+random.IntN(n))
		want := make([]float64, n)
		for i := range n {
			p, v, w, l := random.Float64(), float64(random.IntN(10)), 1.0, 1.0
			fmt.Fprintf(&b, "  - {propensity: %v, value: %v", p, v)
			if random.IntN(2) == 0 {
				w, l = random.Float64(), 1+random.Float64()
				fmt.Fprintf(&b, ", weight: %v, lever: %v", w, l)
			}
			b.WriteString("}\n")
			want[i] = p * v
			want[i] *= w
			want[i] *= l
		}
		c := read(t, b.String())
		r, err := trial.Run(t.Context(), m, c, 0)
		if err != nil || r.Fault != nil {
			t.Fatal(err, r.Fault)
		}
		for i, a := range r.Candidates {
			if math.Float64bits(a.Score) != math.Float64bits(want[i]) {
				t.Fatalf("candidate %d: %v, want %v", i, a.Score, want[i])
			}
		}
		if len(r.Slate) != c.Slots {
			t.Fatalf("a slate of %d, with room for %d", len(r.Slate), c.Slots)
		}
		last := math.Inf(1)
		for _, id := range r.Slate {
			i := slices.IndexFunc(r.Candidates, func(a trial.Answer) bool { return a.ID == id })
			if want[i] > last {
				t.Fatalf("the slate is not in order: %v", r.Slate)
			}
			last = want[i]
		}
	}
}

// What can be wrong with a case is said with file, line and the nearest name.
func TestMistakes(t *testing.T) {
	arpu := compile(t, faultyModule(t, "needless input"))
	kind := compile(t, faultyModule(t, "no long kind"))
	for _, test := range []struct{ name, text, want string }{
		{"empty", "", "case.yaml is empty"},
		{"no YAML", "a: [", "case.yaml:"},
		{"two documents", "candidates: [{id: a}]\n---\ncandidates: []", "a second document"},
		{"no candidates", "seed: 1", "it has no candidates"},
		{"an unknown key", "candidates:\n  - {id: a, propensty: 1}", "case.yaml:2: there is no propensty in a case here; the nearest is propensity"},
		{"the same id", "candidates: [{id: a}, {id: a}]", "two candidates have the id a"},
		{"expects a stranger", "candidates: [{id: first}]\nexpect: {slate: [frist]}", "expect names the candidate frist, which the case does not have; the nearest is first"},
		{"within", "candidates: [{id: a}]\nexpect: {within: 2}", "within is 2"},
		{"slots", "slots: -1\ncandidates: [{id: a}]", "slots is -1"},
		{"an unknown field", "candidates: [{}]\nprofile:\n  value.arup: 1", "case.yaml:3: the strategy does not read the profile field value.arup; the nearest is value.arpu"},
		{"a field of the context", "candidates: [{}]\ncontext: {role: x}", "case.yaml:2: the strategy does not read the context field role"},
		{"a text for a number", "candidates: [{}]\nprofile: {value.arpu: \"40\"}", "the profile field value.arpu is a text, and the strategy reads a number: write it as 29.85"},
		{"not a number", "candidates: [{}]\nprofile: {value.arpu: .nan}", "is not a number that can be known"},
		{"an unknown parameter", "candidates: [{}]\nparameters: {reach: 1}", "the strategy has no parameter reach"},
		{"a column", "candidates: [{history: {times.rejected.30d: 1}}]", "candidate 1: the strategy does not read the history column times.rejected.30d"},
		{"a misspelt attribute", "candidates: [{offer: {kinf: x, colour: red}}]", "no candidate has the offer attribute kind, which the strategy reads; the nearest is kinf"},
		{"a number for a text", "candidates: [{offer: {kind: 5}}]", "the offer attribute kind is a number, and the strategy reads a text: write it in quotes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := trial.Read("case.yaml", []byte(test.text))
			if err == nil {
				m := arpu
				if strings.Contains(test.text, "offer") {
					m = kind
				}
				_, err = trial.Run(t.Context(), m, c, 0)
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
	// What others read of an offer is no mistake.
	if _, err := trial.Run(t.Context(), kind, read(t, "candidates: [{offer: {colour: red, kind: x}}, {offer: {kind: null}}]"), 0); err != nil {
		t.Error(err)
	}
}

// Update changes what is expected, and not a byte besides.
func TestUpdate(t *testing.T) {
	m := compile(t, plugins.PVCL())
	const before, middle, after = "# A comment.\ncandidates: # these\n  - {id: a, propensity: 0.5, value: 2}\n  - {id: \"2\", propensity: 0.25, value: 8} # odd\n", "expect:\n  slate: [a]\n  candidates:\n    a: {score: 3}\n", "\n# The end.\nseed: 3 # for ties\n"
	const want = "expect:\n  slate: [\"2\", a]\n  candidates:\n    a: {score: 1}\n    \"2\": {score: 2}\n"
	for name, text := range map[string][2]string{
		"at the end":      {before + middle, before + want},
		"in the middle":   {before + middle + after, before + want + after},
		"nothing yet":     {before + after, before + after + want},
		"no line feed":    {strings.TrimSuffix(before, "\n"), before + want},
		"expects a fault": {before + "expect: {fault: score}\n" + after, before + want + after},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "case.yaml")
			if err := os.WriteFile(file, []byte(text[0]), 0o640); err != nil {
				t.Fatal(err)
			}
			for i, wantChanged := range []bool{true, false} {
				c, err := trial.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				r, err := trial.Run(t.Context(), m, c, 0)
				if err != nil {
					t.Fatal(err)
				}
				changed, err := c.Update(r)
				if err != nil || changed != wantChanged {
					t.Fatalf("update %d: %v, %v", i, changed, err)
				}
			}
			got, err := os.ReadFile(file)
			if err != nil || string(got) != text[1] {
				t.Errorf("%v, it is\n%s\nand should be\n%s", err, got, text[1])
			}
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o640 {
				t.Error(info.Mode(), err)
			}
		})
	}
}

func TestCompare(t *testing.T) {
	m := compile(t, plugins.PVCL())
	const text = "candidates: [{id: a, propensity: 0.1, value: 3}, {id: b, propensity: 1}]\nexpect: "
	for _, test := range []struct{ expect, want string }{
		{"{}", ""},
		{"{slate: [a, b]}", ""},
		{"{slate: []}", "slate [a, b]; want []"},
		{"{candidates: {a: {score: 0.3}}}", "a: score 0.30000000000000004; want 0.3"},
		{"{candidates: {a: {score: 0.3}}, within: 1e-9}", ""},
		{"{candidates: {a: {reason: none}}}", ""},
		{"{candidates: {a: {reason: GOOD}}}", "a: reason none; want GOOD"},
		{"{candidates: {b: {veto: true}}}", "b: not vetoed; want vetoed"},
		{"{fault: score}", "no fault; want score"},
	} {
		c := read(t, text+test.expect)
		r, err := trial.Run(t.Context(), m, c, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(c.Compare(r), "\n"); got != test.want {
			t.Errorf("%s: %q, want %q", test.expect, got, test.want)
		}
	}
}

// A decision that is written as a case and run is the same decision, but for what is
// hidden.
func TestDecidedReadsBack(t *testing.T) {
	schema, err := profilestore.NewSchema([]profilestore.Source{{ID: "bi"}}, []profilestore.Field{
		{Name: "value.arpu", Type: profilestore.TypeNumber, Batch: "bi", Decimals: profilestore.NoDecimals},
	})
	if err != nil {
		t.Fatal(err)
	}
	m := compile(t, faultyModule(t, "needless input")) // the propensity, whatever the arpu
	random := rand.New(rand.NewPCG(3, 4))
	hiddenTimes, unknownTimes := 0, 0
	for range 40 {
		n := 1 + random.IntN(10)
		c := &catalog.Compiled{Schema: schema}
		sc := &catalog.Scenario{ID: "s", Strategy: &catalog.StrategyUse{}}
		q := &decide.Ranking{Now: random.Int64N(1e15), Seed: random.Uint64(), Slots: n}
		for i := range n {
			c.Offers = append(c.Offers, catalog.Offer{ID: fmt.Sprintf("offer_%d", i/2)}) // some compete in two channels
			c.Channels = append(c.Channels, catalog.Channel{ID: fmt.Sprintf("channel_%d", i)})
			sc.Candidates = append(sc.Candidates, catalog.Candidate{Offer: i, Channel: i})
			q.Candidates = append(q.Candidates, int32(i))
			q.Propensity, q.Value = append(q.Propensity, random.Float64()), append(q.Value, random.Float64())
			q.Weight, q.Lever = append(q.Weight, 1), append(q.Lever, random.Float64())
			q.Reason, q.Veto = append(q.Reason, 0), append(q.Veto, false)
			c.Offers[i].ID = fmt.Sprintf("offer_%d", i)
		}
		q.Score = slices.Clone(q.Propensity)
		arpu := profilestore.Number(random.NormFloat64() * 1e6)
		if random.IntN(3) == 0 {
			arpu = profilestore.Unknown()
			unknownTimes++
		}
		q.Profile = known{arpu}
		hide := random.IntN(2) == 0
		d := trial.Decided{Comment: []string{"one\nline"}, Manifest: m.Manifest(), Catalog: c, Scenario: sc, Ranking: q, Hidden: func(string) bool { return hide }}
		text, hidden := d.Write()
		back, err := trial.Read("case.yaml", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if isHidden := hide && arpu.Known(); isHidden {
			hiddenTimes++
			if !slices.Equal(hidden, []string{"value.arpu"}) || strings.Contains(string(text), "value.arpu: ") || back.Expect != nil {
				t.Fatalf("hidden: %v\n%s", hidden, text)
			}
			continue
		}
		if arpu.Known() != strings.Contains(string(text), "value.arpu: ") || back.Seed != q.Seed || back.Now.UnixMicro() != q.Now {
			t.Fatalf("%s", text)
		}
		r, err := trial.Run(t.Context(), m, back, 0)
		if err != nil {
			t.Fatal(err)
		}
		if lines := back.Compare(r); len(lines) > 0 {
			t.Fatalf("%v\n%s", lines, text)
		}
	}
	if t.Logf("hidden %d times, unknown %d times", hiddenTimes, unknownTimes); hiddenTimes == 0 || unknownTimes == 0 {
		t.Error("something never occurs")
	}
}

type known struct{ value profilestore.Value }

func (k known) Get(int) profilestore.Value { return k.value }

// The profile of a strategy adds up to what its calls use, in the file too.
func TestProfileAddsUp(t *testing.T) {
	r := runtime(t)
	for _, name := range []string{"", "recursion", "endless loop"} {
		wasm := faulty.Good()
		if name != "" {
			wasm = faultyModule(t, name)
		}
		m, p, err := r.CompileProfiled(t.Context(), wasm)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := r.Compile(t.Context(), wasm)
		if err != nil {
			t.Fatal(err)
		}
		var sum int64
		for _, n := range []int{1, 50, 500} {
			c := read(t, "candidates: [{propensity: 0.5}]").Grow(n)
			profiled, err := trial.Run(t.Context(), m, c, 0)
			if err != nil {
				t.Fatal(err)
			}
			bare, err := trial.Run(t.Context(), plain, c, 0)
			if err != nil {
				t.Fatal(err)
			}
			if profiled.Fuel != bare.Fuel || profiled.FaultKind != bare.FaultKind || !slices.Equal(profiled.Candidates, bare.Candidates) {
				t.Errorf("%q, %d candidates: profiled %d fuel %s, else %d %s", name, n, profiled.Fuel, profiled.FaultKind, bare.Fuel, bare.FaultKind)
			}
			sum += bare.Fuel
		}
		var self int64
		for _, f := range p.Functions() {
			self += f.Self
		}
		var stacks, inFile int64
		for _, s := range p.Stacks() {
			stacks += s.Fuel
		}
		var b strings.Builder
		if err := trial.WriteProfile(&b, p.Stacks()); err != nil {
			t.Fatal(err)
		}
		inFile = fuelIn(t, b.String())
		if self != sum || stacks != sum || inFile != sum || p.Calls() != 3 {
			t.Errorf("%q: functions %d, stacks %d, the file %d, of %d units in %d calls", name, self, stacks, inFile, sum, p.Calls())
		}
		p.Reset()
		if len(p.Stacks()) != 0 || p.Calls() != 0 {
			t.Error("it does not forget")
		}
	}
}

// fuelIn adds up the fuel of the samples in a profile.
func fuelIn(t *testing.T, profile string) (sum int64) {
	t.Helper()
	z, err := gzip.NewReader(strings.NewReader(profile))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if _, err := io.Copy(&b, z); err != nil {
		t.Fatal(err)
	}
	const sampleField, valuesField = 2, 2
	for rest := []byte(b.String()); len(rest) > 0; {
		field, kind, n := protowire.ConsumeTag(rest)
		rest = rest[n:]
		if kind != protowire.BytesType {
			rest = rest[protowire.ConsumeFieldValue(field, kind, rest):]
			continue
		}
		message, n := protowire.ConsumeBytes(rest)
		rest = rest[n:]
		for field == sampleField && len(message) > 0 {
			inner, _, n := protowire.ConsumeTag(message)
			values, m := protowire.ConsumeBytes(message[n:])
			message = message[n+m:]
			if inner == valuesField {
				_, n := protowire.ConsumeVarint(values)
				fuel, _ := protowire.ConsumeVarint(values[n:])
				sum += int64(fuel)
			}
		}
	}
	return sum
}
