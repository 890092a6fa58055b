package rapport

import (
	"slices"

	"rapport/sdk/abi"
)

// declared is the strategy of this program. Package-level declarations are how
// authors write one, so there is one for each program.
var declared strategy

// strategy is what a program says that it reads and does.
type strategy struct {
	manifest abi.Manifest
	offer    []*attribute // as in the manifest
	channel  []*attribute
	rank     func(*Decision)
	mistakes []string

	static   abi.Static
	decision Decision
}

func (s *strategy) mistake(text string) { s.mistakes = append(s.mistakes, text) }

// input declares an input and returns its place. The same input may be declared
// more than once.
func (s *strategy) input(list *[]abi.Input, what, name string, t abi.Type) int {
	for i, in := range *list {
		if in.Name == name {
			if in.Type != t.String() {
				s.mistake(what + " " + name + " is declared as " + in.Type + " and as " + t.String())
			}
			return i
		}
	}
	*list = append(*list, abi.Input{Name: name, Type: t.String()})
	return len(*list) - 1
}

func declareField(name string, t abi.Type) int {
	return declared.input(&declared.manifest.Profile, "profile field", name, t)
}

func declareOffer(name string, t abi.Type) *attribute {
	return declareAttribute(&declared.offer, &declared.manifest.Offer, "offer attribute", name, t)
}

func declareChannel(name string, t abi.Type) *attribute {
	return declareAttribute(&declared.channel, &declared.manifest.Channel, "channel attribute", name, t)
}

func declareAttribute(columns *[]*attribute, list *[]abi.Input, what, name string, t abi.Type) *attribute {
	place := declared.input(list, what, name, t)
	if place == len(*columns) {
		*columns = append(*columns, new(attribute))
	}
	return (*columns)[place]
}

func declareColumn(name string) Column {
	m := &declared.manifest
	place := slices.Index(m.Candidate, name)
	if place < 0 {
		place = len(m.Candidate)
		m.Candidate = append(m.Candidate, name)
	}
	return Column{place}
}

func declareHistory(h abi.HistoryColumn) Column {
	if _, ok := abi.ParseHistoryColumn(h.String()); !ok {
		declared.mistake("there is no history column " + h.String() + ": an outcome is of a-z, 0-9 and _, and at most 400 days are remembered")
	}
	return declareColumn(h.String())
}

func declareParameter(p abi.Parameter) int {
	m := &declared.manifest
	if slices.ContainsFunc(m.Parameters, func(q abi.Parameter) bool { return q.Name == p.Name }) {
		declared.mistake("parameter " + p.Name + " is declared twice")
	}
	m.Parameters = append(m.Parameters, p)
	return len(m.Parameters) - 1
}

func declareReason(name string) ReasonCode {
	m := &declared.manifest
	place := slices.Index(m.Reasons, name)
	if place < 0 {
		place = len(m.Reasons)
		m.Reasons = append(m.Reasons, name)
	}
	return ReasonCode(place + 1)
}
