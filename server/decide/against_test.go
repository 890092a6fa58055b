package decide_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rapport/profilestore"
	"rapport/profilestore/memory"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
	"rapport/server/decide"
)

// eachReason is 1,000 in the heavy form, for which 3,000 checks are enough:
// go test ./server/decide -run 'TestAgainstNaive|TestExplanations' -rapid.checks=3000 -each-reason=1000
var eachReason = flag.Int("each-reason", 1, "how often TestAgainstNaive wants each reason to have occurred")

// rig is what random decisions are made with: a profile store, for its histories.
type rig struct {
	schema *profilestore.Schema
	store  *profilestore.Store
	now    atomic.Int64
	people atomic.Int64
}

func newRig(t *testing.T) *rig {
	t.Helper()
	g := &rig{}
	var err error
	if g.schema, err = profilestore.NewSchema([]profilestore.Source{{ID: "bi"}}, modelFields); err != nil {
		t.Fatal(err)
	}
	mapper, err := rules.NewEventMapper(g.schema)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	engine, err := new(memory.Memory).Open(dir + "/deltas")
	if err != nil {
		t.Fatal(err)
	}
	g.store, err = profilestore.OpenStore(t.Context(), profilestore.Options{
		Dir: dir, Schema: g.schema, Mapper: mapper, Engine: engine, Clock: g.now.Load, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.store.Close(); err != nil {
			t.Error(err)
		}
	})
	g.now.Store(modelStart + 30*dayOfMicros)
	return g
}

func rfc3339(micros int64) string { return time.UnixMicro(micros).UTC().Format(time.RFC3339) }

// compile compiles a drawn catalogue and returns a decider for it.
func (g *rig) compile(t *rapid.T, m *model) *decide.Decider {
	t.Helper()
	text := m.yaml()
	compiled, _, problems := catalog.Compile([]catalog.File{{Name: "random.yaml", Content: []byte(text)}}, g.schema, nil)
	if len(problems) > 0 {
		t.Fatalf("%v\n%s", problems, text)
	}
	rankers := make([]decide.Ranker, len(m.scenarios))
	for i := range m.scenarios {
		if m.scenarios[i].vetoes {
			rankers[i] = vetoing{}
		}
	}
	d, err := decide.New(compiled, rankers)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// drawItems draws what a contact was about.
func (m *model) drawItems(t *rapid.T) (items []profilestore.Item) {
	for range rapid.IntRange(1, 3).Draw(t, "items") {
		o := rapid.SampledFrom(m.offers).Draw(t, "item")
		x := profilestore.Item{Offer: o.id, Group: o.group, Class: o.class.String()}
		if !slices.Contains(items, x) {
			items = append(items, x)
		}
	}
	return items
}

// meet draws what a customer met before, and puts it into the store.
func (g *rig) meet(t *rapid.T, m *model) (*profilestore.View, []profilestore.Interaction) {
	t.Helper()
	customer := fmt.Sprintf("customer:%d", g.people.Add(1))
	var events []*profilestore.Event
	var history []profilestore.Interaction
	for i := range rapid.IntRange(0, map[bool]int{false: 20, true: 2}[m.calm]).Draw(t, "interactions") {
		tp := rapid.SampledFrom(m.touchpoints).Draw(t, "touchpoint")
		x := profilestore.Interaction{
			Time:    modelStart - int64(rapid.IntRange(0, 12*24*2).Draw(t, "half hours ago"))*hourMicros/2,
			Channel: m.channels[tp.channel].id, Touchpoint: tp.id, Items: m.drawItems(t),
		}
		e := &profilestore.Event{ID: fmt.Sprint(customer, i), Type: profilestore.ContactEvent, Identity: customer, Time: x.Time}
		e.Attributes = map[string]any{"channel": x.Channel, "touchpoint": x.Touchpoint}
		var items []any
		for _, item := range x.Items {
			items = append(items, map[string]any{"offer": item.Offer, "group": item.Group, "class": item.Class})
		}
		e.Attributes["items"] = items
		if rapid.Bool().Draw(t, "outcome?") {
			x.Outcome = rapid.SampledFrom([]string{"rejected", "accepted", "clicked"}).Draw(t, "outcome")
			e.Type, e.Attributes["outcome"] = profilestore.OutcomeEvent, x.Outcome
		}
		events, history = append(events, e), append(history, x)
	}
	if len(events) > 0 {
		results, err := g.store.Ingest(context.Background(), events)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			if r.Outcome != profilestore.Accepted {
				t.Fatal(r.Err)
			}
		}
	}
	view, err := g.store.View(context.Background(), customer)
	if err != nil {
		t.Fatal(err)
	}
	return view, history
}

// drawProfile draws what is known of a customer.
func drawProfile(t *rapid.T) profile {
	p := unknowns()
	known := func(slot int, values ...profilestore.Value) {
		if !chance(t, "unknown", 4) {
			p[slot] = rapid.SampledFrom(values).Draw(t, modelFields[slot].Name)
		}
	}
	yes, no := profilestore.Flag(true), profilestore.Flag(false)
	known(slotARPU, profilestore.Number(0), profilestore.Number(3), profilestore.Number(60), profilestore.Number(80))
	known(slotVIP, yes, no)
	known(slotPropensity, profilestore.Number(-1), profilestore.Number(0.3), profilestore.Number(7))
	known(slotConsent, yes, yes, no)
	known(slotQuiet, no, no, no, yes)
	known(slotChannel, profilestore.Text("ch0"), profilestore.Text("ch1"), profilestore.Text("none"))
	known(slotPersona, profilestore.Text("a"), profilestore.Text("b"), profilestore.Text("c"))
	known(slotZone, profilestore.Text("Asia/Shanghai"), profilestore.Text("America/New_York"), profilestore.Text("Nowhere"), profilestore.Text(""))
	return p
}

// drawRequest draws what is known of the moment.
func (g *rig) drawRequest(t *rapid.T, m *model, view *profilestore.View) *decide.Request {
	now := modelStart + int64(rapid.IntRange(-4*60*60, 48*60*60).Draw(t, "seconds"))*1_000_000
	if rapid.Bool().Draw(t, "on the hour") { // where windows end
		now -= (now - modelStart) % hourMicros
	}
	r := &decide.Request{
		Now: now, Seed: rapid.Uint64().Draw(t, "seed"), Customer: rapid.Uint64().Draw(t, "customer"),
		Profile: drawProfile(t), History: view.At(now).History(),
	}
	if chance(t, "unreadable", 12) {
		r.Profile = nil
	}
	for range rapid.IntRange(0, 2).Draw(t, "pending") {
		tp := rapid.SampledFrom(m.touchpoints).Draw(t, "touchpoint")
		r.Pending = append(r.Pending, decide.Contact{
			Time: now - int64(rapid.IntRange(0, 90).Draw(t, "minutes ago"))*minuteMicros, Channel: m.channels[tp.channel].id, Touchpoint: tp.id, Items: m.drawItems(t),
		})
	}
	for range rapid.IntRange(0, len(m.channels)).Draw(t, "loads") {
		r.Loads = append(r.Loads, rapid.SampledFrom([]float64{0, 0.5, 1}).Draw(t, "load"))
	}
	return r
}

// drawEvidence draws what came of offers that learn, and a reading of it; sometimes none.
func drawEvidence(t *rapid.T, m *model, c *catalog.Compiled) (map[[2]int][2]uint64, *decide.Evidence) {
	if chance(t, "no reading", 8) {
		return nil, nil
	}
	learned := make(map[[2]int][2]uint64)
	var counts []decide.EvidenceCount
	for i := range m.offers {
		for ch := range m.channels {
			if m.offers[i].startEvidence == 0 || rapid.Bool().Draw(t, "nothing reported") {
				continue
			}
			// More successes than presentations: those may have been before.
			n := [2]uint64{uint64(rapid.IntRange(0, 20).Draw(t, "presented")), uint64(rapid.IntRange(0, 10).Draw(t, "successes"))}
			learned[[2]int{i, ch}] = n
			counts = append(counts, decide.EvidenceCount{Offer: i, Channel: ch, Presented: n[0], Successes: n[1]})
		}
	}
	e, err := decide.NewEvidence(c, 1, rapid.Permutation(counts).Draw(t, "order"))
	if err != nil {
		t.Fatal(err)
	}
	return learned, e
}

// drawAts draws which touchpoints are asked.
func drawAts(t *rapid.T, m *model) (ats []decide.At, many, one bool) {
	many = m.calm || rapid.Bool().Draw(t, "many")
	n := 1
	if many {
		n, one = rapid.IntRange(1, 4).Draw(t, "ats"), rapid.Bool().Draw(t, "one")
	}
	for range n {
		ats = append(ats, decide.At{Touchpoint: rapid.IntRange(0, len(m.touchpoints)-1).Draw(t, "at"), Slots: rapid.IntRange(0, 4).Draw(t, "asked slots")})
	}
	return ats, many, one
}

// put asks the pipeline a question.
func put(d *decide.Decider, r decide.Request, ats []decide.At, many, one bool, left []int, answers []decide.Answer) []int {
	places := newPlaces(d.Catalog(), left)
	r.Places = places
	if many {
		d.DecideMany(context.Background(), &r, ats, one, answers)
		return places.left
	}
	r.At = ats[0]
	d.Decide(context.Background(), &r, &answers[0])
	return places.left
}

// said prints an answer, to be compared.
func said(c *catalog.Compiled, a *decide.Answer) string {
	var b strings.Builder
	for _, p := range a.Slate {
		fmt.Fprintf(&b, "%s in %s %v %t %q %q\n", c.Offers[p.Offer].ID, c.Channels[p.Channel].ID, p.Score, p.Fallback, p.Content, p.Script)
	}
	fmt.Fprintf(&b, "%v %v %v %v\n", a.Reasons, a.Funnel, a.Details, a.Degradations)
	return b.String()
}

// TestAgainstNaive compares the pipeline with its naive twin, over random catalogues of
// all that catalogues can have, customers, histories and questions: every candidate is on
// a slate or withheld for the same reason, by the same and until the same moment.
func TestAgainstNaive(t *testing.T) {
	g := newRig(t)
	reasons := make(map[decide.Reason]int)
	seen := make(map[string]int)
	// With one memory for all answers, what one leaves behind would be in the next.
	answers := make([]decide.Answer, 4)
	rapid.Check(t, func(t *rapid.T) {
		m := drawModel(t)
		d := g.compile(t, m)
		view, history := g.meet(t, m)
		for range 8 {
			r := g.drawRequest(t, m, view)
			ats, many, one := drawAts(t, m)
			left := make([]int, len(m.capacities))
			for i := range left {
				left[i] = rapid.IntRange(0, 2).Draw(t, "left")
			}
			learned, evidence := drawEvidence(t, m, d.Catalog())
			r.Evidence = evidence
			n := &naive{m: m, r: r, history: history, learned: learned, left: slices.Clone(left), ats: ats, many: many, one: one}
			n.answer()
			places := put(d, *r, ats, many, one, left, answers)
			for i := range ats {
				if err := differs(d.Catalog(), n, n.sides[i], &answers[i]); err != "" {
					t.Fatalf("touchpoint %d of %v, one %t: %s\n%s", i, ats, one, err, m.yaml())
				}
				for _, c := range n.sides[i].candidates {
					reasons[c.reason]++
				}
				note(seen, n, i, &answers[i])
			}
			if !slices.Equal(places, n.left) {
				t.Fatalf("places left %v, want %v\n%s", places, n.left, m.yaml())
			}
			// The same request gives the same answer, in other memory too.
			fresh := make([]decide.Answer, len(ats))
			put(d, *r, ats, many, one, left, fresh)
			for i := range fresh {
				if a, b := said(d.Catalog(), &answers[i]), said(d.Catalog(), &fresh[i]); a != b {
					t.Fatalf("the same request gave another answer\n%s\n%s", a, b)
				}
			}
		}
	})
	t.Logf("candidates by reason: %v", reasons)
	t.Logf("questions: %v", seen)
	for r := decide.ReasonOffered; r <= decide.ReasonOtherTouchpoint; r++ {
		if reasons[r] < *eachReason {
			t.Errorf("%s occurred %d times only, of %d", r, reasons[r], *eachReason)
		}
	}
	must := []string{"fallback", "several touchpoints", "one contact", "a slate with a tie", "an offer at its second best place", "a propensity that was learned", "more successes than presentations"}
	if *eachReason > 1 { // these are rare
		must = append(must, "waits for ever", "an outcome suppresses")
	}
	for _, what := range must {
		if seen[what] == 0 {
			t.Errorf("never: %s", what)
		}
	}
}

// note counts what occurred.
func note(seen map[string]int, n *naive, i int, a *decide.Answer) {
	side := n.sides[i]
	if side.fallback {
		seen["fallback"]++
	}
	if i == 1 && n.one {
		seen["one contact"]++
	} else if i == 1 {
		seen["several touchpoints"]++
	}
	for k := 1; k < len(a.Slate); k++ {
		if a.Slate[k].Score == a.Slate[k-1].Score {
			seen["a slate with a tie"]++
			break
		}
	}
	for _, p := range a.Slate {
		if x := n.learned[[2]int{p.Offer, p.Channel}]; n.m.offers[p.Offer].startEvidence > 0 && x[1] > x[0] {
			seen["more successes than presentations"]++
		} else if n.m.offers[p.Offer].startEvidence > 0 && x[0] > 0 {
			seen["a propensity that was learned"]++
		}
	}
	for _, c := range side.candidates {
		if c.reason == decide.ReasonQuietDeferred && c.until == 0 {
			seen["waits for ever"]++
		}
		if c.reason == decide.ReasonCapped && slices.ContainsFunc(n.m.policies, func(p modelPolicy) bool { return p.id == c.by[0] && p.suppress > 0 && p.count != "contact" }) {
			seen["an outcome suppresses"]++
		}
		if c.reason == decide.ReasonOffered {
			for _, other := range n.sides {
				if slices.ContainsFunc(other.candidates, func(x *naiveCandidate) bool { return x.offer == c.offer && x != c && x.tried }) {
					seen["an offer at its second best place"]++
				}
			}
		}
	}
}

// differs says how an answer differs from the twin's.
func differs(c *catalog.Compiled, n *naive, side *naiveSide, a *decide.Answer) string {
	if len(a.Reasons) != len(side.candidates) {
		return fmt.Sprintf("%d candidates, want %d", len(a.Reasons), len(side.candidates))
	}
	details := make(map[int]decide.Detail)
	for _, x := range a.Details {
		details[x.Place] = x
	}
	total := 0
	for i, want := range side.candidates {
		got, detail := a.Reasons[i], details[i]
		if got != want.reason || detail.Until != want.until || detail.By == "" && want.by != nil || detail.By != "" && !slices.Contains(want.by, detail.By) {
			return fmt.Sprintf("%s is %s by %q until %d, want %s by %q until %d", n.m.offers[want.offer].id, got, detail.By, detail.Until, want.reason, want.by, want.until)
		}
	}
	for r, count := range a.Funnel {
		total += count
		if decide.Reason(r) == decide.ReasonNone && count > 0 {
			return "a candidate has no reason"
		}
	}
	if total != len(side.candidates) {
		return fmt.Sprintf("the funnel counts %d of %d", total, len(side.candidates))
	}
	if len(a.Slate) != len(side.slate) {
		return fmt.Sprintf("%d offers on the slate, want %d", len(a.Slate), len(side.slate))
	}
	for k, want := range side.slate {
		got := a.Slate[k]
		if got.Offer != want.offer || got.Channel != side.tp.channel || got.Fallback != side.fallback || !side.fallback && got.Score != want.score {
			return fmt.Sprintf("place %d of the slate: %s with %v, want %s with %v", k, c.Offers[got.Offer].ID, got.Score, n.m.offers[want.offer].id, want.score)
		}
		if p := 1 / float64(max(want.draws, 1)); got.Probability != p {
			return fmt.Sprintf("place %d of the slate: %s with probability %v, want %v", k, c.Offers[got.Offer].ID, got.Probability, p)
		}
	}
	return ""
}
