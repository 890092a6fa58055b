package whynot_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"rapport/profilestore"
	"rapport/profilestore/memory"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/decisionlog"
	"rapport/server/decisionlog/whynot"
)

// decisionsAsked is 20,000 in the heavy form:
// go test ./server/decisionlog/whynot -run TestTrue -decisions=20000 -timeout 30m
var (
	decisionsAsked = flag.Int("decisions", 300, "how many random decisions TestTrue asks about")
	firstSeed      = flag.Uint64("seed", 1, "the seed of the first of them")
)

// rig is what random decisions are made with: a profile store, for its histories.
type rig struct {
	schema *profilestore.Schema
	store  *profilestore.Store
	people int

	compiled map[string]*catalog.Compiled
}

func newRig(t *testing.T) *rig {
	t.Helper()
	g := &rig{compiled: make(map[string]*catalog.Compiled)}
	var err error
	if g.schema, err = profilestore.NewSchema([]profilestore.Source{{ID: "bi"}}, fields); err != nil {
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
		Dir: dir, Schema: g.schema, Mapper: mapper, Engine: engine, Clock: func() int64 { return start + 30*day }, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// situation is everything that a decision is made from, and which capacities are free.
type situation struct {
	m       *model
	values  []profilestore.Value
	context []profilestore.Value
	now     int64
	seed    uint64
	hash    uint64
	view    *profilestore.View
	pending []decide.Contact
	loads   []float64
	ats     []decide.At
	one     bool

	begun    int64 // the time at which left was read
	left     []int
	freed    map[string]bool
	recorded map[decisionlog.PlaceKey][]bool // nil: left counts
	assumed  []string
}

func (g *rig) draw(t *testing.T, r *rand.Rand, m *model) *situation {
	t.Helper()
	s := &situation{
		m: m, values: drawValues(r), now: start + int64(r.IntN(96)-24)*hour/2, seed: r.Uint64(), hash: r.Uint64(),
		context: []profilestore.Value{profilestore.Text(pick(r, "none", "adviser")), pick(r, profilestore.Unknown(), profilestore.Number(10), profilestore.Number(30))},
		freed:   map[string]bool{},
	}
	s.begun = s.now
	for range m.channels {
		s.loads = append(s.loads, pick(r, 0.0, 0, 0.5, 0.9))
	}
	for range m.capacities {
		s.left = append(s.left, pick(r, 0, 0, 1, 2))
	}
	for _, i := range r.Perm(len(m.touchpoints))[:1+r.IntN(len(m.touchpoints))] {
		if len(s.ats) > 0 && chance(r, 2) {
			break
		}
		s.ats = append(s.ats, decide.At{Touchpoint: i, Slots: pick(r, 0, 0, 1)})
	}
	s.one = len(s.ats) > 1 && chance(r, 2)
	items := func() []profilestore.Item {
		o := pick(r, m.offers...)
		return []profilestore.Item{{Offer: o.id, Group: o.group, Class: o.class}}
	}
	for range r.IntN(2) {
		tp := pick(r, m.touchpoints...)
		s.pending = append(s.pending, decide.Contact{Time: s.now - int64(r.IntN(90))*minute, Channel: m.channels[tp.channel].id, Touchpoint: tp.id, Items: items()})
	}
	g.people++
	customer := fmt.Sprintf("customer:%d", g.people)
	var events []*profilestore.Event
	for i := range r.IntN(5) {
		tp, x := pick(r, m.touchpoints...), items()[0]
		e := &profilestore.Event{ID: fmt.Sprint(customer, i), Type: profilestore.ContactEvent, Identity: customer, Time: s.now - int64(r.IntN(9*24))*hour}
		e.Attributes = map[string]any{
			"channel": m.channels[tp.channel].id, "touchpoint": tp.id, "items": []any{map[string]any{"offer": x.Offer, "group": x.Group, "class": x.Class}},
		}
		if chance(r, 2) {
			e.Type, e.Attributes["outcome"] = profilestore.OutcomeEvent, "rejected"
		}
		events = append(events, e)
	}
	if len(events) > 0 {
		if _, err := g.store.Ingest(t.Context(), events); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if s.view, err = g.store.View(t.Context(), customer); err != nil {
		t.Fatal(err)
	}
	return s
}

func drawValues(r *rand.Rand) []profilestore.Value {
	v := make([]profilestore.Value, len(fields))
	set := func(name string, list ...profilestore.Value) {
		if !chance(r, 6) {
			v[slotOf(name)] = pick(r, list...)
		}
	}
	n, text, flag := profilestore.Number, profilestore.Text, profilestore.Flag
	set("usage.mb", n(812), n(5000), n(6000), n(12000))
	set("value.balance", n(3.5), n(29.84), n(50), n(150))
	set("value.age", n(0), n(17), n(29), n(40), n(70))
	set("tag.vip", flag(true), flag(false))
	set("tag.heavy", flag(true), flag(false))
	set("general.brand", text("alpha"), text("beta"), text("gamma"), text("delta"))
	set("marketing.owned", profilestore.Set(), profilestore.Set("data"), profilestore.Set("data", "roaming"), profilestore.Set("voice"))
	set("value.contract_end", profilestore.Time(start+10*day), profilestore.Time(start+45*day), profilestore.Time(start+200*day))
	set("marketing.propensity", n(0), n(0.1), n(0.4), n(2))
	set("preference.consent", flag(true), flag(true), flag(false))
	set("preference.quiet", flag(false), flag(false), flag(true))
	set("preference.channel", text("ch0"), text("ch1"))
	set("preference.persona", text("a"), text("b"))
	set("marketing.mood", flag(true), flag(false))
	return v
}

// moody is a strategy that is in a mood: it vetoes marketing of customers in a bad one.
type moody struct{ decide.Arbitration }

func (m moody) Rank(ctx context.Context, r *decide.Ranking) error {
	if err := m.Arbitration.Rank(ctx, r); err != nil {
		return err
	}
	mood := r.Profile.Get(slotOf("marketing.mood"))
	for i := range r.Candidates {
		r.Veto[i] = i%2 == 0 && mood.Known() && !mood.Flag()
		if mood.Known() && i%2 == 1 {
			r.Score[i] *= 2
		}
	}
	return nil
}

func (moody) Info() decide.RankerInfo { return decide.RankerInfo{Name: "moody", Version: "1"} }

type profile []profilestore.Value

func (p profile) Get(slot int) profilestore.Value { return p[slot] }

// places are capacities as a situation has them. They note what they were asked.
type places struct {
	s     *situation
	c     *catalog.Compiled
	now   int64
	taken map[int]int
	asked map[decisionlog.PlaceKey]int
	notes []decisionlog.PlaceAsked
}

func (s *situation) places(c *catalog.Compiled, now int64) *places {
	return &places{s: s, c: c, now: now, taken: map[int]int{}, asked: map[decisionlog.PlaceKey]int{}}
}

func (p *places) Take(capacity, offer, channel int) bool {
	x := &p.c.Capacities[capacity]
	key := decisionlog.PlaceKey{Capacity: x.ID, Offer: p.c.Offers[offer].ID, Channel: p.c.Channels[channel].ID}
	same := x.Period.Begin(p.now, p.c.Clock.Zone) == x.Period.Begin(p.s.begun, p.c.Clock.Zone)
	ok := true
	switch {
	case p.s.freed[x.ID]:
		return true
	case p.s.recorded != nil:
		i := p.asked[key]
		p.asked[key]++
		if kept := p.s.recorded[key]; same && i < len(kept) {
			ok = kept[i]
		} else if !slices.Contains(p.s.assumed, "capacity "+x.ID+" has a place") {
			panic("it asked for " + x.ID + ", and does not say that this is assumed")
		}
	default:
		ok = !same || p.taken[capacity] < p.s.left[capacity]
	}
	if ok {
		p.taken[capacity]++
	}
	p.notes = append(p.notes, decisionlog.PlaceAsked{Capacity: x.ID, Offer: key.Offer, Channel: key.Channel, Taken: ok})
	return ok
}

func (p *places) Return(capacity, _, _ int) { p.taken[capacity]-- }

func (g *rig) compile(t *testing.T, m *model) *catalog.Compiled {
	t.Helper()
	text := m.yaml()
	if c, ok := g.compiled[text]; ok { // most changes are none of the catalogue
		return c
	}
	c, _, problems := catalog.Compile([]catalog.File{{Name: "random.yaml", Content: []byte(text)}}, g.schema, nil)
	if len(problems) > 0 {
		t.Fatalf("%v\n%s", problems, text)
	}
	if len(g.compiled) > 100 {
		clear(g.compiled)
	}
	g.compiled[text] = c
	return c
}

func (s *situation) ranker() decide.Ranker {
	if s.m.strategy {
		return moody{}
	}
	return nil
}

// decide makes the decision of a situation, from its catalogue's files on.
func (g *rig) decide(t *testing.T, s *situation) (*catalog.Compiled, []decide.Answer, *places) {
	t.Helper()
	c := g.compile(t, s.m)
	d, err := decide.New(c, []decide.Ranker{s.ranker()})
	if err != nil {
		t.Fatal(err)
	}
	r := decide.Request{
		Now: s.now, Seed: s.seed, Customer: s.hash, Profile: profile(s.values), History: s.view.At(s.now).History(),
		Pending: s.pending, Loads: s.loads, Context: s.context,
	}
	p := s.places(c, s.now)
	r.Places = p
	answers := make([]decide.Answer, len(s.ats))
	if len(s.ats) > 1 || s.one {
		d.DecideMany(t.Context(), &r, s.ats, s.one, answers)
	} else {
		r.At = s.ats[0]
		d.Decide(t.Context(), &r, &answers[0])
	}
	return c, answers, p
}

// with returns the situation with changes, made by their names as whoever reads them
// would make them.
func (s *situation) with(t *testing.T, at int, set []whynot.Change, assumed []string) *situation {
	t.Helper()
	out := *s
	m := *s.m
	m.offers, m.touchpoints = slices.Clone(m.offers), slices.Clone(m.touchpoints)
	out.m = &m
	out.values, out.context, out.loads, out.ats = slices.Clone(s.values), slices.Clone(s.context), slices.Clone(s.loads), slices.Clone(s.ats)
	out.freed = maps.Clone(s.freed)
	out.assumed = assumed
	offer := func(id string) *offer {
		return &m.offers[slices.IndexFunc(m.offers, func(o anOffer) bool { return o.id == id })]
	}
	for _, c := range set {
		switch c.Kind {
		case whynot.KindWait:
			out.now = c.To.Micros()
		case whynot.KindContext:
			out.context[slices.Index([]string{"role", "basket"}, c.Subject)] = c.To
		case whynot.KindAlone:
			out.ats, out.one = out.ats[at:at+1], false
		case whynot.KindSlots:
			i := s.ats[at].Touchpoint
			m.touchpoints[i].slots = max(m.touchpoints[i].slots, int(c.To.Number()))
			for k := range out.ats {
				if out.ats[k].Touchpoint == i && out.ats[k].Slots > 0 {
					out.ats[k].Slots = int(c.To.Number())
				}
			}
		case whynot.KindLoad:
			out.loads[slices.IndexFunc(m.channels, func(x channel) bool { return x.id == c.Subject })] = c.To.Number()
		case whynot.KindCapacity:
			out.freed[c.Subject] = true
		case whynot.KindField, whynot.KindConsent, whynot.KindDoNotDisturb:
			out.values[slotOf(c.Subject)] = c.To
		case whynot.KindBoost:
			offer(c.Subject).boost = c.To.Number()
		case whynot.KindValue:
			offer(c.Subject).value = c.To.Number()
		case whynot.KindValidity:
			offer(c.Subject).until = 0
		case whynot.KindWithdraw:
			offer(c.Subject).from, offer(c.Subject).until = 0, start-9000*day
		case whynot.KindControlGroup:
			m.control = 0
		default:
			t.Fatalf("%v", c)
		}
	}
	return &out
}

type anOffer = offer

// position returns where an offer is on the slate of a touchpoint with changes, −1 if it
// is not on it.
func (g *rig) position(t *testing.T, s *situation, at int, id string, set []whynot.Change, assumed []string) int {
	t.Helper()
	s = s.with(t, at, set, assumed)
	c, answers, _ := g.decide(t, s)
	if len(answers) == 1 {
		at = 0
	}
	return slices.IndexFunc(answers[at].Slate, func(p decide.Placement) bool { return c.Offers[p.Offer].ID == id })
}

// question puts a situation as the search is asked about it: from a record.
func (g *rig) question(t *testing.T, s *situation, c *catalog.Compiled) whynot.Question {
	t.Helper()
	rec := &decisionlog.Record{
		Time: s.now, Seed: s.seed, Hash: s.hash, Values: s.values, History: s.view.At(s.now).History(), Pending: s.pending, PendingRead: true,
		ContextFields: []string{"role", "basket"}, Context: s.context, Many: len(s.ats) > 1, OneContact: s.one, Profile: new(decisionlog.ProfileState),
	}
	for _, f := range fields {
		rec.Fields = append(rec.Fields, f.Name)
	}
	for i, load := range s.loads {
		rec.Loads = append(rec.Loads, decisionlog.Load{Channel: c.Channels[i].ID, Value: load})
	}
	for _, at := range s.ats {
		rec.At = append(rec.At, decisionlog.Touchpoint{ID: c.Touchpoints[at.Touchpoint].ID, Slots: at.Slots})
	}
	for key, list := range s.recorded {
		for _, taken := range list {
			rec.Places = append(rec.Places, decisionlog.PlaceAsked{Capacity: key.Capacity, Offer: key.Offer, Channel: key.Channel, Taken: taken})
		}
	}
	in, err := rec.Inputs(c)
	if err != nil {
		t.Fatal(err)
	}
	for i := range in.At {
		in.At[i].Ranker = s.ranker()
	}
	if s.recorded == nil {
		in.Room = func(now int64) decide.Places { return s.places(c, now) }
	}
	d, err := decide.New(c, []decide.Ranker{nil})
	if err != nil {
		t.Fatal(err)
	}
	return whynot.Question{Decider: d, Inputs: in, StrategyReads: []int{slotOf("marketing.mood")}}
}

// TestTrue asks about random decisions why an offer is not in, makes each proposed set of
// changes in the files of the catalogue, the profile and the request, and finds the offer
// in; and finds it not in with each smaller part of the set.
func TestTrue(t *testing.T) {
	g := newRig(t)
	var asked, in, without, sets, applied, gaveUp, replays, most int
	kinds, sizes := make(map[whynot.Kind]int), make(map[int]int)
	obstacles := make(map[string]int)
	reasons, unsolved := make(map[decide.Reason]int), make(map[string]int)
	for i := range *decisionsAsked {
		seed := *firstSeed + uint64(i)
		r := rand.New(rand.NewPCG(seed, 6))
		s := g.draw(t, r, drawModel(r))
		c, answers, asks := g.decide(t, s)
		if chance(r, 2) {
			s.recorded = make(map[decisionlog.PlaceKey][]bool)
			for _, x := range asks.notes {
				key := decisionlog.PlaceKey{Capacity: x.Capacity, Offer: x.Offer, Channel: x.Channel}
				s.recorded[key] = append(s.recorded[key], x.Taken)
			}
		}
		q := g.question(t, s, c)
		q.At, q.First = r.IntN(len(s.ats)), chance(r, 3)
		id := pick(r, someOffers(c, s.ats[q.At].Touchpoint, &answers[q.At], pick(r, reasonsOf(&answers[q.At])...))...)
		var err error
		if q.Offer, err = whynot.Locate(c, s.ats[q.At].Touchpoint, id); err != nil {
			t.Fatal(err)
		}
		q.MaxReplays = 1500
		asked++
		res, err := whynot.Search(t.Context(), q)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("seed %d, offer %s at %s, first %t: "+format+"\n%s", append(append([]any{seed, id, c.Touchpoints[s.ats[q.At].Touchpoint].ID, q.First}, args...), s.m.yaml())...)
		}
		position := slices.IndexFunc(answers[q.At].Slate, func(p decide.Placement) bool { return p.Offer == q.Offer })
		if res.Position != position {
			fail("position %d, was %d", res.Position, position)
		}
		replays += res.Replays
		most = max(most, res.Replays)
		if res.GaveUp != "" {
			gaveUp++
		}
		if res.Position == 0 || res.Position > 0 && !q.First {
			in++
			if len(res.Sets) > 0 {
				fail("it is in, and changes are proposed")
			}
			continue
		}
		reasons[res.Reason]++
		if len(res.Sets) == 0 {
			without++
			unsolved[res.Reason.String()]++
			for _, o := range res.Obstacles {
				obstacles[o]++
			}
		}
		good := func(n int) bool { return n == 0 || n > 0 && !q.First }
		for k, set := range res.Sets {
			sets++
			sizes[len(set.Changes)]++
			if k > 0 && len(set.Changes) < len(res.Sets[k-1].Changes) {
				fail("larger sets come first")
			}
			if len(set.Changes) > whynot.DefaultMaxChanges {
				fail("%d changes", len(set.Changes))
			}
			for _, x := range set.Changes {
				kinds[x.Kind]++
			}
			text := words(set.Changes)
			n := g.position(t, s, q.At, id, set.Changes, set.Assumes)
			applied++
			if !good(n) || n != set.Position {
				fail("it is at %d, not at %d with %s", n, set.Position, text)
			}
			all := []string{}
			for i := range c.Capacities {
				all = append(all, "capacity "+c.Capacities[i].ID+" has a place")
			}
			for bits := range 1<<len(set.Changes) - 1 {
				var part []whynot.Change
				for i := range set.Changes {
					if bits>>i&1 == 1 {
						part = append(part, set.Changes[i])
					}
				}
				if n := g.position(t, s, q.At, id, part, all); good(n) {
					fail("%s is proposed, and %s is enough", text, words(part))
				}
			}
		}
	}
	t.Logf("%d decisions asked about, %d offers were in, %d sets proposed for the others, %d applied; nothing found for %d, %d searches gave up", asked, in, sets, applied, without, gaveUp)
	t.Logf("%d replays, %d at most in one search; sets by size %v", replays, most, sizes)
	t.Logf("reasons %v; without a set %v", reasons, unsolved)
	t.Logf("changes by kind %v", kinds)
	for o, n := range obstacles {
		t.Logf("%5d times without a set: %s", n, o)
	}
	for _, k := range whynot.Kinds() {
		if kinds[k] == 0 {
			t.Errorf("no change was of kind %s", k)
		}
	}
	for r := decide.ReasonOffered; r <= decide.ReasonOtherTouchpoint; r++ {
		if reasons[r] == 0 && r != decide.ReasonProfileUnreadable {
			t.Errorf("no offer was withheld for reason %s", r)
		}
	}
}

// reasonsOf returns the reasons that candidates of an answer have, so that rare ones are
// asked about as often as others.
func reasonsOf(a *decide.Answer) []decide.Reason {
	out := slices.Clone(a.Reasons)
	slices.Sort(out)
	return slices.Compact(out)
}

// someOffers returns the offers that have a reason.
func someOffers(c *catalog.Compiled, touchpoint int, a *decide.Answer, reason decide.Reason) (ids []string) {
	t := &c.Touchpoints[touchpoint]
	for place, r := range a.Reasons {
		if r == reason {
			ids = append(ids, c.Offers[c.Scenarios[t.Scenario].Candidates[t.Candidates[place]].Offer].ID)
		}
	}
	return ids
}

func words(set []whynot.Change) string {
	out := make([]string, len(set))
	for i := range set {
		out[i] = whynot.Words{}.Of(&set[i])
	}
	return "[" + strings.Join(out, "; ") + "]"
}
