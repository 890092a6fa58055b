package catalog_test

import (
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"rapport/profilestore"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata")

// schemaYAML is the schema of all catalogue transcripts.
const schemaYAML = `
sources: [{id: bi}]
tables: [{id: area}, {id: nearest_store}]
fields:
  - {name: value.arpu, type: number, batch: bi, decimals: 2}
  - {name: marketing.propensity_data, type: number, batch: bi}
  - {name: usage.data_mb, type: counter, batch: bi}
  - {name: tag.heavy, type: flag, batch: bi}
  - {name: general.tier, type: text, batch: bi}
  - {name: value.balance, type: number, batch: bi, decimals: 2}
  - {name: value.contract_end, type: time, batch: bi}
  - {name: marketing.owned, type: set, batch: bi}
  - {name: preference.channel, type: text, batch: bi}
  - {name: preference.persona, type: text, batch: bi}
  - {name: preference.zone, type: text, batch: bi}
  - {name: preference.sms_consent, type: flag, batch: bi}
  - {name: preference.leave_me_alone, type: flag, batch: bi}
  - {name: preference.never_set, type: flag, events: {on: event.type == "x", set: "false"}}
  - {name: preference.by_default, type: flag, batch: bi, default: true}
  - {name: location.cell, type: text, batch: bi}
  - {name: preference.by_events, type: flag, events: {on: event.type == "stop", set: "true"}}
  - {name: tag.last_outcome, type: text, events: {on: event.type == "outcome" && event.outcome == "wants_call", set: event.outcome}}
`

func testSchema(t testing.TB) *profilestore.Schema {
	t.Helper()
	s, problems := catalog.ReadSchema("schema.yaml", []byte(schemaYAML))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return s
}

// TestCatalogs compiles the files of each transcript and compares the problems,
// or the layout of what compiles, with its last file.
func TestCatalogs(t *testing.T) {
	schema := testSchema(t)
	transcripts(t, "testdata/catalog/*.txtar", func(files []catalog.File) (string, string) {
		compiled, message, problems := catalog.Compile(files, schema, fits{})
		if (compiled == nil) != (len(problems) > 0) || (message == nil) != (len(problems) > 0) {
			return "problems", "both or neither of a catalogue and problems"
		}
		if len(problems) > 0 {
			return "problems", printed(problems)
		}
		return "compiled", layout(compiled)
	})
}

// TestSchemas does the same for schemas.
func TestSchemas(t *testing.T) {
	transcripts(t, "testdata/schema/*.txtar", func(files []catalog.File) (string, string) {
		s, problems := catalog.ReadSchema(files[0].Name, files[0].Content)
		if (s == nil) != (len(problems) > 0) {
			return "problems", "both or neither of a schema and problems"
		}
		if len(problems) > 0 {
			return "problems", printed(problems)
		}
		b, err := s.MarshalJSON()
		if err != nil {
			return "problems", err.Error()
		}
		return "schema.json", string(b) + "\n"
	})
}

// transcripts runs every archive: its files but the last go in, and the last is
// what must come out.
func transcripts(t *testing.T, pattern string, run func([]catalog.File) (name, content string)) {
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var in []catalog.File
			want := txtar.File{}
			for _, f := range a.Files {
				if strings.HasSuffix(f.Name, ".yaml") {
					in = append(in, catalog.File{Name: f.Name, Content: f.Data})
				} else {
					want = f
				}
			}
			result, content := run(in)
			if *update {
				a.Files = append(slices.DeleteFunc(a.Files, func(f txtar.File) bool { return !strings.HasSuffix(f.Name, ".yaml") }),
					txtar.File{Name: result, Data: []byte(content)})
				if err := os.WriteFile(name, txtar.Format(a), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if result != want.Name || content != string(want.Data) {
				t.Errorf("want %s:\n%s\ngot %s:\n%s", want.Name, want.Data, result, content)
			}
		})
	}
}

func printed(problems []catalog.Problem) string {
	var b strings.Builder
	for _, p := range problems {
		b.WriteString(p.String() + "\n")
	}
	return b.String()
}

// fits is a StrategyChecker of two strategies.
type fits struct{}

func (fits) Check(c *catalog.Compiled, s *catalog.Scenario) []string {
	var out []string
	switch s.Strategy.Name {
	case "pvcl":
	case "margin":
		for _, x := range s.Candidates {
			if o := c.Offers[x.Offer]; !o.Attributes["margin"].Known() {
				out = append(out, fmt.Sprintf("offer %s lacks the attribute margin", o.ID))
			}
		}
	default:
		out = append(out, fmt.Sprintf("there is no strategy %q", s.Strategy.Name))
	}
	for name := range s.Strategy.Parameters {
		if name != "value_weight" {
			out = append(out, fmt.Sprintf("strategy %s has no parameter %q", s.Strategy.Name, name))
		}
	}
	return out
}

// layout prints a compiled catalogue. What an element does not have is left out.
func layout(c *catalog.Compiled) string {
	p := printer{c: c}
	if zone, field := c.Clock.Zone.String(), p.slot(c.Clock.Slot); zone != "UTC" || field != "" {
		p.line("clock: %s%s", zone, after(", of a customer ", field))
	}
	if c.Control.Share > 0 {
		p.line("control group: %g of all, salt %q", c.Control.Share, c.Control.Salt)
	}
	for _, x := range c.Context {
		p.line("context %s: %s, default %s", x.Name, x.Kind, x.Default)
	}
	for i := range c.Channels {
		p.channel(&c.Channels[i])
	}
	for _, x := range c.Segments {
		p.line("segment %s: %q by %q, as written %s", x.ID, x.Description, x.Owner, x.Text)
		p.rule("if", x.When)
	}
	for i := range c.DecisionTables {
		p.decisionTable(&c.DecisionTables[i])
	}
	for i := range c.Policies {
		p.policy(&c.Policies[i])
	}
	for _, x := range c.Capacities {
		p.line("capacity %s: %d %s, taken by %s", x.ID, x.Max, [...]string{"in all", "an hour", "a day", "a week", "a month"}[x.Period], x.TakenBy)
	}
	for i := range c.Offers {
		p.offer(&c.Offers[i])
	}
	for _, s := range c.Scenarios {
		p.scenario(s)
	}
	for i := range c.Touchpoints {
		p.touchpoint(i, &c.Touchpoints[i])
	}
	p.line("%d conditions", c.Rules.Conditions())
	return p.String()
}

type printer struct {
	strings.Builder
	c *catalog.Compiled
}

func (p *printer) line(format string, args ...any) { _, _ = fmt.Fprintf(p, format+"\n", args...) } // a Builder never fails

// after returns a text with what comes before it, nothing if it is empty.
func after(before, text string) string {
	if text == "" {
		return ""
	}
	return before + text
}

// slot returns the name of the field at a slot, nothing for none.
func (p *printer) slot(slot int) string {
	if slot < 0 {
		return ""
	}
	return p.c.Schema.Fields()[slot].Name
}

// rule prints the conditions of a rule, with the words for them, the decision tables that
// they read, and what else these do.
func (p *printer) rule(what string, r rules.Rule) {
	for _, i := range r.Conditions() {
		n := int(i)
		p.line("  %s %s%s%s", what, p.c.Rules.Condition(n), after(" — ", p.c.Rules.Label(n)), p.reads(p.c.Rules.Reads(n)))
	}
}

// reads prints what an expression reads that is more than fields.
func (p *printer) reads(r rules.Reads) string {
	var list []string
	for _, i := range r.Tables {
		list = append(list, p.c.Schema.Tables()[i].ID)
	}
	if len(r.Decisions) > 0 {
		for _, i := range r.Slots {
			list = append(list, p.slot(i))
		}
		for _, i := range r.Context {
			list = append(list, "context."+p.c.Context[i].Name)
		}
	}
	return after(" · reads ", strings.Join(list, ", "))
}

func (p *printer) decisionTable(x *catalog.DecisionTable) {
	p.line("decision table %s: %q, %q by %q, of %s", x.ID, x.Label, x.Description, x.Owner, strings.Join(x.Inputs, " | "))
	for _, row := range x.Rows {
		p.line("  %s → %s %s", strings.Join(row.Cells, " | "), row.Result.Kind(), row.Result)
		p.rule("  if", row.When)
	}
	if x.Default.Known() {
		p.line("  else %s", x.Default)
	}
}

func (p *printer) channel(x *catalog.Channel) {
	p.line("channel %s: outbound %t, cost %g, attributes %s", x.ID, x.Outbound, x.Cost, attributes(x.Attributes))
	for _, field := range []string{after("consent ", p.slot(x.Consent)), after("do not disturb ", p.slot(x.DoNotDisturb))} {
		if field != "" {
			p.line("  %s", field)
		}
	}
	if x.QuietHours != nil {
		p.line("  quiet %v", *x.QuietHours)
	}
	for _, h := range x.ContactHours {
		p.line("  hours %s: %v", h.ID, h.Hours)
		p.rule("  if", h.When)
	}
	if x.Hold != 10*time.Minute {
		p.line("  holds %s", x.Hold)
	}
	if x.HasPressure {
		p.line("  above %g: weight %g", x.PressureAbove, x.PressureWeight)
	}
}

func (p *printer) policy(x *catalog.Policy) {
	per := map[catalog.Dimension]string{
		catalog.PerOffer: "offer", catalog.PerGroup: "group", catalog.PerClass: "class", catalog.PerChannel: "channel", catalog.PerTouchpoint: "touchpoint",
	}[x.Per]
	span := func(micros int64) string { return profilestore.FormatSpan(time.Duration(micros) * time.Microsecond) }
	suppress := ""
	if x.Suppress > 0 {
		suppress = ", then nothing for " + span(x.Suppress)
	}
	p.line("policy %s: %d of %s%s within %s%s", x.ID, x.Max, x.Count, after(" per ", per), span(x.Within), suppress)
	for _, f := range x.Filters {
		var about []string
		for _, part := range []string{
			after("outcome ", f.Outcome), after("channel ", f.Channel), after("touchpoint ", f.Touchpoint),
			after("group ", f.Group), after("offer ", f.Offer), after("class ", f.Class),
		} {
			if part != "" {
				about = append(about, part)
			}
		}
		p.line("  counts %s", strings.Join(append([]string{map[profilestore.InteractionType]string{profilestore.Contacts: "contacts", profilestore.Outcomes: "outcomes"}[f.Type]}, about...), ", "))
	}
}

func (p *printer) offer(x *catalog.Offer) {
	from := "constant"
	if x.Propensity.Slot >= 0 {
		from = p.slot(x.Propensity.Slot)
	}
	learns := ""
	if x.Propensity.StartEvidence > 0 {
		learns = fmt.Sprintf(" worth %v %s (learner %d)", x.Propensity.StartEvidence, x.Propensity.Success, x.Propensity.Learner)
	}
	p.line("offer %s: group %s, class %s, value %g, propensity %s from %g%s, lever %g, attributes %s",
		x.ID, x.Group, x.Class, x.Value, from, x.Propensity.Start, learns, x.Lever, attributes(x.Attributes))
	p.rule("if", x.Eligible)
	if x.HasOwned {
		p.rule("owned if", x.Owned)
	}
	p.rule("needs", x.Prerequisite)
	day := func(micros int64) string { return time.UnixMicro(micros).UTC().Format(time.RFC3339) }
	if x.ValidFrom != 0 {
		p.line("  from %s", day(x.ValidFrom))
	}
	if x.ValidUntil != 0 {
		p.line("  until %s", day(x.ValidUntil))
	}
	if x.Exclusive >= 0 {
		p.line("  exclusive %d", x.Exclusive)
	}
	for _, other := range x.Excludes {
		p.line("  excludes %s", p.c.Offers[other].ID)
	}
	if x.HeldBack {
		p.line("  not for the control group")
	}
}

func (p *printer) scenario(s *catalog.Scenario) {
	strategy := "built in"
	if s.Strategy != nil {
		strategy = fmt.Sprintf("%s %s %v", s.Strategy.Name, s.Strategy.Version, s.Strategy.Parameters)
	}
	p.line("scenario %s: strategy %s", s.ID, strategy)
	if !s.Plain {
		p.line("  not plain")
	}
	if s.ClassOrder {
		p.line("  classes in order")
	}
	if !math.IsInf(s.MinimumScore, -1) {
		p.line("  minimum score %g", s.MinimumScore)
	}
	choice := s.Choice
	if choice.Preferred >= 0 {
		p.line("  channel preferred by %s", p.slot(choice.Preferred))
	}
	for _, name := range slices.Sorted(maps.Keys(choice.Personas)) {
		var ids []string
		for _, ch := range choice.Personas[name] {
			ids = append(ids, p.c.Channels[ch].ID)
		}
		p.line("  %s %s: %s", p.slot(choice.Persona), name, strings.Join(ids, ", "))
	}
	if choice.Cheapest {
		p.line("  else the cheapest channel")
	}
	for i := range s.Candidates {
		x := &s.Candidates[i]
		computed := ""
		if x.Content.Computed() {
			computed = ", computed"
		}
		computed += p.reads(x.Content.Reads())
		p.line("  candidate %d: %s in %s, weight %g%s, %q%s", i, p.c.Offers[x.Offer].ID, p.c.Channels[x.Channel].ID, x.Weight, after(", ", x.Format), x.Content, computed)
		if x.Script != nil {
			p.line("    staff say %q", x.Script)
		}
		p.rule("  if", x.Eligible)
		p.names("bound by", x.Policies, func(n int32) string { return p.c.Policies[n].ID })
		p.names("takes", x.Capacities, func(n int32) string { return p.c.Capacities[n].ID })
	}
}

func (p *printer) names(what string, list []int32, name func(int32) string) {
	var names []string
	for _, n := range list {
		names = append(names, name(n))
	}
	if len(names) > 0 {
		p.line("    %s %s", what, strings.Join(names, ", "))
	}
}

func (p *printer) touchpoint(i int, x *catalog.Touchpoint) {
	if at, ok := p.c.Touchpoint(x.ID); !ok || at != i {
		p.line("touchpoint %s can't be found by its id", x.ID)
	}
	scenario := "none"
	if x.Scenario >= 0 {
		scenario = p.c.Scenarios[x.Scenario].ID
	}
	fallback := ""
	if f := x.Fallback; f != nil {
		fallback = fmt.Sprintf(", fallback %s in %s %q", p.c.Offers[f.Offer].ID, p.c.Channels[f.Channel].ID, f.Content)
	}
	p.line("touchpoint %s: channel %s, slots %d, scenario %s, candidates %v%s", x.ID, p.c.Channels[x.Channel].ID, x.Slots, scenario, x.Candidates, fallback)
	if x.Staff {
		p.line("  for staff")
	}
	for _, card := range x.Cards {
		roles := "everybody"
		if len(card.Roles) > 0 {
			roles = strings.Join(card.Roles, ", ")
		}
		var fields []string
		for _, slot := range card.Slots {
			fields = append(fields, p.slot(slot))
		}
		p.line("  %s see %s", roles, strings.Join(fields, ", "))
	}
}

func attributes(m map[string]profilestore.Value) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list = append(list, fmt.Sprintf("%s=%s %s", name, m[name].Kind(), m[name]))
	}
	return strings.Join(list, ", ")
}
