package sandbox_test

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"rapport/plugins"
	"rapport/profilestore"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/sandbox"
)

// pegaAction is a row of what another system recorded of its decisions: an action that
// competed, and the priority that it came to. An action that eligibility filtered out has
// neither propensity nor priority.
type pegaAction struct {
	interaction, name           string
	propensity                  string
	value, contextWeight, lever float64 // the last is the column Weight
	priority                    string
}

// slots is a customer of whom some fields are known.
type slots map[int]profilestore.Value

func (s slots) Get(slot int) profilestore.Value { return s[slot] }

// readPegaActions reads the rows; it skips the test if the file is not there.
func readPegaActions(t *testing.T) (rows []pegaAction) {
	t.Helper()
	path := filepath.FromSlash("../../../shared/data/pega-cdh-sample/sample_eev2_minimal.csv")
	text, err := os.ReadFile(path)
	if err != nil {
		if strings.Contains(os.Getenv("RAPPORT_REQUIRE"), "shared") {
			t.Fatal("RAPPORT_REQUIRE asks for shared data: ", err)
		}
		t.Skip("shared/data/pega-cdh-sample/sample_eev2_minimal.csv is not here")
	}
	all, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	column := make(map[string]int)
	for i, name := range all[0] {
		column[name] = i
	}
	for _, row := range all[1:] {
		cell := func(name string) string {
			i, ok := column[name]
			if !ok {
				t.Fatalf("no column %s", name)
			}
			return row[i]
		}
		number := func(name string) float64 {
			x, err := strconv.ParseFloat(cell(name), 64)
			if err != nil {
				t.Fatal(err)
			}
			return x
		}
		rows = append(rows, pegaAction{
			interaction: cell("pxInteractionID"), name: cell("pyName"), propensity: cell("FinalPropensity"),
			value: number("Value"), contextWeight: number("ContextWeight"), lever: number("Weight"), priority: cell("Priority"),
		})
	}
	return rows
}

// What another system recorded of three decisions comes out of pvcl: each action's priority,
// to 1e-12, in that order; and what has no propensity is not ranked. Each decision is one of
// a catalogue whose offers have the recorded value, a group with the context weight, and the
// recorded weight as their lever.
func TestPVCLGivesRecordedPriorities(t *testing.T) {
	rows := readPegaActions(t)
	var interactions []string
	of := make(map[string][]pegaAction)
	for _, r := range rows {
		if of[r.interaction] == nil {
			interactions = append(interactions, r.interaction)
		}
		of[r.interaction] = append(of[r.interaction], r)
	}
	m := compile(t, newRuntime(t, sandbox.Options{}), plugins.PVCL())
	ranked, left := 0, 0
	for _, interaction := range interactions {
		actions := of[interaction]
		var fields []profilestore.Field
		var offers, weights strings.Builder
		known := make(map[string]profilestore.Value)
		for _, a := range actions {
			name := strings.ToLower(a.name)
			fields = append(fields, profilestore.Field{Name: "marketing." + name, Type: profilestore.TypeNumber, Batch: "bi", Decimals: profilestore.NoDecimals})
			if a.propensity != "" {
				p, err := strconv.ParseFloat(a.propensity, 64)
				if err != nil {
					t.Fatal(err)
				}
				known["marketing."+name] = profilestore.Number(p)
			}
			fmt.Fprintf(&weights, "      - {group: %s, weight: %v}\n", name, a.contextWeight)
			fmt.Fprintf(&offers, "  - {id: %s, group: %s, class: marketing, value: %v, boost: %v, propensity: {field: marketing.%s}, "+
				"eligible: profile.marketing.%s > 0.0, treatments: [{channel: web, content: text}]}\n", name, name, a.value, 100*(a.lever-1), name, name)
		}
		schema, err := profilestore.NewSchema([]profilestore.Source{{ID: "bi"}}, fields)
		if err != nil {
			t.Fatal(err)
		}
		text := "channels: [{id: web, direction: inbound}]\ntouchpoints: [{id: web.home, channel: web, slots: 10}]\nscenarios:\n" +
			"  - id: recorded\n    touchpoints: [web.home]\n    strategy: {name: pvcl}\n    weights:\n" + weights.String() + "offers:\n" + offers.String()
		c, _, problems := catalog.Compile([]catalog.File{{Name: "catalog.yaml", Content: []byte(text)}}, schema, nil)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		customer := make(slots)
		for name, v := range known {
			slot, _ := schema.Lookup(name)
			customer[slot] = v
		}
		d, err := decide.New(c, []decide.Ranker{bindTo(t, m, c, c.Scenarios[0], sandbox.PoolOptions{Size: 1})})
		if err != nil {
			t.Fatal(err)
		}
		answer := new(decide.Answer)
		d.Decide(t.Context(), &decide.Request{Now: 1_711_533_600_000_000, Seed: 1, Profile: customer}, answer)
		if len(answer.Degradations) > 0 || answer.RankedBy.Name != "pvcl" {
			t.Fatalf("%s: ranked by %s, %v", interaction, answer.RankedBy.Name, answer.Degradations)
		}
		got := make(map[string]float64)
		for i, p := range answer.Slate {
			got[strings.ToUpper(c.Offers[p.Offer].ID)] = p.Score
			if i > 0 && p.Score > answer.Slate[i-1].Score {
				t.Errorf("%s: %v comes after %v", interaction, p.Score, answer.Slate[i-1].Score)
			}
		}
		for _, a := range actions {
			score, ok := got[a.name]
			if a.propensity == "" || a.priority == "" {
				left++
				if ok {
					t.Errorf("%s: %s has no propensity, and is ranked with %v", interaction, a.name, score)
				}
				continue
			}
			ranked++
			want, err := strconv.ParseFloat(a.priority, 64)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s %s: %v, recorded %s", interaction, a.name, score, a.priority)
			if !ok || math.Abs(score-want) > 1e-12*want {
				t.Errorf("%s: %s has %v, and %v was recorded", interaction, a.name, score, want)
			}
		}
	}
	if ranked != 8 || left != 4 {
		t.Errorf("%d ranked and %d not, want 8 and 4", ranked, left)
	}
}
