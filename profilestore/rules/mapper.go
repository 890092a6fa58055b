package rules

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"

	"rapport/profilestore"
)

// EventMapper says what events do to the fields of a schema, by the fields'
// event rules. It implements [profilestore.EventMapper]: a pure function of the
// event, safe for concurrent use.
//
// A schema has hundreds of rules and an event concerns a few of them, so rules
// are indexed by the event types that their conditions name; of the rest of the
// conditions, each is evaluated at most once for an event.
type EventMapper struct {
	lang   *language
	fields []profilestore.Field
	rules  []eventRule
	byType map[string][]int32 // the rules for a type: those that name it, and those that name none
	always []int32            // those that name none
	atoms  []atom
	pool   sync.Pool // of *eventEvaluation; all of it is Go memory
}

// eventRule is a compiled event rule of a field. A field may have two: what adds to a
// set and what removes, or, in this order, what resets a counter and what adds.
type eventRule struct {
	slot      int
	op        profilestore.ChangeOp
	kind      profilestore.Kind // of the change's value; unknown: it has none
	types     []string          // the event types that it is for; nil: any
	on        Rule              // the rest of the condition
	attribute string            // the value is this attribute of the event, or else:
	value     cel.Program
	code      func(*frame) (profilestore.Value, state) // nil: only cel-go can evaluate it
	tree      *ast.AST                                 // of the value, for messages
	limit     float64                                  // of a counter's amount
	priority  cel.Program                              // of a register's event; nil: 0
}

// An EventRuleError is the mistakes in one expression of an event rule.
type EventRuleError struct {
	Field  int    // in the fields of the schema
	Part   string // on, set, add, in, reset, remove_on, remove or priority
	Errors CompileErrors
}

// CheckEvents compiles the event rules of fields, which may call the tables, and
// returns every mistake. The fields need not make a valid schema.
func CheckEvents(fields []profilestore.Field, tables ...profilestore.ReferenceTable) []EventRuleError {
	_, errs := newEventMapper(fields, true, tables...)
	return errs
}

// MapperOption configures an [EventMapper].
type MapperOption func(*EventMapper)

// WithTables says where the rules look up what they ask of reference tables.
// Without, every table is empty.
func WithTables(t Tables) MapperOption { return func(m *EventMapper) { m.lang.lookup = t } }

// NewEventMapper compiles the event rules of a schema. Its error is
// [profilestore.SchemaErrors] with every mistake, at paths such as
// fields[3].events.on.
func NewEventMapper(schema *profilestore.Schema, options ...MapperOption) (*EventMapper, error) {
	errs := CheckTables(schema.Tables())
	if len(errs) > 0 {
		return nil, errs
	}
	m, found := newEventMapper(schema.Fields(), true, schema.Tables()...)
	if len(found) == 0 {
		for _, o := range options {
			o(m)
		}
		return m, nil
	}
	for _, e := range found {
		for _, x := range e.Errors {
			errs = append(errs, &profilestore.SchemaError{
				Path: fmt.Sprintf("fields[%d].events.%s", e.Field, e.Part), Message: x.Error(),
			})
		}
	}
	return nil, errs
}

// newEventMapper builds a mapper; without index, the naive twin that looks at
// every rule, on cel-go.
func newEventMapper(fields []profilestore.Field, index bool, tables ...profilestore.ReferenceTable) (*EventMapper, []EventRuleError) {
	lang, err := newLanguage(objects{eventObject: eventFields}, eventRoots, usableTables(tables)...)
	if err != nil {
		panic(err) // the declarations are constant, and the tables' names were checked
	}
	b := mapperBuilder{conditions: newConditions(lang), index: index}
	m := &EventMapper{lang: lang, fields: fields, byType: make(map[string][]int32)}
	for slot := range fields {
		if fields[slot].Events != nil {
			b.add(slot, &fields[slot])
		}
	}
	m.rules, m.atoms = b.rules, b.conditions.atoms
	if !index {
		m.interpret()
	}
	for _, r := range m.rules {
		for _, t := range r.types {
			m.byType[t] = nil
		}
	}
	for i, r := range m.rules {
		if r.types == nil {
			m.always = append(m.always, int32(i))
		}
		for t, list := range m.byType {
			if r.types == nil || slices.Contains(r.types, t) {
				m.byType[t] = append(list, int32(i))
			}
		}
	}
	return m, b.errs
}

// interpret forgets the compiled code.
func (m *EventMapper) interpret() {
	for i := range m.rules {
		m.rules[i].code = nil
	}
	for i := range m.atoms {
		m.atoms[i].code = nil
	}
}

// mapperBuilder compiles the event rules of the fields.
type mapperBuilder struct {
	conditions *conditions
	index      bool
	rules      []eventRule
	errs       []EventRuleError
}

func (b *mapperBuilder) add(slot int, f *profilestore.Field) {
	e := f.Events
	if e.Reset != "" {
		b.addRule(f, eventRule{slot: slot, op: profilestore.Reset}, rulePart{"reset", e.Reset}, rulePart{})
	}
	value := rulePart{"set", e.Set}
	switch {
	case e.Add != "":
		value = rulePart{"add", e.Add}
	case e.In != "":
		value = rulePart{"in", e.In}
	}
	b.addRule(f, eventRule{slot: slot, kind: changeKind(f.Type)}, rulePart{"on", e.On}, value)
	if e.RemoveOn != "" {
		b.addRule(f, eventRule{slot: slot, op: profilestore.Remove, kind: profilestore.KindText},
			rulePart{"remove_on", e.RemoveOn}, rulePart{"remove", cmp.Or(e.Remove, e.Add)})
	}
}

// changeKind returns the kind of what events give a field of a type: of a set an
// element, of a dwell whether the customer is there.
func changeKind(t profilestore.Type) profilestore.Kind {
	switch t {
	case profilestore.TypeSet:
		return profilestore.KindText
	case profilestore.TypeDwell:
		return profilestore.KindFlag
	case profilestore.TypeNumber, profilestore.TypeFlag, profilestore.TypeText, profilestore.TypeTime,
		profilestore.TypeCounter, profilestore.TypeMax, profilestore.TypeMin:
	}
	return t.Kind()
}

// rulePart is an expression of an event rule. One that is empty is reported by the
// schema's own check.
type rulePart struct{ name, expr string }

// addRule compiles a condition and a value.
func (b *mapperBuilder) addRule(f *profilestore.Field, r eventRule, on, value rulePart) {
	note := func(part string, mistakes CompileErrors) {
		if mistakes != nil {
			b.errs = append(b.errs, EventRuleError{Field: r.slot, Part: part, Errors: mistakes})
		}
	}
	n := len(b.errs)
	if on.expr != "" {
		note(on.name, b.addOn(&r, on.expr))
	}
	if value.expr != "" {
		note(value.name, b.addValue(&r, f, value.name, value.expr))
	}
	if r.op == profilestore.Assign && f.Events.Priority != "" {
		note("priority", b.addPriority(&r, f.Events.Priority))
	}
	if f.Type == profilestore.TypeCounter && r.kind == profilestore.KindNumber {
		r.limit = amountLimit(f.Decimals)
	}
	if len(b.errs) == n {
		b.rules = append(b.rules, r)
	}
}

// addOn compiles the condition of a rule and takes out of it what the index of
// event types decides.
func (b *mapperBuilder) addOn(r *eventRule, expr string) CompileErrors {
	tree, mistakes := b.conditions.lang.compile(expr)
	if mistakes != nil {
		return mistakes
	}
	if t := resultType(tree); t.Kind() != types.BoolKind && t.Kind() != types.DynKind {
		return wholeError(expr, "a condition must be true or false: this is a %s", plainType(t))
	}
	parts := conjuncts(nil, tree.Expr())
	if b.index {
		rest := parts[:0:0]
		for _, p := range parts {
			set, exact := eventTypes(p)
			switch {
			case set == nil:
			case r.types == nil:
				r.types = set
			default:
				exact = false // the intersection is left to the evaluation
			}
			if set == nil || !exact {
				rest = append(rest, p)
			}
		}
		parts = rest
	}
	var err error
	if r.on, err = b.conditions.add(tree, parts); err != nil {
		return wholeError(expr, "%v", err)
	}
	return nil
}

// addValue compiles what a rule gives.
func (b *mapperBuilder) addValue(r *eventRule, f *profilestore.Field, part, expr string) CompileErrors {
	lang := b.conditions.lang
	tree, mistakes := lang.compile(expr)
	if mistakes != nil {
		return mistakes
	}
	if t := resultType(tree); !canBecome(t, r.kind) {
		switch f.Type {
		case profilestore.TypeSet:
			return wholeError(expr, "%s is a set, its elements are texts, but %s gives a %s", f.Name, part, plainType(t))
		case profilestore.TypeDwell:
			return wholeError(expr, "%s is a dwell and needs true or false, but %s gives a %s", f.Name, part, plainType(t))
		default:
			return wholeError(expr, "%s is a %s, but %s gives a %s", f.Name, f.Type, part, plainType(t))
		}
	}
	r.tree = tree
	if name, ok := attributeName(tree.Expr()); ok {
		r.attribute = name
		return nil
	}
	var err error
	if r.value, err = lang.program(tree, tree.Expr()); err != nil {
		return wholeError(expr, "%v", err)
	}
	r.code = lang.newCompiler(tree, tree.Expr()).given(tree.Expr(), r.kind)
	return nil
}

// addPriority compiles the priority of a rule.
func (b *mapperBuilder) addPriority(r *eventRule, expr string) CompileErrors {
	lang := b.conditions.lang
	tree, mistakes := lang.compile(expr)
	if mistakes != nil {
		return mistakes
	}
	if t := resultType(tree); !canBecome(t, profilestore.KindNumber) {
		return wholeError(expr, "a priority is a whole number from %d to %d: this is a %s", -profilestore.MaxPriority, profilestore.MaxPriority, plainType(t))
	}
	var err error
	if r.priority, err = lang.program(tree, tree.Expr()); err != nil {
		return wholeError(expr, "%v", err)
	}
	return nil
}

// canBecome reports whether values of a type can be those of a field.
func canBecome(t *types.Type, k profilestore.Kind) bool {
	switch t.Kind() {
	case types.DynKind:
		return true
	case types.DoubleKind, types.IntKind:
		return k == profilestore.KindNumber
	case types.BoolKind:
		return k == profilestore.KindFlag
	case types.StringKind:
		return k == profilestore.KindText || k == profilestore.KindTime
	case types.TimestampKind:
		return k == profilestore.KindTime
	default:
		return false
	}
}

// amountLimit is the greatest amount that an event may add to a counter: far
// more than any means, and far from where the scaled sum would overflow.
func amountLimit(decimals int) float64 {
	limit := float64(1 << 62)
	for range decimals {
		limit /= 10
	}
	return min(1e12, limit)
}
