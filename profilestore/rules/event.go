package rules

import (
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"rapport/profilestore"
)

// eventFields are what every event has. An attribute of the same name is hidden
// by it.
var eventFields = map[string]*types.FieldType{
	"id": {
		Type: types.StringType, IsSet: always,
		GetFrom: func(e any) (any, error) { return types.String(as[*profilestore.Event](e).ID), nil },
	},
	"type": {
		Type: types.StringType, IsSet: always,
		GetFrom: func(e any) (any, error) { return types.String(as[*profilestore.Event](e).Type), nil },
	},
	"time": {
		Type: types.TimestampType, IsSet: always,
		GetFrom: func(e any) (any, error) { return timestamp(as[*profilestore.Event](e).Time), nil },
	},
}

// eventRoots are the variables of event rules.
var eventRoots = map[string]*types.Type{"event": types.NewObjectType(eventObject)}

func always(any) bool { return true }

// attributeField reads an attribute of an event. One that is null is as good as
// absent.
func attributeField(name string) *types.FieldType {
	return &types.FieldType{
		Type:  types.DynType,
		IsSet: func(e any) bool { return as[*profilestore.Event](e).Attributes[name] != nil },
		GetFrom: func(e any) (any, error) {
			if v := as[*profilestore.Event](e).Attributes[name]; v != nil {
				return v, nil
			}
			return unknown, nil
		},
	}
}

// attributeName returns the attribute that an expression of the form event.NAME
// reads.
func attributeName(e ast.Expr) (string, bool) {
	if e.Kind() != ast.SelectKind || e.AsSelect().IsTestOnly() {
		return "", false
	}
	of := e.AsSelect().Operand()
	name := e.AsSelect().FieldName()
	if of.Kind() != ast.IdentKind || of.AsIdent() != "event" || eventFields[name] != nil {
		return "", false
	}
	return name, true
}

// attributes returns the names of the attributes that an expression reads, in
// the order in which they stand in it.
func attributes(tree *ast.AST) []string {
	var names []string
	ast.PreOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if name, ok := attributeName(e); ok {
			names = append(names, name)
		}
	}))
	return names
}

// eventTypes returns the event types for which a condition can be true, or nil
// if it can be for any; exact means that it is true for each of them whatever
// else the event has.
func eventTypes(e ast.Expr) (set []string, exact bool) {
	if e.Kind() != ast.CallKind {
		return nil, false
	}
	args := e.AsCall().Args()
	switch e.AsCall().FunctionName() {
	case operators.Equals:
		for i, a := range args {
			if t, ok := text(args[1-i]); ok && isEventType(a) {
				return []string{t}, true
			}
		}
	case operators.In:
		if !isEventType(args[0]) || args[1].Kind() != ast.ListKind {
			return nil, false
		}
		set = []string{}
		for _, x := range args[1].AsList().Elements() {
			t, ok := text(x)
			if !ok {
				return nil, false
			}
			set = append(set, t)
		}
		return set, true
	case operators.LogicalOr:
		a, exactA := eventTypes(args[0])
		b, exactB := eventTypes(args[1])
		if a == nil || b == nil {
			return nil, false
		}
		return append(a, b...), exactA && exactB
	case operators.LogicalAnd:
		a, _ := eventTypes(args[0])
		if a == nil {
			a, _ = eventTypes(args[1])
		}
		return a, false
	}
	return nil, false
}

// isEventType reports whether an expression is event.type.
func isEventType(e ast.Expr) bool {
	return e.Kind() == ast.SelectKind && !e.AsSelect().IsTestOnly() && e.AsSelect().FieldName() == "type" &&
		e.AsSelect().Operand().Kind() == ast.IdentKind && e.AsSelect().Operand().AsIdent() == "event"
}
