package sandbox

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"rapport/profilestore"
	"rapport/profilestore/rules"
	"rapport/sdk/abi"
	"rapport/server/catalog"
)

// Check says, one sentence each, what the strategy needs that the catalogue does
// not have, and what the scenario asks of it that it can't do. Nothing: it fits.
func (m *Module) Check(c *catalog.Compiled, s *catalog.Scenario) []string {
	var problems []string
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	for _, in := range m.manifest.Profile {
		if strings.HasPrefix(in.Name, abi.ContextGroup) {
			checkContext(c, in, problem)
			continue
		}
		slot, ok := c.Schema.Lookup(in.Name)
		if !ok {
			names := make([]string, len(c.Schema.Fields()))
			for i, f := range c.Schema.Fields() {
				names[i] = f.Name
			}
			problem("it reads the profile field %s, which the schema does not have%s", in.Name, Nearest(in.Name, names))
			continue
		}
		if kind := c.Schema.Fields()[slot].Type.Kind(); kind.String() != in.Type {
			problem("it reads the profile field %s as a %s, and in the schema it is a %s", in.Name, in.Type, kind)
		}
	}
	m.checkAttributes(m.manifest.Offer, "offer", offersOf(c, s), problem)
	m.checkAttributes(m.manifest.Channel, "channel", channelsOf(c, s), problem)
	if s.Strategy == nil {
		return problems
	}
	for _, name := range slices.Sorted(maps.Keys(s.Strategy.Parameters)) {
		v := s.Strategy.Parameters[name]
		i := slices.IndexFunc(m.manifest.Parameters, func(p abi.Parameter) bool { return p.Name == name })
		if i < 0 {
			names := make([]string, len(m.manifest.Parameters))
			for i, p := range m.manifest.Parameters {
				names[i] = p.Name
			}
			problem("the scenario sets the parameter %s, which it does not have%s", name, Nearest(name, names))
			continue
		}
		if p := m.manifest.Parameters[i]; !(v >= p.Min && v <= p.Max) {
			problem("the scenario sets the parameter %s to %g; it may be %g to %g", name, v, p.Min, p.Max)
		}
	}
	return problems
}

// checkContext checks what is read of the context of a request.
func checkContext(c *catalog.Compiled, in abi.Input, problem func(string, ...any)) {
	i, ok := c.ContextField(strings.TrimPrefix(in.Name, abi.ContextGroup))
	if !ok {
		names := make([]string, len(c.Context))
		for i := range c.Context {
			names[i] = abi.ContextGroup + c.Context[i].Name
		}
		problem("it reads the context field %s, which the catalogue does not declare%s", in.Name, Nearest(in.Name, names))
	} else if kind := c.Context[i].Kind; kind.String() != in.Type {
		problem("it reads the context field %s as a %s, and in the catalogue it is a %s", in.Name, in.Type, kind)
	}
}

// owner is an offer or a channel with its attributes.
type owner struct {
	id         string
	attributes map[string]profilestore.Value
}

// offersOf returns the offers that compete, each once, and channelsOf the
// channels.
func offersOf(c *catalog.Compiled, s *catalog.Scenario) []owner {
	var owners []owner
	for i := range distinct(s.Candidates, func(k *catalog.Candidate) int { return k.Offer }) {
		owners = append(owners, owner{c.Offers[i].ID, c.Offers[i].Attributes})
	}
	return owners
}

func channelsOf(c *catalog.Compiled, s *catalog.Scenario) []owner {
	var owners []owner
	for i := range distinct(s.Candidates, func(k *catalog.Candidate) int { return k.Channel }) {
		owners = append(owners, owner{c.Channels[i].ID, c.Channels[i].Attributes})
	}
	return owners
}

// distinct returns what of says of the candidates, in their order, each once.
func distinct(candidates []catalog.Candidate, of func(*catalog.Candidate) int) iter.Seq[int] {
	return func(yield func(int) bool) {
		seen := make(map[int]bool)
		for i := range candidates {
			v := of(&candidates[i])
			if !seen[v] && !yield(v) {
				return
			}
			seen[v] = true
		}
	}
}

// checkAttributes checks what is read of offers or channels: at least one of
// them has it, and those that have it agree on its type.
func (m *Module) checkAttributes(inputs []abi.Input, what string, owners []owner, problem func(string, ...any)) {
	if len(owners) == 0 {
		return
	}
	for _, in := range inputs {
		found, names := false, make(map[string]bool)
		for _, o := range owners {
			v, ok := o.attributes[in.Name]
			for name := range o.attributes {
				names[name] = true
			}
			if !ok || !v.Known() {
				continue
			}
			if v.Kind().String() != in.Type {
				problem("it reads the %s attribute %s as a %s, and for %s %s it is a %s", what, in.Name, in.Type, what, o.id, v.Kind())
				found = true
				break
			}
			found = true
		}
		if !found {
			problem("it reads the %s attribute %s, which no %s of the scenario has%s", what, in.Name, what, Nearest(in.Name, slices.Sorted(maps.Keys(names))))
		}
	}
}

// Nearest ends a message with the known name that is most like a wrong one, if
// one is like it at all.
func Nearest(name string, known []string) string {
	best := rules.Nearest(name, known)
	if best == "" {
		return ""
	}
	return "; the nearest is " + best
}
