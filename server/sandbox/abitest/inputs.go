package abitest

import (
	"slices"
	"strings"

	"rapport/sdk/abi"
	"rapport/server/sandbox"
)

// input is something that a strategy declares to read.
type input struct {
	what    string
	text    bool
	tried   bool // two answers were compared that only it could make differ
	differs bool // and once they did
}

// note notes whether two answers that were compared are the same.
func (in *input) note(same bool) {
	in.tried = true
	in.differs = in.differs || !same
}

// inputs are those of a manifest, in its order.
type inputs struct{ profile, offer, channel, candidate, parameter []input }

func newInputs(m *sandbox.Manifest) *inputs {
	of := func(kind string, list []abi.Input) []input {
		out := make([]input, len(list))
		for i, in := range list {
			out[i] = input{what: kind + " " + in.Name, text: in.Type == abi.Text.String() || in.Type == abi.Set.String()}
		}
		return out
	}
	x := &inputs{profile: of("profile field", m.Profile), offer: of("offer attribute", m.Offer), channel: of("channel attribute", m.Channel)}
	for _, name := range m.Candidate {
		x.candidate = append(x.candidate, input{what: "candidate column " + name})
	}
	for _, p := range m.Parameters {
		x.parameter = append(x.parameter, input{what: "parameter " + p.Name})
	}
	return x
}

// compare notes whether two decisions, which differ in an input alone, came out
// differently.
func (*inputs) compare(in *input, a, b *answer) {
	if a.fault == nil && b.fault == nil {
		in.note(a.sameAnswer(b))
	}
}

// idle returns the inputs that made no difference.
func (x *inputs) idle() []input {
	var list []input
	for _, in := range slices.Concat(x.profile, x.offer, x.channel, x.candidate, x.parameter) {
		if in.tried && !in.differs {
			list = append(list, in)
		}
	}
	return list
}

// draw draws attention to what is not wrong, and perhaps not meant.
func (c *checker) draw() {
	c.pass(Logs, Reasons, Inputs)
	m := c.world.manifest
	var unused []string
	for i, name := range m.Reasons {
		if !c.reasons[i+1] {
			unused = append(unused, name)
		}
	}
	if len(unused) > 0 {
		c.warn(Reasons, "Look whether the strategy can give it; if it needs a text that it knows by name, have that tried too.",
			"never given in %d calls: %s", c.report.Figures.Calls, strings.Join(unused, ", "))
	}
	for _, in := range c.inputs.idle() {
		what := "no answer was another because of it"
		if in.text {
			what += ", with made-up texts and those to be tried"
		}
		c.warn(Inputs, "Look whether the strategy reads it; if not, take it out of the manifest, as each is copied or must be had. If only certain texts matter, have those tried too.",
			"%s: %s", in.what, what)
	}
	if f := &c.report.Figures; f.Share > tightShare && !c.failed(Budget) {
		c.warn(Budget, "Declare more, if the manifest says less than the server's limit, or do less.",
			"%s: it takes %.0f%% of the fuel that it may use", f.ShareAt, 100*f.Share)
	}
	if c.talks == c.talked && c.talked > 0 {
		c.warn(Logs, "Log what somebody has to act on, and that seldom: each line takes 1,500 units of fuel, and the server writes each.",
			"%d calls, and it logs in each, %.1f lines a call", c.talked, c.report.Figures.Lines)
	}
}

// tightShare is the share of its limit from which a call is near to it.
const tightShare = 0.8
