package catalog

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"rapport/profilestore"
	rapportv1 "rapport/server/api/rapport/v1"
)

// CountContacts is the Count of a policy or capacity that counts contacts.
const CountContacts = "contact"

// maxFilters bounds the combinations of what is in a policy's lists: each is held
// against a customer's interactions in every decision.
const maxFilters = 100

// Dimension is what has a count of its own under a policy.
type Dimension uint8

// The dimensions.
const (
	PerPolicy Dimension = iota // one count for all
	PerOffer
	PerGroup
	PerClass
	PerChannel
	PerTouchpoint
)

var dimensionNames = map[string]Dimension{
	"": PerPolicy, "offer": PerOffer, "group": PerGroup, "class": PerClass, "channel": PerChannel, "touchpoint": PerTouchpoint,
}

// Policy bounds how often a customer is contacted, or stops after what a customer did.
type Policy struct {
	ID    string
	Count string // CountContacts or an outcome
	Max   int
	// Within and Suppress are in microseconds; Suppress is 0 where suppression lasts
	// until fewer are in the window.
	Within, Suppress int64
	Per              Dimension

	// What is counted: only what is in the lists that are not nil, by id.
	Channels, Touchpoints, Groups, Offers, Classes []string
	// Filters select it: what any of them does.
	Filters []profilestore.InteractionFilter
}

// filters returns the filters of a policy: one for each combination of what is in its
// lists.
func (p *Policy) filters() []profilestore.InteractionFilter {
	first := profilestore.InteractionFilter{Type: profilestore.Contacts}
	if p.Count != CountContacts {
		first = profilestore.InteractionFilter{Type: profilestore.Outcomes, Outcome: p.Count}
	}
	filters := []profilestore.InteractionFilter{first}
	multiply := func(names []string, set func(*profilestore.InteractionFilter, string)) {
		if len(names) == 0 {
			return
		}
		var more []profilestore.InteractionFilter
		for _, f := range filters {
			for _, name := range names {
				set(&f, name)
				more = append(more, f)
			}
		}
		filters = more
	}
	multiply(p.Channels, func(f *profilestore.InteractionFilter, name string) { f.Channel = name })
	multiply(p.Touchpoints, func(f *profilestore.InteractionFilter, name string) { f.Touchpoint = name })
	multiply(p.Groups, func(f *profilestore.InteractionFilter, name string) { f.Group = name })
	multiply(p.Offers, func(f *profilestore.InteractionFilter, name string) { f.Offer = name })
	multiply(p.Classes, func(f *profilestore.InteractionFilter, name string) { f.Class = name })
	return filters
}

// Capacity bounds how many there may be over all customers.
type Capacity struct {
	ID      string
	Max     int64
	Period  Period
	TakenBy string // CountContacts or an outcome

	// What it binds; an empty list binds all.
	Channels, Groups, Offers []string
}

// Period is how often a capacity begins anew.
type Period uint8

// The periods.
const (
	PeriodTotal Period = iota // never
	PeriodHour
	PeriodDay
	PeriodWeek
	PeriodMonth
)

var periodNames = map[string]Period{"total": PeriodTotal, "hour": PeriodHour, "day": PeriodDay, "week": PeriodWeek, "month": PeriodMonth}

// Begin returns when the period that a time is in began, microseconds since the Unix
// epoch; 0 for PeriodTotal.
func (p Period) Begin(now int64, zone *time.Location) int64 {
	t := time.UnixMicro(now).In(zone)
	year, month, day := t.Date()
	switch p {
	case PeriodHour:
		return t.Truncate(0).Add(-time.Duration(t.Minute())*time.Minute - time.Duration(t.Second())*time.Second - time.Duration(t.Nanosecond())).UnixMicro()
	case PeriodWeek:
		day -= (int(t.Weekday()) + 6) % 7
	case PeriodMonth:
		day = 1
	case PeriodDay:
	case PeriodTotal:
		return 0
	}
	return time.Date(year, month, day, 0, 0, 0, 0, zone).UnixMicro()
}

// End returns when the period that a time is in ends and the next begins, microseconds
// since the Unix epoch; 0 for PeriodTotal.
func (p Period) End(now int64, zone *time.Location) int64 {
	begin := time.UnixMicro(p.Begin(now, zone)).In(zone)
	year, month, day := begin.Date()
	switch p {
	case PeriodHour:
		return begin.Add(time.Hour).UnixMicro()
	case PeriodDay:
		day++
	case PeriodWeek:
		day += 7
	case PeriodMonth:
		month++
	case PeriodTotal:
		return 0
	}
	return time.Date(year, month, day, 0, 0, 0, 0, zone).UnixMicro()
}

// String returns the period as catalogue files spell it.
func (p Period) String() string { return [...]string{"total", "hour", "day", "week", "month"}[p] }

// Clock says by which clock customers live.
type Clock struct {
	Zone *time.Location // where a customer's own is not known
	Slot int            // of the text with the customer's own; −1: none
}

// ControlGroup is a part of the customers who get no marketing.
type ControlGroup struct {
	Share float64 // 0 to 1
	Salt  string
}

// Card is what staff see of a profile.
type Card struct {
	Roles []string // everybody if empty
	Slots []int    // of the fields, in order
}

// field resolves a profile field of a type that an element of a list names; −1 where it
// names none or a wrong one.
func (c *compiler) field(list string, i int, below, name string, want profilestore.Type) int {
	if name == "" {
		return -1
	}
	slot, ok := c.schema.Lookup(name)
	if !ok {
		fields := make(map[string]bool)
		for _, f := range c.schema.Fields() {
			if want == "" || f.Type == want {
				fields[f.Name] = true
			}
		}
		c.fail(list, i, below, "the schema has no field %q%s", name, nearest(c, strings.TrimPrefix(name, "profile."), fields))
		return -1
	}
	if f := c.schema.Fields()[slot]; want != "" && f.Type != want {
		c.fail(list, i, below, "%s is a %s: a %s is needed", name, f.Type, want)
		return -1
	}
	return slot
}

// span reads a span such as 7d, of which the pattern was checked.
func (c *compiler) span(list string, i int, below, text string, most time.Duration) int64 {
	if text == "" {
		return 0
	}
	d := spanOf(text)
	if d > most {
		c.fail(list, i, below, "%s is too long: at most %s", text, profilestore.FormatSpan(most))
	}
	return d.Microseconds()
}

// addClock adds by which clock customers live.
func (c *compiler) addClock() {
	c.out.Clock = Clock{Zone: time.UTC, Slot: -1}
	m := c.message.GetClock()
	if m == nil {
		return
	}
	if name := m.GetZone(); name != "" {
		zone, err := time.LoadLocation(name)
		if err != nil || name == "Local" {
			c.fail("clock", 0, "zone", "there is no time zone %q: use a name such as Asia/Shanghai", name)
			zone = time.UTC
		}
		c.out.Clock.Zone = zone
	}
	c.out.Clock.Slot = c.field("clock", 0, "field", m.GetField(), profilestore.TypeText)
}

// addControlGroup adds who gets no marketing.
func (c *compiler) addControlGroup() {
	m := c.message.GetControlGroup()
	if m == nil {
		return
	}
	c.out.Control = ControlGroup{Share: m.GetPercent() / 100, Salt: m.GetSalt()}
	groups := known(c, "control_group", 0, "groups", "group", m.GetGroups(), c.groupNames())
	for i := range c.out.Offers {
		o := &c.out.Offers[i]
		o.HeldBack = o.Class == ClassMarketing && (groups == nil || slices.Contains(groups, o.Group))
	}
}

// addContactRules adds what binds contacts in a channel.
func (c *compiler) addContactRules(i int, m *rapportv1.Channel, ch *Channel) {
	ch.Consent = c.field("channels", i, "consent", m.GetConsent(), profilestore.TypeFlag)
	ch.DoNotDisturb = c.field("channels", i, "do_not_disturb", m.GetDoNotDisturb(), profilestore.TypeFlag)
	if hours := m.GetQuietHours(); hours != nil {
		if !ch.Outbound {
			c.fail("channels", i, "quiet_hours", "channel %s is inbound: whoever comes to us is awake", m.GetId())
		}
		times := dayTimes(hours)
		ch.QuietHours = &times
	}
	ids := make(map[string]bool)
	for j, hours := range m.GetContactHours() {
		below := fmt.Sprintf("contact_hours[%d]", j)
		switch {
		case !ch.Outbound:
			c.fail("channels", i, below, "channel %s is inbound: whoever comes to us is awake", m.GetId())
		case ids[hours.GetId()]:
			c.fail("channels", i, below+".id", "%q is declared twice", hours.GetId())
		}
		ids[hours.GetId()] = true
		ch.ContactHours = append(ch.ContactHours, ContactHours{
			ID: hours.GetId(), When: c.condition("channels", i, below+".when", hours.GetWhen()), Hours: dayTimes(hours.GetHours()),
		})
	}
	ch.Hold = 10 * time.Minute
	if hold := c.span("channels", i, "hold", m.GetHold(), 7*24*time.Hour); hold > 0 {
		ch.Hold = time.Duration(hold) * time.Microsecond
	}
	if p := m.GetPressure(); p != nil {
		ch.HasPressure, ch.PressureAbove, ch.PressureWeight = true, p.GetAbove(), p.GetWeight()
	}
}

// dayTimes reads a part of the day, of which the patterns were checked.
func dayTimes(m *rapportv1.DayTimes) DayTimes {
	minutes := func(s string) int {
		t, err := time.Parse("15:04", s)
		if err != nil {
			return 0
		}
		return t.Hour()*60 + t.Minute()
	}
	return DayTimes{From: minutes(m.GetFrom()), Until: minutes(m.GetUntil())}
}

// addCards adds what staff see at a touchpoint.
func (c *compiler) addCards(i int, m *rapportv1.Touchpoint, t *Touchpoint) {
	t.Staff = m.GetAudience() == "staff"
	if len(m.GetCards()) > 0 && !t.Staff {
		c.fail("touchpoints", i, "cards", "%s is seen by customers: a profile card needs audience: staff", m.GetId())
	}
	for j, card := range m.GetCards() {
		out := Card{Roles: card.GetRoles()}
		if f, ok := c.out.context["role"]; len(out.Roles) > 0 && (!ok || c.out.Context[f].Kind != profilestore.KindText) {
			c.fail("touchpoints", i, fmt.Sprintf("cards[%d].roles", j), "the catalogue needs a context field role of type text, by which a request says who asks")
		}
		for k, name := range card.GetFields() {
			at := fmt.Sprintf("cards[%d].fields[%d]", j, k)
			slot := c.field("touchpoints", i, at, name, "")
			switch {
			case slot < 0:
			case slices.Contains(out.Slots, slot):
				c.fail("touchpoints", i, at, "%s is on the card already", name)
			default:
				out.Slots = append(out.Slots, slot)
			}
		}
		t.Cards = append(t.Cards, out)
	}
}

// addChoice adds which channel an offer keeps in a scenario.
func (c *compiler) addChoice(i int, m *rapportv1.Scenario, s *Scenario) {
	s.ClassOrder = m.GetClassOrder()
	s.MinimumScore = negativeInfinity
	if m.MinimumScore != nil {
		s.MinimumScore = m.GetMinimumScore()
	}
	s.Choice = ChannelChoice{Preferred: -1, Persona: -1}
	x := m.GetChannelChoice()
	if x == nil {
		return
	}
	s.Choice.Preferred = c.field("scenarios", i, "channel_choice.preferred", x.GetPreferred(), profilestore.TypeText)
	s.Choice.Persona = c.field("scenarios", i, "channel_choice.persona", x.GetPersona(), profilestore.TypeText)
	s.Choice.Cheapest = x.GetOtherwise() == "cheapest"
	switch {
	case len(x.GetPersonas()) > 0 && x.GetPersona() == "":
		c.fail("scenarios", i, "channel_choice.personas", "persona is missing: the field that says which kind of person a customer is")
	case len(x.GetPersonas()) == 0 && x.GetPersona() != "":
		c.fail("scenarios", i, "channel_choice.persona", "personas are missing: which channels each kind of person uses")
	}
	s.Choice.Personas = make(map[string][]int)
	for j, p := range x.GetPersonas() {
		below := fmt.Sprintf("channel_choice.personas[%d]", j)
		if _, twice := s.Choice.Personas[p.GetPersona()]; twice {
			c.fail("scenarios", i, below+".persona", "persona %q is declared twice", p.GetPersona())
			continue
		}
		s.Choice.Personas[p.GetPersona()] = nil
		for k, id := range p.GetChannels() {
			at := fmt.Sprintf("%s.channels[%d]", below, k)
			ch, ok := c.channel("scenarios", i, at, id)
			switch {
			case !ok:
			case slices.Contains(s.Choice.Personas[p.GetPersona()], ch):
				c.fail("scenarios", i, at, "channel %s is given twice", id)
			default:
				s.Choice.Personas[p.GetPersona()] = append(s.Choice.Personas[p.GetPersona()], ch)
			}
		}
	}
}

// known checks the names in a list, of which all must be keys of an index. It returns
// nil for an empty list.
func known[V any](c *compiler, list string, i int, below, what string, names []string, index map[string]V) []string {
	if len(names) == 0 {
		return nil
	}
	seen := make(map[string]bool, len(names))
	for j, name := range names {
		at := fmt.Sprintf("%s[%d]", below, j)
		_, ok := index[name]
		switch {
		case !ok && !c.lostAny(what) && (what != "touchpoint" || !c.declared(name)):
			c.fail(list, i, at, "there is no %s %q%s", what, name, nearest(c, name, index))
		case seen[name]:
			c.fail(list, i, at, "%s %s is given twice", what, name)
		}
		seen[name] = true
	}
	return slices.Clone(names)
}

// lostAny reports whether a part of the lists that declare such things was lost.
func (c *compiler) lostAny(what string) bool {
	return c.lost[what+"s"] || what == "group" && c.lost["offers"]
}

// groupNames are the groups that offers have or that are declared.
func (c *compiler) groupNames() map[string]bool {
	out := make(map[string]bool, len(c.groups))
	for name := range c.groups {
		out[name] = true
	}
	for name := range c.levels {
		out[name] = true
	}
	return out
}

// addPolicies adds the contact policies.
func (c *compiler) addPolicies() {
	seen := make(map[string]int)
	groups := c.groupNames()
	for i, m := range c.message.GetContactPolicies() {
		const list = "contact_policies"
		if !c.declare(seen, list, i, "id", "policy", m.GetId()) {
			continue
		}
		p := Policy{
			ID: m.GetId(), Count: m.GetCount(), Max: int(m.GetMax()), Per: dimensionNames[m.GetPer()],
			Within:      c.span(list, i, "within", m.GetWithin(), profilestore.MaxWindow),
			Suppress:    c.span(list, i, "suppress", m.GetSuppress(), profilestore.MaxWindow),
			Channels:    known(c, list, i, "channels", "channel", m.GetChannels(), c.channels),
			Touchpoints: known(c, list, i, "touchpoints", "touchpoint", m.GetTouchpoints(), c.out.touchpoint),
			Groups:      known(c, list, i, "groups", "group", m.GetGroups(), groups),
			Offers:      known(c, list, i, "offers", "offer", m.GetOffers(), c.offers),
			Classes:     slices.Clone(m.GetClasses()),
		}
		for j, class := range p.Classes {
			if slices.Contains(p.Classes[:j], class) {
				c.fail(list, i, fmt.Sprintf("classes[%d]", j), "class %s is given twice", class)
			}
		}
		if sum := time.Duration(p.Within+p.Suppress) * time.Microsecond; p.Within > 0 && sum > profilestore.MaxWindow && p.Suppress <= profilestore.MaxWindow.Microseconds() {
			c.fail(list, i, "suppress", "with the window it is %s: at most %s, which is how long interactions are kept", profilestore.FormatSpan(sum), profilestore.FormatSpan(profilestore.MaxWindow))
		}
		n := 1
		for _, names := range [][]string{p.Channels, p.Touchpoints, p.Groups, p.Offers, p.Classes} {
			if n *= max(len(names), 1); n > maxFilters {
				break
			}
		}
		if n > maxFilters {
			c.fail(list, i, "id", "its lists have more than %d combinations: name groups instead of offers, or make several policies of it", maxFilters)
			continue
		}
		p.Filters = p.filters()
		c.out.Policies = append(c.out.Policies, p)
		c.policies = append(c.policies, c.scope(i, p.Channels, p.Groups, p.Offers))
	}
}

// addCapacities adds the capacities.
func (c *compiler) addCapacities() {
	seen := make(map[string]int)
	groups := c.groupNames()
	for i, m := range c.message.GetCapacities() {
		const list = "capacities"
		if !c.declare(seen, list, i, "id", "capacity", m.GetId()) {
			continue
		}
		x := Capacity{ID: m.GetId(), Max: int64(m.GetMax()), Period: periodNames[m.GetPer()], TakenBy: m.GetTakenBy()}
		if x.TakenBy == "" {
			x.TakenBy = CountContacts
		}
		x.Channels = known(c, list, i, "channels", "channel", m.GetChannels(), c.channels)
		x.Groups = known(c, list, i, "groups", "group", m.GetGroups(), groups)
		x.Offers = known(c, list, i, "offers", "offer", m.GetOffers(), c.offers)
		c.out.Capacities = append(c.out.Capacities, x)
		c.capacities = append(c.capacities, c.scope(i, x.Channels, x.Groups, x.Offers))
	}
}
