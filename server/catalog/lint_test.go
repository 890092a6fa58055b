package catalog_test

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
)

// linted is when the catalogues of the lint transcripts are looked at.
var linted = time.Date(2026, 11, 7, 2, 0, 0, 0, time.UTC)

// TestLint compares what is legal and surely wrong.
func TestLint(t *testing.T) {
	schema := testSchema(t)
	found := make(map[string]bool)
	transcripts(t, "testdata/lint/*.txtar", func(files []catalog.File) (string, string) {
		warnings, problems := catalog.Lint(files, schema, catalog.LintOptions{Now: linted})
		if len(problems) > 0 {
			return "problems", printed(problems)
		}
		var b strings.Builder
		for _, w := range warnings {
			found[w.Name] = true
			b.WriteString(w.String() + "\n")
		}
		return "warnings", b.String()
	})
	if run := flag.Lookup("test.run"); strings.Contains(run.Value.String(), "/") {
		return // some transcripts only
	}
	for _, lint := range catalog.Lints {
		if !found[lint.Name] && lint.Name != "rule-unfulfilled" && !*update { // see TestLintCustomers
			t.Errorf("no transcript shows %s: %s", lint.Name, lint.Finds)
		}
	}
}

// TestLintCustomers tries rules on customers. What depends on the moment is left out.
func TestLintCustomers(t *testing.T) {
	schema := testSchema(t)
	var files []catalog.File
	content := `
context: [{name: role, type: text}]
channels: [{id: web, direction: inbound}]
touchpoints: [{id: web.home, channel: web}]
scenarios: [{id: home, touchpoints: [web.home]}]
groups: [{id: g, eligible: profile.value.arpu < 0}]
offers:
`
	for i, rule := range []string{
		`profile.tag.heavy`,                                          // for some
		`profile.value.arpu > 1000`,                                  // for none
		`profile.value.balance > 5`,                                  // unknown of all
		`profile.value.arpu > 1000 && profile.value.balance > 5`,     // false wins
		`profile.value.arpu > 1000 && context.role == "agent"`,       // for none, whatever the context
		`profile.value.arpu > 10 && context.role == "agent"`,         //
		`profile.value.arpu > 1000 || context.role == "agent"`,       // in another context
		`profile.value.arpu > 1000 || now.getMonth() == 11`,          // at another time
		`profile.tag.last_outcome == "x" && profile.value.arpu > 10`, // after an event
		`profile.general.tier == "platinm"`,                          // a slip of the pen
	} {
		content += fmt.Sprintf("  - {id: a%d, group: h, class: care, propensity: {start: 1}, treatments: [{channel: web, content: A}], eligible: '%s'}\n", i, rule)
	}
	content += "  - {id: b, group: g, class: care, propensity: {start: 1}, treatments: [{channel: web, content: A}]}\n"
	files = append(files, catalog.File{Name: "c.yaml", Content: []byte(content)})
	var customers []rules.Profile
	for i := range 20 {
		customers = append(customers, customer{schema, map[string]profilestore.Value{
			"value.arpu": profilestore.Number(float64(i)), "tag.heavy": profilestore.Flag(i == 19), "general.tier": profilestore.Text("gold"),
		}})
	}
	lint := func(some []rules.Profile) string {
		warnings, problems := catalog.Lint(files, schema, catalog.LintOptions{Now: linted, Customers: slices.Values(some)})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		var b strings.Builder
		for _, w := range warnings {
			b.WriteString(w.String() + "\n")
		}
		return b.String()
	}
	want := `c.yaml:6:28: groups[0].eligible: it is false for every one of 20 customers (rule-unfulfilled)
c.yaml:9:113: offers[1].eligible: it is false for every one of 20 customers (rule-unfulfilled)
c.yaml:11:113: offers[3].eligible: it is false for every one of 20 customers (rule-unfulfilled)
c.yaml:12:113: offers[4].eligible: it is false for every one of 20 customers (rule-unfulfilled)
c.yaml:17:113: offers[9].eligible: it is false for every one of 20 customers (rule-unfulfilled)
`
	if got := lint(customers); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := lint(nil); got != "" {
		t.Errorf("of no customers: %s", got)
	}
}

// TestManyWarnings lints a catalogue of which everything is wrong.
func TestManyWarnings(t *testing.T) {
	var b strings.Builder
	b.WriteString("channels: [{id: web, direction: inbound}]\ntouchpoints: [{id: web.home, channel: web}]\n" +
		"scenarios: [{id: s, touchpoints: [web.home], offers: [a0]}]\noffers:\n")
	for i := range 3000 {
		fmt.Fprintf(&b, "  - {id: a%d, group: g, class: care, propensity: {start: 1}, treatments: [{channel: web, content: A}]}\n", i)
	}
	warnings, _ := catalog.Lint([]catalog.File{{Name: "f.yaml", Content: []byte(b.String())}}, testSchema(t), catalog.LintOptions{Now: linted})
	if n := len(warnings); n != 1001 || warnings[n-1].Message != "and 1999 more warnings" {
		t.Errorf("%d warnings, the last %v", n, warnings[n-1])
	}
}

// TestLintsAreDocumented holds the list of lints to be in order, each with a word of what
// it finds.
func TestLintsAreDocumented(t *testing.T) {
	for i, lint := range catalog.Lints {
		if len(lint.Finds) < 20 || i > 0 && catalog.Lints[i-1].Name >= lint.Name {
			t.Errorf("%s: %s", lint.Name, lint.Finds)
		}
	}
}
