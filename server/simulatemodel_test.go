package server_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
)

// simPerson is a customer of the tests of simulations.
type simPerson struct {
	id            string
	balance, data float64
	noBalance     bool
	vip           bool
	order         uint64
}

// segments returns of which of the catalogue's segments the person is a member.
func (p *simPerson) segments() []string {
	var out []string
	if !p.noBalance && p.balance < 10 {
		out = append(out, "poor")
	}
	if p.data > 5000 {
		out = append(out, "heavy")
	}
	if len(out) == 0 {
		return []string{""}
	}
	return out
}

// simData makes a data folder with people in it.
func simData(t testing.TB, random *rand.Rand, n int) (dir string, people []*simPerson) {
	t.Helper()
	dir = t.TempDir()
	if _, _, err := server.InstallSchema(dir, "schema.yaml", []byte(schemaYAML)); err != nil {
		t.Fatal(err)
	}
	var bi, crm strings.Builder
	bi.WriteString("customer,value.balance,usage.data_mb\n")
	crm.WriteString("customer,tag.vip\n")
	for i := range n {
		p := &simPerson{id: fmt.Sprintf("customer:%d", i+1), balance: float64(random.IntN(4000)) / 100, data: float64(random.IntN(10_000)), noBalance: random.IntN(8) == 0, vip: random.IntN(3) == 0}
		people = append(people, p)
		balance := fmt.Sprint(p.balance)
		if p.noBalance {
			balance = ""
		}
		fmt.Fprintf(&bi, "%d,%s,%v\n", i+1, balance, p.data)
		fmt.Fprintf(&crm, "%d,%v\n", i+1, p.vip)
	}
	load(t, dir, "bi", bi.String())
	load(t, dir, "crm", crm.String())
	return dir, people
}

// activate puts the snapshots of a data folder into service.
func (h *house) activate(t testing.TB) {
	t.Helper()
	for _, source := range []string{"bi", "crm"} {
		if _, err := h.snapshots().ActivateSnapshot(context.Background(), connect.NewRequest(&rapportv1.ActivateSnapshotRequest{Source: source, Generation: 1})); err != nil {
			t.Fatal(err)
		}
	}
}

// simCatalog is a random catalogue.
type simCatalog struct {
	offers     []simOffer
	policies   map[string]string
	capacities map[string]int
	strategy   string
	classOrder bool
	minimum    float64
	control    int
	consent    bool
}

type simOffer struct {
	id, group, class, eligible, exclusive string
	value, propensity                     float64
	learns                                bool
	boost                                 int
	channels                              []string
}

var simPolicies = map[string]string{
	"once":     "count: contact, max: 1, within: 7d, channels: [sms, call]",
	"group":    "per: group, count: contact, max: 1, within: 3d",
	"two":      "count: contact, max: 2, within: 2d",
	"rejected": "per: offer, count: rejected, max: 1, within: 30d, suppress: 60d",
}

var simCapacities = map[string]string{
	"calls":  "per: day, channels: [call]",
	"stock":  "per: total, groups: [a]",
	"budget": "per: week, offers: [o1, o3, o5], taken_by: accepted",
}

// newSimCatalog draws a catalogue. Without ties no two offers score the same.
func newSimCatalog(random *rand.Rand, ties, limited bool) *simCatalog {
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	c := &simCatalog{policies: make(map[string]string), capacities: make(map[string]int)}
	for i := range 6 + random.IntN(5) {
		o := simOffer{
			id: fmt.Sprintf("o%d", i), group: pick("a", "b", "c"), class: pick("service", "care", "marketing", "marketing"),
			eligible:  pick("", "", "profile.value.balance < 20", "profile.usage.data_mb > 3000", "profile.tag.vip", "!segment.poor"),
			exclusive: pick("", "", "", "pack"), value: float64(1 + random.IntN(6)), propensity: float64(1+random.IntN(3)) / 10,
			boost: []int{0, 0, 50}[random.IntN(3)],
		}
		if i < 3 {
			o.group = string(rune('a' + i)) // policies and capacities name them
		}
		if !ties {
			o.value, o.propensity = 1+100*random.Float64(), 0.01+0.9*random.Float64()
		}
		o.learns = random.IntN(3) == 0
		for _, ch := range []string{"web", "sms", "call"} {
			if random.IntN(3) > 0 || ch == "web" {
				o.channels = append(o.channels, ch)
			}
		}
		c.offers = append(c.offers, o)
	}
	for _, name := range slices.Sorted(maps.Keys(simPolicies)) {
		if random.IntN(2) == 0 {
			c.policies[name] = simPolicies[name]
		}
	}
	if limited {
		for _, name := range slices.Sorted(maps.Keys(simCapacities)) {
			c.capacities[name] = 1 + random.IntN(25)
		}
	}
	c.strategy = pick("", "pvcl")
	c.classOrder, c.consent = random.IntN(3) == 0, random.IntN(2) == 0
	c.minimum = float64(random.IntN(2)) / 4
	c.control = []int{0, 0, 20}[random.IntN(3)]
	return c
}

// change returns a catalogue that differs in some things.
func (c *simCatalog) change(random *rand.Rand) *simCatalog {
	next := *c
	next.offers, next.policies, next.capacities = slices.Clone(c.offers), maps.Clone(c.policies), maps.Clone(c.capacities)
	for range 1 + random.IntN(3) {
		o := &next.offers[random.IntN(len(next.offers))]
		switch random.IntN(7) {
		case 0, 1:
			o.boost += 75
		case 2:
			o.eligible = "profile.usage.data_mb > 6000"
		case 3:
			next.policies["two"] = simPolicies["two"]
			delete(next.policies, "once")
		case 4:
			for name := range next.capacities {
				next.capacities[name] += 5
			}
		case 5:
			if next.strategy = "pvcl"; c.strategy == "pvcl" {
				next.strategy = ""
			}
		case 6:
			next.consent = !next.consent
		}
	}
	return &next
}

func (c *simCatalog) yaml() string {
	var b strings.Builder
	consent := ""
	if c.consent {
		consent = ", consent: tag.vip"
	}
	fmt.Fprintf(&b, `
channels:
  - {id: web, direction: inbound, hold: 1h}
  - {id: sms, direction: outbound, cost: 0.05, hold: 1h%s}
  - {id: call, direction: outbound, cost: 2, hold: 1h}
touchpoints:
  - {id: web.home, channel: web, slots: 2}
  - {id: sms.push, channel: sms}
  - {id: call.out, channel: call}
segments:
  - {id: poor, when: profile.value.balance < 10}
  - {id: heavy, when: profile.usage.data_mb > 5000}
offers:
`, consent)
	var ids []string
	for _, o := range c.offers {
		ids = append(ids, o.id)
		fmt.Fprintf(&b, "  - {id: %s, group: %s, class: %s, value: %v, propensity: {start: %v", o.id, o.group, o.class, o.value, o.propensity)
		if o.learns {
			b.WriteString(", start_evidence: 5")
		}
		fmt.Fprintf(&b, "}, boost: %d", o.boost)
		if o.eligible != "" {
			fmt.Fprintf(&b, ", eligible: %q", o.eligible)
		}
		if o.exclusive != "" {
			fmt.Fprintf(&b, ", exclusive: %s", o.exclusive)
		}
		b.WriteString(", treatments: [")
		for _, ch := range o.channels {
			fmt.Fprintf(&b, "{channel: %s, content: x},", ch)
		}
		b.WriteString("]}\n")
	}
	fmt.Fprintf(&b, "scenarios:\n  - {id: all, touchpoints: [web.home, sms.push, call.out], offers: [%s], minimum_score: %v, class_order: %v", strings.Join(ids, ", "), c.minimum, c.classOrder)
	if c.strategy != "" {
		fmt.Fprintf(&b, ", strategy: {name: %s}", c.strategy)
	}
	b.WriteString("}\n")
	if len(c.policies) > 0 {
		b.WriteString("contact_policies:\n")
		for _, name := range slices.Sorted(maps.Keys(c.policies)) {
			fmt.Fprintf(&b, "  - {id: %s, %s}\n", name, c.policies[name])
		}
	}
	if len(c.capacities) > 0 {
		b.WriteString("capacities:\n")
		for _, name := range slices.Sorted(maps.Keys(c.capacities)) {
			fmt.Fprintf(&b, "  - {id: %s, max: %d, %s}\n", name, c.capacities[name], simCapacities[name])
		}
	}
	if c.control > 0 {
		fmt.Fprintf(&b, "control_group: {percent: %d, salt: s}\n", c.control)
	}
	return b.String()
}

// live makes real decisions for some people and reports what came of some of them, so
// that there is something to remember.
func (h *house) live(t testing.TB, random *rand.Rand, people []*simPerson) {
	t.Helper()
	for _, p := range people {
		if random.IntN(2) > 0 {
			continue
		}
		res, err := h.decisions().DecideMany(context.Background(), connect.NewRequest(simQuestion(p, random.IntN(3) == 0)))
		if err != nil {
			t.Fatal(err)
		}
		var reports []*rapportv1.OutcomeReport
		for _, d := range res.Msg.GetDecisions() {
			for _, x := range d.GetSlate() {
				if random.IntN(2) == 0 {
					reports = append(reports, &rapportv1.OutcomeReport{Token: x.GetToken(), Outcome: []string{"accepted", "rejected", "presented"}[random.IntN(3)]})
				}
			}
		}
		if len(reports) > 0 {
			if _, err := h.decisions().RecordOutcomes(context.Background(), connect.NewRequest(&rapportv1.RecordOutcomesRequest{Reports: reports})); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func simQuestion(p *simPerson, one bool) *rapportv1.DecideManyRequest {
	return &rapportv1.DecideManyRequest{
		Customer: p.id, At: []*rapportv1.DecideAt{{Touchpoint: "web.home"}, {Touchpoint: "sms.push"}, {Touchpoint: "call.out"}}, OneContact: one,
	}
}

// decideAll decides for people in order; dry with the seeds of a simulation.
func (h *house) decideAll(t testing.TB, people []*simPerson, one bool, dry *rapportv1.SimulateRequest) (out []*rapportv1.DecideManyResponse) {
	t.Helper()
	for _, p := range people {
		q := simQuestion(p, one)
		if dry != nil {
			_, own := server.SimulationNumbers(dry.GetSeed(), p.id)
			q.DryRun = &rapportv1.DryRun{Time: dry.GetTime(), Seed: own}
		}
		res, err := h.decisions().DecideMany(context.Background(), connect.NewRequest(q))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, res.Msg)
	}
	return out
}

// inOrder puts people into the order of a simulation.
func simOrder(seed uint64, people []*simPerson) []*simPerson {
	people = slices.Clone(people)
	for _, p := range people {
		p.order, _ = server.SimulationNumbers(seed, p.id)
	}
	slices.SortFunc(people, func(a, b *simPerson) int { return cmp.Compare(a.order, b.order) })
	return people
}

// simulate simulates.
func (h *house) simulate(ctx context.Context, m *rapportv1.SimulateRequest) (*rapportv1.Simulation, []*rapportv1.SimulateResponse, error) {
	stream, err := h.decisions().Simulate(ctx, connect.NewRequest(m))
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = stream.Close() }()
	var all []*rapportv1.SimulateResponse
	for stream.Receive() {
		all = append(all, stream.Msg())
		if x := stream.Msg().GetSimulation(); x != nil {
			return x, all, nil
		}
	}
	return nil, all, stream.Err()
}

// simFiles are the files of a catalogue.
func simFiles(yaml string) []*rapportv1.CatalogFile {
	return []*rapportv1.CatalogFile{{Name: "after.yaml", Content: yaml}}
}

// simTally is the naive twin of a tally.
type simTally struct {
	customers, contacts map[string]bool
	offers              int
	value, score        float64
}

func (t *simTally) add(customer string, p *rapportv1.Placement) {
	if t.customers == nil {
		t.customers, t.contacts = make(map[string]bool), make(map[string]bool)
	}
	t.customers[customer] = true
	t.contacts[customer+" "+p.GetChannel()] = true
	t.offers++
	t.value += p.GetParts().GetPropensity() * p.GetParts().GetValue()
	t.score += p.GetScore()
}

func (t *simTally) String() string {
	return fmt.Sprintf("%d customers, %d contacts, %d offers, value %.9g, score %.9g", len(t.customers), len(t.contacts), t.offers, t.value, t.score)
}

func tallyText(t *rapportv1.SimulationTally) string {
	return fmt.Sprintf("%d customers, %d contacts, %d offers, value %.9g, score %.9g", t.GetCustomers(), t.GetContacts(), t.GetOffers(), t.GetValue(), t.GetScore())
}

// simLines writes a result, line by line.
func simLines(x *rapportv1.Simulation) (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	add("before: %s", tallyText(x.GetBefore()))
	add("after: %s", tallyText(x.GetAfter()))
	add("%d customers, %d decisions, other winners in %d, slates in %d, for %d", x.GetCustomers(), x.GetDecisions(), x.GetWinnersChanged(), x.GetSlatesChanged(), x.GetCustomersChanged())
	for _, y := range x.GetTransitions() {
		add("%s became %s: %d", y.GetFrom(), y.GetTo(), y.GetDecisions())
	}
	for _, t := range x.GetTables() {
		for _, r := range t.GetRows() {
			add("by %v: %q of %d: %s; %s", t.GetBy(), r.GetKey(), r.GetOf(), tallyText(r.GetBefore()), tallyText(r.GetAfter()))
		}
	}
	for _, s := range x.GetSuppressions() {
		add("%s by %q in %s: %d of %d; %d of %d", s.GetReason(), s.GetBy(), s.GetChannel(), s.GetOffersBefore(), s.GetCustomersBefore(), s.GetOffersAfter(), s.GetCustomersAfter())
	}
	for _, m := range x.GetMeasures() {
		add("%s: %.9g, %.9g, %.9g, %d", m.GetName(), m.GetBefore(), m.GetAfter(), m.GetDifference(), m.GetDiffer())
	}
	slices.Sort(lines)
	return lines
}

// simBy is how the tests divide.
var simBy = [][]string{{"offer", "channel"}, {"channel"}, {"segment"}, {"segment", "class", "group"}, {"touchpoint"}}

func simBreakdowns() (out []*rapportv1.SimulationBreakdown) {
	for _, by := range simBy {
		out = append(out, &rapportv1.SimulationBreakdown{Dimensions: by})
	}
	return out
}

// simFold is the naive twin of a simulation: it counts answers of the API.
func simFold(people []*simPerson, answers [2][]*rapportv1.DecideManyResponse) (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	var total [2]simTally
	rows := make(map[string]*[2]simTally)
	of := make(map[string]int)
	row := func(by []string, key []string) *[2]simTally {
		k := fmt.Sprintf("by %v: %q", by, key)
		if rows[k] == nil {
			rows[k] = new([2]simTally)
		}
		for i, name := range by {
			if name == "segment" {
				of[k] = of["segment "+key[i]]
			}
		}
		return rows[k]
	}
	type held struct {
		offers    [2]int
		customers [2]map[string]bool
	}
	withheld := make(map[string]*held)
	became := make(map[string]int)
	winners, slates, moved, decisions := 0, 0, make(map[string]bool), 0
	for _, p := range people {
		for _, s := range p.segments() {
			of["segment "+s]++
		}
	}
	for i, p := range people {
		for _, s := range p.segments() {
			row([]string{"segment"}, []string{s})
		}
		for k := range answers[0][i].GetDecisions() {
			decisions++
			var slate [2][]string
			for side := range answers {
				d := answers[side][i].GetDecisions()[k]
				channel, _, _ := strings.Cut(d.GetTouchpoint(), ".")
				for _, x := range d.GetSlate() {
					slate[side] = append(slate[side], x.GetOffer())
					total[side].add(p.id, x)
					for _, by := range simBy {
						segments := []string{""}
						if slices.Contains(by, "segment") {
							segments = p.segments()
						}
						for _, s := range segments {
							var key []string
							for _, name := range by {
								key = append(key, map[string]string{
									"segment": s, "offer": x.GetOffer(), "channel": x.GetChannel(), "touchpoint": d.GetTouchpoint(), "class": x.GetClass(), "group": x.GetGroup(),
								}[name])
							}
							row(by, key)[side].add(p.id, x)
						}
					}
				}
				for _, w := range d.GetWithheld() {
					by := make(map[string]string)
					for _, detail := range w.GetDetails() {
						by[detail.GetOffer()] = detail.GetBy()
					}
					for _, offer := range w.GetOffers() {
						k := fmt.Sprintf("%s by %q in %s", strings.TrimPrefix(w.GetReason().String(), "REASON_"), by[offer], channel)
						if withheld[k] == nil {
							withheld[k] = &held{customers: [2]map[string]bool{{}, {}}}
						}
						withheld[k].offers[side]++
						withheld[k].customers[side][p.id] = true
					}
				}
			}
			if !slices.Equal(slate[0], slate[1]) {
				slates++
			}
			first := func(s []string) string { return strings.Join(s[:min(1, len(s))], "") }
			if from, to := first(slate[0]), first(slate[1]); from != to {
				winners++
				moved[p.id] = true
				became[from+" became "+to]++
			}
		}
	}
	add("before: %s", &total[0])
	add("after: %s", &total[1])
	add("%d customers, %d decisions, other winners in %d, slates in %d, for %d", len(people), decisions, winners, slates, len(moved))
	for k, n := range became {
		add("%s: %d", k, n)
	}
	for k, r := range rows {
		n, ok := of[k]
		if !ok {
			n = len(people)
		}
		add("%s of %d: %s; %s", k, n, &r[0], &r[1])
	}
	for k, h := range withheld {
		add("%s: %d of %d; %d of %d", k, h.offers[0], len(h.customers[0]), h.offers[1], len(h.customers[1]))
	}
	lines = append(lines, simMeasures(people, answers)...)
	slices.Sort(lines)
	return lines
}

func simMeasures(people []*simPerson, answers [2][]*rapportv1.DecideManyResponse) (lines []string) {
	names := []string{"reached", "contacts", "offers", "value"}
	var sum [4][2]float64
	var differ [4]int
	for i, p := range people {
		var x [2][4]float64
		for side := range answers {
			var t simTally
			for _, d := range answers[side][i].GetDecisions() {
				for _, y := range d.GetSlate() {
					t.add(p.id, y)
				}
			}
			x[side] = [4]float64{float64(len(t.customers)), float64(len(t.contacts)), float64(t.offers), t.value}
		}
		for k := range names {
			sum[k][0] += x[0][k]
			sum[k][1] += x[1][k]
			if x[0][k] != x[1][k] {
				differ[k]++
			}
		}
	}
	n := float64(len(people))
	for k, name := range names {
		lines = append(lines, fmt.Sprintf("%s: %.9g, %.9g, %.9g, %d", name, sum[k][0]/n, sum[k][1]/n, (sum[k][1]-sum[k][0])/n, differ[k]))
	}
	return lines
}

// simMargins are the margins of a sample of so many, from the list of what each customer
// differs by.
func simMargins(people []*simPerson, answers [2][]*rapportv1.DecideManyResponse, population int) (lines []string) {
	differences := map[string][]float64{"offers": make([]float64, len(people)), "value": make([]float64, len(people))}
	for side, sign := range []float64{-1, 1} {
		for i := range people {
			for _, d := range answers[side][i].GetDecisions() {
				for _, x := range d.GetSlate() {
					differences["offers"][i] += sign
					differences["value"][i] += sign * x.GetParts().GetPropensity() * x.GetParts().GetValue()
					key := fmt.Sprint([]string{x.GetOffer(), x.GetChannel()})
					if differences[key] == nil {
						differences[key] = make([]float64, len(people))
					}
					differences[key][i] += sign
				}
			}
		}
	}
	n, whole := float64(len(people)), float64(population)
	for key, list := range differences {
		mean, variance := 0.0, 0.0
		for _, d := range list {
			mean += d / n
		}
		for _, d := range list {
			variance += (d - mean) * (d - mean) / (n - 1)
		}
		margin := 1.959964 * math.Sqrt(variance*n*(whole-n)/(whole-1))
		if !strings.HasPrefix(key, "[") {
			margin /= n
		}
		lines = append(lines, fmt.Sprintf("%s ± %.6f", key, margin))
	}
	slices.Sort(lines)
	return lines
}

// marginLines are those of a result.
func marginLines(x *rapportv1.Simulation) (lines []string) {
	for _, m := range x.GetMeasures() {
		if m.GetName() == "offers" || m.GetName() == "value" {
			lines = append(lines, fmt.Sprintf("%s ± %.6f", m.GetName(), m.GetMargin()))
		}
	}
	for _, r := range x.GetTables()[0].GetRows() {
		lines = append(lines, fmt.Sprintf("%s ± %.6f", fmt.Sprint(r.GetKey()), r.GetMargin()))
	}
	slices.Sort(lines)
	return lines
}

// simTime is the time of the tests: a Tuesday, at noon.
var simTime = time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)

func simStamp() *timestamppb.Timestamp { return timestamppb.New(simTime) }

// sameLines compares.
func sameLines(t testing.TB, what string, got, want []string) {
	t.Helper()
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("%s: the simulation says %s", what, line)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("%s: it should say %s", what, line)
		}
	}
}
