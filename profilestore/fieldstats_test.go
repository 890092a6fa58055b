package profilestore_test

import (
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
	"time"

	"pgregory.net/rapid"

	"rapport/profilestore"
	"rapport/profilestore/memory"
)

// statsSchema has a field of each type that a batch source can feed.
func statsSchema(t testing.TB) *profilestore.Schema {
	t.Helper()
	const none = profilestore.NoDecimals
	schema, err := profilestore.NewSchema([]profilestore.Source{{ID: "bi"}}, []profilestore.Field{
		{Name: "value.bill", Type: profilestore.TypeNumber, Batch: "bi", Column: "bill", Decimals: 2},
		{Name: "value.score", Type: profilestore.TypeNumber, Batch: "bi", Column: "score", Decimals: none},
		{Name: "tag.vip", Type: profilestore.TypeFlag, Batch: "bi", Column: "vip", Decimals: none},
		{Name: "general.plan", Type: profilestore.TypeText, Batch: "bi", Column: "plan", Decimals: none},
		{Name: "general.name", Type: profilestore.TypeText, Batch: "bi", Column: "name", Decimals: none},
		{Name: "service.since", Type: profilestore.TypeTime, Batch: "bi", Column: "since", Decimals: none},
		{Name: "usage.week", Type: profilestore.TypeCounter, Batch: "bi", Column: "week", Decimals: 1, Window: 7 * 24 * time.Hour, Bucket: 24 * time.Hour},
		{Name: "marketing.owned", Type: profilestore.TypeSet, Batch: "bi", Column: "owned", Decimals: none},
		{Name: "value.peak", Type: profilestore.TypeMax, Batch: "bi", Column: "peak", Decimals: 0},
	})
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// statsRow is a customer of a file; a nil part is blank.
type statsRow struct {
	bill, score, peak *float64
	vip               *bool
	plan, name        string
	since             int64 // microseconds; 0: blank
	week              []float64
	owned             []string
}

func statsFile(rows []statsRow) string {
	var b strings.Builder
	b.WriteString("customer,bill,score,vip,plan,name,since,week,owned,peak\n")
	number := func(f *float64) string {
		if f == nil {
			return ""
		}
		return fmt.Sprint(*f)
	}
	for i, r := range rows {
		vip, since, week := "", "", make([]string, len(r.week))
		if r.vip != nil {
			vip = fmt.Sprint(*r.vip)
		}
		if r.since != 0 {
			since = time.UnixMicro(r.since).UTC().Format(time.RFC3339Nano)
		}
		for k, hop := range r.week {
			week[k] = fmt.Sprint(hop)
		}
		fmt.Fprintf(&b, "%d,%s,%s,%s,%s,%s,%s,%s,%s,%s\n", i, number(r.bill), number(r.score), vip, r.plan, r.name, since,
			strings.Join(week, ";"), strings.Join(r.owned, ";"), number(r.peak))
	}
	return b.String()
}

func loadStats(t testing.TB, dir, content string) (*profilestore.LoadReport, *profilestore.SnapshotStats) {
	t.Helper()
	schema := statsSchema(t)
	report, err := loadFile(t, dir, content, func(o *profilestore.LoadOptions) {
		o.Schema, o.MaxBadRows, o.AllowEmpty, o.Engine = schema, 1, true, memory.Generations{}
	})
	if err != nil {
		t.Fatal(err)
	}
	stats, err := openSnapshots(t, dir, schema).Stats("bi", report.Snapshot.Generation)
	if err != nil {
		t.Fatal(err)
	}
	return report, stats
}

// naiveNumbers describes numbers by the definitions.
func naiveNumbers(values []float64) *profilestore.NumberStats {
	if len(values) == 0 {
		return nil
	}
	slices.Sort(values)
	s := &profilestore.NumberStats{Min: values[0], Max: values[len(values)-1]}
	for _, v := range values {
		s.Mean += v / float64(len(values))
	}
	for _, share := range []float64{0.05, 0.25, 0.5, 0.75, 0.95, 0.99} {
		for i, v := range values {
			if float64(i+1) >= share*float64(len(values)) {
				s.Quantiles = append(s.Quantiles, profilestore.Quantile{Share: share, Value: v})
				break
			}
		}
	}
	return s
}

// naiveTexts describes texts, each as often as customers have it.
func naiveTexts(texts []string) *profilestore.TextStats {
	counts := make(map[string]int64)
	for _, t := range texts {
		counts[t]++
	}
	s := &profilestore.TextStats{Distinct: int64(len(counts))}
	for _, text := range slices.Sorted(maps.Keys(counts)) {
		if counts[text] >= profilestore.MinCrowd {
			s.Top = append(s.Top, profilestore.TextCount{Text: text, Count: counts[text]})
		}
	}
	slices.SortStableFunc(s.Top, func(a, b profilestore.TextCount) int { return int(b.Count - a.Count) })
	s.Top = s.Top[:min(10, len(s.Top))]
	return s
}

func naiveStats(rows []statsRow) map[string]profilestore.FieldStats {
	var bill, score, peak, week, sizes []float64
	var plan, name, elements []string
	var vips, trues int64
	var times []int64
	put := func(list *[]float64, v *float64) {
		if v != nil {
			*list = append(*list, *v)
		}
	}
	for _, r := range rows {
		put(&bill, r.bill)
		put(&score, r.score)
		put(&peak, r.peak)
		if r.vip != nil {
			vips++
			if *r.vip {
				trues++
			}
		}
		if r.plan != "" {
			plan = append(plan, r.plan)
		}
		if r.name != "" {
			name = append(name, r.name)
		}
		if r.since != 0 {
			times = append(times, r.since)
		}
		if r.week != nil {
			sum := 0.0
			for _, hop := range r.week {
				sum += hop
			}
			week = append(week, sum)
		}
		if r.owned != nil {
			sizes = append(sizes, float64(len(r.owned)))
			elements = append(elements, r.owned...)
		}
	}
	of := func(values []float64) profilestore.FieldStats {
		return profilestore.FieldStats{Values: int64(len(values)), Numbers: naiveNumbers(values)}
	}
	texts := func(values []string) profilestore.FieldStats {
		f := profilestore.FieldStats{Values: int64(len(values))}
		if len(values) > 0 {
			f.Texts = naiveTexts(values)
		}
		return f
	}
	out := map[string]profilestore.FieldStats{
		"value.bill": of(bill), "value.score": of(score), "value.peak": of(peak), "usage.week": of(week), "marketing.owned": of(sizes),
		"tag.vip": {Values: vips, True: trues}, "general.plan": texts(plan), "general.name": texts(name),
		"service.since": {Values: int64(len(times))},
	}
	if len(times) > 0 {
		out["service.since"] = profilestore.FieldStats{Values: int64(len(times)), Times: &profilestore.TimeStats{First: slices.Min(times), Last: slices.Max(times)}}
	}
	if owned := out["marketing.owned"]; len(sizes) > 0 {
		owned.Texts = naiveTexts(elements)
		out["marketing.owned"] = owned
	}
	return out
}

func drawStatsRow(draw func(n int) int, customers int) statsRow {
	var r statsRow
	number := func(scale float64) *float64 {
		if draw(5) == 0 {
			return nil
		}
		f := float64(draw(2001)-1000) / scale
		return &f
	}
	r.bill, r.score, r.peak = number(100), number(8), number(1)
	if draw(4) > 0 {
		vip := draw(3) == 0
		r.vip = &vip
	}
	if draw(4) > 0 {
		r.plan = fmt.Sprintf("plan %d", draw(draw(12)+1))
	}
	if draw(6) > 0 {
		r.name = fmt.Sprintf("name %d", draw(2*customers)+1)
		if draw(4) == 0 {
			r.name = "not given"
		}
	}
	if draw(3) > 0 {
		r.since = int64(draw(1_000_000)+1) * 1_000_003
	}
	for range draw(8) {
		r.week = append(r.week, float64(draw(50))/2)
	}
	for p := range 4 {
		if draw(3) == 0 {
			r.owned = append(r.owned, fmt.Sprintf("product %d", p))
		}
	}
	return r
}

// TestFieldStats compares the distributions of random snapshots, small enough to be
// looked at whole, with those by definition.
func TestFieldStats(t *testing.T) {
	if testing.Short() {
		t.Skip("builds snapshots on disk")
	}
	crowds, dictionaries, blank := 0, 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.SampledFrom([]int{0, 1, 2, 19, 20, 21, 100, 400}).Draw(rt, "customers")
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		rows := make([]statsRow, n)
		for i := range rows {
			rows[i] = drawStatsRow(random.IntN, n)
		}
		dir, err := os.MkdirTemp(t.TempDir(), "snapshots") //nolint:usetesting // one for each case
		if err != nil {
			rt.Fatal(err)
		}
		content := statsFile(rows)
		if n > 0 && random.IntN(3) == 0 { // a second row of a customer is left out, with all that it says
			content += "0,99999,99999,true,plan x,name x,2099-01-01T00:00:00Z,9;9,product x,99999\n"
		}
		_, stats := loadStats(t, dir, content)
		if stats.Rows != int64(n) || stats.Sampled != int64(n) {
			rt.Fatalf("%d rows, %d sampled, of %d", stats.Rows, stats.Sampled, n)
		}
		for name, want := range naiveStats(rows) {
			got := stats.Fields[name]
			if got.Values == 0 {
				blank++
			}
			if got.Texts != nil && len(got.Texts.Top) > 0 {
				crowds++
				if name == "general.plan" {
					dictionaries++
				}
			}
			if a, b := describeStats(got), describeStats(want); a != b {
				rt.Fatalf("%s of %d customers:\n got %s\nwant %s", name, n, a, b)
			}
		}
	})
	t.Logf("texts of a crowd %d, of a dictionary %d, fields without values %d", crowds, dictionaries, blank)
	if crowds == dictionaries || dictionaries == 0 || blank == 0 {
		t.Error("a case never occurred")
	}
}

// describeStats writes the description of a field so that rounding does not matter.
func describeStats(f profilestore.FieldStats) string {
	s := fmt.Sprintf("%d values, %d true", f.Values, f.True)
	if n := f.Numbers; n != nil {
		s += fmt.Sprintf(", %.9g to %.9g, mean %.3f, quantiles %v", n.Min, n.Max, n.Mean+1e-7, n.Quantiles)
	}
	if x := f.Times; x != nil {
		s += fmt.Sprintf(", %d to %d", x.First, x.Last)
	}
	if x := f.Texts; x != nil {
		s += fmt.Sprintf(", %d distinct, estimate %t, top %v", x.Distinct, x.Estimate, x.Top)
	}
	return s
}

// TestFieldStatsSampled: of a snapshot that is too large to be looked at whole, what is
// exact is exact, and the rest is near.
func TestFieldStatsSampled(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a snapshot on disk")
	}
	const n = 40_000
	random := rand.New(rand.NewPCG(1, 2))
	rows := make([]statsRow, n)
	for i := range rows {
		rows[i] = drawStatsRow(random.IntN, n)
		// Skewed as real amounts are, and in the order of the customers.
		bill := math.Round(100*math.Exp(float64(i)/4000)) / 100
		rows[i].bill = &bill
	}
	_, stats := loadStats(t, t.TempDir(), statsFile(rows))
	want := naiveStats(rows)
	t.Logf("%d of %d rows sampled", stats.Sampled, stats.Rows)
	if stats.Sampled < 3000 || stats.Sampled > 9000 {
		t.Errorf("%d rows sampled", stats.Sampled)
	}
	for _, exact := range []string{"tag.vip", "general.plan", "service.since"} {
		if a, b := describeStats(stats.Fields[exact]), describeStats(want[exact]); a != b {
			t.Errorf("%s: got %s, want %s", exact, a, b)
		}
	}
	for _, name := range []string{"value.bill", "value.score", "value.peak", "usage.week", "marketing.owned"} {
		got, want := stats.Fields[name], want[name]
		if got.Values != want.Values || name != "usage.week" && (got.Numbers.Max != want.Numbers.Max || got.Numbers.Min != want.Numbers.Min) || math.Abs(got.Numbers.Mean-want.Numbers.Mean) > 0.05*math.Abs(want.Numbers.Mean)+0.01 {
			t.Errorf("%s: got %s, want %s", name, describeStats(got), describeStats(want))
		}
		for i, q := range got.Numbers.Quantiles {
			t.Logf("%s: quantile %v is %v, exactly %v", name, q.Share, q.Value, want.Numbers.Quantiles[i].Value)
		}
	}
	for _, q := range stats.Fields["value.bill"].Numbers.Quantiles {
		exact := float64(slices.IndexFunc(rows, func(r statsRow) bool { return *r.bill >= q.Value })) / n // rows are in order
		if math.Abs(exact-q.Share) > 0.03 {
			t.Errorf("the quantile of %v is that of %v", q.Share, exact)
		}
	}
	name := stats.Fields["general.name"].Texts
	distinct := float64(want["general.name"].Texts.Distinct)
	t.Logf("%d distinct names, exactly %v; %v", name.Distinct, distinct, name.Top)
	if !name.Estimate || math.Abs(float64(name.Distinct)-distinct) > 0.06*distinct {
		t.Errorf("%d distinct names, exactly %v", name.Distinct, distinct)
	}
	if exact := want["general.name"].Texts.Top; len(exact) != 1 || len(name.Top) != 1 || name.Top[0].Text != "not given" || math.Abs(float64(name.Top[0].Count-exact[0].Count)) > 0.1*float64(exact[0].Count) {
		t.Errorf("the most frequent names are %v, exactly %v", name.Top, exact)
	}
}

// TestFieldStatsMissing: a snapshot without distributions, or with damaged ones, says
// so and can be used as any other. Loading the file again mends it.
func TestFieldStatsMissing(t *testing.T) {
	dir := t.TempDir()
	content := statsFile(make([]statsRow, 30))
	report, _ := loadStats(t, dir, content)
	file := filepath.Join(dir, "bi", fmt.Sprintf("gen-%d", report.Snapshot.Generation), "FIELDS.json")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func() error{
		"missing": func() error { return os.Remove(file) },
		"cut off": func() error { return os.WriteFile(file, whole[:len(whole)-9], 0o600) },
		"altered": func() error {
			return os.WriteFile(file, []byte(strings.Replace(string(whole), `"rows":30`, `"rows":31`, 1)), 0o600)
		},
		"of a future": func() error {
			return os.WriteFile(file, []byte(strings.Replace(string(whole), `"format":1`, `"format":2`, 1)), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			withoutCopies(t, dir)
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			snapshots := openSnapshots(t, dir, statsSchema(t))
			if _, err := snapshots.Stats("bi", report.Snapshot.Generation); !errors.Is(err, profilestore.ErrNoFieldStats) {
				t.Errorf("the error is %v", err)
			}
			if list, err := snapshots.List("bi"); err != nil || len(list) != 1 || list[0].State != profilestore.SnapshotRetained {
				t.Errorf("the snapshots are %v, %v", list, err)
			}
			again, stats := loadStats(t, dir, content)
			if !again.Noop || stats.Rows != 30 {
				t.Errorf("loaded again: no-op %t, %d rows", again.Noop, stats.Rows)
			}
		})
	}
	if _, err := openSnapshots(t, dir, statsSchema(t)).Stats("bi", 9); !errors.Is(err, profilestore.ErrSnapshotNotFound) {
		t.Errorf("of a snapshot that does not exist: %v", err)
	}
}

// TestFieldStatsExtremes: numbers whose sum is none do not keep a file from being loaded.
func TestFieldStatsExtremes(t *testing.T) {
	var rows []statsRow
	for _, f := range []float64{1.7e308, 1.7e308, -1.7e308, -1.7e308, -1.7e308} {
		rows = append(rows, statsRow{score: &f})
	}
	_, stats := loadStats(t, t.TempDir(), statsFile(rows))
	if n := stats.Fields["value.score"].Numbers; n.Min != -1.7e308 || n.Max != 1.7e308 || math.IsNaN(n.Mean) || math.IsInf(n.Mean, 0) {
		t.Errorf("%+v", n)
	}
}
