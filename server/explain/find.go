package explain

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/decisionlog"
)

// finder finds the causes of a decision that was made again.
type finder struct {
	x        *Explanation
	c        *catalog.Compiled
	d        *decide.Decider
	again    *decisionlog.Replay
	in       *decisionlog.Inputs
	request  decide.Request
	rules    *rules.Evaluation
	rankings map[int]*observed
	causes   map[causeKey]*Cause
}

// causeKey tells causes apart that are not of one candidate alone.
type causeKey struct {
	reason    decide.Reason
	part      Part
	condition int
	rule      string // of a rule that is true as a whole: its text
	by        string
	until     int64
}

func newFinder(x *Explanation, again *decisionlog.Replay, rankings map[int]*observed) *finder {
	f := &finder{
		x: x, c: x.Catalog, d: again.Decider, again: again, in: again.Inputs, request: again.Inputs.Request, rankings: rankings,
		causes: make(map[causeKey]*Cause),
	}
	if again.Inputs.Values != nil {
		f.request.Profile = values(again.Inputs.Values)
	}
	f.rules = f.c.Rules.NewEvaluation()
	f.rules.Reset(f.request.Inputs())
	return f
}

// values are a profile by slot.
type values []profilestore.Value

// Get returns the value at a slot.
func (v values) Get(slot int) profilestore.Value { return v[slot] }

// find gives every candidate its cause and score.
func (f *finder) find() {
	for i := range f.x.At {
		t := &f.x.At[i]
		if t.All == nil {
			continue
		}
		at := &f.c.Touchpoints[f.in.At[i].Touchpoint]
		f.score(i, t, at)
		for place := range t.All {
			if t.All[place].Reason != decide.ReasonOffered {
				t.All[place].Why = f.why(i, t, at, place)
			}
		}
	}
}

// score gives the candidates that were ranked their scores.
func (f *finder) score(i int, t *Touchpoint, at *catalog.Touchpoint) {
	o := f.rankings[i]
	if o == nil {
		return
	}
	scenario := f.c.Scenarios[at.Scenario]
	reasons := f.again.Answers[i].RankedBy.Reasons
	order := f.d.Order(&o.q, scenario, f.classOrder())
	for k, place := range o.places {
		c := &scenario.Candidates[o.q.Candidates[k]]
		s := &Score{
			Of: len(order), Score: o.q.Score[k], Propensity: o.q.Propensity[k], Value: o.q.Value[k], Weight: o.q.Weight[k], Lever: o.q.Lever[k],
			Boosts: f.c.Offers[c.Offer].Boosts,
		}
		if code := o.q.Reason[k]; int(code) < len(reasons) {
			s.Reason = reasons[code]
		}
		ch := &f.c.Channels[c.Channel]
		if load := f.request.Loads[c.Channel]; ch.HasPressure && load >= ch.PressureAbove {
			s.Pressure, s.Load = ch.PressureWeight, load
		}
		s.PropensityFrom = f.propensity(c)
		t.All[place].Score = s
	}
	for rank, k := range order {
		t.All[o.places[k]].Score.Rank = rank + 1
	}
}

// propensity says where the propensity of a candidate comes from.
func (f *finder) propensity(c *catalog.Candidate) string {
	p := &f.c.Offers[c.Offer].Propensity
	if p.Slot >= 0 && f.value(p.Slot).Known() {
		return f.c.Schema.Fields()[p.Slot].Name
	}
	if p.StartEvidence <= 0 {
		return ""
	}
	var n decide.EvidenceCount
	if e := f.request.Evidence; e != nil {
		for _, x := range e.Counts {
			if x.Offer == c.Offer && x.Channel == c.Channel {
				n = x
			}
		}
	}
	return fmt.Sprintf("%d successes of %d presented, and a start of %s worth %s", n.Successes, n.Presented, number(p.Start), number(p.StartEvidence))
}

// classOrder reports whether classes come before scores: if they do in any of the
// scenarios.
func (f *finder) classOrder() bool {
	for i := range f.in.At {
		if n := f.c.Touchpoints[f.in.At[i].Touchpoint].Scenario; n >= 0 && f.c.Scenarios[n].ClassOrder {
			return true
		}
	}
	return false
}

func (f *finder) value(slot int) profilestore.Value {
	if f.in.Values == nil {
		return profilestore.Unknown()
	}
	return f.in.Values[slot]
}

// why returns the cause of a candidate that is not on the slate.
func (f *finder) why(i int, t *Touchpoint, at *catalog.Touchpoint, place int) *Cause {
	candidate := &t.All[place]
	c := &f.c.Scenarios[at.Scenario].Candidates[at.Candidates[place]]
	by, until := detail(t.Record, place)
	cause := &Cause{Reason: candidate.Reason, Condition: -1, By: by, Until: until}
	key := causeKey{reason: cause.Reason, condition: -1, by: by, until: until}
	switch candidate.Reason { //nolint:exhaustive // the others are what contact says more of
	case decide.ReasonNotEligible, decide.ReasonUnknown, decide.ReasonRuleError, decide.ReasonOwned, decide.ReasonPrerequisite:
		return f.rule(cause, key, candidate.Offer, c, at)
	case decide.ReasonNotValid:
		cause.note = f.validity(candidate.Offer)
		return cause
	case decide.ReasonCapped:
		p := slices.IndexFunc(f.c.Policies, func(p catalog.Policy) bool { return p.ID == by })
		if p < 0 {
			return cause
		}
		cause.Policy = &f.c.Policies[p]
		cause.Counted = f.counted(p, f.in.At[i].Touchpoint, c)
		if len(cause.Counted) < cause.Policy.Max {
			cause.note = "with what this decision says in another channel"
		}
		return cause
	case decide.ReasonRankedBelow, decide.ReasonVetoed, decide.ReasonBelowMinimum:
		cause.note = f.ranked(t, at, candidate)
		if candidate.Reason == decide.ReasonVetoed {
			cause.By = t.Record.RankedBy.String()
		}
		return cause
	}
	if known := f.causes[key]; known != nil {
		return known
	}
	f.causes[key] = cause
	f.contact(cause, &f.c.Channels[at.Channel])
	return cause
}

// contact says more of what is so for every offer in a channel.
func (f *finder) contact(cause *Cause, ch *catalog.Channel) {
	switch cause.Reason { //nolint:exhaustive // the others are those of a candidate
	case decide.ReasonDoNotDisturb:
		cause.Reads = f.fields(ch.DoNotDisturb)
		cause.note = "the customer wants no contact by " + ch.ID
		if !f.value(ch.DoNotDisturb).Known() {
			cause.note = "nobody knows whether the customer wants contact by " + ch.ID
		}
	case decide.ReasonNoConsent:
		cause.Reads = f.fields(ch.Consent)
		cause.note = "no consent to marketing by " + ch.ID
	case decide.ReasonQuietDeferred:
		cause.Reads = f.fields(f.c.Clock.Slot)
		cause.note = hours(ch, cause.By)
	case decide.ReasonCapacity:
		cause.note = "no place of capacity " + cause.By + " was left"
		if n := slices.IndexFunc(f.c.Capacities, func(c catalog.Capacity) bool { return c.ID == cause.By }); n >= 0 {
			cause.note += fmt.Sprintf(", which has %d%s", f.c.Capacities[n].Max, periodWords[f.c.Capacities[n].Period])
		}
	case decide.ReasonControlGroup:
		cause.note = fmt.Sprintf("the customer is in the control group, %s%% of all", number(100*f.c.Control.Share))
	case decide.ReasonOtherChannel:
		if slices.ContainsFunc(f.c.Channels, func(x catalog.Channel) bool { return x.ID == cause.By }) {
			cause.note = "the one contact is made by " + cause.By
		}
	case decide.ReasonNotReserved:
		cause.note = f.x.Record.Unreserved
	}
}

var periodWords = map[catalog.Period]string{
	catalog.PeriodHour: " an hour", catalog.PeriodDay: " a day", catalog.PeriodWeek: " a week", catalog.PeriodMonth: " a month", catalog.PeriodTotal: " in all",
}

// hours writes which hours a channel waits for.
func hours(ch *catalog.Channel, by string) string {
	clock := func(minute int) string { return fmt.Sprintf("%02d:%02d", minute/60, minute%60) }
	span := func(d catalog.DayTimes) string { return clock(d.From) + " to " + clock(d.Until) }
	if i := slices.IndexFunc(ch.ContactHours, func(h catalog.ContactHours) bool { return h.ID == by }); i >= 0 {
		return fmt.Sprintf("contact hours %s of %s are %s by the customer's clock", by, ch.ID, span(ch.ContactHours[i].Hours))
	}
	if ch.QuietHours != nil {
		return fmt.Sprintf("quiet hours of %s are %s by the customer's clock", ch.ID, span(*ch.QuietHours))
	}
	return ""
}

// validity writes when an offer may be made.
func (f *finder) validity(o *catalog.Offer) string {
	if f.request.Now < o.ValidFrom {
		return "it may be offered from " + moment(o.ValidFrom) + " on"
	}
	return "it could be offered until " + moment(o.ValidUntil)
}

// ranked writes how a candidate came out of the ranking.
func (f *finder) ranked(t *Touchpoint, at *catalog.Touchpoint, candidate *Candidate) string {
	s := candidate.Score
	if s == nil {
		return ""
	}
	switch candidate.Reason { //nolint:exhaustive // it is called for these
	case decide.ReasonVetoed:
		if s.Reason != "" {
			return "its reason: " + s.Reason
		}
		return "it gave no reason"
	case decide.ReasonBelowMinimum:
		return fmt.Sprintf("its score %s is below the least of scenario %s, %s", number(s.Score), t.Record.Scenario, number(f.c.Scenarios[at.Scenario].MinimumScore))
	}
	words := fmt.Sprintf("rank %d of %d", s.Rank, s.Of)
	if n := len(t.Record.Slate); n > 0 && !t.Record.Slate[n-1].Fallback {
		last := &t.Record.Slate[n-1]
		switch less := last.Score - s.Score; {
		case less > 0:
			words += fmt.Sprintf(", %s less than %s, the last on the slate", number(less), last.Offer)
		case less == 0:
			words += fmt.Sprintf(", level with %s, the last on the slate, and the draw decided", last.Offer)
		default:
			words += fmt.Sprintf(", after %s, the last on the slate, whose class comes first", last.Offer)
		}
	}
	return words
}

// counted returns what a policy counts that makes it too much.
func (f *finder) counted(policy, touchpoint int, c *catalog.Candidate) []decide.Counted {
	p := &f.c.Policies[policy]
	all := f.d.Counted(&f.request, touchpoint, policy, c)
	if p.Suppress == 0 {
		return all
	}
	for i := 0; i+p.Max-1 < len(all); i++ {
		// As in package decide: what a clock that was ahead has dated later is of now.
		if now := f.request.Now; min(all[i+p.Max-1].Time, now) > min(all[i].Time, now)-p.Within {
			return all[i : i+p.Max]
		}
	}
	return all
}

// rule finds which condition of a candidate's rules gave the reason.
func (f *finder) rule(cause *Cause, key causeKey, o *catalog.Offer, c *catalog.Candidate, at *catalog.Touchpoint) *Cause {
	want := map[decide.Reason]rules.Truth{
		decide.ReasonNotEligible: rules.False, decide.ReasonPrerequisite: rules.False, decide.ReasonOwned: rules.True,
		decide.ReasonUnknown: rules.Unknown, decide.ReasonRuleError: rules.Failed,
	}[cause.Reason]
	owned := rules.Rule{}
	if o.HasOwned {
		owned = o.Owned
	}
	for _, x := range []struct {
		part   Part
		rule   rules.Rule
		passes rules.Truth
	}{
		{PartEligible, o.Eligible, rules.True},
		{PartOwned, owned, rules.False},
		{PartPrerequisite, o.Prerequisite, rules.True},
		{PartTreatment, c.Eligible, rules.True},
	} {
		if x.part == PartOwned && !o.HasOwned {
			continue
		}
		truth := f.rules.Evaluate(x.rule)
		if truth == x.passes {
			continue
		}
		if truth != want {
			return cause // what was found is not what the record says
		}
		cause.Part, key.part = x.part, x.part
		if truth == rules.True { // all of its conditions are
			return f.whole(cause, key, x.rule)
		}
		for _, i := range x.rule.Conditions() {
			if f.rules.Evaluate(f.c.Rules.Alone(int(i))) == truth {
				return f.condition(cause, key, int(i), truth)
			}
		}
		return cause
	}
	return f.text(cause, c, at, want)
}

// condition says which condition it was.
func (f *finder) condition(cause *Cause, key causeKey, i int, truth rules.Truth) *Cause {
	key.condition = i
	if known := f.causes[key]; known != nil {
		return known
	}
	f.causes[key] = cause
	cause.Condition, cause.Truth = i, truth
	cause.Text, cause.Label = f.c.Rules.Condition(i), f.c.Rules.Label(i)
	cause.Need = rules.NeedOf(cause.Text)
	cause.Reads = f.readsOf(f.c.Rules.Reads(i))
	return cause
}

// whole says that a rule is true as a whole.
func (f *finder) whole(cause *Cause, key causeKey, r rules.Rule) *Cause {
	var texts []string
	for _, i := range r.Conditions() {
		texts = append(texts, f.c.Rules.Condition(int(i)))
	}
	key.rule = strings.Join(texts, " && ")
	if known := f.causes[key]; known != nil {
		return known
	}
	f.causes[key] = cause
	cause.Truth, cause.Text = rules.True, key.rule
	if len(texts) == 1 {
		cause.Condition = int(r.Conditions()[0])
	}
	for _, i := range r.Conditions() {
		for _, read := range f.readsOf(f.c.Rules.Reads(int(i))) {
			if !slices.ContainsFunc(cause.Reads, func(x Read) bool { return x.Name == read.Name }) {
				cause.Reads = append(cause.Reads, read)
			}
		}
	}
	return cause
}

// text finds which text could not be computed.
func (f *finder) text(cause *Cause, c *catalog.Candidate, at *catalog.Touchpoint, want rules.Truth) *Cause {
	parts := []struct {
		part Part
		text *catalog.Template
	}{{PartContent, c.Content}}
	if at.Staff {
		parts = append(parts, struct {
			part Part
			text *catalog.Template
		}{PartScript, c.Script})
	}
	for _, x := range parts {
		if _, truth := x.text.Render(f.rules); truth != want {
			continue
		}
		cause.Part, cause.Text, cause.Truth = x.part, x.text.String(), want
		cause.Reads = f.fields(x.text.Reads().Slots...)
		return cause
	}
	return cause
}

// readsOf returns what a condition read.
func (f *finder) readsOf(r rules.Reads) []Read {
	out := f.fields(r.Slots...)
	for _, i := range r.Context {
		x := Read{Name: "context." + f.c.Context[i].Name, Value: f.request.Context[i]}
		if !x.Value.Known() {
			x.Missing = "the request did not say"
		}
		out = append(out, x)
	}
	for _, i := range r.Decisions {
		out = append(out, f.decision(i))
	}
	if r.Now {
		out = append(out, Read{Name: "now", Value: profilestore.Time(f.request.Now)})
	}
	return out
}

// decision returns what a decision table gave.
func (f *finder) decision(i int) Read {
	x := Read{Name: "table." + f.c.DecisionTables[i].ID}
	rows := f.c.Rules.DecisionRows(i)
	v, row, _ := f.rules.Decide(i)
	x.Value = v
	if row < len(rows) {
		x.Row = row + 1
	}
	if !v.Known() {
		x.Missing = "no row holds"
		if x.Row > 0 {
			x.Missing = fmt.Sprintf("row %d can't be told", x.Row)
		}
	}
	for _, when := range rows {
		for _, condition := range when.Conditions() {
			for _, slot := range f.c.Rules.Reads(int(condition)).Slots {
				if name := f.c.Schema.Fields()[slot].Name; !slices.Contains(x.Fields, name) {
					x.Fields = append(x.Fields, name)
				}
			}
		}
	}
	return x
}

// fields returns the values at slots of the schema, each once.
func (f *finder) fields(slots ...int) []Read {
	var out []Read
	for _, slot := range slots {
		if slot < 0 {
			continue
		}
		field := &f.c.Schema.Fields()[slot]
		x := Read{Name: "profile." + field.Name, Fields: []string{field.Name}, Value: f.value(slot)}
		if !x.Value.Known() {
			x.Missing = f.missing(field)
		}
		if !slices.ContainsFunc(out, func(y Read) bool { return y.Name == x.Name }) {
			out = append(out, x)
		}
	}
	return out
}

// missing writes why the value of a field is not known.
func (f *finder) missing(field *profilestore.Field) string {
	r := f.x.Record
	switch {
	case r.Blocked:
		return "the identity means nobody"
	case r.Profile == nil:
		return "the profile could not be read"
	case field.Batch == "":
		return "no event has set it"
	}
	i := slices.IndexFunc(r.Profile.Snapshots, func(s decisionlog.Snapshot) bool { return s.Source == field.Batch })
	var why string
	switch {
	case i < 0:
		why = "no snapshot of source " + field.Batch + " is active"
	case !r.Profile.Snapshots[i].HasRow:
		why = fmt.Sprintf("source %s has no row for the customer in snapshot %d", field.Batch, r.Profile.Snapshots[i].Generation)
	default:
		why = fmt.Sprintf("blank in snapshot %d of source %s", r.Profile.Snapshots[i].Generation, field.Batch)
	}
	if field.Events != nil {
		why += ", and no event has set it"
	}
	return why
}

// moment writes a time.
func moment(micros int64) string { return time.UnixMicro(micros).UTC().Format(time.RFC3339) }

// number writes a number with six significant digits.
func number(f float64) string { return fmt.Sprintf("%.6g", f) }
