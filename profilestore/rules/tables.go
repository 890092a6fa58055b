package rules

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"

	"rapport/profilestore"
)

// Tables are the reference tables that event rules call. It is safe for concurrent
// use.
type Tables interface {
	// Lookup returns what a table, by its place in the schema, has for a key, in the
	// version that a set has of it; "" if it has no row for the key. The same
	// arguments give the same answer, always.
	Lookup(set uint64, table int, key string) string
}

// TableSet is one version of each reference table: what the rules of one decision read.
// It is immutable and safe for concurrent use.
type TableSet interface {
	// Find returns what a table, by its place in the schema, has for a key; false if it
	// has no row for the key or if nothing is loaded.
	Find(table int, key string) (string, bool)
}

// CheckTables returns the mistakes in the declaration of reference tables: a name
// that is none, is there twice, or means something in expressions already.
func CheckTables(tables []profilestore.ReferenceTable) profilestore.SchemaErrors {
	errs := profilestore.CheckTables(tables)
	if len(tables) == 0 {
		return nil
	}
	lang, err := newLanguage(objects{eventObject: eventFields}, eventRoots)
	if err != nil {
		panic(err) // the declarations are constant
	}
	for i, t := range tables {
		path := fmt.Sprintf("tables[%d].id", i)
		if lang.nameIsFree(t.ID) || slices.ContainsFunc(errs, func(e *profilestore.SchemaError) bool { return e.Path == path }) {
			continue
		}
		errs = append(errs, &profilestore.SchemaError{
			Path: path, Message: fmt.Sprintf("%s means something in rules already: choose another name", t.ID),
		})
	}
	return errs
}

// nameIsFree reports whether a name can become that of a function.
func (l *language) nameIsFree(name string) bool {
	if l.env.HasFunction(name) || slices.Contains(macros, name) || l.roots[name] != nil || slices.Contains([]string{"profile", "context", "now", "segment", "table"}, name) {
		return false
	}
	parsed, issues := l.env.Parse(name + `("")`) // else it is a reserved word, or a macro
	if issues.Err() != nil {
		return false
	}
	e := parsed.NativeRep().Expr()
	return e.Kind() == ast.CallKind && e.AsCall().FunctionName() == name
}

// usableTables returns the names of tables, an empty one for each that can't be
// called; that is reported elsewhere.
func usableTables(tables []profilestore.ReferenceTable) []string {
	if len(tables) == 0 {
		return nil
	}
	if len(CheckTables(tables)) > 0 {
		// The good ones count: a mistake in a name is not one in every rule too.
		var good []profilestore.ReferenceTable
		for _, t := range tables {
			if len(CheckTables(append(slices.Clone(good), t))) == 0 {
				good = append(good, t)
			}
		}
		tables = good
	}
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.ID
	}
	return names
}

// tableFunction declares a table as a function from text to text, with otherwise also
// from two texts.
func tableFunction(name string, otherwise bool) cel.EnvOption {
	lost := types.NewErr("%s was not looked up", name)
	overloads := []cel.FunctionOpt{
		cel.Overload(name+"_string", []*cel.Type{cel.StringType}, cel.StringType, cel.UnaryBinding(func(ref.Val) ref.Val { return lost })),
	}
	if otherwise {
		overloads = append(overloads, cel.Overload(name+"_string_string", []*cel.Type{cel.StringType, cel.StringType}, cel.StringType,
			cel.BinaryBinding(func(ref.Val, ref.Val) ref.Val { return lost })))
	}
	return cel.Function(name, overloads...)
}

// lookUp replaces the call of a table in a plan by the lookup. A function of cel-go
// sees its arguments alone, and which version of the table counts is said by the
// event, or by the inputs of the decision.
func (l *language) lookUp(step interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	call, ok := step.(interpreter.InterpretableCall)
	if !ok || !slices.Contains(l.tables, call.Function()) {
		return step, nil
	}
	x := &tableLookup{id: call.ID(), lang: l, table: l.tablePlaces[call.Function()], key: call.Args()[0]}
	if len(call.Args()) == 2 {
		x.otherwise = call.Args()[1]
	}
	return x, nil
}

// tableLookup is the call of a table.
type tableLookup struct {
	id        int64
	lang      *language
	table     int
	key       interpreter.InterpretableV2
	otherwise interpreter.InterpretableV2 // nil: unknown
}

// ID returns the id of the call in its tree.
func (x *tableLookup) ID() int64 { return x.id }

// Exec evaluates the key and looks it up.
func (x *tableLookup) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	v, found := x.find(x.key.Exec(frame), frame)
	if !found {
		return x.otherwise.Exec(frame)
	}
	return v
}

// Eval is Exec for callers of the older interface.
func (x *tableLookup) Eval(vars interpreter.Activation) ref.Val {
	v, found := x.find(x.key.Eval(vars), vars)
	if !found {
		return x.otherwise.Eval(vars)
	}
	return v
}

// find returns the value of the call, false where what it is otherwise counts.
func (x *tableLookup) find(key ref.Val, vars interpreter.Activation) (ref.Val, bool) {
	if types.IsUnknownOrError(key) {
		return key, true
	}
	text, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key), true
	}
	if x.lang.roots["event"] != nil {
		event, _ := vars.ResolveName("event")
		if x.lang.lookup == nil {
			return types.String(""), true
		}
		return types.String(x.lang.lookup.Lookup(as[*profilestore.Event](event).Tables, x.table, string(text))), true
	}
	profile, _ := vars.ResolveName("profile")
	if v, ok := as[*variables](profile).lookUp(x.table, string(text)); ok {
		return types.String(v), true
	}
	return unknown, x.otherwise == nil
}

// suggestFunction returns the words that name the function nearest to name, or say
// what could be meant.
func (l *language) suggestFunction(name string) string {
	if near := Nearest(name, slices.Concat(functions, macros, l.tables)); near != "" {
		return didYouMean(near)
	}
	if _, events := l.roots["event"]; events {
		return ": a reference table is called by its name, and declared under tables"
	}
	if len(l.tables) > 0 {
		return ", and no reference table: the schema declares " + strings.Join(l.tables, ", ")
	}
	return ""
}
