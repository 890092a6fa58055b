package catalog

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/rules"
)

// Warning is something in a catalogue that is legal and surely not what was meant. A
// comment in the file silences it, at the end of its line or in a line of its own before
// it: # lint:ignore NAME why
type Warning struct {
	Problem
	Name string // of the lint: see Lints
}

// String returns file:line:column: path: message (name).
func (w Warning) String() string { return w.Problem.String() + " (" + w.Name + ")" }

// LintOptions say what a catalogue is held against.
type LintOptions struct {
	Now time.Time

	// Customers are profiles that rules are tried on; nil: none. They are asked for
	// once.
	Customers iter.Seq[rules.Profile]
}

// Lints are the names of the lints, and what each finds.
var Lints = []struct{ Name, Finds string }{
	{lintBoost, "a boost of -100: nothing of it can win"},
	{lintBundles, "two bundles that compete and share an offer, so both could come on one slate"},
	{lintCapacityUnused, "a capacity of which no candidate takes a place"},
	{lintCapacityZero, "a capacity of 0: what it is about can never be offered"},
	{lintCardHidden, "a profile card that nobody sees, since one before it is for the same roles"},
	{lintChannelChoice, "a channel_choice that names channels without candidates, or has nothing to choose from"},
	{lintChannelUnused, "a channel without a touchpoint"},
	{lintConsent, "a consent or do_not_disturb field that no source or event can set, consent by default, or do_not_disturb that only events tell"},
	{lintControlGroup, "a control group of nobody, or from which nothing is held back"},
	{lintExcludesApart, "offers that exclude each other and never compete in one scenario"},
	{lintExclusiveAlone, "a word in exclusive that no other competing offer has"},
	{lintGroupUnused, "a group without offers, an issue without groups"},
	{lintHours, "quiet hours of the whole day, contact hours that never or always hold"},
	{lintLabelUnused, "a label of a condition that no rule has"},
	{lintIgnore, "a comment lint:ignore without a reason, or that silences nothing"},
	{lintMinimumScore, "a minimum score that candidates can never reach"},
	{lintOfferExpired, "an offer valid only in the past"},
	{lintOfferUnreachable, "an offer that no touchpoint of its scenarios can show"},
	{lintOutcomeUnknown, "an outcome that is no standard one and is named only once"},
	{lintPolicyUnused, "a contact policy that binds no candidate"},
	{lintRuleConstant, "a rule, or a part of one, that is always true or always false"},
	{lintRuleContradiction, "conditions that contradict each other, in a rule or between those that have to hold together"},
	{lintRuleUnfulfilled, "a rule that is false for every customer it was tried on"},
	{lintScriptUnseen, "a script for staff in a channel where no touchpoint is for staff"},
	{lintTableGap, "a decision table without a row for some values, and without a default"},
	{lintTableRow, "a row of a decision table that never decides, because of those before it"},
	{lintTableUnused, "a decision table that nothing reads"},
	{lintTouchpointUnused, "a touchpoint that no scenario answers for"},
	{lintTreatmentUnreachable, "a treatment that no touchpoint can show, of an offer that others can"},
}

const (
	lintBoost                = "boost-zero"
	lintBundles              = "bundle-overlap"
	lintCapacityUnused       = "capacity-unused"
	lintCapacityZero         = "capacity-zero"
	lintCardHidden           = "card-hidden"
	lintChannelChoice        = "channel-choice"
	lintChannelUnused        = "channel-unused"
	lintConsent              = "consent-field"
	lintControlGroup         = "control-group"
	lintExcludesApart        = "excludes-apart"
	lintExclusiveAlone       = "exclusive-alone"
	lintGroupUnused          = "group-unused"
	lintHours                = "hours"
	lintIgnore               = "lint-ignore"
	lintLabelUnused          = "label-unused"
	lintMinimumScore         = "minimum-score"
	lintOfferExpired         = "offer-expired"
	lintOfferUnreachable     = "offer-unreachable"
	lintOutcomeUnknown       = "outcome-unknown"
	lintPolicyUnused         = "policy-unused"
	lintRuleConstant         = "rule-constant"
	lintRuleContradiction    = "rule-contradiction"
	lintRuleUnfulfilled      = "rule-unfulfilled"
	lintScriptUnseen         = "script-unseen"
	lintTableGap             = "table-gap"
	lintTableRow             = "table-row"
	lintTableUnused          = "table-unused"
	lintTouchpointUnused     = "touchpoint-unused"
	lintTreatmentUnreachable = "treatment-unreachable"
)

// StandardOutcomes are the outcomes that need no explanation. Others have to be named in
// two places, or the linter takes one for a slip.
var StandardOutcomes = []string{
	"presented", "opened", "clicked", "accepted", "rejected", "ignored", "converted", "unsubscribed", "complained",
}

// Lint returns what in a catalogue is legal and surely wrong, in the order of files and
// lines, or its mistakes.
func Lint(files []File, schema *profilestore.Schema, o LintOptions) ([]Warning, []Problem) {
	c := compileFiles(files, schema)
	if problems := c.problems(); len(problems) > 0 {
		return nil, problems
	}
	l := &linter{compiler: c, options: o}
	l.lint()
	return l.silence(), nil
}

// linter looks through a compiled catalogue.
type linter struct {
	*compiler
	options  LintOptions
	warnings []placedWarning
	more     int // that were only counted

	examiner *rules.Examiner
	shown    map[[2]int]bool  // the offers and channels that touchpoints show
	competes map[int][]int    // the scenarios in which each offer can be shown
	channel  map[[2]int]bool  // the scenarios and channels of touchpoints
	rivals   map[[2]int]int   // how many offers compete in a scenario by their exclusive word
	byOffer  map[string][]int // the scenarios that name an offer
	byGroup  map[string][]int // or its group
	general  []int            // or neither, and so have all
}

// placedWarning is a warning with the lines at which a comment silences it.
type placedWarning struct {
	Warning
	doc   *document
	lines []int
}

func (l *linter) lint() {
	l.examiner = l.env.NewExaminer(l.options.Now)
	l.reach()
	l.lintVocabulary()
	l.lintChannels()
	l.lintTouchpoints()
	l.lintLevels()
	l.lintOffers()
	l.lintScenarios()
	l.lintPolicies()
	l.lintCapacities()
	l.lintOutcomes()
	l.lintControlGroup()
	if l.options.Customers != nil {
		l.lintCustomers()
	}
}

// warn adds a warning about what is below an element of a list.
func (l *linter) warn(name, list string, i int, below, format string, args ...any) {
	l.warnAt(name, list, i, below, 0, 0, fmt.Sprintf(format, args...))
}

// warnAt adds a warning about a place in a text below an element; 0, 0 is the text as a
// whole.
func (l *linter) warnAt(name, list string, i int, below string, line, column int, message string) {
	if len(l.warnings) >= maxProblems {
		l.more++
		return
	}
	from := l.origins[list][i]
	path := from.path
	if below != "" {
		path += "." + below
	}
	w := placedWarning{Warning: Warning{Problem{File: from.doc.file, Path: path, Message: message}, name}, doc: from.doc}
	if n := from.doc.node(path); n != nil {
		w.Line, w.Column = n.Line, n.Column
		if line > 0 {
			w.Line, w.Column = from.doc.within(n, line, column)
		}
	}
	w.lines = append(w.lines, w.Line)
	for p := path; ; {
		if at, ok := from.doc.places[p]; ok {
			w.lines = append(w.lines, at.value.Line)
			if at.key != nil {
				w.lines = append(w.lines, at.key.Line)
			}
		}
		if p == from.path {
			break
		}
		p = p[:max(strings.LastIndexAny(p, ".["), len(from.path))]
	}
	l.warnings = append(l.warnings, w)
}

// silence returns the warnings that no comment silences, and those about comments.
func (l *linter) silence() []Warning {
	ignores := make(map[*document][]*ignore)
	for _, d := range l.docs {
		ignores[d] = ignoresOf(d)
	}
	var out []Warning
	for _, w := range l.warnings {
		silent := false
		for _, x := range ignores[w.doc] {
			if slices.Contains(x.names, w.Name) && slices.Contains(w.lines, x.applies) {
				x.used, silent = true, true
			}
		}
		if !silent {
			out = append(out, w.Warning)
		}
	}
	order := make(map[string]int)
	for i, d := range l.docs {
		order[d.file] = i
		for _, x := range ignores[d] {
			if message := x.wrong(l.options.Customers != nil); message != "" {
				out = append(out, Warning{Problem{File: d.file, Line: x.line, Column: x.column, Message: message}, lintIgnore})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Warning) int {
		return cmp.Or(cmp.Compare(order[a.File], order[b.File]), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Name, b.Name))
	})
	if l.more > 0 {
		out = append(out, Warning{Problem{File: l.docs[0].file, Message: fmt.Sprintf("and %d more warnings", l.more)}, "more"})
	}
	return out
}

// ignore is a comment that silences warnings.
type ignore struct {
	line, column int
	applies      int // the line whose warnings it silences
	names        []string
	why          string
	used         bool
}

const ignoreMark = "# lint:ignore"

// ignoresOf returns the comments of a file that silence warnings.
func ignoresOf(d *document) []*ignore {
	var out []*ignore
	for i, text := range d.lines {
		at := strings.Index(text, ignoreMark)
		if at < 0 || at > 0 && !strings.HasSuffix(text[:at], " ") && !strings.HasSuffix(text[:at], "\t") {
			continue
		}
		names, why, _ := strings.Cut(strings.TrimSpace(text[at+len(ignoreMark):]), " ")
		x := &ignore{line: i + 1, column: len([]rune(text[:at])) + 1, applies: i + 1, why: strings.TrimSpace(why)}
		x.names = strings.FieldsFunc(names, func(r rune) bool { return r == ',' })
		for n := i; strings.HasPrefix(strings.TrimSpace(d.lines[n]), "#") && n+1 < len(d.lines); n++ {
			x.applies = n + 2
		}
		out = append(out, x)
	}
	return out
}

// wrong says what is wrong with the comment itself; nothing if it is as it should be.
func (x *ignore) wrong(customers bool) string {
	if len(x.names) == 0 {
		return "name what is to be silent, and why: # lint:ignore NAME why"
	}
	for _, name := range x.names {
		known := make([]string, len(Lints))
		for i, lint := range Lints {
			known[i] = lint.Name
		}
		if !slices.Contains(known, name) {
			return fmt.Sprintf("there is no lint %q%s", name, hint(rules.Nearest(name, known), ""))
		}
	}
	switch {
	case x.why == "":
		return "say why: # lint:ignore NAME why"
	case !x.used && (customers || !slices.Contains(x.names, lintRuleUnfulfilled)):
		return "it silences nothing: remove it"
	}
	return ""
}

// reach notes what touchpoints can show.
func (l *linter) reach() {
	l.shown, l.competes, l.channel = make(map[[2]int]bool), make(map[int][]int), make(map[[2]int]bool)
	l.rivals = make(map[[2]int]int)
	l.byOffer, l.byGroup = make(map[string][]int), make(map[string][]int)
	for n, m := range l.message.GetScenarios() {
		for _, id := range append([]string{m.GetFallback()}, m.GetOffers()...) {
			l.byOffer[id] = append(l.byOffer[id], n)
		}
		for _, id := range m.GetGroups() {
			l.byGroup[id] = append(l.byGroup[id], n)
		}
		if len(m.GetOffers())+len(m.GetGroups()) == 0 {
			l.general = append(l.general, n)
		}
	}
	for i := range l.out.Touchpoints {
		t := &l.out.Touchpoints[i]
		if t.Scenario < 0 {
			continue
		}
		l.channel[[2]int{t.Scenario, t.Channel}] = true
		show := func(x *Candidate) {
			l.shown[[2]int{x.Offer, x.Channel}] = true
			if !slices.Contains(l.competes[x.Offer], t.Scenario) {
				l.competes[x.Offer] = append(l.competes[x.Offer], t.Scenario)
				if word := l.out.Offers[x.Offer].Exclusive; word >= 0 {
					l.rivals[[2]int{t.Scenario, word}]++
				}
			}
		}
		for _, n := range t.Candidates {
			show(&l.out.Scenarios[t.Scenario].Candidates[n])
		}
		if t.Fallback != nil {
			show(t.Fallback)
		}
	}
}

// together reports whether offers compete in one scenario.
func (l *linter) together(a, b int) bool {
	return slices.ContainsFunc(l.competes[a], func(s int) bool { return slices.Contains(l.competes[b], s) })
}

// rule examines a condition below an element.
func (l *linter) rule(list string, i int, below, condition string) {
	if !ruled(condition) {
		return
	}
	for _, f := range l.examiner.Examine(condition) {
		name := lintRuleContradiction
		if f.Constant {
			name = lintRuleConstant
		}
		l.warnAt(name, list, i, below, f.Line, f.Column, f.Message)
	}
}
