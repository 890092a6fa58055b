package catalog_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
)

// customer is a profile by the names of its fields.
type customer struct {
	schema *profilestore.Schema
	values map[string]profilestore.Value
}

func (c customer) Get(slot int) profilestore.Value { return c.values[c.schema.Fields()[slot].Name] }

// contentOf compiles a catalogue of one offer with a content, which is quoted.
func contentOf(t testing.TB, content string) (*catalog.Template, *rules.Evaluation) {
	t.Helper()
	f := catalog.File{Name: "c.yaml", Content: fmt.Appendf(nil, `
context: [{name: basket, type: number}, {name: city, type: text}]
segments: [{id: rich, when: profile.value.arpu > 100}]
channels: [{id: ivr, direction: inbound}]
touchpoints: [{id: ivr.main, channel: ivr}]
scenarios: [{id: s, touchpoints: [ivr.main]}]
offers: [{id: a, group: g, class: care, propensity: {start: 1}, treatments: [{channel: ivr, content: %q}]}]
`, content)}
	c, _, problems := catalog.Compile([]catalog.File{f}, testSchema(t), nil)
	if len(problems) > 0 {
		t.Fatalf("%s: %v", content, problems)
	}
	return c.Scenarios[0].Candidates[0].Content, c.Rules.NewEvaluation()
}

// TestRender renders contents for a customer of whom some is known.
func TestRender(t *testing.T) {
	anna := customer{testSchema(t), map[string]profilestore.Value{
		"value.balance": profilestore.Number(29.85), "value.arpu": profilestore.Number(120.5), "general.tier": profilestore.Text("gold {{x}}"),
		"usage.data_mb": profilestore.Number(1234567.891), "marketing.owned": profilestore.Set("a", "b"), "tag.heavy": profilestore.Flag(true),
	}}
	inputs := rules.Inputs{
		Profile: anna, Context: []profilestore.Value{profilestore.Unknown(), profilestore.Text("")},
		Now: time.Date(2026, 11, 7, 2, 0, 0, 0, time.UTC).UnixMicro(),
	}
	for _, x := range []struct {
		content string
		truth   rules.Truth
		want    string
	}{
		{"a text", rules.True, "a text"},
		{"{{{{a}}}} } {", rules.True, "{{a}} } {"},
		{"Your balance is {{profile.value.balance}}.", rules.True, "Your balance is 29.85."},
		{"{{profile.value.arpu}}{{profile.value.arpu}}", rules.True, "120.5120.5"},
		{"{{profile.value.arpu / 7}}", rules.True, "17.21"},                     // of two decimals, as the field has
		{"{{profile.usage.data_mb / 3}} MB", rules.True, "411522.630333 MB"},    // of six, where none are declared
		{"{{profile.usage.data_mb * 1e12}}", rules.True, "1234567891000000000"}, // no exponent
		{"{{profile.value.balance / 1e9}}", rules.True, "0"},                    //
		{"{{0.0 - profile.value.balance / 1e9}}", rules.True, "0"},              // and no sign of it
		{"{{0.1 + 0.2}} {{1 + 2}} {{-3}}", rules.True, "0.3 3 -3"},              //
		{"{{size(profile.marketing.owned)}}", rules.True, "2"},                  //
		{"{{profile.general.tier}}", rules.True, "gold {{x}}"},                  // what a customer's field holds is not computed again
		{"{{profile.value.arpu > 100 ? 'Gold' : 'Silver'}}", rules.True, "Gold"},
		{"{{segment.rich ? 'rich' : 'poor'}}", rules.True, "rich"},                   //
		{"at {{now.getHours('+08:00')}} o'clock", rules.True, "at 10 o'clock"},       //
		{"{{'{{' + \"}}\"}}", rules.True, "{{}}"},                                    //
		{"{{context.city}}", rules.True, ""},                                         //
		{"{{context.basket}}", rules.Unknown, ""},                                    //
		{"a {{profile.value.balance}} b {{context.basket}} c", rules.Unknown, ""},    //
		{"{{has(context.basket) ? 'basket' : 'none'}}", rules.True, "none"},          //
		{"{{profile.value.arpu / 0}}", rules.Failed, ""},                             // it is infinite
		{"{{profile.tag.heavy || context.basket > 1 ? 'x' : 'y'}}", rules.True, "x"}, //
		{"{{'abc'.substring(5)}}", rules.Failed, ""},
	} {
		content, e := contentOf(t, x.content)
		e.Reset(inputs)
		got, truth := content.Render(e)
		if got != x.want || truth != x.truth {
			t.Errorf("%s: %q, %s; want %q, %s", x.content, got, truth, x.want, x.truth)
		}
		if content.String() != x.content {
			t.Errorf("%s: as written %s", x.content, content)
		}
		if content.Computed() != strings.Contains(strings.ReplaceAll(x.content, "{{{{", ""), "{{") {
			t.Errorf("%s: computed %t", x.content, content.Computed())
		}
	}
}

// TestLiteral compares templates of which nothing is computed with their texts.
func TestLiteral(t *testing.T) {
	for _, text := range []string{"", "a", "{{a}}", "{{{", "}}}}}"} {
		x := catalog.Literal(text)
		if got, truth := x.Render(nil); got != text || truth != rules.True || x.Computed() {
			t.Errorf("%q: %q, %s", text, got, truth)
		}
		if text == "" {
			continue
		}
		again, e := contentOf(t, x.String())
		if got, _ := again.Render(e); got != text {
			t.Errorf("%q is written %q, and that is %q", text, x, got)
		}
	}
	var none *catalog.Template
	if got, truth := none.Render(nil); got != "" || truth != rules.True || none.Computed() || none.String() != "" {
		t.Errorf("no template: %q, %s", got, truth)
	}
}

// TestConstantTextCostsNothing holds texts without computed parts to no allocation.
func TestConstantTextCostsNothing(t *testing.T) {
	content, e := contentOf(t, "10 GB more, reply 1")
	if n := testing.AllocsPerRun(100, func() { content.Render(e) }); n > 0 {
		t.Errorf("%g allocations", n)
	}
}

func TestManyComputedParts(t *testing.T) {
	f := catalogWith("profile.tag.heavy")
	f.Content = []byte(strings.Replace(string(f.Content), "content: A", `content: "`+strings.Repeat("{{now.getHours()}}", 101)+`"`, 1))
	_, _, problems := catalog.Compile([]catalog.File{f}, testSchema(t), nil)
	if text := printed(problems); len(problems) != 1 || !strings.Contains(text, "more than 100 parts") {
		t.Error(text)
	}
}

func BenchmarkRender(b *testing.B) {
	for _, content := range []string{"10 GB more, reply 1", "Your balance is {{profile.value.balance}}."} {
		b.Run(content[:4], func(b *testing.B) {
			template, e := contentOf(b, content)
			e.Reset(rules.Inputs{Profile: customer{testSchema(b), map[string]profilestore.Value{"value.balance": profilestore.Number(29.85)}}})
			b.ReportAllocs()
			for b.Loop() {
				template.Render(e)
			}
		})
	}
}
