package rapport_test

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	rapport "rapport/sdk"
	"rapport/sdk/abi"
	"rapport/sdk/rapporttest"
)

// The strategy of this test binary reads one of everything.
var (
	arpu   = rapport.Number("value.arpu")
	heavy  = rapport.Flag("tag.heavy")
	city   = rapport.Text("general.city")
	joined = rapport.Time("general.joined")

	price = rapport.OfferNumber("price")
	data  = rapport.OfferFlag("data")
	kind  = rapport.OfferText("kind")
	cost  = rapport.ChannelNumber("cost")
	human = rapport.ChannelFlag("human")
	tone  = rapport.ChannelText("tone")

	chance = rapport.Propensity()
	worth  = rapport.Value()
	weight = rapport.Weight()
	lever  = rapport.Lever()

	boost = rapport.Parameter("boost", 2, 1, 10)

	known  = rapport.Reason("KNOWN")
	nobody = rapport.Reason("NOBODY")
)

// rank is what the test at hand wants of the strategy.
var rank func(d *rapport.Decision)

func init() {
	rapport.Name("everything", "1.2.3", `Reads "everything".`)
	rapport.Budget(1_000_000, 500)
	rapport.Rank(func(d *rapport.Decision) { rank(d) })
}

var manifest = &abi.Manifest{
	ABI: 1, Name: "everything", Version: "1.2.3", Description: `Reads "everything".`,
	Profile: []abi.Input{
		{Name: "value.arpu", Type: "number"},
		{Name: "tag.heavy", Type: "flag"},
		{Name: "general.city", Type: "text"},
		{Name: "general.joined", Type: "time"},
	},
	Offer: []abi.Input{
		{Name: "price", Type: "number"},
		{Name: "data", Type: "flag"},
		{Name: "kind", Type: "text"},
	},
	Channel: []abi.Input{
		{Name: "cost", Type: "number"},
		{Name: "human", Type: "flag"},
		{Name: "tone", Type: "text"},
	},
	Candidate:  []string{"propensity", "value", "weight", "lever"},
	Parameters: []abi.Parameter{{Name: "boost", Default: 2, Min: 1, Max: 10}},
	Reasons:    []string{"KNOWN", "NOBODY"},
	Fuel:       &abi.Fuel{Base: 1_000_000, PerCandidate: 500},
}

func TestDeclarationsMakeTheManifest(t *testing.T) {
	got, err := rapporttest.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, manifest) {
		t.Errorf("manifest:\n got %+v\nwant %+v", got, manifest)
	}
	if again := rapport.Number("value.arpu"); again != arpu {
		t.Error("the same field declared again is another field")
	}
	if again := rapport.Reason("KNOWN"); again != known {
		t.Error("the same reason declared again is another reason")
	}
}

func TestEverythingIsRead(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 30, 0, 123456000, time.UTC)
	since := time.Date(2019, 8, 7, 0, 0, 0, 0, time.UTC)
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	rank = func(d *rapport.Decision) {
		a, ok := arpu.Get(d)
		say("%v %v %v %v %q %v", a, ok, heavy.Or(d, false), boost.Of(d), city.Or(d, "-"), joined.Or(d, now).Equal(since))
		say("%v %v", d.Now(), d.Len())
		for c := range d.Candidates() {
			say("%v %v %q %v %v %q", price.Or(c, -1), data.Or(c, false), kind.Or(c, "-"), cost.Or(c, -1), human.Or(c, true), tone.Or(c, "-"))
			c.Score(chance.Of(c) * worth.Of(c) * weight.Of(c) * lever.Of(c))
			c.Because(known)
		}
	}
	candidates := []rapporttest.Candidate{
		{
			Offer:      map[string]any{"price": 10, "data": true, "kind": "plan", "other": 1},
			Channel:    map[string]any{"cost": 0.5, "human": false, "tone": "warm"},
			Propensity: 0.25, Value: 8, Weight: 2, Lever: 1.5,
		},
		{Propensity: 0.5, Value: 3},
	}
	results, err := rapporttest.Rank(rapporttest.Decision{
		Now: now,
		Profile: map[string]any{
			"value.arpu": 29.85, "tag.heavy": true, "general.city": "杭州", "general.joined": since,
		},
		Parameters: map[string]float64{"boost": 4},
		Candidates: candidates,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []rapporttest.Result{{Score: 6, Reason: "KNOWN"}, {Score: 1.5, Reason: "KNOWN"}}
	if !reflect.DeepEqual(results, want) {
		t.Errorf("results %v, want %v", results, want)
	}
	wantLines := []string{
		`29.85 true true 4 "杭州" true`,
		`2026-03-01 12:30:00.123456 +0000 UTC 2`,
		`10 true "plan" 0.5 false "warm"`,
		`-1 false "-" -1 true "-"`,
	}
	if !reflect.DeepEqual(lines, wantLines) {
		t.Errorf("read:\n%s\nwant:\n%s", strings.Join(lines, "\n"), strings.Join(wantLines, "\n"))
	}

	lines = nil
	if _, err := rapporttest.Rank(rapporttest.Decision{Candidates: candidates[:1]}); err != nil {
		t.Fatal(err)
	}
	if want := `0 false false 2 "-" false`; lines[0] != want {
		t.Errorf("of an unknown customer it read %s, want %s", lines[0], want)
	}
}

func TestVetoNeedsNoScore(t *testing.T) {
	rank = func(d *rapport.Decision) {
		i := 0
		for c := range d.Candidates() {
			switch i % 3 {
			case 0:
				c.Veto()
				c.Because(nobody)
			case 1:
				c.Score(7)
				c.Veto()
			default:
				c.Veto()
				c.Score(8)
			}
			i++
		}
	}
	results, err := rapporttest.Rank(rapporttest.Decision{Candidates: make([]rapporttest.Candidate, 130)})
	if err != nil {
		t.Fatal(err)
	}
	for i, got := range results {
		want := []rapporttest.Result{{Reason: "NOBODY", Veto: true}, {Score: 7, Veto: true}, {Score: 8, Veto: true}}[i%3]
		if got != want {
			t.Fatalf("candidate %d: %v, want %v", i, got, want)
		}
	}
}

func TestRandIsOfTheSeed(t *testing.T) {
	draw := func(seed uint64) (numbers [3]float64) {
		rank = func(d *rapport.Decision) {
			for i := range numbers {
				numbers[i] = d.Rand().Float64()
			}
			for c := range d.Candidates() {
				c.Score(0)
			}
		}
		if _, err := rapporttest.Rank(rapporttest.Decision{Seed: seed, Candidates: make([]rapporttest.Candidate, 1)}); err != nil {
			t.Fatal(err)
		}
		return numbers
	}
	one, two, again := draw(1), draw(2), draw(1)
	if one != again || one == two || one[0] == one[1] {
		t.Errorf("seed 1: %v, seed 2: %v, seed 1 again: %v", one, two, again)
	}
}

func TestMistakesOfATestAreNamed(t *testing.T) {
	score := func(x float64) func(*rapport.Decision) {
		return func(d *rapport.Decision) {
			for c := range d.Candidates() {
				c.Score(x)
			}
		}
	}
	one := make([]rapporttest.Candidate, 1)
	for _, c := range []struct {
		name string
		rank func(*rapport.Decision)
		d    rapporttest.Decision
		want string
	}{
		{"unscored", func(*rapport.Decision) {}, rapporttest.Decision{Candidates: one}, "was not given"},
		{"infinite", score(math.Inf(1)), rapporttest.Decision{Candidates: one}, "+Inf"},
		{"undeclared field", score(1), rapporttest.Decision{Profile: map[string]any{"value.x": 1}}, "value.x"},
		{"wrong type", score(1), rapporttest.Decision{Profile: map[string]any{"value.arpu": "1"}}, "is a text"},
		{"no type", score(1), rapporttest.Decision{Profile: map[string]any{"value.arpu": []int{1}}}, "[]int"},
		{"attribute", score(1), rapporttest.Decision{Candidates: []rapporttest.Candidate{{Offer: map[string]any{"price": true}}}}, "price is a flag"},
		{"no parameter", score(1), rapporttest.Decision{Parameters: map[string]float64{"x": 1}}, "no parameter x"},
		{"range", score(1), rapporttest.Decision{Parameters: map[string]float64{"boost": 11}}, "1 to 10"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rank = c.rank
			if _, err := rapporttest.Rank(c.d); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestHostIsNotTrusted(t *testing.T) {
	rank = func(*rapport.Decision) {}
	if status := rapport.Configure(make([]byte, 200)); status == abi.StatusOK {
		t.Error("a block of zeros is accepted")
	}
	if status := rapport.Configure(abi.NewStaticBuilder(3, nil, 0, 0).Build(0)); status == abi.StatusOK {
		t.Error("the block of another strategy is accepted")
	}
	if status := rapport.Configure(abi.NewStaticBuilder(3, []float64{2}, 3, 3).Build(0)); status != abi.StatusOK {
		t.Error("the strategy's own block is refused")
	}
	frame := func(profile, columns int, rows ...uint32) []byte {
		l, b := abi.NewHead(profile, 0).Finish(len(rows), columns, 0, 0)
		f := l.View(abi.NewArena(l.Size))
		copy(f.Bytes(), b)
		copy(f.Index(), rows)
		return f.Bytes()
	}
	for name, b := range map[string][]byte{
		"zeros":            make([]byte, 200),
		"another strategy": frame(3, 4, 0),
		"no such row":      frame(4, 4, 0, 3),
	} {
		if status, _ := rapport.Call(b); status == abi.StatusOK {
			t.Errorf("%s: accepted", name)
		}
	}
	if status, n := rapport.Call(frame(4, 4, 2, 0)); status != abi.StatusOK || n != 2 {
		t.Errorf("a good frame: status %d, %d candidates", status, n)
	}
}

func TestSteadyCallAllocatesNothing(t *testing.T) {
	rank = func(d *rapport.Decision) {
		floor := d.Rand().Float64() * arpu.Or(d, 1)
		for c := range d.Candidates() {
			if kind.Or(c, "") == "plan" && !heavy.Or(d, false) {
				c.Because(known)
			}
			c.Score(max(floor, chance.Of(c)*price.Or(c, 1)))
		}
	}
	if status := rapport.Configure(abi.NewStaticBuilder(100, []float64{2}, 3, 3).Build(0)); status != abi.StatusOK {
		t.Fatal(status)
	}
	l, b := abi.NewHead(4, 0).Finish(100, 4, 0, 0)
	f := l.View(abi.NewArena(l.Size))
	copy(f.Bytes(), b)
	if n := testing.AllocsPerRun(100, func() { rapport.Call(f.Bytes()) }); n > 0 {
		t.Errorf("%v allocations a call", n)
	}
}
