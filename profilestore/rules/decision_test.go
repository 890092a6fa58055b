package rules

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rapport/profilestore"
)

// tableWriter writes random decision tables, and for each the conditional of CEL that it
// has to be.
type tableWriter struct {
	*typedWriter
	inputs []string // what else an input can be
}

// anInput is an input with its type, and whether it can be asked for with ?.
type anInput struct {
	text  string
	of    aType
	set   bool
	field bool
}

func (w tableWriter) input() anInput {
	switch w.pick(6) {
	case 0:
		k := w.any()
		return anInput{text: w.of(k, 2), of: k}
	case 1:
		return anInput{text: w.one("profile.marketing.m", "profile.marketing.n", "context.m"), set: true, field: true}
	case 2, 3:
		if len(w.inputs) > 0 {
			return anInput{text: w.one(w.inputs...), of: aFlag}
		}
	}
	k := []aType{aFlag, aNumber, aNumber, aText, aText, aTime}[w.pick(6)]
	field := w.one(leaves[k]...)
	for !strings.HasPrefix(field, "profile.") && !strings.HasPrefix(field, "context.") || strings.Contains(field, "(") {
		field = w.one(leaves[k]...)
	}
	return anInput{text: field, of: k, field: true}
}

// value writes a constant as a cell has it and as CEL has it. Smaller ones come first.
func (w tableWriter) value(in anInput) (cell, cel []string) {
	switch {
	case in.set || in.of == aText:
		return []string{"g", `"gold"`, "héllo", `"2"`, `''`}, []string{`"g"`, `"gold"`, `"héllo"`, `"2"`, `""`}
	case in.of == aFlag:
		return []string{"false", "true"}, []string{"false", "true"}
	case in.of == aNumber:
		return []string{"-1", "0", "2", "2.5", "1000000"}, []string{"-1.0", "0.0", "2.0", "2.5", "1000000.0"}
	case in.of == aWhole:
		return []string{"-3", "0", "1", "2", "7"}, []string{"-3", "0", "1", "2", "7"}
	case in.of == aTime:
		return []string{"1970-01-01T00:00:01Z", "2026-01-31T18:00:00+08:00"}, []string{`timestamp("1970-01-01T00:00:01Z")`, `timestamp("2026-01-31T10:00:00Z")`}
	}
	return []string{"-90m", "0h", "36h", "1d", "9d"}, []string{`duration("-90m")`, `duration("0s")`, `duration("36h")`, "days(1)", "days(9)"}
}

// cell writes a cell and its condition; an empty one holds always.
func (w tableWriter) cell(in anInput) (cell, cel string) {
	if w.pick(4) == 0 {
		return w.one("-", " - "), "true"
	}
	var cells, cels []string
	for range 1 + w.pick(5)/3 {
		c, e := w.alternative(in)
		cells, cels = append(cells, c), append(cels, "("+e+")")
	}
	cell, cel = strings.Join(cells, w.one(",", ", ", " , ")), strings.Join(cels, " || ")
	if w.pick(6) == 0 {
		return "not(" + cell + ")", "!(" + cel + ")"
	}
	return cell, cel
}

func (w tableWriter) alternative(in anInput) (cell, cel string) {
	if in.field && w.pick(6) == 0 {
		return "?", "!has(" + in.text + ")"
	}
	x := "(" + in.text + ")"
	cells, cels := w.value(in)
	i := w.pick(len(cells))
	if in.set {
		if w.pick(4) == 0 {
			return "!= " + cells[i], "!(" + cels[i] + " in " + x + ")"
		}
		return cells[i], cels[i] + " in " + x
	}
	if in.of == aText || in.of == aFlag {
		if w.pick(4) == 0 {
			return "!=" + cells[i], x + " != " + cels[i]
		}
		return w.one("", "", "= ", "==") + cells[i], x + " == " + cels[i]
	}
	if w.pick(2) == 0 {
		op := w.one("<", "<=", ">", ">=", "!=", "=", "")
		return op + w.one("", " ") + cells[i], x + " " + map[bool]string{true: "=="}[op == "=" || op == ""] + strings.TrimSuffix(op, map[bool]string{true: "="}[op == "="]) + " " + cels[i]
	}
	j := i + w.pick(len(cells)-i)
	if i == j {
		return cells[i] + ".." + cells[j], x + " == " + cels[i]
	}
	low, high := w.one("[", "(", "]"), w.one("]", ")", "[")
	cell = low + cells[i] + ".." + cells[j] + high
	if low+high == "[]" && w.pick(2) == 0 {
		cell = cells[i] + " .. " + cells[j]
	}
	return cell, x + map[bool]string{true: " >= ", false: " > "}[low == "["] + cels[i] + " && " + x + map[bool]string{true: " <= ", false: " < "}[high == "]"] + cels[j]
}

// table writes a table and the conditional.
func (w tableWriter) table(id string, results []profilestore.Value, cels []string, nothing string) (t DecisionTable, cel string) {
	t.ID = id
	inputs := make([]anInput, 1+w.pick(3))
	for i := range inputs {
		inputs[i] = w.input()
		t.Inputs = append(t.Inputs, inputs[i].text)
	}
	n := 1 + w.pick(4)
	for range n {
		row := TableRow{}
		var tests []string
		for _, in := range inputs {
			cell, test := w.cell(in)
			row.When, tests = append(row.When, cell), append(tests, "("+test+")")
		}
		k := w.pick(len(results))
		row.Result = results[k]
		t.Rows = append(t.Rows, row)
		cel += strings.Join(tests, " && ") + " ? " + cels[k] + " : ("
	}
	if w.pick(2) == 0 {
		t.Default = results[0]
		nothing = cels[0]
	}
	return t, cel + nothing + strings.Repeat(")", n)
}

// TestDecisionTables compares random decision tables, and what names them, with the
// conditionals that they stand for, which cel-go evaluates.
func TestDecisionTables(t *testing.T) {
	schema := agreeSchema(t)
	none := []Input{{"none_f", profilestore.KindFlag}, {"none_n", profilestore.KindNumber}, {"none_s", profilestore.KindText}}
	env, err := NewEnv(schema, slices.Concat(agreeContext, none)) // the last are never given
	if err != nil {
		t.Fatal(err)
	}
	var outcomes [4]int
	kinds, cells := make(map[profilestore.Kind]int), make(map[string]int)
	tried, refused, chained, bySegment, defaults, rowsHit, never := 0, 0, 0, 0, 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		tried++
		w := tableWriter{typedWriter: newTypedWriter(t)}
		first, firstCEL := w.table("first", []profilestore.Value{profilestore.Flag(true), profilestore.Flag(false)}, []string{"true", "false"}, "context.none_f")
		w.inputs = []string{"table.first", "segment.of_first"}
		v := Vocabulary{
			Segments: []Segment{{ID: "of_first", When: "!table.first"}},
			Labels:   []Label{{When: "table.first", Label: "first", Not: "not first"}},
		}
		if strings.Contains(strings.Join(first.Inputs, " "), "context") {
			v.Segments, w.inputs = nil, w.inputs[:1]
		}
		kind := []profilestore.Kind{profilestore.KindNumber, profilestore.KindText, profilestore.KindFlag}[w.pick(3)]
		results := map[profilestore.Kind][]profilestore.Value{
			profilestore.KindNumber: {profilestore.Number(2), profilestore.Number(-1.5)},
			profilestore.KindText:   {profilestore.Text("gold"), profilestore.Text("héllo"), profilestore.Text("")},
			profilestore.KindFlag:   {profilestore.Flag(true), profilestore.Flag(false)},
		}[kind]
		cels := map[profilestore.Kind][]string{
			profilestore.KindNumber: {"2.0", "-1.5"}, profilestore.KindText: {`"gold"`, `"héllo"`, `""`}, profilestore.KindFlag: {"true", "false"},
		}[kind]
		second, secondCEL := w.table("second", results, cels, map[profilestore.Kind]string{
			profilestore.KindNumber: "context.none_n", profilestore.KindText: "context.none_s", profilestore.KindFlag: "context.none_f",
		}[kind])
		v.Tables = []DecisionTable{second, first} // which are not in the order of what they need
		with, mistakes := env.WithVocabulary(v)
		if len(mistakes) > 0 {
			refused++ // what an input says may be a mistake: a duration of 40 years, or of any type
			return
		}
		replace := strings.NewReplacer("table.first", "("+firstCEL+")", "segment.of_first", "(!("+firstCEL+"))")
		secondCEL = replace.Replace(secondCEL)
		if len(secondCEL) > MaxBytes {
			return
		}
		twin, err := env.CompileValue(secondCEL, kind)
		if err != nil {
			refused++
			return
		}
		twin.run = nil
		value, err := with.CompileValue("table.second", kind)
		if err != nil {
			t.Fatal(err)
		}
		b := with.NewTable()
		var asked [2]Rule
		for i, expr := range []string{"table.second == " + cels[0], "has(table.second)"} {
			if asked[i], err = b.Add(expr); err != nil {
				t.Fatal(err)
			}
		}
		if strings.Contains(strings.Join(second.Inputs, " "), "table.first") {
			chained++
		}
		if strings.Contains(strings.Join(second.Inputs, " "), "segment") {
			bySegment++
		}
		for _, in := range append(second.Inputs, first.Inputs...) {
			kinds[kind] += min(len(in), 1)
		}
		for _, row := range second.Rows {
			for _, c := range row.When {
				for _, mark := range []string{"?", "not(", "..", "<", ">", "!=", ",", "-"} {
					if strings.Contains(c, mark) {
						cells[mark]++
					}
				}
			}
		}
		unreachable := make(map[int]bool)
		for _, f := range with.NewExaminer(time.Now()).ExamineTable(0) {
			if f.Row >= 0 {
				unreachable[f.Row] = true
				never++
			}
		}
		for range 10 {
			in, other := drawAgreeInputs(t, schema), drawAgreeInputs(t, schema)
			plain := env.NewTable().Build().NewEvaluation()
			plain.Reset(in)
			want, wantErr := plain.Compute(twin)
			for _, table := range []*Table{b.Build(), b.Build().Interpreted()} {
				e := table.NewEvaluation()
				e.Reset(in)
				got, row, outcome := e.Decide(0)
				if overspent(twin.prog, &variables{in: in}) {
					continue // the limit is that of a condition, and the whole is several
				}
				if got != want || (outcome == Failed) != (wantErr != nil) || (outcome == True) != want.Known() {
					t.Fatalf("%+v\nwith %+v\nfor %s gives %q, %s in row %d; cel-go says %q, %v of\n%s", second, first, brief(in), got, outcome, row, want, wantErr, secondCEL)
				}
				e.Reset(in) // so that the rule is the first to ask
				equal, has := e.Evaluate(asked[0]), e.Evaluate(asked[1])
				wantEqual := outcome
				if outcome == True && got != results[0] {
					wantEqual = False
				}
				if equal != wantEqual || (has == True) != (outcome == True) || has > True {
					t.Fatalf("equal to %q is %s and has %s, and the table %q, %s", results[0], equal, has, got, outcome)
				}
				if again, err := e.Compute(value); again != got || (err != nil) != (outcome == Failed) {
					t.Fatalf("as a value it is %q, %v", again, err)
				}
				e.Reset(mix(in, other, table.Reads(int(asked[0].Conditions()[0]))))
				if again := e.Evaluate(asked[0]); again != equal {
					t.Fatalf("equal to %q is %s, and %s where what it does not read is another: %+v", results[0], equal, again, table.Reads(int(asked[0].Conditions()[0])))
				}
				if outcome == True && unreachable[row] {
					t.Fatalf("%+v\nfor %s decides by row %d, which was said never to", second, brief(in), row)
				}
				outcomes[outcome]++
				if outcome == True && row < len(second.Rows) {
					rowsHit++
				} else if outcome == True {
					defaults++
				}
			}
		}
	})
	t.Logf("%d known (%d by a row, %d by default), %d unknown, %d failed; of a table %d, of a segment of one %d; %d rows that never decide; results %v, cells with %v; %d refused",
		outcomes[True], rowsHit, defaults, outcomes[Unknown], outcomes[Failed], chained, bySegment, never, kinds, cells, refused)
	if outcomes[True] == 0 || outcomes[Unknown] == 0 || outcomes[Failed] == 0 || chained == 0 || bySegment == 0 || never == 0 || defaults == 0 || rowsHit == 0 || len(kinds) < 3 || len(cells) < 8 || refused > tried/3 {
		t.Error("a case never occurred, or too few tables are good")
	}
}

// TestCells lists cells, and the conditions that they are.
func TestCells(t *testing.T) {
	env, err := NewEnv(agreeSchema(t), agreeContext)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][3]string{
		{"profile.value.a", "-", ""},
		{"profile.value.a", "5", "profile.value.a == 5.0"},
		{"profile.value.a", ">= 180", "profile.value.a >= 180.0"},
		{"profile.value.a", "<-1.5", "profile.value.a < -1.5"},
		{"profile.value.a", "!= 0", "profile.value.a != 0.0"},
		{"profile.value.a", "100..200", "profile.value.a >= 100.0 && profile.value.a <= 200.0"},
		{"profile.value.a", "[100 .. 200)", "profile.value.a >= 100.0 && profile.value.a < 200.0"},
		{"profile.value.a", "]100..200[", "profile.value.a > 100.0 && profile.value.a < 200.0"},
		{"profile.value.a", "1, 2,3", "profile.value.a in [1.0, 2.0, 3.0]"},
		{"profile.value.a", "< 5, > 200", "profile.value.a < 5.0 || profile.value.a > 200.0"},
		{"profile.value.a", "?, 0", "!has(profile.value.a) || profile.value.a == 0.0"},
		{"profile.value.a", "not(100..200)", "!(profile.value.a >= 100.0 && profile.value.a <= 200.0)"},
		{"profile.value.a * 2.0", "> 1", "profile.value.a * 2.0 > 1.0"},
		{"size(profile.marketing.m)", "1..3", "size(profile.marketing.m) >= 1 && size(profile.marketing.m) <= 3"},
		{"profile.general.s", "gold", `profile.general.s == "gold"`},
		{"profile.general.s", `'it"s', "a, b"`, `profile.general.s in ["it\"s", "a, b"]`},
		{"profile.general.s", `"a\"b\\"`, `profile.general.s == "a\"b\\"`},
		{"profile.general.s", "!= gold", `profile.general.s != "gold"`},
		{"profile.general.s", "not(gold, silver)", `!(profile.general.s in ["gold", "silver"])`},
		{"profile.general.s", "011", `profile.general.s == "011"`},
		{"area(profile.general.s)", "broker", `area(profile.general.s) == "broker"`},
		{"profile.tag.f", "true", "profile.tag.f"},
		{"profile.tag.f", "false", "!profile.tag.f"},
		{"profile.tag.f || context.f", "not(true)", "!(profile.tag.f || context.f)"},
		{"profile.marketing.m", "p1", `"p1" in profile.marketing.m`},
		{"profile.marketing.m", "p1, p2", `"p1" in profile.marketing.m || "p2" in profile.marketing.m`},
		{"profile.marketing.m", "not(p1)", `!("p1" in profile.marketing.m)`},
		{"profile.service.w", ">= 2026-01-31T00:00:00+08:00", `profile.service.w >= timestamp("2026-01-31T00:00:00+08:00")`},
		{"profile.service.w - now", "1d..90d", `profile.service.w - now >= days(1) && profile.service.w - now <= days(90)`},
		{"now - profile.service.w", "< 12h", `now - profile.service.w < duration("12h")`},

		{"profile.value.a", "", "1: the cell is empty: write - for any value"},
		{"profile.value.a", "gold", "1: this needs a number, such as >= 180, 100..200 or 5, not gold"},
		{"profile.value.a", "5, ", "3: a value is missing here: between commas there is one each"},
		{"profile.value.a", "5, -", "4: - stands for any value, so it stands alone"},
		{"profile.value.a", ">=", "3: a value is missing here: this needs a number, such as >= 180, 100..200 or 5"},
		{"profile.value.a", ">= 1,000.5x", "6: this needs a number, such as >= 180, 100..200 or 5, not 000.5x"},
		{"profile.value.a", "200..100", "1: no value lies in this range: the lower end stands first"},
		{"profile.value.a", "[5..5)", "2: no value lies in this range: the lower end stands first"},
		{"profile.value.a", "[5..7", "1: a range is written 100..200, with both ends in it, or [100..200), without the second"},
		{"profile.value.a", "> 5 && < 7", "5: a cell has one test, or several joined by commas of which one holds: for both write a range, such as 100..200, or another input"},
		{"profile.value.a", "1e3", "1: this needs a number, such as >= 180, 100..200 or 5, not 1e3"},
		{"size(profile.marketing.m)", "1.5", "1: this needs a whole number, such as >= 3, 1..5 or 7, not 1.5"},
		{"size(profile.marketing.m)", "?", "1: ? asks whether a field is known, and size(profile.marketing.m) is no field"},
		{"profile.general.s", `"gold`, "1: a text begins here and has no end: it needs the same quote on both sides"},
		{"profile.general.s", "héllo, mobile broker", `8: mobile broker can't be read: this needs a text, such as gold or "mobile broker"`},
		{"profile.general.s", "> gold", `1: > does not work here: this needs a text, such as gold or "mobile broker"`},
		{"profile.general.s", "a..b", `1: there are no ranges here: this needs a text, such as gold or "mobile broker"`},
		{"profile.general.s", `"a" "b"`, `1: more than one text stands here: put commas between them`},
		{"profile.tag.f", "yes", "1: this needs true or false, not yes"},
		{"profile.service.w", "2026-01-31", "1: this needs a time, such as >= 2026-01-31T18:00:00+08:00, not 2026-01-31"},
		{"profile.service.w - now", "90", "1: this needs a span of days, hours or minutes, such as < 90d or 12h..36h, not 90"},
		{"profile.service.w - now", "99999d", "1: 99999d is too long: at most 36500d"},
	} {
		with, mistakes := env.WithVocabulary(Vocabulary{Tables: []DecisionTable{{
			ID: "t", Inputs: []string{c[0]}, Rows: []TableRow{{When: []string{c[1]}, Result: profilestore.Number(1)}},
		}}})
		var got []string
		if len(mistakes) > 0 {
			if m := mistakes[0]; len(mistakes) > 1 || len(m.Errors) > 1 || m.List != ListTables || m.Part != "rows[0].when[0]" {
				t.Errorf("%s: %+v", c[1], mistakes)
			}
			got = append(got, strings.TrimPrefix(mistakes[0].Errors.Error(), "column "))
		} else {
			table := with.NewTable().Build()
			for _, i := range table.DecisionRows(0)[0].Conditions() {
				got = append(got, table.Condition(int(i)))
			}
		}
		if s := strings.Join(got, " && "); s != c[2] {
			t.Errorf("%s of %s: got %s, want %s", c[1], c[0], s, c[2])
		}
	}
}

// TestDecisionTableMistakes: what is wrong with a table is said once, at its place, and
// what follows from it is not said.
func TestDecisionTableMistakes(t *testing.T) {
	env, err := NewEnv(agreeSchema(t), agreeContext)
	if err != nil {
		t.Fatal(err)
	}
	one := []TableRow{{When: []string{"-"}, Result: profilestore.Text("x")}}
	table := func(id, input string) DecisionTable {
		return DecisionTable{ID: id, Inputs: []string{input}, Rows: one}
	}
	with, mistakes := env.WithVocabulary(Vocabulary{
		Tables: []DecisionTable{
			{ID: "good", Inputs: []string{"context.n"}, Rows: []TableRow{{When: []string{"> 5"}, Result: profilestore.Text("x")}}},
			table("typo", "profile.value.aa"),
			table("twice", "profile.value.a"), table("twice", "profile.tag.f"),
			table("self", "table.self"),
			table("ring", `segment.ring`),
			table("of_bad", "table.typo"),
			table("map", "{1: 2}"),
			table("syntax", "profile.value.a >"),
			table("empty", " "),
			{ID: "cells", Inputs: []string{"profile.value.a", "profile.tag.f"}, Rows: []TableRow{
				{When: []string{"5"}, Result: profilestore.Text("x")},
				{When: []string{"x", "y"}, Result: profilestore.Number(5)},
				{When: []string{"5", "true"}, Result: profilestore.Text("z")},
			}, Default: profilestore.Flag(true)},
		},
		Segments: []Segment{
			{ID: "ring", When: `table.ring == "x"`},
			{ID: "contact", When: `table.good == "x"`},
			{ID: "of_bad", When: `table.typo == "5"`},
			{ID: "none", When: `table.god == "x"`},
		},
		Labels: []Label{{When: "profile.tag.f"}, {When: "profile.tag.f == true"}, {When: "profile.value.a"}, {When: "profile.tag.x"}, {When: " profile.tag.f "}, {When: " "}},
	})
	var got []string
	for _, m := range mistakes {
		got = append(got, fmt.Sprintf("%s[%d].%s: %s", m.List, m.Index, m.Part, m.Errors.Error()))
	}
	want := strings.TrimSpace(`
segments[1].when: column 7: table.good reads the context: a segment is counted where there is no contact
segments[3].when: column 7: there is no table.god: did you mean table.good?
decision_tables[1].inputs[0]: column 15: there is no profile.value.aa: did you mean profile.value.a?
decision_tables[4].inputs[0]: column 1: table.self refers to itself: table.self → table.self
decision_tables[5].inputs[0]: column 1: segment.ring refers to itself: segment.ring → table.ring → segment.ring
decision_tables[7].inputs[0]: column 1: an input is a number, flag, text, time, duration or set: this is a map(whole number, whole number)
decision_tables[8].inputs[0]: column 18: the expression ends too early
decision_tables[9].inputs[0]: column 1: an expression is needed, such as profile.value.arpu
decision_tables[10].rows[1].result: column 1: it is a number, and the results before are a text each: all must be of one type
decision_tables[10].default: column 1: it is a flag, and the results before are a text each: all must be of one type
decision_tables[10].rows[0].when: column 1: it has 1 cell, and the table 2 inputs: there is one cell for each input, - for any
decision_tables[10].rows[1].when[0]: column 1: this needs a number, such as >= 180, 100..200 or 5, not x
decision_tables[10].rows[1].when[1]: column 1: this needs true or false, not y
labels[2].when: column 1: a condition must be true or false: this is a number
labels[3].when: column 13: there is no profile.tag.x: did you mean profile.tag.f?
labels[4].when: column 1: this condition has a label already: ""
labels[5].when: column 1: a condition is needed`)
	if s := strings.Join(got, "\n"); s != want {
		t.Errorf("got:\n%s\nwant:\n%s", s, want)
	}
	b := with.NewTable()
	for expr, want := range map[string]string{
		`table.typo == "x" && table.good == "x"`: "", `table.god == "x"`: "column 7: there is no table.god: did you mean table.good?",
		`table == "x"`: "column 1: table is no value by itself: name a part of it, such as table.cells", `table.good > 5`: "column 12: > does not work with a text and a whole number",
	} {
		if _, err := b.Add(expr); want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%s: %v, want %s", expr, err, want)
		}
	}
	if _, err := env.NewTable().Add(`table.x == "x"`); err == nil || !strings.Contains(err.Error(), "the catalogue declares no decision tables") {
		t.Errorf("without tables: %v", err)
	}
}

// TestLabels lists conditions and the words for them.
func TestLabels(t *testing.T) {
	env, err := NewEnv(agreeSchema(t), agreeContext)
	if err != nil {
		t.Fatal(err)
	}
	with, mistakes := env.WithVocabulary(Vocabulary{
		Segments: []Segment{
			{ID: "heavy", Label: "heavy user", When: "profile.value.a > 5 && profile.tag.f"},
			{ID: "plain", When: "profile.value.b > 5"},
			{ID: "own", Label: "not seen: labels come first", When: "profile.usage.c > 10"},
		},
		Tables: []DecisionTable{
			{ID: "tier", Label: "plan tier", Inputs: []string{"profile.value.a"}, Rows: []TableRow{{When: []string{"> 5"}, Result: profilestore.Text("gold")}}},
			{ID: "may_call", Label: "may be called", Inputs: []string{"profile.value.a"}, Rows: []TableRow{{When: []string{"> 5"}, Result: profilestore.Flag(true)}}},
			{ID: "discount", Label: "discount", Inputs: []string{"profile.value.a"}, Rows: []TableRow{{When: []string{"> 5"}, Result: profilestore.Number(2.5)}}},
			{ID: "silent", Inputs: []string{"profile.value.a"}, Rows: []TableRow{{When: []string{"> 5"}, Result: profilestore.Text("x")}}},
		},
		Labels: []Label{
			{When: "profile.usage.c > 10", Label: "uses more than 10", Not: "uses 10 or less"},
			{When: "profile.tag.g", Label: "complains"},
			{When: `context.s == "x"`, Label: "asked", Not: "not asked"},
			{When: "profile.value.a > 5.0", Label: "spends more than 5"},
		},
	})
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	for _, c := range [][2]string{
		{"profile.usage.c>10.0", "uses more than 10"},
		{"!(profile.usage.c > 10)", "uses 10 or less"},
		{"profile.usage.c <= 10", "uses 10 or less"},
		{"10 < profile.usage.c", ""},
		{"profile.value.a <= 5", "not: spends more than 5"},
		{`context.s != "x"`, "not asked"},
		{`!(context.s != "x")`, "not: not asked"},
		{"profile.tag.g", "complains"},
		{"!profile.tag.g", "not: complains"},
		{"profile.tag.g || segment.heavy", "complains or heavy user"},
		{"!segment.heavy", "not: heavy user"},
		{"!(segment.heavy || profile.tag.g)", "not: (heavy user or complains)"},
		{"profile.tag.g && segment.own || profile.usage.c <= 10", "(complains and uses more than 10) or uses 10 or less"},
		{"profile.tag.g || segment.plain", ""},
		{`table.tier == "gold"`, "plan tier is gold"},
		{`table.tier != "gold"`, "plan tier is not gold"},
		{`table.tier in ["gold", "silver"]`, "plan tier is gold or silver"},
		{`table.tier == profile.general.s`, ""},
		{`!(table.tier in ["gold"])`, "not: plan tier is gold"},
		{`table.may_call`, "may be called"},
		{`!table.may_call || profile.tag.g`, "(not: may be called) or complains"},
		{`table.discount >= 2`, "discount >= 2"},
		{`!(table.tier in ["gold", "silver"]) || !profile.tag.g`, "(not: (plan tier is gold or silver)) or (not: complains)"},
		{`table.silent == "x"`, ""},
		{"profile.value.b > 7", ""},
	} {
		b := with.NewTable()
		rule, err := b.Add(c[0])
		if err != nil || len(rule.Conditions()) != 1 {
			t.Fatalf("%s: %v, %v", c[0], rule, err)
		}
		if got := b.Build().Label(int(rule.Conditions()[0])); got != c[1] {
			t.Errorf("%s: %q, want %q", c[0], got, c[1])
		}
	}
	b := with.NewTable()
	rule, err := b.Add("segment.heavy") // taken apart, its parts have words of their own or none
	if err != nil {
		t.Fatal(err)
	}
	table := b.Build()
	var got []string
	for _, i := range rule.Conditions() {
		got = append(got, table.Label(int(i)))
	}
	if want := []string{"spends more than 5", ""}; !slices.Equal(got, want) {
		t.Errorf("the parts of a segment: %q, want %q", got, want)
	}
	if got := table.Label(int(table.DecisionRows(0)[0].Conditions()[0])); got != "spends more than 5" {
		t.Errorf("a row of a table: %q", got)
	}
}

// TestExamineTable lists what is found in tables, and what is not.
func TestExamineTable(t *testing.T) {
	env, err := NewEnv(agreeSchema(t), agreeContext)
	if err != nil {
		t.Fatal(err)
	}
	const never, first = "wherever it does: remove it, or put it first", "it never decides: rows before it hold, or can't be told, "
	for _, c := range []struct {
		inputs    []string
		rows      []string // cells by |
		otherwise bool
		want      []string
	}{
		{[]string{"profile.value.a"}, []string{">= 180", "[100..180)", "< 100"}, false, nil},
		{[]string{"profile.value.a"}, []string{">= 180", "100..200", "< 100"}, false, nil},
		{[]string{"profile.value.a"}, []string{">= 180", "(100..180)", "< 100"}, false, []string{"-1 no row holds where profile.value.a is 100, so the result is unknown: add a row or a default"}},
		{[]string{"profile.value.a"}, []string{">= 180", "(100..180)", "< 100"}, true, nil},
		{[]string{"profile.value.a"}, []string{"> 100", "<= 100", "-"}, false, []string{"2 " + first + never}}, // by two together
		{[]string{"profile.value.a"}, []string{"> 100", "> 200"}, true, []string{"1 " + first + never}},
		{[]string{"profile.value.a"}, []string{"?", "> 100", "<= 100"}, false, nil},
		{[]string{"profile.value.a"}, []string{"?", "-", "> 5"}, false, []string{"2 " + first + never}},
		{[]string{"profile.value.a"}, []string{"> 100", "-", "?"}, false, []string{"2 " + first + never}}, // unknown > 100 ends it
		{[]string{"size(profile.marketing.m)"}, []string{"<= 2", ">= 3"}, false, nil},
		{[]string{"profile.value.a"}, []string{"<= 2", ">= 3"}, false, []string{"-1 no row holds where profile.value.a is between 2 and 3, so the result is unknown: add a row or a default"}},
		{[]string{"profile.tag.f", "profile.tag.g"}, []string{"true|-", "-|true", "false|false"}, false, nil},
		{[]string{"profile.tag.f", "profile.tag.g"}, []string{"true|-", "-|true"}, false, []string{"-1 no row holds where profile.tag.f is false and profile.tag.g is false, so the result is unknown: add a row or a default"}},
		{[]string{"profile.general.s"}, []string{"a, b", "b", "not(a)"}, false, []string{"1 " + first + never}},
		{[]string{"profile.general.s"}, []string{"a, b"}, false, []string{"-1 no row holds where profile.general.s is none of a, b, so the result is unknown: add a row or a default"}},
		{[]string{"profile.marketing.m"}, []string{"a", "b", "not(a, b)", "-"}, false, []string{"3 " + first + never}},
		{[]string{"profile.marketing.m"}, []string{"a", "b"}, false, []string{"-1 no row holds where profile.marketing.m has none of a, b, so the result is unknown: add a row or a default"}},
		{[]string{"profile.marketing.m"}, []string{"a,b,c,d,e,f,g", "-", "a"}, false, []string{"2 it never decides: row 2 holds " + never}}, // too many to look at all
		{[]string{"now - profile.service.w"}, []string{"< 90d", "90d..365d"}, false, []string{"-1 no row holds where now - profile.service.w > 8760h0m0s, so the result is unknown: add a row or a default"}},
	} {
		table := DecisionTable{ID: "t", Inputs: c.inputs}
		for _, row := range c.rows {
			table.Rows = append(table.Rows, TableRow{When: strings.Split(row, "|"), Result: profilestore.Number(1)})
		}
		if c.otherwise {
			table.Default = profilestore.Number(2)
		}
		with, mistakes := env.WithVocabulary(Vocabulary{Tables: []DecisionTable{table}})
		if len(mistakes) > 0 {
			t.Fatalf("%v: %v", c.rows, mistakes[0].Errors)
		}
		var got []string
		for _, f := range with.NewExaminer(time.Now()).ExamineTable(0) {
			got = append(got, fmt.Sprint(f.Row, " ", f.Message))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v: got %q, want %q", c.rows, got, c.want)
		}
	}
	with, mistakes := env.WithVocabulary(Vocabulary{Tables: []DecisionTable{{ID: "tier", Inputs: []string{"profile.value.a"}, Rows: []TableRow{
		{When: []string{"> 5"}, Result: profilestore.Text("gold")}, {When: []string{"> 3"}, Result: profilestore.Text("silver")},
	}}}})
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	for _, c := range [][]string{
		{`table.tier == "gold"`},
		{`table.tier != "gold"`},
		{`table.tier in ["gold", "silver"]`},
		{`table.tier == "gold" || table.tier == "bronze" && profile.tag.f`, `1:25 table.tier == "bronze" is never true: the table gives "gold", "silver"`},
		{`table.tier == "glod" && profile.tag.f`, `1:1 table.tier == "glod" is never true: the table gives "gold", "silver": did you mean "gold"?`},
		{`table.tier == "gold" && table.tier == "silver"`, `1:25 table.tier == "silver" contradicts table.tier == "gold"`},
		{`table.tier != "gold" && table.tier != "silver"`, `1:25 table.tier != "silver" contradicts table.tier != "gold"`},
	} {
		var got []string
		for _, f := range with.NewExaminer(time.Now()).Examine(c[0]) {
			got = append(got, fmt.Sprintf("%d:%d %s", f.Line, f.Column, f.Message))
		}
		if !slices.Equal(got, c[1:]) {
			t.Errorf("%s: got %q, want %q", c[0], got, c[1:])
		}
	}
}

// TestLargeTables compiles the largest tables there may be, and looks through them.
func TestLargeTables(t *testing.T) {
	env, err := NewEnv(agreeSchema(t), agreeContext)
	if err != nil {
		t.Fatal(err)
	}
	large := DecisionTable{ID: "large", Inputs: []string{"profile.value.a", "profile.value.b", "profile.general.s", "profile.tag.f"}}
	for i := range 300 {
		large.Rows = append(large.Rows, TableRow{When: []string{fmt.Sprintf("> %d", 300-i), fmt.Sprintf("%d..%d", i, i+5), fmt.Sprintf("t%d", i), "-"}, Result: profilestore.Number(float64(i))})
	}
	large.Rows = append(large.Rows, large.Rows[7])
	wide := DecisionTable{ID: "wide"}
	row := TableRow{Result: profilestore.Flag(true)}
	for i := range 20 {
		wide.Inputs, row.When = append(wide.Inputs, fmt.Sprintf("profile.value.a * %d.0", i+1)), append(row.When, strings.TrimSuffix(strings.Repeat("1,", 90), ",")+",>5")
	}
	wide.Rows = []TableRow{row, row}
	many := DecisionTable{ID: "many", Inputs: []string{"profile.value.a"}}
	for i := range 30 { // each value has its own region: too many to look at
		cell := ""
		for k := range 90 {
			cell += fmt.Sprintf("%d, ", 1000*i+k)
		}
		many.Rows = append(many.Rows, TableRow{When: []string{cell + "-1"}, Result: profilestore.Flag(true)})
	}
	with, mistakes := env.WithVocabulary(Vocabulary{Tables: []DecisionTable{large, wide, many}})
	if len(mistakes) > 0 {
		t.Fatal(mistakes[0].Errors)
	}
	for i, want := range []string{"[{300 it never decides: row 8 holds wherever it does: remove it, or put it first}]", "[{1 it never decides: row 1 holds wherever it does: remove it, or put it first}]", "[]"} {
		if got := fmt.Sprint(with.NewExaminer(time.Now()).ExamineTable(i)); got != want {
			t.Errorf("table %d: %s, want %s", i, got, want)
		}
	}
	b := with.NewTable()
	rule, err := b.Add("table.large == 299")
	if err != nil {
		t.Fatal(err)
	}
	e := b.Build().NewEvaluation()
	customer := make(values, len(agreeFields))
	in := Inputs{Profile: customer}
	customer[0], customer[1], customer[5] = profilestore.Number(5), profilestore.Number(300), profilestore.Text("t299")
	e.Reset(in)
	if _, row, _ := e.Decide(0); row != 299 || e.Evaluate(rule) != True {
		t.Errorf("row %d decides, and the rule is %s", row, e.Evaluate(rule))
	}
	tables := make([]DecisionTable, 60)
	for i := range tables {
		tables[i] = DecisionTable{ID: fmt.Sprint("t", i), Inputs: []string{"profile.value.a"}, Rows: slices.Repeat([]TableRow{{When: []string{"5"}, Result: profilestore.Flag(true)}}, 1000)}
	}
	_, mistakes = env.WithVocabulary(Vocabulary{Tables: tables})
	if len(mistakes) != 1 || mistakes[0].Index != 50 || !strings.Contains(mistakes[0].Errors.Error(), "more than 50000 cells") {
		t.Errorf("with 60,000 cells: %v", mistakes)
	}
}

// TestDecisionTableDoesNotAllocate: neither does a table, nor a reference table, nor a rule
// that reads them.
func TestDecisionTableDoesNotAllocate(t *testing.T) {
	env, err := NewEnv(agreeSchema(t), agreeContext)
	if err != nil {
		t.Fatal(err)
	}
	with, mistakes := env.WithVocabulary(Vocabulary{Tables: []DecisionTable{
		{ID: "tier", Inputs: []string{"profile.value.a", "area(profile.general.s)"}, Rows: []TableRow{
			{When: []string{"> 180", "-"}, Result: profilestore.Text("gold")},
			{When: []string{"> 3", "g, h"}, Result: profilestore.Text("silver")},
		}},
		{ID: "next", Inputs: []string{"table.tier"}, Rows: []TableRow{{When: []string{"silver"}, Result: profilestore.Flag(true)}}},
	}})
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	b := with.NewTable()
	rule, err := b.Add(`table.next && table.tier != "gold"`)
	if err != nil {
		t.Fatal(err)
	}
	table := b.Build()
	if compiled, all := table.Compiled(); compiled != all {
		t.Fatalf("%d of %d conditions are compiled", compiled, all)
	}
	e := table.NewEvaluation()
	customer := make(values, len(agreeFields))
	in := Inputs{Profile: customer, Tables: agreeTables[2]}
	customer[0], customer[5] = profilestore.Number(5), profilestore.Text("gold")
	if n := testing.AllocsPerRun(100, func() {
		e.Reset(in)
		if truth := e.Evaluate(rule); truth != True {
			t.Fatalf("the rule is %s", truth)
		}
	}); n > 0 {
		t.Errorf("%g allocations", n)
	}
}
