package decide_test

import (
	"context"
	"strings"
	"testing"

	"rapport/profilestore"
	"rapport/server/catalog"
	"rapport/server/decide"
)

// counted are capacities that have room, and note what is taken.
type counted struct{ taken []int }

func (c *counted) Take(capacity, _, _ int) bool { c.taken = append(c.taken, capacity); return true }
func (c *counted) Return(int, int, int)         { c.taken = c.taken[:len(c.taken)-1] }

// TestComputedContent fills slates with computed texts. An offer whose text has no value
// is withheld, takes no place of a capacity, and leaves its slot to the next.
func TestComputedContent(t *testing.T) {
	schema, problems := catalog.ReadSchema("s.yaml", []byte(`
sources: [{id: bi}]
fields:
  - {name: value.balance, type: number, batch: bi, decimals: 2}
  - {name: general.name, type: text, batch: bi}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	compiled, _, problems := catalog.Compile([]catalog.File{{Name: "c.yaml", Content: []byte(`
channels: [{id: web, direction: inbound}, {id: desk, direction: inbound}]
touchpoints: [{id: web.home, channel: web, slots: 2}, {id: desk, channel: desk, slots: 2, audience: staff}, {id: desk.screen, channel: desk, slots: 2}]
scenarios: [{id: s, touchpoints: [web.home, desk, desk.screen]}]
capacities: [{id: named, max: 9, per: day, offers: [named]}, {id: plain, max: 9, per: day, offers: [plain]}]
offers:
  - {id: balance, group: g, class: care, value: 3, propensity: {start: 1}, treatments: [{channel: web, content: "You have {{profile.value.balance}}."}, {channel: desk, content: "Balance", script: "You have {{profile.value.balance}}."}]}
  - {id: named, group: g, class: care, value: 2, propensity: {start: 1}, treatments: [{channel: web, content: "Dear {{profile.general.name}}"}, {channel: desk, content: Greet, script: "Dear {{profile.general.name}}"}]}
  - {id: plain, group: g, class: care, value: 1, propensity: {start: 1}, treatments: [{channel: web, content: "In {{{{braces}}}}"}, {channel: desk, content: A, script: B}]}
  - {id: broken, group: g, class: care, value: 9, propensity: {start: 1}, treatments: [{channel: web, content: "{{1.0 / (profile.value.balance - 12.5)}}"}]}
`)}}, schema, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	d, err := decide.New(compiled, []decide.Ranker{nil})
	if err != nil {
		t.Fatal(err)
	}
	known := profile{profilestore.Number(12.5), profilestore.Text("Anna")}
	noName := profile{profilestore.Number(12.5), profilestore.Unknown()}
	for _, x := range []struct {
		touchpoint string
		profile    profile
		want       string // offer: content / script
		unknown    string
		takes      int
	}{
		{"web.home", known, "balance: You have 12.5. /  | named: Dear Anna / ", "broken (rule error)", 1},
		{"web.home", noName, "balance: You have 12.5. /  | plain: In {{braces}} / ", "broken (rule error) named (unknown)", 1},
		{"desk", known, "balance: Balance / You have 12.5. | named: Greet / Dear Anna", "", 1},
		{"desk", noName, "balance: Balance / You have 12.5. | plain: A / B", "named (unknown)", 1},
		{"desk.screen", noName, "balance: Balance /  | named: Greet / ", "", 1}, // its script is nobody's
	} {
		at, _ := compiled.Touchpoint(x.touchpoint)
		places := &counted{}
		var a decide.Answer
		d.Decide(context.Background(), &decide.Request{At: decide.At{Touchpoint: at}, Profile: x.profile, Places: places}, &a)
		var slate, without []string
		for _, p := range a.Slate {
			slate = append(slate, compiled.Offers[p.Offer].ID+": "+p.Content+" / "+p.Script)
		}
		for place, reason := range a.Reasons {
			offer := compiled.Offers[compiled.Scenarios[0].Candidates[compiled.Touchpoints[at].Candidates[place]].Offer].ID
			switch reason {
			case decide.ReasonUnknown:
				without = append(without, offer+" (unknown)")
			case decide.ReasonRuleError:
				without = append([]string{offer + " (rule error)"}, without...)
			default:
			}
		}
		if got := strings.Join(slate, " | "); got != x.want {
			t.Errorf("%s: %s\nwant %s", x.touchpoint, got, x.want)
		}
		if got := strings.Join(without, " "); got != x.unknown {
			t.Errorf("%s: without %s, want %s", x.touchpoint, got, x.unknown)
		}
		if len(places.taken) != x.takes {
			t.Errorf("%s: took %v", x.touchpoint, places.taken)
		}
	}
}
