package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	rapportv1 "rapport/server/api/rapport/v1"
)

// catalogShowCmd shows a version in tables.
type catalogShowCmd struct {
	Number int64  `arg:"" optional:"" name:"version" help:"The version; the one in use if not given."`
	Offer  string `help:"Show this offer with everything that is said of it." placeholder:"ID"`
}

// Help is shown by --help.
func (catalogShowCmd) Help() string {
	return `Shows what a version says: channels, touchpoints, segments, decision tables, labels of conditions,
contact policies, capacities, groups, offers and scenarios. --offer shows one offer, with the rules of its group and issue, and what bounds it. The files
as they were published are shown by "rapport catalog get".

Examples:

	rapport catalog show
	rapport catalog show 3
	rapport catalog show --offer data_10g`
}

// Run shows a version.
func (cmd *catalogShowCmd) Run(ctx context.Context, a *app) error {
	return a.call(ctx, func(c *clients) error {
		r, err := c.catalogs.GetCatalog(ctx, connect.NewRequest(&rapportv1.GetCatalogRequest{Version: cmd.Number}))
		if err != nil {
			return err
		}
		if a.json {
			return a.printMessage(r.Msg.GetCatalog())
		}
		x := &catalogTables{app: a, Catalog: r.Msg.GetCatalog()}
		if cmd.Offer != "" {
			return x.offer(cmd.Offer)
		}
		v := r.Msg.GetVersion()
		writef(a.out, "catalogue %d, published %s: %s, %s\n", v.GetVersion(), formatTime(v.GetPublishedAt()), plural(v.GetOffers(), "offer"), plural(v.GetScenarios(), "scenario"))
		return x.all()
	})
}

// catalogTables shows a catalogue.
type catalogTables struct {
	*app
	*rapportv1.Catalog
}

// all shows everything.
func (x *catalogTables) all() error {
	if c := x.GetClock(); c != nil {
		writef(x.out, "clock: %s%s\n", or(c.GetZone(), "UTC"), after(", of a customer by ", c.GetField()))
	}
	if g := x.GetControlGroup(); g != nil {
		writef(x.out, "control group: %g%% of the customers get no marketing%s\n", g.GetPercent(), after(" of ", strings.Join(g.GetGroups(), ", ")))
	}
	tables := []*table{x.channels(), x.touchpoints(), x.segments()}
	for _, d := range x.GetDecisionTables() {
		tables = append(tables, decisionTable(d))
	}
	tables = append(tables, x.labels(), x.policies(), x.capacities(), x.groups(), x.offers(), x.scenarios())
	for _, t := range tables {
		if len(t.rows) == 0 {
			continue
		}
		writef(x.out, "\n")
		if err := t.write(x.out); err != nil {
			return err
		}
	}
	return nil
}

// or returns a text, or another where it is empty.
func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// after returns a text with what comes before it, nothing if it is empty.
func after(before, text string) string {
	if text == "" {
		return ""
	}
	return before + text
}

func hours(h *rapportv1.DayTimes) string {
	if h == nil {
		return none
	}
	return h.GetFrom() + "–" + h.GetUntil()
}

func (x *catalogTables) channels() *table {
	t := newTable("CHANNEL", "DIRECTION", ">COST", "CONSENT", "DO NOT DISTURB", "QUIET", "HOURS", "HOLDS", "PRESSURE")
	for _, c := range x.GetChannels() {
		var own []string
		for _, h := range c.GetContactHours() {
			own = append(own, h.GetId()+" "+hours(h.GetHours()))
		}
		pressure := none
		if p := c.GetPressure(); p != nil {
			pressure = fmt.Sprintf("×%g above %g", p.GetWeight(), p.GetAbove())
		}
		t.add(c.GetId(), c.GetDirection(), c.GetCost(), or(c.GetConsent(), none), or(c.GetDoNotDisturb(), none), hours(c.GetQuietHours()),
			or(strings.Join(own, ", "), none), or(c.GetHold(), "10m"), pressure)
	}
	return t
}

func (x *catalogTables) touchpoints() *table {
	t := newTable("TOUCHPOINT", "CHANNEL", ">SLOTS", "FORMATS", "SEEN BY", "CARDS", "SCENARIO")
	scenario := make(map[string]string)
	for _, s := range x.GetScenarios() {
		for _, id := range s.GetTouchpoints() {
			scenario[id] = s.GetId()
		}
	}
	for _, p := range x.GetTouchpoints() {
		var cards []string
		for _, c := range p.GetCards() {
			cards = append(cards, fmt.Sprintf("%s: %s", or(strings.Join(c.GetRoles(), ", "), "all"), plural(len(c.GetFields()), "field")))
		}
		slots := int32(1)
		if p.Slots != nil {
			slots = p.GetSlots()
		}
		t.add(p.GetId(), p.GetChannel(), slots, or(strings.Join(p.GetFormats(), ", "), "all"), or(p.GetAudience(), "customer"),
			or(strings.Join(cards, "; "), none), or(scenario[p.GetId()], none))
	}
	return t
}

func (x *catalogTables) segments() *table {
	t := newTable("SEGMENT", "LABEL", "WHEN")
	for _, s := range x.GetSegments() {
		t.add(s.GetId(), or(s.GetLabel(), none), oneLine(s.GetWhen()))
	}
	return t
}

// decisionTable shows a decision table as one: a column for each input, then the result.
func decisionTable(d *rapportv1.DecisionTable) *table {
	header := make([]string, 0, len(d.GetInputs())+1)
	for _, in := range d.GetInputs() {
		header = append(header, oneLine(in))
	}
	t := newTable(append(header, "table."+d.GetId())...)
	add := func(cells []string, result *structpb.Value) {
		row := make([]any, 0, len(cells)+1)
		for _, c := range cells {
			row = append(row, c)
		}
		t.add(append(row, fmt.Sprint(result.AsInterface()))...)
	}
	for _, row := range d.GetRows() {
		add(row.GetWhen(), row.GetResult())
	}
	if d.GetDefault() != nil {
		others := make([]string, len(d.GetInputs()))
		for i := range others {
			others[i] = "else"
		}
		add(others, d.GetDefault())
	}
	return t
}

func (x *catalogTables) labels() *table {
	t := newTable("LABEL", "IF NOT", "WHEN")
	for _, l := range x.GetLabels() {
		t.add(l.GetLabel(), or(l.GetNot(), "not: "+l.GetLabel()), oneLine(l.GetWhen()))
	}
	return t
}

// scopes says what a policy or capacity is about.
func scopes(lists ...[]string) string {
	var parts []string
	for _, list := range lists {
		if len(list) > 0 {
			parts = append(parts, strings.Join(list, ", "))
		}
	}
	return or(strings.Join(parts, "; "), "all")
}

func policyText(p *rapportv1.ContactPolicy) string {
	text := fmt.Sprintf("%d %s within %s", p.GetMax(), p.GetCount(), p.GetWithin())
	if p.GetPer() != "" {
		text = fmt.Sprintf("%d %s per %s within %s", p.GetMax(), p.GetCount(), p.GetPer(), p.GetWithin())
	}
	return text + after(", then nothing for ", p.GetSuppress())
}

func (x *catalogTables) policies() *table {
	t := newTable("CONTACT POLICY", "AT MOST", "CLASSES", "ABOUT")
	for _, p := range x.GetContactPolicies() {
		t.add(p.GetId(), policyText(p), or(strings.Join(p.GetClasses(), ", "), "marketing"), scopes(p.GetChannels(), p.GetTouchpoints(), p.GetGroups(), p.GetOffers()))
	}
	return t
}

func (x *catalogTables) capacities() *table {
	t := newTable("CAPACITY", ">PLACES", "PER", "TAKEN BY", "ABOUT")
	for _, c := range x.GetCapacities() {
		t.add(c.GetId(), c.GetMax(), c.GetPer(), or(c.GetTakenBy(), "contact"), scopes(c.GetChannels(), c.GetGroups(), c.GetOffers()))
	}
	return t
}

func (x *catalogTables) groups() *table {
	t := newTable("GROUP", "ISSUE", ">OFFERS", ">BOOST", "ELIGIBLE")
	offers := make(map[string]int)
	for _, o := range x.GetOffers() {
		offers[o.GetGroup()]++
	}
	for _, g := range x.GetGroups() {
		t.add(g.GetId(), or(g.GetIssue(), none), offers[g.GetId()], g.GetBoost(), or(oneLine(g.GetEligible()), none))
	}
	return t
}

// oneLine returns a rule in one line.
func oneLine(rule string) string { return strings.Join(strings.Fields(rule), " ") }

func (x *catalogTables) offers() *table {
	t := newTable("OFFER", "GROUP", "CLASS", ">VALUE", "PROPENSITY", ">BOOST", "VALID", "EXCLUSIVE", "CHANNELS")
	for _, o := range x.GetOffers() {
		var channels []string
		for _, r := range o.GetTreatments() {
			channels = append(channels, r.GetChannel())
		}
		t.add(o.GetId(), o.GetGroup(), o.GetClass(), o.GetValue(), propensityText(o.GetPropensity()), o.GetBoost(), validity(o), or(o.GetExclusive(), none), strings.Join(channels, ", "))
	}
	return t
}

func propensityText(p *rapportv1.Propensity) string {
	text := fmt.Sprint(p.GetStart())
	if p.GetStartEvidence() > 0 {
		text = fmt.Sprintf("learns from %g (%g)", p.GetStart(), p.GetStartEvidence())
		if p.GetSuccess() != "" {
			text += " by " + p.GetSuccess()
		}
	}
	if p.GetField() != "" {
		return p.GetField() + ", else " + text
	}
	return text
}

func validity(o *rapportv1.Offer) string {
	return or(strings.TrimSpace(after("from ", o.GetValidFrom())+after(" until ", o.GetValidUntil())), "always")
}

func (x *catalogTables) scenarios() *table {
	t := newTable("SCENARIO", "STRATEGY", "OFFERS", "FALLBACK", "ORDER", ">MINIMUM", "CHANNEL")
	for _, s := range x.GetScenarios() {
		strategy := "built in"
		if u := s.GetStrategy(); u != nil {
			strategy = u.GetName() + " " + or(u.GetVersion(), "live")
		}
		order := "score"
		if s.GetClassOrder() {
			order = "class, score"
		}
		minimum := none
		if s.MinimumScore != nil {
			minimum = fmt.Sprint(s.GetMinimumScore())
		}
		t.add(s.GetId(), strategy, scopes(s.GetOffers(), s.GetGroups()), or(s.GetFallback(), none), order, minimum, choiceText(s.GetChannelChoice()))
	}
	return t
}

// choiceText says how a channel is chosen.
func choiceText(c *rapportv1.ChannelChoice) string {
	if c == nil {
		return "score"
	}
	var parts []string
	for _, part := range []string{c.GetPreferred(), c.GetPersona(), or(c.GetOtherwise(), "score")} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ", else ")
}

// offer shows an offer with everything that is said of it.
func (x *catalogTables) offer(id string) error {
	i := slices.IndexFunc(x.GetOffers(), func(o *rapportv1.Offer) bool { return o.GetId() == id })
	if i < 0 {
		return fmt.Errorf("the catalogue has no offer %q: `rapport catalog show` lists them", id)
	}
	o := x.GetOffers()[i]
	line := func(name, text string) {
		if text != "" {
			writef(x.out, "%-14s %s\n", name, printable(text))
		}
	}
	line("offer", o.GetId()+after(": ", o.GetName()))
	line("description", oneLine(o.GetDescription()))
	line("class", o.GetClass())
	line("value", fmt.Sprint(o.GetValue()))
	line("propensity", propensityText(o.GetPropensity()))
	line("eligible", oneLine(o.GetEligible()))
	line("owned", oneLine(o.GetOwned()))
	line("prerequisite", oneLine(o.GetPrerequisite()))
	line("valid", validity(o))
	line("exclusive", o.GetExclusive())
	line("excludes", strings.Join(o.GetExcludes(), ", "))
	line("bundle", strings.Join(o.GetBundle(), ", "))
	if o.GetBoost() != 0 {
		line("boost", fmt.Sprintf("%g%%", o.GetBoost()))
	}
	x.levels(o, line)
	for _, t := range o.GetTreatments() {
		line("in "+t.GetChannel(), t.GetContent()+after(" — format ", t.GetFormat()))
		line("  eligible", oneLine(t.GetEligible()))
		line("  staff say", t.GetScript())
	}
	for _, s := range x.GetScenarios() {
		all := len(s.GetOffers())+len(s.GetGroups()) == 0
		if all || slices.Contains(s.GetOffers(), id) || slices.Contains(s.GetGroups(), o.GetGroup()) {
			line("competes in", s.GetId()+" at "+strings.Join(s.GetTouchpoints(), ", "))
		}
	}
	x.bounds(o, line)
	return nil
}

// levels shows what the group and issue of an offer say.
func (x *catalogTables) levels(o *rapportv1.Offer, line func(name, text string)) {
	boost := func(b float64) string {
		if b == 0 {
			return ""
		}
		return fmt.Sprintf(" — boost %g%%", b)
	}
	line("group", o.GetGroup())
	for _, g := range x.GetGroups() {
		if g.GetId() != o.GetGroup() {
			continue
		}
		line("  eligible", oneLine(g.GetEligible())+boost(g.GetBoost()))
		for _, issue := range x.GetIssues() {
			if issue.GetId() == g.GetIssue() {
				line("issue", issue.GetId())
				line("  eligible", oneLine(issue.GetEligible())+boost(issue.GetBoost()))
			}
		}
	}
}

// bounds shows which contact policies bind an offer and which capacities it takes.
func (x *catalogTables) bounds(o *rapportv1.Offer, line func(name, text string)) {
	in := func(list []string, name string) bool { return len(list) == 0 || slices.Contains(list, name) }
	channel := func(list []string) bool {
		return len(list) == 0 || slices.ContainsFunc(o.GetTreatments(), func(t *rapportv1.Treatment) bool { return slices.Contains(list, t.GetChannel()) })
	}
	for _, p := range x.GetContactPolicies() {
		bound := slices.Contains(p.GetClasses(), o.GetClass()) || len(p.GetClasses()) == 0 && o.GetClass() == "marketing"
		if bound && in(p.GetGroups(), o.GetGroup()) && in(p.GetOffers(), o.GetId()) && channel(p.GetChannels()) {
			line("bound by", p.GetId()+": at most "+policyText(p)+after(" in ", strings.Join(p.GetChannels(), ", ")))
		}
	}
	for _, c := range x.GetCapacities() {
		if in(c.GetGroups(), o.GetGroup()) && in(c.GetOffers(), o.GetId()) && channel(c.GetChannels()) {
			per := " a " + c.GetPer()
			if c.GetPer() == "total" {
				per = " in all"
			}
			line("takes of", fmt.Sprintf("%s: %d%s", c.GetId(), c.GetMax(), per)+after(" in ", strings.Join(c.GetChannels(), ", ")))
		}
	}
}
