package rules

import (
	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"rapport/profilestore"
)

// Inputs are what the conditions of one decision read.
type Inputs struct {
	// Profile may be nil: every field is then unknown.
	Profile Profile
	// Context has the values of the inputs of [NewEnv], in their order. Missing
	// ones are unknown.
	Context []profilestore.Value
	// Tables are the versions of the reference tables. It may be nil: no table has a
	// row.
	Tables TableSet
	// Now is the time of the decision, microseconds since the Unix epoch.
	Now int64
}

// Evaluation evaluates rules of one [Table] for one customer at a time. It is
// reusable, not safe for concurrent use.
type Evaluation struct {
	memo  memo
	vars  variables
	frame frame
}

// NewEvaluation returns an Evaluation whose inputs are all unknown.
func (t *Table) NewEvaluation() *Evaluation {
	e := &Evaluation{memo: newMemo(t.atoms)}
	e.memo.decisions = t.decisions
	e.frame.vars, e.vars.decided = &e.vars, make([]decided, len(t.decisions))
	return e
}

// Reset makes the evaluation that of another decision. It keeps in until the
// next Reset; what in holds must not change before that.
func (e *Evaluation) Reset(in Inputs) {
	clear(e.vars.decided)
	e.vars = variables{in: in, decided: e.vars.decided, fields: e.vars.fields.forget()}
	e.memo.reset()
}

// Evaluate returns the outcome of a rule of the table. Each of its atomic
// conditions is evaluated at most once for each Reset, and only until one is
// false.
func (e *Evaluation) Evaluate(r Rule) Truth { return e.memo.evaluate(r, &e.vars, &e.frame) }

// variables are the inputs as cel-go's activation.
type variables struct {
	in      Inputs
	now     ref.Val   // once it was asked for
	decided []decided // by decision table
	fields  fields
}

// fields are those of the profile that were read: rules that ask for the same few, each with
// a bound of its own, would else decode them from the row again and again, which were 40% of
// a decision of 100 offers.
type fields struct {
	values []profilestore.Value // by slot
	known  []bool               // likewise: it was read
	read   []int32              // the slots that were
}

// forget returns the same room without values.
func (f fields) forget() fields {
	for _, slot := range f.read {
		f.values[slot], f.known[slot] = profilestore.Value{}, false
	}
	f.read = f.read[:0]
	return f
}

// field returns the value at a slot of the schema.
func (v *variables) field(slot int) profilestore.Value {
	if slot < len(v.fields.known) && v.fields.known[slot] {
		return v.fields.values[slot]
	}
	return v.fieldSlow(slot)
}

// fieldSlow reads it from the profile.
func (v *variables) fieldSlow(slot int) profilestore.Value {
	if v.in.Profile == nil {
		return profilestore.Value{}
	}
	value := v.in.Profile.Get(slot)
	f := &v.fields
	if more := slot + 1 - len(f.known); more > 0 {
		f.values, f.known = append(f.values, make([]profilestore.Value, more)...), append(f.known, make([]bool, more)...)
	}
	f.values[slot], f.known[slot] = value, true
	f.read = append(f.read, int32(slot))
	return value
}

// input returns the value of a context input.
func (v *variables) input(i int) profilestore.Value {
	if i >= len(v.in.Context) {
		return profilestore.Value{}
	}
	return v.in.Context[i]
}

// lookUp returns what a reference table has for a key.
func (v *variables) lookUp(table int, key string) (string, bool) {
	if v.in.Tables == nil {
		return "", false
	}
	return v.in.Tables.Find(table, key)
}

// ResolveName returns the value of a variable.
func (v *variables) ResolveName(name string) (any, bool) {
	switch name {
	case "profile", "context", "table":
		return v, true
	case "now":
		if v.now == nil {
			v.now = timestamp(v.in.Now)
		}
		return v.now, true
	}
	return nil, false
}

// Parent returns nil: there is no scope outside.
func (v *variables) Parent() cel.Activation { return nil }

// memo remembers the outcomes of atomic conditions.
type memo struct {
	atoms     []atom
	results   []result
	decisions []decision
}

// result is a Truth in the order in which one decides in a conjunction, so that this is
// the least of its conditions; and before them all, that it is not evaluated yet.
type result uint8

const (
	notYet result = iota
	isFalse
	isUnknown
	isFailed
	isTrue
)

// truths are the outcomes by result, results the other way round.
var (
	truths  = [...]Truth{isFalse: False, isUnknown: Unknown, isFailed: Failed, isTrue: True}
	results = [...]result{False: isFalse, Unknown: isUnknown, Failed: isFailed, True: isTrue}
)

func newMemo(atoms []atom) memo { return memo{atoms: atoms, results: make([]result, len(atoms))} }

func (m *memo) reset() { clear(m.results) }

// evaluate returns the outcome of a rule.
func (m *memo) evaluate(r Rule, vars cel.Activation, f *frame) Truth {
	least := isTrue
	for _, i := range r.atoms {
		least = min(least, m.results[i])
	}
	if least == notYet {
		return m.evaluateSlow(r, vars, f)
	}
	return truths[least]
}

// evaluateSlow is evaluate where conditions are not evaluated yet. Of most decisions'
// rules few are: 300 rules have 60 conditions.
func (m *memo) evaluateSlow(r Rule, vars cel.Activation, f *frame) Truth {
	for _, i := range r.atoms {
		if m.results[i] == isFalse {
			return False
		}
	}
	least := isTrue
	for _, i := range r.atoms {
		if m.results[i] == notYet {
			m.decide(m.atoms[i].decisions, vars, f)
			m.results[i] = results[m.atoms[i].evaluate(vars, f)]
		}
		if least = min(least, m.results[i]); least == isFalse {
			break
		}
	}
	return truths[least]
}

// evaluate evaluates the condition, by its code if it has some.
func (a *atom) evaluate(vars cel.Activation, f *frame) Truth {
	if a.code == nil {
		return run(a.prog, vars)
	}
	f.gaveUp = false
	if t := a.code(f); !f.gaveUp {
		return t
	}
	return run(a.prog, vars)
}

// run evaluates a condition on cel-go.
func run(p cel.Program, vars cel.Activation) Truth {
	v, _, err := p.Eval(vars)
	switch {
	case v == types.True:
		return True
	case v == types.False:
		return False
	case err == nil && types.IsUnknown(v):
		return Unknown
	}
	return Failed
}
