package rules

import (
	"errors"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"

	"rapport/profilestore"
)

// DecisionTable says which of some results counts for whom, by rows: rules read it as
// table.ID. Each row has a test for each input, and the first row whose tests all hold
// decides (hit policy first); where none does the result is the default.
//
// A row is the conjunction of its tests, so it is a rule like any other: a condition that
// several rows, tables or rules have is evaluated once for a customer, and so is the
// table, whoever names it. If a row is reached that is neither true nor false, because a
// value that decides it is unknown, the result is unknown, as in CEL's c ? a : b. Without
// a default the result is unknown too where no row decides.
//
// A table could also stand for its name as a segment does, as one expression of
// conditionals. It would be evaluated again in every condition that names it, be limited
// to some 60 rows by the depth of trees, and nobody could read such a condition in an
// explanation.
type DecisionTable struct {
	ID      string
	Label   string             // what its result is, in words, such as "plan tier"; may be empty
	Inputs  []string           // CEL over profile, context, now, segments and other tables
	Rows    []TableRow         // the first that holds decides
	Default profilestore.Value // Unknown: none
}

// TableRow is a row of a decision table.
type TableRow struct {
	// When has a cell for each input: -, for any value; values, ranges and comparisons
	// joined by commas, of which one has to hold, such as
	//
	//	5        >= 180       100..200      [100..200)      < 5, > 200
	//	gold     "B", "C"     not(gold)     != gold
	//	true     90d..120d    >= 2026-01-31T00:00:00+08:00
	//
	// for a set what it has to have one of; and ? for a value that is not known.
	When   []string
	Result profilestore.Value // a text, number or flag
}

// kind returns the kind of the results; unknown if there are none.
func (t *DecisionTable) kind() profilestore.Kind {
	for i := range t.Rows {
		if k := t.Rows[i].Result.Kind(); k != profilestore.KindUnknown {
			return k
		}
	}
	return t.Default.Kind()
}

const decisionObject = "rapport.Decisions"

// decision is a compiled decision table.
type decision struct {
	id, label string
	kind      profilestore.Kind
	inputs    []tableInput
	rows      []decisionRow // nil if it has a mistake, and for nothing else
	otherwise profilestore.Value
	needs     []int32 // the tables that it reads, each after those that it reads itself
	reads     Reads
}

type decisionRow struct {
	when   Rule
	tests  []cellTest // by input
	result profilestore.Value
}

// tableInput is an input of a decision table.
type tableInput struct {
	text         string
	kind         cellKind
	canBeMissing bool // it is a field, of which has(…) can be asked
}

// addDecision declares table.ID.
func (o objects) addDecision(i int, id string, kind profilestore.Kind) {
	o[decisionObject][id] = &types.FieldType{
		Type:  celType(kind),
		IsSet: func(target any) bool { return as[*variables](target).decision(i).state == stateKnown },
		GetFrom: func(target any) (any, error) {
			switch d := as[*variables](target).decision(i); d.state {
			case stateKnown:
				return celValue(d.value), nil
			case stateFailed:
				return nil, errors.New("table." + id + " could not be computed")
			case stateUnknown:
			}
			return unknown, nil
		},
	}
}

// decisionName returns the decision table that an expression of the form table.NAME
// names.
func decisionName(e ast.Expr) (string, bool) {
	if e.Kind() != ast.SelectKind {
		return "", false
	}
	of := e.AsSelect().Operand()
	if of.Kind() != ast.IdentKind || of.AsIdent() != "table" {
		return "", false
	}
	return e.AsSelect().FieldName(), true
}

// decisionAt returns the place of the decision table that an expression names.
func (l *language) decisionAt(e ast.Expr) (int, bool) {
	id, ok := decisionName(e)
	if !ok || l.roots["table"] == nil {
		return 0, false
	}
	i, ok := l.decisionPlaces[id]
	return i, ok
}

// decided is what a decision table gave.
type decided struct {
	done  bool
	state state
	row   int32 // that decided; as many as there are for the default, or for nothing
	value profilestore.Value
}

// decision returns what a decision table gave. It must have been computed.
func (v *variables) decision(i int) decided {
	if i >= len(v.decided) {
		return decided{state: stateUnknown}
	}
	return v.decided[i]
}

// decide computes decision tables, each after those that it reads.
func (m *memo) decide(list []int32, vars cel.Activation, f *frame) {
	for _, i := range list {
		if d := &f.vars.decided[i]; !d.done {
			m.decideSlow(&m.decisions[i], d, vars, f)
		}
	}
}

// decideSlow computes a decision table.
func (m *memo) decideSlow(t *decision, d *decided, vars cel.Activation, f *frame) {
	*d = decided{done: true, state: stateUnknown}
	for k := range t.rows {
		d.row = int32(k)
		switch m.evaluate(t.rows[k].when, vars, f) {
		case False:
			continue
		case True:
			d.state, d.value = stateKnown, t.rows[k].result
		case Failed:
			d.state = stateFailed
		case Unknown:
		}
		return
	}
	d.row = int32(len(t.rows))
	if t.rows != nil && t.otherwise.Known() {
		d.state, d.value = stateKnown, t.otherwise
	}
}

// Decide returns what a decision table gives for the inputs of the last Reset, by its
// place in the vocabulary, and which row decided: the one that holds, or the one that
// could not be told, whose outcome is then returned. Where none decides it is the number
// of rows, and True with the default or Unknown.
func (e *Evaluation) Decide(table int) (v profilestore.Value, row int, outcome Truth) {
	e.memo.decide(e.memo.decisions[table].needs, &e.vars, &e.frame)
	e.memo.decide([]int32{int32(table)}, &e.vars, &e.frame)
	d := e.vars.decision(table)
	return d.value, int(d.row), truth(true, d.state)
}

// DecisionRows returns the rules of the rows of a decision table, by its place in the
// vocabulary; nil if it has a mistake.
func (t *Table) DecisionRows(table int) []Rule {
	var out []Rule
	for _, row := range t.decisions[table].rows {
		out = append(out, row.when)
	}
	return out
}

// decisionField compiles the reading of a decision table.
func (k *kind[T]) decisionField(i int) node[T] {
	want, get := k.field, k.get
	return node[T]{run: func(f *frame) (out T, s state) {
		d := f.vars.decision(i)
		switch {
		case d.state != stateKnown:
			return out, d.state
		case d.value.Kind() != want:
			return out, f.giveUp()
		}
		return get(d.value), stateKnown
	}}
}
