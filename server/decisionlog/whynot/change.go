package whynot

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"rapport/profilestore"
	"rapport/server/catalog"
)

// Kind is what a change is about. The kinds are in the order in which they disturb: what
// only needs patience or another question comes first, then what happens by itself, then
// what the customer does or is, then what the business changes for all customers.
type Kind uint8

// The kinds of changes.
const (
	KindNone         Kind = iota
	KindWait              // the decision is made later
	KindContext           // the request says something else
	KindAlone             // the touchpoint is asked for alone
	KindSlots             // there are more slots
	KindLoad              // the channel is less busy
	KindCapacity          // a place of a capacity becomes free
	KindField             // a field of the profile has another value
	KindConsent           // the customer agrees to marketing in the channel
	KindDoNotDisturb      // the customer lets the channel contact
	KindBoost             // the offer's own boost is raised
	KindValue             // the offer's value is raised
	KindValidity          // the offer's time does not end
	KindWithdraw          // another offer is withdrawn
	KindControlGroup      // the customer is not in the control group
	kindCount
)

// Kinds returns all kinds that there are.
func Kinds() []Kind {
	out := make([]Kind, 0, kindCount-1)
	for k := KindNone + 1; k < kindCount; k++ {
		out = append(out, k)
	}
	return out
}

var kindNames = [kindCount]string{
	"none", "wait", "context", "alone", "slots", "load", "capacity", "field", "consent", "do_not_disturb", "boost", "value", "validity",
	"withdraw", "control_group",
}

// String returns the kind in lower case, as the API spells it but for the prefix.
func (k Kind) String() string { return kindNames[k] }

// Change is one thing that would have to be otherwise. Changes can be compared with ==.
type Change struct {
	Kind Kind
	// Subject is what is changed: the field's, context field's, channel's, capacity's,
	// touchpoint's or offer's name; empty where the kind says all.
	Subject string
	// From and To are the values before and after: a time of a wait, a number of slots,
	// loads, boosts and values. Where the kind says all both are unknown.
	From, To profilestore.Value
	// Bound is a constant of the rules that To is just beyond, unknown if it is beyond
	// none: of to 5000.01 where more than 5000 is asked for, 5000.
	Bound profilestore.Value
	// Element is what comes into a set or leaves it, if that is all that changes.
	Element string

	index int // of the subject, in its list
}

// Slot returns the slot of the schema whose value the change changes, −1 if it changes
// none.
func (c *Change) Slot() int {
	switch c.Kind { //nolint:exhaustive // the others change no field
	case KindField, KindConsent, KindDoNotDisturb:
		return c.index
	}
	return -1
}

// subject is what only one change of a set can be about.
type subject struct {
	kind  Kind
	index int
}

func (c *Change) about() subject {
	if c.Slot() >= 0 {
		return subject{KindField, c.index}
	}
	return subject{c.Kind, c.index}
}

func compareChanges(a, b Change) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.index, b.index), compareValues(a.To, b.To))
}

func compareValues(a, b profilestore.Value) int {
	return cmp.Or(
		cmp.Compare(a.Kind(), b.Kind()), cmp.Compare(a.Number(), b.Number()), cmp.Compare(a.Micros(), b.Micros()), cmp.Compare(a.String(), b.String()))
}

// changes are a set of changes, each about something else, in order.
type changes []Change

// with returns the set with more changes, each in the place of one that is about the
// same.
func (s changes) with(more ...Change) changes {
	out := slices.Clone(s)
	for _, c := range more {
		about := c.about()
		if i := slices.IndexFunc(out, func(x Change) bool { return x.about() == about }); i >= 0 {
			c.From = out[i].From
			out[i] = c
		} else {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, compareChanges)
	return out
}

// key is the same for the same sets.
func (s changes) key() string {
	var b strings.Builder
	for i := range s {
		c := &s[i]
		fmt.Fprintf(&b, "%d %d %d ", c.Kind, c.index, c.To.Kind())
		switch c.To.Kind() {
		case profilestore.KindNumber:
			b.WriteString(strconv.FormatUint(math.Float64bits(c.To.Number()), 16))
		case profilestore.KindTime:
			b.WriteString(strconv.FormatInt(c.To.Micros(), 16))
		case profilestore.KindText, profilestore.KindSet, profilestore.KindFlag, profilestore.KindUnknown:
			b.WriteString(strconv.Quote(c.To.String()))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// has reports whether the set has all of another.
func (s changes) has(of changes) bool {
	return !slices.ContainsFunc(of, func(c Change) bool {
		return !slices.ContainsFunc(s, func(x Change) bool { return x.Kind == c.Kind && x.index == c.index && x.To == c.To })
	})
}

// covers reports whether the set has all of another, or is larger and changes all that
// the other does, to whatever values.
func (s changes) covers(of changes) bool {
	if len(s) <= len(of) {
		return s.has(of)
	}
	return !slices.ContainsFunc(of, func(c Change) bool {
		about := c.about()
		return !slices.ContainsFunc(s, func(x Change) bool { return x.about() == about })
	})
}

// find returns the change of a kind, nil if there is none.
func (s changes) find(k Kind, index int) *Change {
	for i := range s {
		if s[i].Kind == k && s[i].index == index {
			return &s[i]
		}
	}
	return nil
}

// disruption orders sets of one size: the least disruptive first. Each change weighs as
// its kind stands in the order of kinds; of equal sets that with the shorter wait, then
// the smaller changes are first.
func disruption(a, b changes) int {
	sum := func(s changes) (n int, wait int64) {
		for i := range s {
			n += int(s[i].Kind)
			if s[i].Kind == KindWait {
				wait = s[i].To.Micros()
			}
		}
		return n, wait
	}
	n, wait := sum(a)
	m, wait2 := sum(b)
	if by := cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(n, m), cmp.Compare(wait, wait2)); by != 0 {
		return by
	}
	return slices.CompareFunc(a, b, func(x, y Change) int {
		return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.index, y.index), cmp.Compare(x.step(), y.step()), compareValues(x.To, y.To))
	})
}

// step is how far a number or a time is moved.
func (c *Change) step() float64 {
	switch c.To.Kind() { //nolint:exhaustive // the others have no distance
	case profilestore.KindNumber:
		return math.Abs(c.To.Number() - c.From.Number())
	case profilestore.KindTime:
		return math.Abs(float64(c.To.Micros() - c.From.Micros()))
	}
	return 0
}

// Words says changes in words.
type Words struct {
	Zone *time.Location // of times; nil: UTC
	// Show writes the value of a profile field at a slot of the schema; nil: as it is.
	Show func(slot int, v profilestore.Value) string
}

// Of returns a change in words.
func (w Words) Of(c *Change) string {
	switch c.Kind {
	case KindWait:
		return "wait until " + w.moment(c.To.Micros())
	case KindContext:
		return w.value("context."+c.Subject, c)
	case KindAlone:
		return "ask for " + c.Subject + " alone"
	case KindSlots:
		return fmt.Sprintf("slots of %s from %s to %s", c.Subject, c.From, c.To)
	case KindLoad:
		return w.value("the load of channel "+c.Subject, c)
	case KindCapacity:
		return "a place of capacity " + c.Subject + " becomes free"
	case KindField:
		return w.value(c.Subject, c)
	case KindConsent:
		return "consent: " + w.value(c.Subject, c)
	case KindDoNotDisturb:
		return "do-not-disturb: " + w.value(c.Subject, c)
	case KindBoost:
		return fmt.Sprintf("the boost of offer %s from %s to %s percent", c.Subject, c.From, c.To)
	case KindValue:
		return fmt.Sprintf("the value of offer %s from %s to %s", c.Subject, c.From, c.To)
	case KindValidity:
		return fmt.Sprintf("offer %s stays valid after %s", c.Subject, w.moment(c.From.Micros()))
	case KindWithdraw:
		return "offer " + c.Subject + " is withdrawn"
	case KindControlGroup:
		return "the customer is not in the control group"
	case KindNone, kindCount:
	}
	return ""
}

// value says from what to what something changes.
func (w Words) value(what string, c *Change) string {
	if c.Element != "" {
		if c.To.Has(c.Element) {
			if !c.From.Known() {
				return fmt.Sprintf("%s known, with %s in it", what, c.Element)
			}
			return fmt.Sprintf("%s with %s in it", what, c.Element)
		}
		return fmt.Sprintf("%s without %s in it", what, c.Element)
	}
	from, to := w.text(c, c.From), w.text(c, c.To)
	if c.Bound.Known() {
		bound := w.text(c, c.Bound)
		switch after := compareValues(c.To, c.Bound) > 0; {
		case c.To.Kind() == profilestore.KindTime && after:
			to = "after " + bound
		case c.To.Kind() == profilestore.KindTime:
			to = "before " + bound
		case after:
			to = "more than " + bound
		default:
			to = "less than " + bound
		}
	}
	switch {
	case !c.From.Known():
		return what + " becomes known: " + to
	case !c.To.Known():
		return what + " from " + from + " to unknown"
	case c.To == profilestore.Text(anythingElse):
		return what + " from " + from + " to anything else"
	}
	return what + " from " + from + " to " + to
}

func (w Words) text(c *Change, v profilestore.Value) string {
	if slot := c.Slot(); slot >= 0 && w.Show != nil && v == c.From {
		if text := w.Show(slot, v); text != v.String() {
			return text
		}
	}
	if v.Kind() == profilestore.KindTime {
		return w.moment(v.Micros())
	}
	return v.String()
}

// moment writes a time as people say it, never before it.
func (w Words) moment(micros int64) string {
	zone := w.Zone
	if zone == nil {
		zone = time.UTC
	}
	at := time.UnixMicro(micros).In(zone)
	if whole := at.Truncate(time.Second); whole.Before(at) {
		at = whole.Add(time.Second)
	}
	layout := "15:04 on Monday 2 January 2006"
	if at.Second() != 0 {
		layout = "15:04:05 on Monday 2 January 2006"
	}
	return at.Format(layout) + " (" + zone.String() + ")"
}

// nameOf returns a field's name.
func nameOf(c *catalog.Compiled, slot int) string { return c.Schema.Fields()[slot].Name }
