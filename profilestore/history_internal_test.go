package profilestore

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// historyTwin is the naive twin of a history: all distinct interactions, ordered by
// time, and among those of one time by what they are.
type historyTwin []Interaction

func signatureText(x *Interaction) string {
	return fmt.Sprintf("%q %q %q %q", x.Outcome, x.Channel, x.Touchpoint, x.Items)
}

func (t historyTwin) sort() {
	slices.SortFunc(t, func(a, b Interaction) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(a.Channel, b.Channel), cmp.Compare(a.Touchpoint, b.Touchpoint), slices.CompareFunc(a.Items, b.Items, Item.compare))
	})
}

func (t historyTwin) raw() historyTwin {
	return t[max(0, len(t)-historyLimits.raw):]
}

// times returns the times that interactions count by, in no order: the beginning of
// its day for one that is not among the latest.
func (t historyTwin) times(f InteractionFilter, now int64, window bool) []int64 {
	var out []int64
	for i := range t {
		x := &t[i]
		at := x.Time
		if len(t)-i > historyLimits.raw {
			if at = x.Time - ((x.Time%dayMicros)+dayMicros)%dayMicros; window && at < t[len(t)-1].Time-402*dayMicros-dayMicros {
				continue
			}
		}
		if at <= now && naiveMatch(&f, x) {
			out = append(out, at)
		}
	}
	return out
}

func naiveMatch(f *InteractionFilter, x *Interaction) bool {
	ok := func(want, is string) bool { return want == "" || want == is }
	if f.Type == Contacts && x.Outcome != "" || f.Type == Outcomes && x.Outcome == "" {
		return false
	}
	if !ok(f.Outcome, x.Outcome) || !ok(f.Channel, x.Channel) || f.Touchpoint != "" && !slices.Contains(strings.Split(x.Touchpoint, "+"), f.Touchpoint) && x.Touchpoint != f.Touchpoint {
		return false
	}
	return f.Offer+f.Group+f.Class == "" || slices.ContainsFunc(x.Items, func(i Item) bool {
		return ok(f.Offer, i.Offer) && ok(f.Group, i.Group) && ok(f.Class, i.Class)
	})
}

// exact counts those of an exact window.
func (t historyTwin) exact(f InteractionFilter, begin, now int64) int {
	n := 0
	for i := range t {
		if t[i].Time > begin && t[i].Time <= now && naiveMatch(&f, &t[i]) {
			n++
		}
	}
	return n
}

var (
	twinOffers   = []string{"data_10g", "data_1g", "voice", "mail", "news", "phone"}
	twinGroups   = map[string]string{"data_10g": "data", "data_1g": "data", "voice": "voice", "mail": "vas", "news": "vas"}
	twinClasses  = []string{"marketing", "care", "service", ""}
	twinChannels = []string{"sms", "web", "ivr", ""}
	twinOutcomes = []string{"presented", "clicked", "rejected", "accepted", "churned"}
)

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func randomInteraction(r *rand.Rand, at int64) Interaction {
	x := Interaction{Time: at, Channel: pick(r, twinChannels)}
	if r.IntN(2) == 0 {
		x.Outcome = pick(r, twinOutcomes)
	}
	if x.Channel != "" && r.IntN(2) == 0 {
		x.Touchpoint = x.Channel + "." + pick(r, []string{"home", "desk"})
		for r.IntN(4) == 0 {
			x.Touchpoint = JoinTouchpoints(x.Touchpoint, x.Channel+"."+pick(r, []string{"home", "desk", "shop"}))
		}
	}
	n := 1
	switch k := r.IntN(8); {
	case k == 0:
		n = 0
	case k < 3:
		n = 2 + r.IntN(3)
	}
	for range n {
		offer := pick(r, twinOffers)
		x.Items = append(x.Items, Item{Offer: offer, Group: twinGroups[offer], Class: pick(r, twinClasses)})
	}
	slices.SortFunc(x.Items, Item.compare)
	x.Items = slices.Compact(x.Items)
	return x
}

func randomFilter(r *rand.Rand) InteractionFilter {
	f := InteractionFilter{Type: InteractionType(r.IntN(3))}
	maybe := func(into *string, list []string) {
		if r.IntN(3) == 0 {
			*into = pick(r, list)
		}
	}
	if f.Type != Contacts {
		maybe(&f.Outcome, twinOutcomes)
	}
	maybe(&f.Channel, twinChannels)
	maybe(&f.Touchpoint, []string{"web.home", "sms.desk", "web.shop", "nowhere", "web.home+web.desk"})
	maybe(&f.Offer, twinOffers)
	maybe(&f.Group, []string{"data", "vas", "voice"})
	maybe(&f.Class, twinClasses)
	return f
}

// interactionEvent is the event that an interaction comes in. Items are in disorder,
// some of them twice, or in attributes if it is one.
func interactionEvent(r *rand.Rand, id string, x *Interaction) *Event {
	e := &Event{ID: id, Type: ContactEvent, Time: x.Time, Attributes: map[string]any{"cost": 3.5}}
	set := func(m map[string]any, name, value string) {
		if value != "" {
			m[name] = value
		}
	}
	if x.Outcome != "" {
		e.Type = OutcomeEvent
	}
	set(e.Attributes, "outcome", x.Outcome)
	set(e.Attributes, "channel", x.Channel)
	set(e.Attributes, "touchpoint", x.Touchpoint)
	object := func(m map[string]any, i Item) {
		set(m, "offer", i.Offer)
		set(m, "group", i.Group)
		set(m, "class", i.Class)
	}
	if len(x.Items) == 1 && r.IntN(2) == 0 {
		object(e.Attributes, x.Items[0])
		return e
	}
	if len(x.Items) == 0 {
		return e
	}
	var list []any
	for _, k := range append(r.Perm(len(x.Items)), 0) {
		m := make(map[string]any)
		object(m, x.Items[k])
		list = append(list, m)
	}
	e.Attributes["items"] = list
	return e
}

// recordOf applies events to an empty record and returns it as it is read back.
func recordOf(t interface{ Fatal(...any) }, schema *Schema, events []*Event) *delta {
	edit := (*delta)(nil).edit()
	for i, e := range events {
		if edit.apply(uint64(i+1), e, nil, schema) == appliedFull {
			t.Fatal("the record is full")
		}
	}
	encoded := edit.encode()
	if most := edit.weight(); len(encoded) > most {
		t.Fatal("the record has", len(encoded), "bytes, its weight is", most)
	}
	back, err := decodeDelta(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(back.encode(), encoded) {
		t.Fatal("the record changes when it is read and written")
	}
	if back.weight() != edit.weight() {
		t.Fatal("the weight is", edit.weight(), "and", back.weight(), "when it is read back")
	}
	return back
}

// historyCases counts how often each interesting case occurred.
type historyCases map[string]int

func (c historyCases) had(name string, yes bool) {
	if yes {
		c[name]++
	}
}

// TestHistory compares histories with a list of all distinct interactions: of one to
// three identities, in any order of arrival, with duplicates, beyond what is kept one by
// one and beyond 400 days, read at several times through every method.
func TestHistory(t *testing.T) {
	schema := deltaSchema(t)
	cases := make(historyCases)
	checks := 0
	rapid.Check(t, func(rt *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		span := rapid.SampledFrom([]int64{dayMicros / 24, 2 * dayMicros, 60 * dayMicros, 500 * dayMicros, 500 * dayMicros}).Draw(rt, "span")
		now := 20_000*dayMicros + r.Int64N(dayMicros)
		history, merged := History{}, historyTwin{}
		var twins []historyTwin
		for k := range rapid.IntRange(1, 3).Draw(rt, "identities") {
			n := rapid.SampledFrom([]int{0, 1, 5, 40, 255, 257, 600}).Draw(rt, "interactions")
			var twin historyTwin
			var events []*Event
			for i := range n {
				x := randomInteraction(r, now-r.Int64N(span))
				if i > 0 && r.IntN(4) == 0 {
					x.Time = twin[r.IntN(i)].Time
				}
				twin = append(twin, x)
				events = append(events, interactionEvent(r, fmt.Sprint(k, "/", i), &x))
			}
			slices.SortStableFunc(events, func(a, b *Event) int { return cmp.Compare(a.Time, b.Time) })
			inOrder := recordOf(rt, schema, events)
			r.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
			for range n / 10 {
				events = append(events, pick(r, events))
				cases.had("duplicate", true)
			}
			r.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
			shuffled := recordOf(rt, schema, events)
			if !bytes.Equal(inOrder.history.append(nil), shuffled.history.append(nil)) {
				rt.Fatal("another order of arrival gives another history")
			}
			if (n == 0) != (shuffled.history == nil) {
				rt.Fatal("a history of nothing")
			}
			history.members[k] = shuffled.history
			twin.sort()
			twins, merged = append(twins, twin), append(merged, twin...)
			cases.had("folded", n > historyLimits.raw)
			cases.had("beyond 400 days", n > historyLimits.raw && span > 400*dayMicros)
			cases.had("several identities", k > 0 && n > 0 && len(merged) > n)
			cases.had("no interaction", n == 0)
		}
		for range 40 {
			history.now = now + pick(r, []int64{0, 0, 1, dayMicros / 3, 9 * dayMicros, 300 * dayMicros, -r.Int64N(2 * dayMicros), -r.Int64N(100 * dayMicros)})
			checkHistory(rt, r, history, twins, cases)
		}
		checkRecent(rt, r, history, twins)
		checks++
	})
	for _, c := range []string{
		"duplicate", "folded", "beyond 400 days", "several identities", "no interaction", "counted", "read in the past", "window in the cells", "window beyond the cells",
		"with what is to come", "a day counts longer", "slate counted once", "last is folded", "exactly at the end of the window",
	} {
		t.Logf("%6d times in %d histories: %s", cases[c], checks, c)
		if cases[c] == 0 {
			t.Errorf("%q never occurred", c)
		}
	}
}

// checkHistory compares the answers for one filter and window.
func checkHistory(t *rapid.T, r *rand.Rand, h History, twins []historyTwin, cases historyCases) {
	f := randomFilter(r)
	within := time.Duration(pick(r, []int64{0, 0, 1 + r.Int64N(dayMicros), 7 * dayMicros, 30 * dayMicros, 100*dayMicros + r.Int64N(dayMicros), 400 * dayMicros})) * time.Microsecond
	var all, times, rawTimes []int64
	for _, twin := range twins {
		all = append(all, twin.times(f, h.now, within > 0)...)
		for _, x := range twin.raw() {
			rawTimes = append(rawTimes, x.Time)
		}
	}
	if len(rawTimes) > 0 && within > 0 && r.IntN(4) == 0 { // the window ends where something happened
		h.now = pick(r, rawTimes) + within.Microseconds()
		all = nil
		for _, twin := range twins {
			all = append(all, twin.times(f, h.now, true)...)
		}
	}
	slices.Sort(all)
	slices.Reverse(all)
	begin := h.begin(within)
	for _, at := range all {
		if at > begin {
			times = append(times, at)
		}
		cases.had("exactly at the end of the window", at == begin)
	}
	// All time counts what is folded whenever it happened.
	want, late := len(times), false // late: something folded happened after now
	for _, twin := range twins {
		for i := range twin {
			late = late || len(twin)-i > historyLimits.raw && twin[i].Time > h.now
		}
	}
	if within == 0 {
		want = 0
		for _, twin := range twins {
			for i := range twin {
				if (len(twin)-i > historyLimits.raw || twin[i].Time <= h.now) && naiveMatch(&f, &twin[i]) {
					want++
				}
			}
		}
	}
	got := h.Count(f, within)
	if got != want {
		t.Fatalf("%+v within %v at %d: %d, want %d", f, within, h.now, got, want)
	}
	newest, longest := int64(math.MinInt64), 0
	for _, twin := range twins {
		longest = max(longest, len(twin))
		for _, x := range twin {
			newest = max(newest, x.Time)
		}
	}
	cases.had("counted", got > 0)
	cases.had("read in the past", got > 0 && h.now < newest)
	if within > 0 {
		exact, less := 0, 0
		for _, twin := range twins {
			exact += twin.exact(f, begin, h.now)
			less += twin.exact(f, begin+dayMicros, h.now)
		}
		switch past := h.now < newest; {
		case longest <= historyLimits.raw && got != exact:
			t.Fatalf("%+v within %v: %d, want exactly %d", f, within, got, exact)
		case !past && (got > exact || got < less):
			t.Fatalf("%+v within %v: %d, but %d are in the window, and %d in one that is a day shorter", f, within, got, exact, less)
		}
		cases.had("window in the cells", got > 0 && longest > historyLimits.raw && got != h.rawCount(f, within))
		cases.had("window beyond the cells", got < exact)
		if list := h.Times(f, within, nil); !slices.Equal(list, times) {
			t.Fatalf("%+v within %v: times %v, want %v", f, within, list, times)
		}
	}
	checkLimit(t, r, h, f, within, twins, cases)
	if !late {
		checkLast(t, h, f, twins, cases)
	}
	if !late {
		checkSummary(t, h, f, within)
	}
}

// rawCount counts in the latest only.
func (h History) rawCount(f InteractionFilter, within time.Duration) int {
	n := 0
	for x := range h.Recent(f) {
		if x.Time > h.begin(within) {
			n++
		}
	}
	return n
}

// checkLimit checks what a limit counts: with two filters each interaction once, with what
// is to come, and days as late as they can be.
func checkLimit(t *rapid.T, r *rand.Rand, h History, f InteractionFilter, within time.Duration, twins []historyTwin, cases historyCases) {
	if within == 0 {
		return
	}
	filters := []InteractionFilter{f}
	if r.IntN(2) == 0 {
		filters = append(filters, randomFilter(r))
	}
	if h.later = r.IntN(2) == 0; h.later {
		cases.had("with what is to come", true)
	}
	// Not as the history says it: else it could say anything.
	begin, end := int64(math.MinInt64), h.now
	if within > 0 {
		begin = h.now - within.Microseconds()
	}
	if h.later {
		end = math.MaxInt64
	}
	var want []int64
	exact := 0
	for _, twin := range twins {
		raw := twin.raw()
		for i := range twin {
			x := &twin[i]
			if !naiveMatch(&filters[0], x) && !naiveMatch(&filters[len(filters)-1], x) {
				continue
			}
			if x.Time > max(begin, twin[len(twin)-1].Time-402*dayMicros) && x.Time <= end {
				exact++
				cases.had("slate counted once", f.Group != "" && len(x.Items) > 1 && x.Items[0].Group == f.Group && x.Items[1].Group == f.Group)
			}
			at, first := x.Time, x.Time
			if len(twin)-i > len(raw) {
				first = x.Time - ((x.Time%dayMicros)+dayMicros)%dayMicros
				if first < twin[len(twin)-1].Time-402*dayMicros-dayMicros {
					continue // beyond what any window needs
				}
				at = min(first+dayMicros-1, raw[0].Time)
			}
			if first <= end && at > begin {
				want = append(want, at)
			}
		}
	}
	slices.Sort(want)
	slices.Reverse(want)
	if got := h.TimesOfAny(filters, within, nil); !slices.Equal(got, want) {
		t.Fatalf("%+v within %v at %d, later %v: times %v, want %v", filters, within, h.now, h.later, got, want)
	}
	if h.later && len(want) < exact {
		t.Fatalf("%+v within %v: %d count, but %d are in the window", filters, within, len(want), exact)
	}
	cases.had("a day counts longer", h.later && len(want) > exact)
}

func checkLast(t *rapid.T, h History, f InteractionFilter, twins []historyTwin, cases historyCases) {
	at, outcome, ok := h.Last(f)
	want, found, folded := int64(math.MinInt64), false, false
	outcomes := make(map[string]bool)
	for _, twin := range twins {
		for i := range twin {
			x := &twin[i]
			if x.Time > h.now || !naiveMatch(&f, x) {
				continue
			}
			if x.Time > want {
				clear(outcomes)
			}
			if x.Time >= want {
				want, found, folded = x.Time, true, len(twin)-i > historyLimits.raw
				outcomes[x.Outcome] = true
			}
		}
	}
	cases.had("last is folded", folded)
	if ok != found || ok && (at != want || !outcomes[outcome]) {
		t.Fatalf("last of %+v: %d %q %v, want %d %v %v", f, at, outcome, ok, want, outcomes, found)
	}
}

func checkSummary(t *rapid.T, h History, asked InteractionFilter, within time.Duration) {
	total := 0
	for _, s := range h.Summary(asked, within) {
		f := asked
		f.Offer, f.Channel, f.Outcome = s.Offer, s.Channel, s.Outcome
		if s.Outcome == "" {
			f.Type = Contacts
		}
		total += s.Count
		if s.Offer == "" || s.Channel == "" {
			continue // a filter can't ask for none
		}
		if n, in := h.Count(f, 0), h.Count(f, within); s.Count != n || s.Within[0] != in {
			t.Fatalf("summary of %+v: %d and %v, want %d and %d within %v", f, s.Count, s.Within, n, in, within)
		}
		if at, _, _ := h.Last(f); at != s.Last {
			t.Fatalf("summary of %+v: last %d, want %d", f, s.Last, at)
		}
	}
	if n := h.Count(asked, 0); total < n {
		t.Fatalf("the summary of %+v counts %d of %d", asked, total, n)
	}
}

// checkRecent compares what people are shown.
func checkRecent(t *rapid.T, r *rand.Rand, h History, twins []historyTwin) {
	f := randomFilter(r)
	var want []string
	older := 0
	for _, twin := range twins {
		raw := twin.raw()
		older += len(twin) - len(raw)
		for _, x := range raw {
			if x.Time <= h.now && naiveMatch(&f, &x) {
				want = append(want, fmt.Sprintf("%020d %s", x.Time, signatureText(&x)))
			}
		}
	}
	var got []string
	last := int64(math.MaxInt64)
	for x := range h.Recent(f) {
		if x.Time > last {
			t.Fatal("not the latest first")
		}
		last = x.Time
		got = append(got, fmt.Sprintf("%020d %s", x.Time, signatureText(&x)))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Fatalf("the latest of %+v:\n%s\nwant\n%s", f, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if n := h.Older(); n != older {
		t.Fatalf("%d older, want %d", n, older)
	}
}

// TestHistoryBounds: with more signatures and days than a history keeps, it stays
// bounded, gives up detail in the documented order, never counts too much in a window,
// and is still the same in any order of arrival.
func TestHistoryBounds(t *testing.T) {
	cases := make(historyCases)
	rapid.Check(t, func(rt *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 2))
		for range 12 {
			checkBounds(rt, r, cases)
		}
	})
	for _, c := range []string{"level 0", "level 1", "level 2", "level 3", "cells given up", "all time by offer at level 1", "all time by offer and touchpoint at level 1", "all time by offer at level 2", "all time by channel at level 3"} {
		t.Logf("%5d: %s", cases[c], c)
		if cases[c] == 0 {
			t.Errorf("%q never occurred", c)
		}
	}
}

// checkBounds checks one random history under random bounds.
func checkBounds(t *rapid.T, r *rand.Rand, cases historyCases) {
	most := limits{raw: 1 + r.IntN(20), cells: 10 + r.IntN(200), totals: 4 + r.IntN(400)}
	n := 1 + r.IntN(400)
	now := 20_000*dayMicros + r.Int64N(dayMicros)
	span := pick(r, []int64{10 * dayMicros, 600 * dayMicros})
	var twin historyTwin
	narrow := r.IntN(2) == 0
	for range n {
		x := randomInteraction(r, now-r.Int64N(span))
		if narrow { // few signatures of one item, and still many of several
			x.Outcome = ""
			for i := range x.Items {
				x.Items[i].Class = "care"
			}
			x.Items = slices.Compact(x.Items)
		}
		twin = append(twin, x)
	}
	fold := func() *history {
		h := (*history)(nil).clone()
		for i := range twin {
			h.add(&twin[i], most)
			if c := h.totalCost(); len(h.raw) > most.raw || h.cellCost > most.cells || c > most.totals && h.level < levelItems {
				t.Fatalf("%d raw, %d cells, %d totals at level %d", len(h.raw), h.cellCost, c, h.level)
			}
		}
		return h
	}
	twin.sort()
	inOrder := fold()
	latest := twin[n-1].Time
	r.Shuffle(n, func(i, j int) { twin[i], twin[j] = twin[j], twin[i] })
	encoded := fold().append(nil)
	if !bytes.Equal(encoded, inOrder.append(nil)) {
		t.Fatal("another order of arrival gives another history")
	}
	reader := reader{b: encoded}
	h := reader.history()
	if reader.bad || len(reader.b) > 0 || !bytes.Equal(h.append(nil), encoded) || len(encoded) > h.weight() || h.cellCost != inOrder.cellCost {
		t.Fatal("the history does not read back")
	}
	cases.had(fmt.Sprint("level ", h.level), true)
	cases.had("cells given up", h.cut > h.reach())
	read := History{now: latest + r.Int64N(3*dayMicros)}
	read.members[0] = h
	for range 20 {
		f, within := randomFilter(r), time.Duration(1+r.Int64N(400*dayMicros))*time.Microsecond
		begin := read.begin(within)
		got, exact := read.Count(f, within), twin.exact(f, begin, read.now)
		// More than are kept by the day are in no window.
		since := int64(math.MinInt64)
		missing := uint64(0)
		for i := range h.totals {
			missing += h.totals[i].n
		}
		for i := range h.cells {
			missing -= uint64(h.cells[i].n)
		}
		if missing > 0 {
			since = h.cut * dayMicros
		}
		less := twin.exact(f, max(begin+dayMicros, since), read.now)
		if got > exact || got < less {
			t.Fatalf("%+v within %v: %d, but %d are in the window, and %d since %d", f, within, got, exact, less, since)
		}
		checkTotals(t, read, f, twin, cases)
	}
	if all := read.Count(InteractionFilter{}, 0); all != n {
		t.Fatalf("%d of all time, want %d", all, n)
	}
}

// checkTotals checks what is promised of all time at each level.
func checkTotals(t *rapid.T, h History, f InteractionFilter, twin historyTwin, cases historyCases) {
	level := h.members[0].level
	if level >= levelTouchpoints {
		f.Touchpoint = ""
	}
	if level >= levelItems {
		f.Offer, f.Group, f.Class = "", "", ""
	}
	got, want := h.Count(f, 0), twin.exact(f, math.MinInt64, math.MaxInt64)
	if exact := level == 0 || f.Offer != "" && f.Class != "" || f.Offer+f.Group+f.Class == ""; got < want || exact && got != want {
		t.Fatalf("%+v of all time: %d, want %d at level %d", f, got, want, level)
	}
	cases.had(fmt.Sprint("all time by offer at level ", level), f.Offer != "" && got > 0)
	cases.had(fmt.Sprint("all time by offer and touchpoint at level ", level), f.Offer != "" && f.Touchpoint != "" && got > 0)
	cases.had(fmt.Sprint("all time by channel at level ", level), f.Channel != "" && got > 0)
	at, _, ok := h.Last(f)
	last, found := int64(math.MinInt64), false
	for i := range twin {
		if naiveMatch(&f, &twin[i]) {
			last, found = max(last, twin[i].Time), true
		}
	}
	if ok != found || ok && at != last {
		t.Fatalf("last of %+v: %d %v, want %d %v at level %d", f, at, ok, last, found, level)
	}
}

// TestHistoryOfOldRecord: a record keeps its history when events are applied to it,
// because readers have it.
func TestHistoryOfOldRecord(t *testing.T) {
	schema := deltaSchema(t)
	r := rand.New(rand.NewPCG(1, 3))
	var d *delta
	var records []*delta
	var before [][]byte
	for i := range 600 {
		x := randomInteraction(r, r.Int64N(30*dayMicros))
		d, _ = d.apply(uint64(i+1), interactionEvent(r, fmt.Sprint(i), &x), nil, schema)
		records, before = append(records, d), append(before, d.history.append(nil))
	}
	for i, d := range records {
		if !bytes.Equal(d.history.append(nil), before[i]) {
			t.Fatalf("the history of a record of %d interactions has changed", i+1)
		}
	}
}

// TestHistoryFull: whatever a sender sends, a record stays under what engines take, and
// beyond it events are refused.
func TestHistoryFull(t *testing.T) {
	schema := deltaSchema(t)
	edit := (*delta)(nil).edit()
	full := 0
	for i := range 400 {
		e := &Event{ID: fmt.Sprint(i), Type: ContactEvent, Time: int64(i) * dayMicros}
		var items []any
		for k := range MaxItems {
			item := make(map[string]any)
			for _, name := range []string{"offer", "group", "class"} {
				item[name] = fmt.Sprintf("%s %d %d %s", name, i, k, strings.Repeat("x", 90))
			}
			items = append(items, item)
		}
		e.Attributes = map[string]any{"items": items}
		if edit.apply(uint64(i+1), e, nil, schema) == appliedFull {
			full++
		}
	}
	n := len(edit.encode())
	t.Logf("%d of 400 contacts refused, %d bytes", full, n)
	if full == 0 || n > maxWeight || n > edit.weight() {
		t.Errorf("%d refused, %d bytes of at most %d, weight %d", full, n, maxWeight, edit.weight())
	}
	// An offer a day, of ever new names: coarser totals make room.
	edit = (*delta)(nil).edit()
	for i := range 6000 {
		e := &Event{ID: fmt.Sprint(i), Type: ContactEvent, Time: int64(i) * dayMicros, Logged: int64(i) * dayMicros, Attributes: map[string]any{"channel": "web", "offer": fmt.Sprint("offer", i)}}
		if edit.apply(uint64(i+1), e, nil, schema) != appliedNew {
			t.Fatalf("contact %d was refused", i)
		}
	}
	h := edit.history
	t.Logf("6,000 contacts of as many offers: level %d, %d raw, %d cells, %d totals, %d bytes", h.level, len(h.raw), len(h.cells), len(h.totals), len(edit.encode()))
	read := History{now: 7000 * dayMicros}
	read.members[0] = h
	if n := read.Count(InteractionFilter{Channel: "web"}, 0); n != 6000 || h.level != levelItems || len(h.texts) > 700 {
		t.Errorf("%d contacts, level %d, %d names", n, h.level, len(h.texts))
	}
}

// historyOf returns the history of a customer with n interactions in 90 days, of so many
// offers, and the time after it.
func historyOf(tb testing.TB, n, offers int) History {
	tb.Helper()
	schema := deltaSchema(tb)
	r := rand.New(rand.NewPCG(1, 4))
	edit := (*delta)(nil).edit()
	for i := range n {
		x := Interaction{Time: int64(i+1) * 90 * dayMicros / int64(n), Channel: pick(r, []string{"web", "sms", "ivr"}), Items: []Item{{Offer: fmt.Sprint("offer", r.IntN(offers)), Group: fmt.Sprint("group", i%7), Class: "marketing"}}}
		if i%3 == 0 {
			x.Outcome = pick(r, twinOutcomes)
		}
		if edit.apply(uint64(i+1), interactionEvent(r, fmt.Sprint(i), &x), nil, schema) != appliedNew {
			tb.Fatal("not applied")
		}
	}
	h := History{now: 90 * dayMicros}
	h.members[0] = edit.history
	return h
}

// TestHistoryBudget: what a decision asks allocates nothing.
func TestHistoryBudget(t *testing.T) {
	h := historyOf(t, 600, 30)
	h.members[1] = historyOf(t, 50, 30).members[0]
	f := InteractionFilter{Type: Contacts, Channel: "web", Offer: "offer3"}
	var times []int64
	for name, ask := range map[string]func(){
		"Count":           func() { h.Count(f, 30*24*time.Hour) },
		"Count, all time": func() { h.Count(f, 0) },
		"Last":            func() { h.Last(f) },
		"Times":           func() { times = h.Times(f, 0, times[:0]) },
		"TimesOfAny":      func() { times = h.TimesOfAny([]InteractionFilter{f}, 30*24*time.Hour, times[:0]) },
	} {
		ask()
		if n := testing.AllocsPerRun(100, ask); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

// BenchmarkHistory is what a policy with a limit per offer costs a decision of 100
// candidates, asked for each of them, and what a record's history
// costs a miss and an event.
func BenchmarkHistory(b *testing.B) {
	names := make([]string, 100)
	for i := range names {
		names[i] = fmt.Sprint("offer", i)
	}
	for _, n := range []int{0, 30, 256, 2000} {
		h := historyOf(b, n, 30)
		const month = 30 * 24 * time.Hour
		b.Run(fmt.Sprintf("%d interactions, Count for 100 offers", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, name := range names {
					h.Count(InteractionFilter{Type: Contacts, Offer: name}, month)
				}
			}
		})
		section := h.members[0].append(nil)
		b.Run(fmt.Sprintf("%d interactions, decode", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := reader{b: section}
				r.history()
			}
			b.ReportMetric(float64(len(section)), "bytes")
		})
		x := Interaction{Time: 91 * dayMicros, Channel: "web", Items: []Item{{Offer: "offer3"}}}
		b.Run(fmt.Sprintf("%d interactions, decode, add and encode", n), func(b *testing.B) {
			b.ReportAllocs()
			var dst []byte
			for b.Loop() {
				r := reader{b: section}
				c := r.history().clone()
				c.add(&x, historyLimits)
				dst = c.append(dst[:0])
			}
		})
	}
}
