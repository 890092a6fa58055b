package demo_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rapport/cmd/rapport/demo"
	"rapport/profilestore"
	"rapport/profilestore/badger"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
	"rapport/server/decide"
)

const (
	customers = 10_000
	seed      = 1
)

// operator is the demo as the server sees it.
type operator struct {
	schema   *profilestore.Schema
	compiled *catalog.Compiled
}

func read(t *testing.T) operator {
	t.Helper()
	schema, problems := catalog.ReadSchema("schema.yaml", demo.Schema())
	if len(problems) > 0 {
		t.Fatalf("schema: %v", problems)
	}
	var files []catalog.File
	for _, f := range demo.Catalog() {
		files = append(files, catalog.File{Name: f.Name, Content: f.Content})
	}
	compiled, _, problems := catalog.Compile(files, schema, nil)
	if len(problems) > 0 {
		t.Fatalf("catalogue: %v", problems)
	}
	return operator{schema: schema, compiled: compiled}
}

func write(t *testing.T, source string, n int, seed uint64) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := demo.WriteCustomers(&b, source, n, seed); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func records(t *testing.T, content []byte) [][]string {
	t.Helper()
	r, err := csv.NewReader(bytes.NewReader(content)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// profile is a customer as the files tell, by slot.
type profile []profilestore.Value

func (p profile) Get(slot int) profilestore.Value { return p[slot] }

// profiles reads the files of all sources in the plainest way.
func (o operator) profiles(t *testing.T, customers int) []profile {
	t.Helper()
	all := make([]profile, customers)
	for i := range all {
		all[i] = make(profile, len(o.schema.Fields()))
	}
	for _, source := range o.schema.Sources() {
		rows := records(t, write(t, source.ID, customers, seed))
		columns := make(map[int]int) // of each slot that the source fills
		for slot, f := range o.schema.Fields() {
			if f.Batch == source.ID {
				columns[slot] = slices.Index(rows[0], f.Column)
			}
		}
		for _, row := range rows[1:] {
			for slot, column := range columns {
				all[index(t, row[0])][slot] = value(t, o.schema.Fields()[slot], row[column])
			}
		}
	}
	return all
}

// index is the place of a customer's number, 10000001 and on.
func index(t *testing.T, customer string) int {
	t.Helper()
	n, err := strconv.Atoi(customer)
	if err != nil || n <= 10_000_000 || n > 10_000_000+customers {
		t.Fatalf("customer %q", customer)
	}
	return n - 10_000_001
}

func value(t *testing.T, f profilestore.Field, text string) profilestore.Value {
	t.Helper()
	var err error
	v := profilestore.Unknown()
	switch {
	case f.Type == profilestore.TypeFlag:
		var flag bool
		flag, err = strconv.ParseBool(text)
		v = profilestore.Flag(flag)
	case text == "" && f.Type == profilestore.TypeSet:
		v = profilestore.Set()
	case text == "" && f.Type == profilestore.TypeCounter:
		v = profilestore.Number(0)
	case text == "":
	case f.Type == profilestore.TypeText:
		v = profilestore.Text(text)
	case f.Type == profilestore.TypeSet:
		v = profilestore.Set(strings.Split(text, ";")...)
	case f.Window > 0: // the sums of its buckets
		sum := 0.0
		for hop := range strings.SplitSeq(text, ";") {
			var number float64
			if number, err = strconv.ParseFloat(hop, 64); err != nil {
				break
			}
			sum += number
		}
		v = profilestore.Number(sum)
	case f.Type == profilestore.TypeTime:
		var when time.Time
		if when, err = time.Parse(time.DateOnly, text); err != nil {
			when, err = time.Parse(time.RFC3339, text)
		}
		v = profilestore.Time(when.UnixMicro())
	default:
		var number float64
		number, err = strconv.ParseFloat(text, 64)
		v = profilestore.Number(number)
	}
	if err != nil {
		t.Fatalf("%s: %v", f.Name, err)
	}
	return v
}

// The customers are the same on every machine: these hashes were computed on
// amd64. If you change what is drawn on purpose, put the new ones here.
func TestCustomersAreDeterministic(t *testing.T) {
	for source, want := range map[string]string{
		"bi":             "d665972760bbaa18",
		"service_centre": "75723528b420324a",
	} {
		content := write(t, source, 1000, seed)
		sum := sha256.Sum256(content)
		if got := hex.EncodeToString(sum[:8]); got != want {
			t.Errorf("%s: the bytes have the hash %s, want %s", source, got, want)
		}
		if more := write(t, source, 1200, seed); !bytes.HasPrefix(more, content) {
			t.Errorf("%s: more customers change the first ones", source)
		}
		if bytes.Equal(content, write(t, source, 1000, seed+1)) {
			t.Errorf("%s: another seed gives the same customers", source)
		}
	}
}

func TestUnknownSource(t *testing.T) {
	if err := demo.WriteCustomers(&bytes.Buffer{}, "billing", 1, seed); err == nil {
		t.Error("no error")
	}
}

// The files have exactly the columns that the schema reads, and load.
func TestCustomersFitTheSchema(t *testing.T) {
	o := read(t)
	for _, source := range o.schema.Sources() {
		content := write(t, source.ID, 500, seed)
		want := []string{source.Key}
		for _, f := range o.schema.Fields() {
			if f.Batch == source.ID {
				want = append(want, f.Column)
			}
		}
		got := slices.Clone(records(t, content)[0])
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s has the columns %v, want %v", source.ID, got, want)
		}

		dir := t.TempDir()
		path := filepath.Join(dir, "customers.csv")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		report, err := profilestore.Load(context.Background(), profilestore.LoadOptions{
			Dir: filepath.Join(dir, "snapshots"), Schema: o.schema, Engine: badger.Generations(nil),
			Source: source.ID, Path: path, AsOf: demo.AsOf().UnixMicro(),
		})
		if err != nil {
			t.Fatal(err)
		}
		if report.Rows < 450 || report.BadRows > 0 || len(report.UnusedColumns) > 0 {
			t.Errorf("%s: %d rows, %d bad, unused columns %v", source.ID, report.Rows, report.BadRows, report.UnusedColumns)
		}
	}
}

// The catalogue is as wide as a telecom operator's.
func TestCatalogIsWide(t *testing.T) {
	o := read(t)
	if n := len(o.compiled.Channels); n < 12 {
		t.Errorf("%d channels, want 12 or more", n)
	}
	if n := len(o.compiled.Offers); n < 40 {
		t.Errorf("%d offers, want 40 or more", n)
	}
	groups := make(map[string]int)
	for _, offer := range o.compiled.Offers {
		groups[offer.Group]++
	}
	for _, g := range []string{"data", "voice", "messaging", "value_added", "device", "contract", "care", "retention", "service_notices"} {
		if groups[g] == 0 {
			t.Errorf("no offer in group %s", g)
		}
	}
	for _, touchpoint := range o.compiled.Touchpoints {
		if touchpoint.Scenario < 0 || len(touchpoint.Candidates) < 2*touchpoint.Slots {
			t.Errorf("%s: scenario %d with %d candidates for %d slots", touchpoint.ID, touchpoint.Scenario, len(touchpoint.Candidates), touchpoint.Slots)
		}
	}
	filled := make(map[string]bool)
	for _, f := range o.schema.Fields() {
		group, _, _ := strings.Cut(f.Name, ".")
		filled[group] = true
		if len(f.Description) < 15 {
			t.Errorf("%s has no helpful description", f.Name)
		}
	}
	if len(filled) != len(profilestore.Groups) {
		t.Errorf("fields in groups %v, want all of %v", filled, profilestore.Groups)
	}
}

func TestTenThousandCustomers(t *testing.T) {
	o := read(t)
	all := o.profiles(t, customers)
	t.Run("everything is used", func(t *testing.T) { o.testUse(t, all) })
	t.Run("distributions", func(t *testing.T) { o.testDistributions(t, all) })
}

// testUse finds rules that nobody can fulfil and fields that nobody reads: they
// would be mistakes.
func (o operator) testUse(t *testing.T, all []profile) {
	moments := []map[string]profilestore.Value{
		{},
		{"role": profilestore.Text("counter")},
		{"journey": profilestore.Text("cancel")},
		{"waiting_minutes": profilestore.Number(6)},
	}
	eligible := make([]int, len(o.compiled.Offers))
	e := o.compiled.Rules.NewEvaluation()
	for m, moment := range moments {
		inputs := o.context(moment)
		for n, p := range all {
			e.Reset(rules.Inputs{Profile: p, Context: inputs, Now: saturday.UnixMicro()})
			for i := range o.compiled.Offers {
				if eligible[i] > 0 && (m > 0 || n > 300) {
					continue // only the first few are asked about everything
				}
				switch e.Evaluate(o.compiled.Offers[i].Eligible) {
				case rules.True:
					eligible[i]++
				case rules.Failed:
					t.Fatalf("%s fails for customer %d", o.compiled.Offers[i].ID, n)
				case rules.False, rules.Unknown:
				}
			}
		}
	}
	for i, n := range eligible {
		if n == 0 {
			t.Errorf("nobody is eligible for %s", o.compiled.Offers[i].ID)
		}
	}
	var text strings.Builder
	for _, f := range demo.Catalog() {
		text.Write(f.Content)
	}
	for _, condition := range conditions {
		text.WriteString(condition)
	}
	for _, f := range o.schema.Fields() {
		if !strings.Contains(text.String(), f.Name) {
			t.Errorf("no offer reads %s, and no situation of the scenario book", f.Name)
		}
	}
}

// saturday is a moment of decision, ten in the morning at the operator's.
var saturday = time.Date(2026, time.November, 7, 2, 0, 0, 0, time.UTC)

// context fills in the defaults.
func (o operator) context(given map[string]profilestore.Value) []profilestore.Value {
	values := make([]profilestore.Value, len(o.compiled.Context))
	for i, f := range o.compiled.Context {
		values[i] = f.Default
		if v, ok := given[f.Name]; ok {
			values[i] = v
		}
	}
	return values
}

// The featured customer is shown to newcomers: a full slate of several kinds.
func TestFeaturedCustomer(t *testing.T) {
	o := read(t)
	customer, touchpoint := demo.FeaturedCustomer()
	place, ok := o.compiled.Touchpoint(touchpoint)
	if !ok {
		t.Fatalf("no touchpoint %s", touchpoint)
	}
	d, err := decide.New(o.compiled, make([]decide.Ranker, len(o.compiled.Scenarios)))
	if err != nil {
		t.Fatal(err)
	}
	p := o.profiles(t, 1)[index(t, customer)]
	for _, now := range []time.Time{saturday, saturday.AddDate(0, 0, 3), saturday.AddDate(5, 2, 0)} {
		var a decide.Answer
		d.Decide(context.Background(), &decide.Request{
			At: decide.At{Touchpoint: place}, Now: now.UnixMicro(), Seed: 1, Profile: p, Context: o.context(nil),
		}, &a)
		groups, classes := make(map[string]bool), make(map[catalog.Class]bool)
		for _, x := range a.Slate {
			groups[o.compiled.Offers[x.Offer].Group] = true
			classes[o.compiled.Offers[x.Offer].Class] = true
		}
		if len(a.Slate) != o.compiled.Touchpoints[place].Slots || len(groups) < 5 || len(classes) < 3 {
			t.Errorf("at %s: %d offers, groups %v, classes %v", now, len(a.Slate), groups, classes)
		}
	}
}

// testDistributions checks that each column is plausible, and that what should
// go together does.
func (o operator) testDistributions(t *testing.T, all []profile) {
	// column is a field of all customers as numbers, NaN where it is unknown.
	column := func(name string) []float64 {
		field, is, _ := strings.Cut(name, "=")
		slot, ok := o.schema.Lookup(field)
		if !ok {
			t.Fatalf("no field %s", field)
		}
		xs := make([]float64, len(all))
		for i, p := range all {
			xs[i] = number(p[slot], is)
		}
		return xs
	}

	rows := map[string]int{} // by a field of each source that is never blank
	for _, name := range []string{"value.contract", "service.complaint_open"} {
		for _, x := range column(name) {
			if !math.IsNaN(x) {
				rows[name]++
			}
		}
	}
	if n := rows["value.contract"]; n != customers {
		t.Errorf("bi has %d rows, want %d", n, customers)
	}
	if n := rows["service.complaint_open"]; n < 9600 || n > 9800 {
		t.Errorf("the service centre has %d rows, want about 9,700", n)
	}

	for name, bounds := range map[string][2]float64{ // of the mean
		"general.age":                {40, 47},
		"value.arpu":                 {40, 65},
		"value.balance":              {15, 40},
		"value.plan_fee":             {25, 60},
		"usage.data_mb":              {2500, 7000},
		"usage.voice_minutes":        {100, 200},
		"usage.messages":             {12, 30},
		"marketing.churn_risk":       {0.15, 0.30},
		"marketing.propensity_data":  {0.05, 0.15},
		"service.satisfaction":       {6, 8},
		"service.hotline_calls":      {0.5, 1.5},
		"usage.roaming_days":         {0.4, 1.5},
		"value.points":               {400, 1200},
		"tag.high_spend":             {0.04, 0.12},
		"tag.high_traffic":           {0.03, 0.12},
		"tag.new_customer":           {0.03, 0.09},
		"tag.smartphone_5g":          {0.4, 0.65},
		"general.suspended":          {0.015, 0.05},
		"service.complaint_open":     {0.02, 0.045},
		"marketing.owns_broadband":   {0.2, 0.4},
		"tag.vip":                    {0.02, 0.07},
		"preference.price_band=high": {0.15, 0.35},
		"general.payment=prepaid":    {0.3, 0.5},
		"value.contract=24_months":   {0.15, 0.3},
		"general.brand=youth":        {0.1, 0.25},
	} {
		if m := mean(column(name)); m < bounds[0] || m > bounds[1] {
			t.Errorf("the mean of %s is %.4g, want %v", name, m, bounds)
		}
	}

	for pair, sign := range map[string]float64{ // the least correlation, or with a minus the greatest
		"value.contract=24_months general.customer_since":             -0.1, // earlier is longer
		"value.contract=24_months marketing.churn_risk":               -0.15,
		"value.contract=none marketing.churn_risk":                    0.15,
		"general.customer_since marketing.churn_risk":                 0.15,
		"service.complaint_open marketing.churn_risk":                 0.1,
		"value.arpu value.plan_fee":                                   0.7,
		"value.arpu value.contract=24_months":                         0.1,
		"value.arpu usage.data_mb":                                    0.3,
		"general.brand=premium value.arpu":                            0.4,
		"general.age tag.smartphone_5g":                               -0.2,
		"tag.smartphone_5g usage.data_mb":                             0.1,
		"general.age usage.messages":                                  0.1, // the old still write
		"usage.data_quota_mb usage.data_mb":                           0.5,
		"tag.frequent_handset_change marketing.propensity_device":     0.3,
		"service.complaint_open tag.complaint_sensitive":              0.15,
		"marketing.owns_message_pack usage.messages":                  0.1,
		"usage.roaming_days marketing.owns_roaming_pack":              0.2,
		"preference.price_band=high preference.handset_brand=A":       0.1,
		"service.hotline_calls service.complaint_open":                0.15,
		"general.payment=prepaid value.arpu":                          -0.1,
		"general.age marketing.owns_music":                            -0.1,
		"usage.international_minutes general.customer_type=business":  0.02,
		"general.credit_class=A value.arpu":                           0.1,
		"marketing.propensity_contract general.payment=prepaid":       -0.1,
		"tag.family_plan marketing.owns_broadband":                    0.1,
		"general.suspended value.balance":                             -0.05,
		"marketing.uses_app tag.smartphone_5g":                        0.1,
		"service.paper_bill general.age":                              0.1,
		"service.satisfaction service.complaint_open":                 -0.1,
		"value.points value.arpu":                                     0.3,
		"tag.vip general.customer_since":                              -0.02,
		"marketing.propensity_value_added general.age":                -0.1,
		"usage.data_mb tag.high_traffic":                              0.4,
		"location.roaming usage.roaming_days":                         0.1,
		"marketing.owns_device_protection preference.price_band=high": 0.1,
		"marketing.owns_missed_call general.customer_type=business":   0.05,
		"marketing.owns_video usage.data_mb":                          0.05,
		"usage.trips_hk_macao marketing.owned=hk_macao_tariff":        0.1,
		"usage.calls_12593 usage.long_distance_calls":                 0.1,
		"preference.persona=elderly general.age":                      0.5,
		"tag.business_traveller usage.roaming_days":                   0.1,
		"tag.potential_handset_buyer tag.frequent_handset_change":     0.2,
		"preference.do_not_disturb preference.marketing_opt_out":      0.2,
		"marketing.owned=music_club marketing.owns_music":             0.99,
		"service.password_set tag.new_customer":                       -0.1,
		"tag.high_spend value.arpu":                                   0.5,
	} {
		a, b, _ := strings.Cut(pair, " ")
		r := correlation(column(a), column(b))
		if math.Signbit(r) != math.Signbit(sign) || math.Abs(r) < math.Abs(sign) {
			t.Errorf("%s and %s have the correlation %.3f, want beyond %v", a, b, r, sign)
		}
	}

	// A column that says the same of everybody is of no use.
	for i, f := range o.schema.Fields() {
		if f.Batch == "" {
			continue // nothing has happened
		}
		distinct, known := make(map[profilestore.Value]int), 0
		for _, p := range all {
			if p[i].Known() {
				distinct[p[i]]++
				known++
			}
		}
		most := 0
		for _, n := range distinct {
			most = max(most, n)
		}
		if known < customers/8 || len(distinct) < 2 || float64(most) > 0.995*float64(known) {
			t.Errorf("%s is degenerate: known of %d, %d values, the most frequent %d times", f.Name, known, len(distinct), most)
		}
	}

	// Data use is log-normal: the mean is far above the median.
	use := column("usage.data_mb")
	slices.Sort(use)
	if median := use[len(use)/2]; median*2 > mean(use) {
		t.Errorf("data use has the median %.0f and the mean %.0f: no long tail", median, mean(use))
	}
}

// number is a value as a number: a flag is 1 where it is set, a text where it is
// the given one, a time is in days.
func number(v profilestore.Value, is string) float64 {
	one := false
	switch v.Kind() {
	case profilestore.KindNumber:
		return v.Number()
	case profilestore.KindTime:
		return float64(v.Micros()) / 86400e6
	case profilestore.KindFlag:
		one = v.Flag()
	case profilestore.KindText:
		one = v.Text() == is
	case profilestore.KindSet:
		one = v.Has(is)
	case profilestore.KindUnknown:
		return math.NaN()
	}
	if one {
		return 1
	}
	return 0
}

// mean is that of the known ones.
func mean(xs []float64) float64 {
	sum, n := 0.0, 0.0
	for _, x := range xs {
		if !math.IsNaN(x) {
			sum, n = sum+x, n+1
		}
	}
	return sum / n
}

// correlation is Pearson's, of the pairs of which both are known.
func correlation(xs, ys []float64) float64 {
	for i := range xs {
		if math.IsNaN(xs[i]) || math.IsNaN(ys[i]) {
			xs[i], ys[i] = math.NaN(), math.NaN()
		}
	}
	mx, my := mean(xs), mean(ys)
	var xx, yy, xy float64
	for i := range xs {
		if dx, dy := xs[i]-mx, ys[i]-my; !math.IsNaN(dx) {
			xx, yy, xy = xx+dx*dx, yy+dy*dy, xy+dx*dy
		}
	}
	return xy / math.Sqrt(xx*yy)
}

func BenchmarkWriteCustomers(b *testing.B) {
	var out bytes.Buffer
	for b.Loop() {
		out.Reset()
		if err := demo.WriteCustomers(&out, "bi", customers, seed); err != nil {
			b.Fatal(err)
		}
	}
}
