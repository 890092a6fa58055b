package rules

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"rapport/profilestore"
)

// EventError says why an event can't be taken.
type EventError struct {
	Event   string // its id
	Type    string // its type
	Field   string // the field whose rule can't be carried out
	Message string
}

func (e *EventError) Error() string {
	return fmt.Sprintf("event %.80q of type %.80q: field %s %s", e.Event, e.Type, e.Field, e.Message)
}

// eventEvaluation is the state of mapping one event.
type eventEvaluation struct {
	memo  memo
	event *profilestore.Event
	frame frame
}

// ResolveName and Parent make it cel-go's activation.
func (x *eventEvaluation) ResolveName(name string) (any, bool) { return x.event, name == "event" }

func (x *eventEvaluation) Parent() cel.Activation { return nil }

// Map appends to dst what e changes, in the order of the fields. An error is the
// first [*EventError]; what e changes in the other fields has been appended all
// the same.
func (m *EventMapper) Map(e *profilestore.Event, dst []profilestore.Change) ([]profilestore.Change, error) {
	list, ok := m.byType[e.Type]
	if !ok {
		list = m.always
	}
	if len(list) == 0 {
		return dst, nil
	}
	x, ok := m.pool.Get().(*eventEvaluation)
	if !ok {
		x = &eventEvaluation{memo: newMemo(m.atoms)}
	}
	x.event, x.frame.event = e, e
	x.memo.reset()
	var first error
	for _, i := range list {
		var err error
		if dst, err = m.apply(&m.rules[i], x, dst); err != nil && first == nil {
			first = err
		}
	}
	x.event, x.frame.event = nil, nil
	m.pool.Put(x)
	return dst, first
}

// apply appends what one rule makes of the event.
func (m *EventMapper) apply(r *eventRule, x *eventEvaluation, dst []profilestore.Change) ([]profilestore.Change, error) {
	switch x.memo.evaluate(r.on, x, &x.frame) {
	case False, Unknown:
		return dst, nil
	case Failed:
		return dst, m.failedOn(r, x)
	case True:
	}
	if r.kind == profilestore.KindUnknown {
		return append(dst, profilestore.Change{Slot: r.slot, Op: r.op}), nil
	}
	v, ok := r.compute(&x.frame)
	if !ok {
		var err error
		if v, err = m.valueSlow(r, x); err != nil {
			return dst, err
		}
	}
	change := profilestore.Change{Slot: r.slot, Op: r.op, Value: v}
	if r.priority != nil {
		var err error
		if change.Priority, err = m.priority(r, x); err != nil {
			return dst, err
		}
	}
	return append(dst, change), nil
}

// valueSlow returns the value that the rule gives, or what is wrong with it.
func (m *EventMapper) valueSlow(r *eventRule, x *eventEvaluation) (profilestore.Value, error) {
	var got any
	if r.attribute != "" {
		got = x.event.Attributes[r.attribute]
	} else {
		v, _, err := r.value.Eval(x)
		switch {
		case err != nil && strings.Contains(err.Error(), "no such overload"):
			return profilestore.Value{}, m.fail(r, x, "needs %s from %s%s", m.need(r), r.text(), r.given(x))
		case err != nil:
			return profilestore.Value{}, m.fail(r, x, "can't be had from %s: %v%s", r.text(), err, r.given(x))
		case types.IsUnknown(v):
			got = nil
		default:
			got = native(v)
		}
	}
	v, ok := convert(got, r.kind)
	if !ok || math.IsInf(v.Number(), 0) {
		return profilestore.Value{}, m.unfit(r, x, got)
	}
	if r.limit > 0 && math.Abs(v.Number()) > r.limit {
		return profilestore.Value{}, m.fail(r, x, "needs an amount between -%[1]g and %[1]g from %[2]s, got %[3]s", r.limit, r.text(), v)
	}
	return v, nil
}

// priority returns the priority of the event for a register. One that is unknown,
// because the event lacks an attribute, is 0.
func (m *EventMapper) priority(r *eventRule, x *eventEvaluation) (int8, error) {
	v, _, err := r.priority.Eval(x)
	if err != nil {
		return 0, m.fail(r, x, "has no priority: %v", err)
	}
	if types.IsUnknown(v) {
		return 0, nil
	}
	n, ok := native(v).(float64)
	if !ok || n != math.Trunc(n) || math.Abs(n) > profilestore.MaxPriority {
		return 0, m.fail(r, x, "needs a whole number from %d to %d as its priority, got %s", -profilestore.MaxPriority, profilestore.MaxPriority, describe(native(v)))
	}
	return int8(n), nil
}

// compute computes the value that the rule gives. It reports false if there is no code for
// that, or none that is as it should be: what is wrong with it is then said by others.
func (r *eventRule) compute(f *frame) (profilestore.Value, bool) {
	if r.code == nil {
		return profilestore.Value{}, false
	}
	f.gaveUp = false
	v, s := r.code(f)
	return v, s == stateKnown && !f.gaveUp && (r.limit == 0 || math.Abs(v.Number()) <= r.limit)
}

func (m *EventMapper) fail(r *eventRule, x *eventEvaluation, format string, args ...any) error {
	return &EventError{Event: x.event.ID, Type: x.event.Type, Field: m.fields[r.slot].Name, Message: fmt.Sprintf(format, args...)}
}

// failedOn explains why a condition could not be evaluated.
func (m *EventMapper) failedOn(r *eventRule, x *eventEvaluation) error {
	for _, i := range r.on.atoms {
		a := &m.atoms[i]
		if v, _, err := a.prog.Eval(x); err != nil {
			return m.fail(r, x, "can't tell whether %s: %v", a.text, err)
		} else if _, ok := v.(types.Bool); !ok && !types.IsUnknown(v) {
			return m.fail(r, x, "needs a flag from %s, got %s", a.text, describe(native(v)))
		}
	}
	return m.fail(r, x, "can't tell whether its condition holds")
}

// unfit explains that a value is not what the field holds.
func (m *EventMapper) unfit(r *eventRule, x *eventEvaluation, got any) error {
	need := m.need(r)
	if got != nil {
		return m.fail(r, x, "needs %s from %s, got %s", need, r.text(), describe(got))
	}
	for _, name := range attributes(r.tree) {
		if x.event.Attributes[name] == nil {
			return m.fail(r, x, "needs %s from %s, but the event has no %s", need, r.text(), name)
		}
	}
	return m.fail(r, x, "needs %s from %s, got nothing", need, r.text())
}

// need names what the field holds.
func (m *EventMapper) need(r *eventRule) string {
	k := r.kind
	if k == profilestore.KindTime {
		return "a time (RFC 3339 with its offset)"
	}
	return "a " + k.String()
}

// text returns the expression of the value.
func (r *eventRule) text() string {
	s, err := canonical(r.tree, r.tree.Expr())
	if err != nil {
		return "its expression"
	}
	return s
}

// given lists what the event has of the attributes that the expression reads.
func (r *eventRule) given(x *eventEvaluation) string {
	var b strings.Builder
	for _, name := range attributes(r.tree) {
		if v := x.event.Attributes[name]; v != nil {
			fmt.Fprintf(&b, "; event.%s is %s", name, describe(v))
		}
	}
	return b.String()
}

// native returns an expression's value as JSON decoding would, and a time as a
// time.Time.
func native(v ref.Val) any {
	switch v := v.(type) {
	case types.Double:
		return float64(v)
	case types.Int:
		return float64(v)
	case types.Bool:
		return bool(v)
	case types.String:
		return string(v)
	case types.Timestamp:
		return v.Time
	}
	return v.Value()
}

// convert makes a value that of a field. It reports false for one that does not
// fit; nothing is guessed.
func convert(v any, k profilestore.Kind) (profilestore.Value, bool) {
	switch v := v.(type) {
	case float64:
		return profilestore.Number(v), k == profilestore.KindNumber && !math.IsNaN(v)
	case bool:
		return profilestore.Flag(v), k == profilestore.KindFlag
	case string:
		if k == profilestore.KindTime {
			t, err := time.Parse(time.RFC3339Nano, v)
			return profilestore.Time(t.UnixMicro()), err == nil
		}
		return profilestore.Text(v), k == profilestore.KindText
	case time.Time:
		return profilestore.Time(v.UnixMicro()), k == profilestore.KindTime
	}
	return profilestore.Value{}, false
}

// describe names a value and its type, for messages.
func describe(v any) string {
	switch v := v.(type) {
	case float64:
		return "number " + strconv.FormatFloat(v, 'g', -1, 64)
	case bool:
		return "flag " + strconv.FormatBool(v)
	case string:
		return fmt.Sprintf("text %.60q", v)
	case time.Time:
		return "time " + v.UTC().Format(time.RFC3339Nano)
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	case time.Duration:
		return "duration " + v.String()
	}
	return fmt.Sprintf("a %T", v)
}
