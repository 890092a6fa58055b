package profilestore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/memory"
)

// contact is a contact event of one offer.
func contact(id string, at int64, channel, offer string) *profilestore.Event {
	return &profilestore.Event{ID: id, Type: profilestore.ContactEvent, Identity: "1", Time: at, Attributes: map[string]any{"channel": channel, "offer": offer}}
}

// noRules maps events to nothing.
type noRules struct{}

func (noRules) Map(_ *profilestore.Event, dst []profilestore.Change) ([]profilestore.Change, error) {
	return dst, nil
}

func historyHouse(t *testing.T) *house {
	t.Helper()
	h := &house{dir: memoryDir(t), schema: storeSchema(t), mapper: noRules{}, memory: new(memory.Memory), cache: 100, now: 20_000 * day}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *house) history(t *testing.T, identity string, now int64) profilestore.History {
	t.Helper()
	v, err := h.store.View(t.Context(), identity)
	if err != nil {
		t.Fatal(err)
	}
	return v.At(now).History()
}

func (h *house) send(t *testing.T, events ...*profilestore.Event) {
	t.Helper()
	results, err := h.store.Ingest(t.Context(), events)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if r.Outcome != profilestore.Accepted {
			t.Fatal(events[i].ID, r.Outcome, r.Err)
		}
	}
}

// A cap of two contacts by text message in 7 days allows the third exactly 7 days after
// the first, and says so from the second on.
func TestCap(t *testing.T) {
	h := historyHouse(t)
	first := h.now - 6*day
	sms := profilestore.InteractionFilter{Type: profilestore.Contacts, Channel: "sms"}
	const week = 7 * 24 * time.Hour
	check := func(now int64, count int, until int64) {
		t.Helper()
		read := h.history(t, "customer:1", now)
		at := int64(0)
		if times := read.TimesOfAny([]profilestore.InteractionFilter{sms}, week, nil); len(times) >= 2 {
			at = times[1] + week.Microseconds()
		}
		if n := read.Count(sms, week); n != count || at != until {
			t.Errorf("%v after the first: %d in the week, suppressed until %v; want %d until %v",
				time.Duration(now-first)*time.Microsecond, n, time.Duration(at-first)*time.Microsecond, count, time.Duration(until-first)*time.Microsecond)
		}
	}
	check(h.now, 0, 0)
	h.send(t, contact("a", first, "sms", "data_10g"))
	check(first-1, 0, 0)
	check(first, 1, 0)
	h.send(t, contact("b", first+day, "sms", "mail"), contact("c", first+day, "web", "mail"))
	check(h.now, 2, first+7*day)
	check(first+7*day-1, 2, first+7*day)
	check(first+7*day, 1, 0)
	check(first+8*day-1, 1, 0)
	check(first+8*day, 0, 0)
	h.send(t, contact("d", h.now, "sms", "mail")) // over the cap: two have to leave
	check(h.now, 3, first+8*day)
	check(first+8*day, 1, 0)
}

// A slate is one contact, whatever a cap counts by; its channel and each of its offers
// has one.
func TestSlate(t *testing.T) {
	h := historyHouse(t)
	item := func(offer, group, class string) any {
		return map[string]any{"offer": offer, "group": group, "class": class, "rank": 1.0}
	}
	h.send(t, &profilestore.Event{ID: "a", Type: profilestore.ContactEvent, Identity: "1", Time: h.now - 1, Attributes: map[string]any{
		"channel": "web", "touchpoint": "web.home", "decision": "01J",
		"items": []any{item("data_10g", "data", "marketing"), item("data_1g", "data", "marketing"), item("balance", "notice", "service"), item("data_1g", "data", "marketing")},
	}})
	read := h.history(t, "customer:1", h.now)
	for _, c := range []struct {
		f    profilestore.InteractionFilter
		want int
	}{
		{profilestore.InteractionFilter{}, 1},
		{profilestore.InteractionFilter{Group: "data"}, 1},
		{profilestore.InteractionFilter{Class: "marketing", Channel: "web"}, 1},
		{profilestore.InteractionFilter{Offer: "data_1g", Touchpoint: "web.home"}, 1},
		{profilestore.InteractionFilter{Offer: "balance", Class: "marketing"}, 0}, // not one item
		{profilestore.InteractionFilter{Channel: "sms"}, 0},
		{profilestore.InteractionFilter{Type: profilestore.Outcomes}, 0},
		{profilestore.InteractionFilter{Outcome: "clicked"}, 0},
	} {
		if n := read.Count(c.f, time.Hour); n != c.want {
			t.Errorf("%+v: %d, want %d", c.f, n, c.want)
		}
	}
}

// The history of linked identities is that of one customer, and unlinked each has its
// own again.
func TestLinkedHistory(t *testing.T) {
	h := historyHouse(t)
	second := contact("a", h.now-hour, "sms", "mail") // the same id, of another identity
	second.Identity = "msisdn:2"
	h.send(t, contact("a", h.now-2*hour, "sms", "mail"), second)
	change := func(op profilestore.IdentityOp) {
		t.Helper()
		if _, err := h.store.ChangeIdentities(t.Context(), []profilestore.IdentityChange{{Op: op, A: "customer:1", B: "msisdn:2", Time: h.now}}); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string, want int) {
		t.Helper()
		for _, identity := range []string{"customer:1", "msisdn:2"} {
			read := h.history(t, identity, h.now)
			if n := read.Count(profilestore.InteractionFilter{Channel: "sms"}, 24*time.Hour); n != want {
				t.Errorf("%s, %s has %d contacts, want %d", when, identity, n, want)
			}
			var times []int64
			for x := range read.Recent(profilestore.InteractionFilter{}) {
				times = append(times, x.Time)
			}
			if len(times) != want || want == 2 && times[0] != h.now-hour {
				t.Errorf("%s, %s has contacts at %v", when, identity, times)
			}
		}
	}
	check("before", 1)
	change(profilestore.OpLink)
	check("linked", 2)
	change(profilestore.OpUnlink)
	check("unlinked", 1)
}

// What a reserved event lacks or has too much is said, and changes nothing.
func TestInteractionMistakes(t *testing.T) {
	h := historyHouse(t)
	long := strings.Repeat("x", profilestore.MaxNameBytes+1)
	items := func(n int) []any {
		list := make([]any, n)
		for i := range list {
			list[i] = map[string]any{"offer": fmt.Sprint(i)}
		}
		return list
	}
	for i, c := range []struct {
		kind       string
		attributes map[string]any
		want       string // nothing if it is right
	}{
		{"contact", nil, ""},
		{"contact", map[string]any{"channel": nil, "items": nil, "outcome": nil}, ""},
		{"contact", map[string]any{"channel": strings.Repeat("x", profilestore.MaxNameBytes), "offer": "Ö 10 GB"}, ""},
		{"contact", map[string]any{"items": items(profilestore.MaxItems)}, ""},
		{"outcome", map[string]any{"outcome": "presented"}, ""},
		{"contacts", map[string]any{"channel": 1.0}, ""},
		{"outcome", nil, "outcome event: attribute outcome is missing"},
		{"outcome", map[string]any{"outcome": 1.0}, "attribute outcome: must be a text"},
		{"outcome", map[string]any{"outcome": "Clicked"}, `attribute outcome: "Clicked" is not the name of an outcome: use a-z`},
		{"outcome", map[string]any{"outcome": strings.Repeat("x", 65)}, "at most 64"},
		{"contact", map[string]any{"outcome": "clicked"}, "attribute outcome: a contact has none"},
		{"contact", map[string]any{"channel": true}, "attribute channel: must be a text"},
		{"contact", map[string]any{"touchpoint": ""}, "attribute touchpoint: is empty"},
		{"contact", map[string]any{"offer": long}, "attribute offer: has 129 bytes: at most 128"},
		{"contact", map[string]any{"group": "a\nb"}, "attribute group: "},
		{"contact", map[string]any{"class": " care"}, "without spaces at its ends"},
		{"contact", map[string]any{"class": "\xff"}, "must be printable UTF-8"},
		{"contact", map[string]any{"items": "a"}, "attribute items: must be a list of objects"},
		{"contact", map[string]any{"items": []any{}}, "attribute items: is an empty list"},
		{"contact", map[string]any{"items": items(profilestore.MaxItems + 1)}, "attribute items: has 101 items: at most 100"},
		{"contact", map[string]any{"items": []any{"a"}}, "attribute items[0]: must be an object"},
		{"contact", map[string]any{"items": []any{map[string]any{"offer": "a"}, map[string]any{"rank": 1.0}}}, "attribute items[1]: has neither offer nor group nor class"},
		{"contact", map[string]any{"items": []any{map[string]any{"offer": "a", "class": 4.0}}}, "attribute items[0].class: must be a text"},
		{"contact", map[string]any{"items": items(1), "group": "data"}, "attribute items stands beside offer, group or class"},
	} {
		before := h.store.Stats().JournalNext
		results, err := h.store.Ingest(t.Context(), []*profilestore.Event{{ID: fmt.Sprint(i), Type: c.kind, Identity: "9", Time: h.now, Attributes: c.attributes}})
		if err != nil {
			t.Fatal(err)
		}
		r := results[0]
		if c.want == "" {
			if r.Outcome != profilestore.Accepted {
				t.Errorf("%s %v: %v", c.kind, c.attributes, r.Err)
			}
			continue
		}
		if r.Outcome != profilestore.Refused || !strings.Contains(r.Err.Error(), c.want) || h.store.Stats().JournalNext != before {
			t.Errorf("%s %v: %v %v, want %q", c.kind, c.attributes, r.Outcome, r.Err, c.want)
		}
	}
	if n := h.history(t, "customer:9", h.now).Count(profilestore.InteractionFilter{}, 0); n != 5 {
		t.Errorf("%d interactions, want 5", n)
	}
}

// A slate at several touchpoints of a channel is one contact, at each of them.
func TestTouchpoints(t *testing.T) {
	h := historyHouse(t)
	for i, at := range []string{"web.shop", "web.home+web.side", "web.home"} {
		h.send(t, &profilestore.Event{ID: fmt.Sprint(i), Type: profilestore.ContactEvent, Identity: "1", Time: h.now - 1, Attributes: map[string]any{"channel": "web", "touchpoint": at}})
	}
	h.send(t, &profilestore.Event{ID: "none", Type: profilestore.ContactEvent, Identity: "1", Time: h.now - 1, Attributes: map[string]any{"channel": "web"}})
	read := h.history(t, "customer:1", h.now)
	for at, want := range map[string]int{
		"": 4, "web.shop": 1, "web.home": 2, "web.side": 1, "web.home+web.side": 1, // web.side by itself is no name that occurs
		"web": 0, "web.a": 0, "web.sid": 0, "web.z": 0, "home": 0, "side+web.home": 0,
	} {
		if n := read.Count(profilestore.InteractionFilter{Touchpoint: at}, time.Hour); n != want {
			t.Errorf("%q: %d, want %d", at, n, want)
		}
	}
	e := &profilestore.Event{ID: "long", Type: profilestore.ContactEvent, Identity: "1", Time: h.now - 1, Attributes: map[string]any{"touchpoint": strings.Repeat("a+", 50) + "a"}}
	if r, err := h.store.Ingest(t.Context(), []*profilestore.Event{e}); err != nil || r[0].Outcome != profilestore.Refused {
		t.Errorf("51 touchpoints: %v %v", r, err)
	}
}
