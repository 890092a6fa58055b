package catalog_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rapport/server/catalog"
)

// catalogWith is a small catalogue whose only offer has the rule given as a YAML
// value.
func catalogWith(eligible string) catalog.File {
	return catalog.File{Name: "c.yaml", Content: []byte(`
channels: [{id: ivr, direction: inbound}]
touchpoints: [{id: ivr.main, channel: ivr}]
scenarios: [{id: s, touchpoints: [ivr.main]}]
offers:
  - id: a
    group: g
    class: care
    propensity: {start: 1}
    treatments: [{channel: ivr, content: A}]
    eligible: ` + eligible + "\n")}
}

// TestPlaces puts a mistake into rules written in every YAML style: line and
// column must lead to it.
func TestPlaces(t *testing.T) {
	schema := testSchema(t)
	for _, eligible := range []string{
		`profile.tag.hevy`,
		`     profile.tag.heavy   &&   profile.tag.hevy`,
		`'profile.tag.hevy'`,
		`'profile.general.tier == ''it\''s'' && profile.tag.hevy'`,
		`"profile.general.tier == \"\\n\\x41\u00e9\" && profile.tag.hevy && profile.tag.heavy"`,
		`"profile.general.tier == 'é' && profile.tag.hevy"`,
		"|\n      profile.tag.heavy &&\n\n        profile.tag.hevy\n",
		"|2-\n      profile.tag.heavy\n      && profile.tag.hevy\n\n\n",
		"|  # a comment\n\n\n      profile.tag.heavy && // why\n      profile.tag.hevy\n",
		">\n      profile.tag.heavy &&\n      profile.tag.heavy &&\n      profile.tag.hevy\n",
		">+\n      profile.tag.heavy &&\n\n      profile.tag.heavy\n        && profile.tag.hevy\n\n",
		"profile.tag.heavy &&\n      profile.tag.heavy && profile.tag.hevy",
		"\n      profile.tag.heavy &&\n      profile.tag.hevy  # a comment",
		"\"profile.tag.heavy && \\\n      profile.tag.heavy\n\n      && profile.tag.hevy\"",
		"'profile.tag.heavy\n\n      && profile.tag.hevy'",
		"profile.general.tier == 'é' && profile.tag.hevy",
	} {
		for _, end := range []string{"\n", "\r\n"} {
			f := catalogWith(eligible)
			f.Content = []byte(strings.ReplaceAll(string(f.Content), "\n", end))
			_, _, problems := catalog.Compile([]catalog.File{f}, schema, nil)
			if len(problems) != 1 || !strings.Contains(problems[0].Message, "profile.tag.hevy") {
				t.Errorf("%s\n%v", eligible, problems)
				continue
			}
			p := problems[0]
			line := []rune(strings.Split(string(f.Content), "\n")[p.Line-1])
			if at := string(line[p.Column-1:]); !strings.HasPrefix(at, "hevy") || p.Path != "offers[0].eligible" {
				t.Errorf("%s\nline %d, column %d is %q", eligible, p.Line, p.Column, at)
			}
		}
	}
}

// TestRefused gives files that must not be parsed, or not far.
func TestRefused(t *testing.T) {
	schema := testSchema(t)
	for name, x := range map[string]struct{ content, want string }{
		"size":          {strings.Repeat("#", catalog.MaxFileBytes+1), "at most 8388608"},
		"values":        {"offers: [" + strings.Repeat("1,", 1<<20+1) + "]", "at most 1048576"},
		"utf8":          {"offers: [\xff]", "not UTF-8"},
		"utf16":         {"\xff\xfeo\x00", "not UTF-8"},
		"nul":           {"offers: []\nx: \x00", "f.yaml:2:1: the line has a character"},
		"carriage":      {"offers: []\rx: 1", "f.yaml:1:1: the line has a character"},
		"separator":     {"offers:\n  - id: \"a\u2028b\"", "f.yaml:2:1: the line has a character"},
		"flow depth":    {strings.Repeat("[", 5000) + strings.Repeat("]", 5000), "nested more than 16 deep"},
		"flow depth 2":  {strings.Repeat("[", 500000), "f.yaml"},
		"map depth":     {strings.Repeat("{a: ", 5000) + strings.Repeat("}", 5000), "nested more than 16 deep"},
		"block depth":   {blocks(3000), "nested more than 16 deep"},
		"alias bomb":    {bomb(), "is an anchor"},
		"recursive":     {"offers: &a [*a]", "is an anchor"},
		"many problems": {"offers: [" + strings.Repeat("1,", 5000) + "]", "more problems"},
		"long keys":     {"offers: [{" + strings.Repeat("k", 1000) + ": 1}]", "there is no field"},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			_, _, problems := catalog.Compile([]catalog.File{{Name: "f.yaml", Content: []byte(x.content)}}, schema, nil)
			if text := printed(problems); !strings.Contains(text, x.want) {
				t.Errorf("want %q, got %.500s", x.want, text)
			} else if len(text) > 1<<20 {
				t.Errorf("%d bytes of problems", len(text))
			}
			if d := time.Since(began); d > 20*time.Second {
				t.Errorf("took %s", d)
			}
		})
	}
}

func blocks(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func bomb() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x]\n")
	for i := range 9 {
		fmt.Fprintf(&b, "a%d: &a%d [%s*a%d]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 8), i)
	}
	return b.String()
}

// TestManyCandidates writes a small catalogue that would take much memory.
func TestManyCandidates(t *testing.T) {
	var b strings.Builder
	b.WriteString("channels: [{id: ivr, direction: inbound}]\noffers:\n")
	for i := range 1500 {
		fmt.Fprintf(&b, "  - {id: a%d, group: g, class: care, propensity: {start: 1}, treatments: [{channel: ivr, content: A}]}\n", i)
	}
	b.WriteString("touchpoints:\n")
	for i := range 1500 {
		fmt.Fprintf(&b, "  - {id: ivr.t%d, channel: ivr}\n", i)
	}
	b.WriteString("scenarios:\n")
	for i := range 1500 {
		fmt.Fprintf(&b, "  - {id: s%d, touchpoints: [ivr.t%d]}\n", i, i)
	}
	_, _, problems := catalog.Compile([]catalog.File{{Name: "f.yaml", Content: []byte(b.String())}}, testSchema(t), nil)
	if text := printed(problems); !strings.Contains(text, "candidates together") {
		t.Errorf("%.500s", text)
	}
}

// TestHugeLists writes policies whose lists multiply to more than can be counted, offers
// that all exclude one, and a capacity for each of many offers.
func TestHugeLists(t *testing.T) {
	var b strings.Builder
	b.WriteString("channels: [{id: ivr, direction: inbound}]\ntouchpoints: [{id: ivr.main, channel: ivr}]\nscenarios: [{id: s, touchpoints: [ivr.main]}]\noffers:\n")
	const offers = 2000
	names := make([]string, offers)
	for i := range names {
		names[i] = fmt.Sprintf("a%d", i)
		exclude := ""
		if i > 0 {
			exclude = ", excludes: [a0]"
		}
		fmt.Fprintf(&b, "  - {id: %s, group: g%d, class: marketing, propensity: {start: 1}%s, treatments: [{channel: ivr, content: A}]}\n", names[i], i%1000, exclude)
	}
	b.WriteString("capacities:\n")
	for i, name := range names {
		fmt.Fprintf(&b, "  - {id: c%d, max: 5, per: day, offers: [%s]}\n", i, name)
	}
	schema := testSchema(t)
	c, _, problems := catalog.Compile([]catalog.File{{Name: "f.yaml", Content: []byte(b.String())}}, schema, nil)
	if len(problems) > 0 {
		t.Fatal(problems[0])
	}
	if n := len(c.Offers[0].Excludes); n != offers-1 || !slices.IsSorted(c.Offers[0].Excludes) {
		t.Errorf("the first offer excludes %d", n)
	}
	for i, x := range c.Scenarios[0].Candidates {
		if len(x.Capacities) != 1 || x.Capacities[0] != int32(i) {
			t.Fatalf("candidate %d takes %v", i, x.Capacities)
		}
	}
	all := "[" + strings.Join(names, ", ") + "]"
	many := b.String() + "contact_policies:\n  - {id: p, count: contact, max: 1, within: 1d, offers: " + all + ", groups: [g1, g2], channels: [ivr]}\n"
	_, _, problems = catalog.Compile([]catalog.File{{Name: "f.yaml", Content: []byte(many)}}, schema, nil)
	if text := printed(problems); !strings.Contains(text, "more than 100 combinations") {
		t.Errorf("%.500s", text)
	}
	many = b.String() + "contact_policies:\n"
	for i := range 1000 {
		many += fmt.Sprintf("  - {id: p%d, count: contact, max: 1, within: 1d}\n", i)
	}
	_, _, problems = catalog.Compile([]catalog.File{{Name: "f.yaml", Content: []byte(many)}}, schema, nil)
	if len(problems) > 0 { // two million pairs, and one list of them
		t.Errorf("%.500s", printed(problems))
	}
}

func TestNoFiles(t *testing.T) {
	if _, _, problems := catalog.Compile(nil, testSchema(t), nil); len(problems) != 1 {
		t.Error(problems)
	}
}

func TestParse(t *testing.T) {
	m, err := catalog.Parse([]catalog.File{catalogWith("profile.no.such.field"), {Name: "d.yaml", Content: []byte("\ufeffcontext: [{name: x, type: text}]")}})
	if err != nil || len(m.GetOffers()) != 1 || m.GetOffers()[0].GetEligible() != "profile.no.such.field" || len(m.GetContext()) != 1 {
		t.Errorf("%v, %v", m, err)
	}
	if _, err := catalog.Parse([]catalog.File{{Name: "d.yaml", Content: []byte("contexts: []")}}); err == nil {
		t.Error("a mistake was parsed")
	}
}

// FuzzCatalog compiles whatever it is given: no panic, and every problem is at a
// place in its file.
func FuzzCatalog(f *testing.F) {
	f.Add(string(catalogWith("profile.tag.heavy").Content))
	f.Add("channels: [{id: ivr, direction: inbound, attributes: {a: 1, b: [1], c: .5}}]\noffers:\n- &x {id: a}\n- *x\n---\n")
	f.Add("context: [{name: role, type: time, default: 2026-01-31T18:00:00Z}]\nscenarios: [{id: s, touchpoints: [a.b], weights: [{group: g, weight: 1e3}]}]")
	f.Add("offers:\n  - id: a\n    eligible: |+\n      profile.tag.heavy &&\n\n       1 / 0 > \n  - {eligible: \"a\\x41\\\n b\"}")
	f.Add("{\"offers\": [{\"id\": \"a\", \"propensity\": {\"field\": \"value.arpu\"}}]}")
	f.Add("clock: {zone: Asia/Shanghai, field: general.tier}\ncontrol_group: {percent: 5, groups: [g]}\ncontact_policies:\n  - {id: p, count: contact, max: 1, within: 7d, suppress: 400d, per: offer, channels: [ivr, ivr], offers: [a], classes: [care]}\ncapacities: [{id: c, max: 9223372036854775808, per: day, groups: [g, h]}]")
	f.Add("channels: [{id: sms, direction: outbound, consent: tag.heavy, quiet_hours: {from: 21:00, until: 9:00}, contact_hours: [{id: a, when: \"1 / 0 > 1\", hours: {from: \"00:00\", until: \"00:00\"}}], hold: 99999m, pressure: {above: 1e6, weight: 1}}]\ntouchpoints: [{id: sms, channel: sms, audience: staff, cards: [{fields: [tag.heavy]}]}]")
	f.Add("offers: [{id: x, group: g, class: care, propensity: {start: 1}, owned: true, prerequisite: now, valid_from: 2026-12-24, valid_until: 1970-01-01T00:00:00Z, exclusive: e, excludes: [a, x], bundle: [a], treatments: [{channel: ivr, content: \"{{profile.tag.heavy ? 'a}}' : r\\\"\\\\\\\"}} {{{{ }}}} }} {{now\", script: |\n  {{ {\"a\":\n {}} }}\n}]}]")
	f.Add("groups: [{id: g, issue: i, eligible: profile.tag.heavy && !profile.tag.heavy, boost: -100}] # lint:ignore rule-contradiction,boost-zero a,\nissues: [{id: i, eligible: \"true\"}]\nscenarios: [{id: t, touchpoints: [], class_order: true, minimum_score: -1e300, channel_choice: {preferred: general.tier, persona: general.tier, personas: [{persona: p, channels: [ivr]}], otherwise: cheapest}}]")
	f.Add("fields: [{name: value.a, type: number, events: {on: true, set: event.x}}]\nsources: [{id: bi}]")
	schema := testSchema(f)
	f.Fuzz(func(t *testing.T, content string) {
		watch := time.AfterFunc(10*time.Second, func() { panic(fmt.Sprintf("takes too long: %q", content)) })
		defer watch.Stop()
		file := catalog.File{Name: "f.yaml", Content: []byte(content)}
		compiled, _, problems := catalog.Compile([]catalog.File{file, catalogWith("profile.tag.heavy")}, schema, fits{})
		if (compiled == nil) == (len(problems) == 0) {
			t.Errorf("%v beside %v", compiled, problems)
		}
		checkProblems(t, problems, content)
		warnings, again := catalog.Lint([]catalog.File{file, catalogWith("profile.tag.heavy")}, schema, catalog.LintOptions{Now: linted})
		if len(again) < len(problems) { // what strategies need is not asked
			again = problems
		}
		if len(problems) > 0 && len(again) == 0 || len(again) > 0 && len(warnings) > 0 {
			t.Errorf("%v, but lint says %v and %v", problems, again, warnings)
		}
		for _, w := range warnings {
			checkProblems(t, []catalog.Problem{w.Problem}, content)
		}
		s, problems := catalog.ReadSchema("f.yaml", []byte(content))
		if (s == nil) == (len(problems) == 0) {
			t.Errorf("%v beside %v", s, problems)
		}
		checkProblems(t, problems, content)
	})
}

func checkProblems(t *testing.T, problems []catalog.Problem, content string) {
	t.Helper()
	lines := strings.Split(strings.TrimPrefix(content, "\ufeff"), "\n")
	for _, p := range problems {
		if p.File != "f.yaml" || p.Line == 0 {
			continue
		}
		if p.Line < 0 || p.Line > len(lines)+1 || p.Column < 1 || p.Line <= len(lines) && p.Column > len([]rune(lines[p.Line-1]))+2 || p.Message == "" {
			t.Errorf("%q: %s", content, p)
		}
	}
}
