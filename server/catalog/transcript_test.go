package catalog_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"rapport/profilestore"
	"rapport/server/catalog"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata")

// schemaYAML is the schema of all catalogue transcripts.
const schemaYAML = `
sources: [{id: bi}]
fields:
  - {name: value.arpu, type: number, batch: bi, decimals: 2}
  - {name: marketing.propensity_data, type: number, batch: bi}
  - {name: usage.data_mb, type: counter, batch: bi}
  - {name: tag.heavy, type: flag, batch: bi}
  - {name: general.tier, type: text, batch: bi}
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

// layout prints a compiled catalogue.
func layout(c *catalog.Compiled) string {
	var b strings.Builder
	for _, x := range c.Context {
		fmt.Fprintf(&b, "context %s: %s, default %s\n", x.Name, x.Kind, x.Default)
	}
	for _, x := range c.Channels {
		fmt.Fprintf(&b, "channel %s: outbound %t, cost %g, attributes %s\n", x.ID, x.Outbound, x.Cost, attributes(x.Attributes))
	}
	for _, x := range c.Segments {
		fmt.Fprintf(&b, "segment %s: %q by %q, as written %s\n", x.ID, x.Description, x.Owner, x.Text)
		for _, i := range x.When.Conditions() {
			fmt.Fprintf(&b, "  if %s\n", c.Rules.Condition(int(i)))
		}
	}
	for _, x := range c.Offers {
		from := "constant"
		if x.Propensity.Slot >= 0 {
			from = c.Schema.Fields()[x.Propensity.Slot].Name
		}
		fmt.Fprintf(&b, "offer %s: group %s, class %s, value %g, propensity %s from %g, lever %g, attributes %s\n",
			x.ID, x.Group, x.Class, x.Value, from, x.Propensity.Start, x.Lever, attributes(x.Attributes))
		for _, i := range x.Eligible.Conditions() {
			fmt.Fprintf(&b, "  if %s\n", c.Rules.Condition(int(i)))
		}
	}
	for _, s := range c.Scenarios {
		strategy := "built in"
		if s.Strategy != nil {
			strategy = fmt.Sprintf("%s %s %v", s.Strategy.Name, s.Strategy.Version, s.Strategy.Parameters)
		}
		fmt.Fprintf(&b, "scenario %s: strategy %s\n", s.ID, strategy)
		for i, x := range s.Candidates {
			fmt.Fprintf(&b, "  candidate %d: %s in %s, weight %g, %q\n", i, c.Offers[x.Offer].ID, c.Channels[x.Channel].ID, x.Weight, x.Content)
		}
	}
	for i, x := range c.Touchpoints {
		if at, ok := c.Touchpoint(x.ID); !ok || at != i {
			fmt.Fprintf(&b, "touchpoint %s can't be found by its id\n", x.ID)
		}
		scenario := "none"
		if x.Scenario >= 0 {
			scenario = c.Scenarios[x.Scenario].ID
		}
		fmt.Fprintf(&b, "touchpoint %s: channel %s, slots %d, scenario %s, candidates %v", x.ID, c.Channels[x.Channel].ID, x.Slots, scenario, x.Candidates)
		if f := x.Fallback; f != nil {
			fmt.Fprintf(&b, ", fallback %s in %s %q", c.Offers[f.Offer].ID, c.Channels[f.Channel].ID, f.Content)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "%d conditions\n", c.Rules.Conditions())
	return b.String()
}

func attributes(m map[string]profilestore.Value) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list = append(list, fmt.Sprintf("%s=%s %s", name, m[name].Kind(), m[name]))
	}
	return strings.Join(list, ", ")
}
