package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"rapport/profilestore"
	"rapport/profilestore/rules"
	rapportv1 "rapport/server/api/rapport/v1"
)

// addOffers adds the offers and compiles their rules.
func (c *compiler) addOffers() {
	c.offers, c.groups = make(map[string]int), make(map[string][]int)
	seen := make(map[string]int)
	exclusive := make(map[string]int)
	for i, m := range c.message.GetOffers() {
		o := Offer{
			ID: m.GetId(), Group: m.GetGroup(), Class: classOf(m.GetClass()), Value: m.GetValue(),
			Propensity: c.propensity(i, m.GetPropensity()), Lever: 1 + m.GetBoost()/100, Boost: m.GetBoost(), above: 1,
			Boosts:   boosts(nil, "offer "+m.GetId(), m.GetBoost()),
			Eligible: c.condition("offers", i, "eligible", m.GetEligible()),
			Owned:    c.condition("offers", i, "owned", m.GetOwned()), HasOwned: ruled(m.GetOwned()),
			Prerequisite: c.condition("offers", i, "prerequisite", m.GetPrerequisite()),
			Exclusive:    -1,
		}
		c.inherit(&o)
		c.addValidity(i, m, &o)
		if tag := m.GetExclusive(); tag != "" {
			n, ok := exclusive[tag]
			if !ok {
				n = len(exclusive)
				exclusive[tag] = n
			}
			o.Exclusive = n
		}
		o.Attributes = c.attributes("offers", i, m.GetAttributes(), map[string]profilestore.Value{
			"value": profilestore.Number(m.GetValue()), "class": profilestore.Text(o.Class.String()),
		})
		treatments := c.treatmentsOf(i, m)
		if !c.declare(seen, "offers", i, "id", "offer", m.GetId()) {
			continue
		}
		c.groups[o.Group] = append(c.groups[o.Group], len(c.out.Offers))
		c.offers[o.ID] = len(c.out.Offers)
		if o.Propensity.StartEvidence > 0 {
			o.Propensity.Learner = c.out.learners
			c.out.learners++
		}
		c.out.Offers = append(c.out.Offers, o)
		c.treatments = append(c.treatments, treatments)
		c.ruled = append(c.ruled, ruled(m.GetEligible()) || o.HasOwned || ruled(m.GetPrerequisite()))
	}
	c.addExclusions()
}

// condition compiles a condition of an element of a list; the zero Rule where it is
// empty or wrong.
func (c *compiler) condition(list string, i int, below, expr string) rules.Rule {
	if c.mistaken >= maxProblems {
		return rules.Rule{}
	}
	rule, err := c.conditions.Add(expr)
	if mistakes, ok := errors.AsType[rules.CompileErrors](err); ok && !c.lostName(mistakes) {
		c.mistaken++
		from := c.origins[list][i]
		path := from.path + "." + below
		if !from.doc.suppressed(path) {
			from.doc.failScalar(path, mistakes)
		}
	}
	return rule
}

// ruled reports whether a condition is given.
func ruled(expr string) bool { return strings.TrimSpace(expr) != "" }

// classOf returns the class that a file spells.
func classOf(s string) Class {
	for _, c := range []Class{ClassCare, ClassMarketing} {
		if c.String() == s {
			return c
		}
	}
	return ClassService
}

// Accepted is the outcome that is a success where an offer names none.
const Accepted = "accepted"

// propensity resolves where an offer's propensity comes from.
func (c *compiler) propensity(i int, m *rapportv1.Propensity) Propensity {
	p := Propensity{Slot: -1, Start: m.GetStart(), StartEvidence: m.GetStartEvidence()}
	switch {
	case m.GetStartEvidence() > 0:
		p.Success = cmp.Or(m.GetSuccess(), Accepted)
	case m.GetSuccess() != "":
		c.fail("offers", i, "propensity.success", "without start_evidence nothing is learned from outcomes: say how many presentations start is worth, such as start_evidence: 100")
	}
	name := m.GetField()
	if name == "" {
		return p
	}
	slot, ok := c.schema.Lookup(name)
	if !ok {
		c.fail("offers", i, "propensity.field", "the schema has no field %q%s", name, nearest(c, strings.TrimPrefix(name, "profile."), c.numbers()))
		return p
	}
	if f := c.schema.Fields()[slot]; f.Type != profilestore.TypeNumber {
		c.fail("offers", i, "propensity.field", "%s is a %s: a propensity is a number", name, f.Type)
		return p
	}
	p.Slot = slot
	return p
}

// treatmentsOf resolves the channels of an offer's treatments.
func (c *compiler) treatmentsOf(i int, m *rapportv1.Offer) []treatment {
	var out []treatment
	taken := make(map[int]bool)
	for j, t := range m.GetTreatments() {
		below := fmt.Sprintf("treatments[%d].channel", j)
		ch, ok := c.channel("offers", i, below, t.GetChannel())
		if !ok {
			continue
		}
		if taken[ch] {
			c.fail("offers", i, below, "the offer has two treatments in channel %s", t.GetChannel())
			continue
		}
		taken[ch] = true
		out = append(out, treatment{
			channel: ch, format: t.GetFormat(),
			content:  c.template("offers", i, fmt.Sprintf("treatments[%d].content", j), t.GetContent()),
			script:   c.template("offers", i, fmt.Sprintf("treatments[%d].script", j), t.GetScript()),
			eligible: c.condition("offers", i, fmt.Sprintf("treatments[%d].eligible", j), t.GetEligible()),
			ruled:    ruled(t.GetEligible()),
		})
	}
	slices.SortFunc(out, func(a, b treatment) int { return a.channel - b.channel })
	return out
}

// attributes converts facts for strategies. own are fields of the element that are such
// facts too, by their names.
func (c *compiler) attributes(list string, i int, m map[string]*structpb.Value, own map[string]profilestore.Value) map[string]profilestore.Value {
	out := maps.Clone(own)
	for _, name := range slices.Sorted(maps.Keys(m)) {
		below := fmt.Sprintf("attributes[%q]", name)
		if _, ok := own[name]; ok {
			c.fail(list, i, below, "%s is a field of its own: an attribute can't have the same name", name)
			continue
		}
		switch v := m[name].GetKind().(type) {
		case *structpb.Value_NumberValue:
			out[name] = profilestore.Number(v.NumberValue)
		case *structpb.Value_BoolValue:
			out[name] = profilestore.Flag(v.BoolValue)
		case *structpb.Value_StringValue:
			out[name] = profilestore.Text(v.StringValue)
		}
	}
	return out
}

// valueOf converts a value of a file to a kind.
func valueOf(v *structpb.Value, k profilestore.Kind) (profilestore.Value, error) {
	switch x := v.GetKind().(type) {
	case *structpb.Value_NumberValue:
		if k == profilestore.KindNumber {
			return profilestore.Number(x.NumberValue), nil
		}
	case *structpb.Value_BoolValue:
		if k == profilestore.KindFlag {
			return profilestore.Flag(x.BoolValue), nil
		}
	case *structpb.Value_StringValue:
		if k == profilestore.KindText {
			return profilestore.Text(x.StringValue), nil
		}
		if k == profilestore.KindTime {
			if t, err := time.Parse(time.RFC3339Nano, x.StringValue); err == nil {
				return profilestore.Time(t.UnixMicro()), nil
			}
		}
	case nil:
		return profilestore.Value{}, nil // it could not be read, which was said
	}
	need := map[profilestore.Kind]string{
		profilestore.KindNumber: "a number", profilestore.KindFlag: "true or false", profilestore.KindText: "a text, in quotes if it looks like a number or flag",
		profilestore.KindTime: "a time such as 2026-01-31T18:00:00+08:00",
	}[k]
	return profilestore.Value{}, fmt.Errorf("the default must be %s", need)
}

// numbers are the fields of the schema that a propensity can be.
func (c *compiler) numbers() map[string]bool {
	out := make(map[string]bool)
	for _, f := range c.schema.Fields() {
		if f.Type == profilestore.TypeNumber {
			out[f.Name] = true
		}
	}
	return out
}

// maxHints bounds how often the nearest of many names is looked for.
const maxHints = 100

// nearest returns the words that name the key that was probably meant.
func nearest[V any](c *compiler, name string, keys map[string]V) string {
	if c.hinted++; c.hinted > maxHints {
		return ""
	}
	all := slices.Sorted(maps.Keys(keys))
	return hint(rules.Nearest(name, all), strings.Join(all, ", "))
}
