package decide_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"pgregory.net/rapid"

	"rapport/profilestore"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
)

// This file draws random catalogues. What is drawn is kept in plain form for the naive
// twin (naive_test.go), and written as the YAML that a marketer would write, so that the
// compiler is a part of what is compared.

// modelFields are what is known of a customer, in the order of the schema.
var modelFields = []profilestore.Field{
	{Name: "value.arpu", Type: profilestore.TypeNumber, Batch: "bi", Decimals: profilestore.NoDecimals},
	{Name: "tag.vip", Type: profilestore.TypeFlag, Batch: "bi", Decimals: profilestore.NoDecimals},
	{Name: "marketing.propensity", Type: profilestore.TypeNumber, Batch: "bi", Decimals: profilestore.NoDecimals},
	{Name: "preference.consent", Type: profilestore.TypeFlag, Batch: "bi", Decimals: profilestore.NoDecimals},
	{Name: "preference.quiet", Type: profilestore.TypeFlag, Batch: "bi", Decimals: profilestore.NoDecimals},
	{Name: "preference.channel", Type: profilestore.TypeText, Batch: "bi", Decimals: profilestore.NoDecimals},
	{Name: "preference.persona", Type: profilestore.TypeText, Batch: "bi", Decimals: profilestore.NoDecimals},
	{Name: "general.zone", Type: profilestore.TypeText, Batch: "bi", Decimals: profilestore.NoDecimals},
}

// Their slots.
const (
	slotARPU = iota
	slotVIP
	slotPropensity
	slotConsent
	slotQuiet
	slotChannel
	slotPersona
	slotZone
)

// contents are texts with computed parts, each with what becomes of it.
var contents = []struct {
	text  string
	truth func(p profile) rules.Truth
}{
	{"hello", func(profile) rules.Truth { return rules.True }},
	{"{{profile.value.arpu}} yuan", func(p profile) rules.Truth {
		if !p[slotARPU].Known() {
			return rules.Unknown
		}
		return rules.True
	}},
	{"{{10 / int(profile.value.arpu)}}", func(p profile) rules.Truth {
		switch {
		case !p[slotARPU].Known():
			return rules.Unknown
		case int(p[slotARPU].Number()) == 0:
			return rules.Failed
		}
		return rules.True
	}},
}

type (
	model struct {
		// calm catalogues have little that withholds single offers, so that much comes
		// as far as the slates.
		calm        bool
		channels    []modelChannel
		touchpoints []modelTouchpoint
		issues      []modelLevel
		groups      []modelLevel
		offers      []modelOffer
		scenarios   []modelScenario
		policies    []modelPolicy
		capacities  []modelCapacity
		zone        string
		zoneField   bool
		control     float64 // percent
		controlled  []string
	}
	modelChannel struct {
		id             string
		outbound       bool
		cost           float64
		consent, quiet bool // has the field
		quietHours     *[2]int
		hours          []modelHours
		above, weight  float64 // of pressure; weight −1: none
	}
	modelHours struct {
		when        int
		from, until int
	}
	modelTouchpoint struct {
		id       string
		channel  int
		slots    int
		formats  []string
		staff    bool
		scenario int // −1: none
	}
	modelLevel struct {
		id, issue string
		eligible  int
		boost     float64
	}
	modelOffer struct {
		id, group              string
		class                  catalog.Class
		value, start, boost    float64
		propensity             bool // has the field
		startEvidence          float64
		eligible, prerequisite int
		owned                  int // −1: none
		from, until            int64
		exclusive              string
		excludes, bundle       []string
		treatments             []modelTreatment
	}
	modelTreatment struct {
		channel         int
		content, script int // script −1: none
		format          string
		eligible        int
	}
	modelScenario struct {
		id          string
		touchpoints []int
		groups      []string
		weights     map[string]float64
		classOrder  bool
		minimum     *float64
		preferred   bool
		personas    map[string][]int // nil: no persona
		cheapest    bool
		fallback    bool
		vetoes      bool
	}
	modelPolicy struct {
		id, count, per                                 string
		max                                            int
		within, suppress                               int64 // minutes
		channels, touchpoints, groups, offers, classes []string
	}
	modelCapacity struct {
		id, takenBy              string
		channels, groups, offers []string
	}
)

// modelStart is the moment around which everything happens: clocks change in New York
// then.
const modelStart = 1_793_512_800_000_000 // 2026-11-01 06:00 UTC

const (
	minuteMicros = int64(60_000_000)
	hourMicros   = 60 * minuteMicros
	dayOfMicros  = 24 * hourMicros
)

// condition draws a condition: none as often as not.
func (m *model) condition(t *rapid.T, label string) int {
	if m.calm || rapid.Bool().Draw(t, label+"?") {
		return 0
	}
	return rapid.IntRange(0, len(conditions)-1).Draw(t, label)
}

// some draws a part of a list, nil as often as not.
func some(t *rapid.T, label string, list []string) []string {
	if len(list) == 0 || rapid.Bool().Draw(t, label+"?") {
		return nil
	}
	n := rapid.IntRange(1, min(len(list), 2)).Draw(t, label+" n")
	out := slices.Clone(rapid.Permutation(list).Draw(t, label))
	return out[:n]
}

// chance is true once in so many times.
func chance(t *rapid.T, label string, of int) bool {
	return rapid.IntRange(1, of).Draw(t, label) == of
}

// withholds draws whether there is something that withholds a single offer.
func (m *model) withholds(t *rapid.T, label string, of int) bool {
	return !m.calm && chance(t, label, of)
}

// drawModel draws a catalogue.
func drawModel(t *rapid.T) *model {
	m := &model{calm: chance(t, "calm", 3), zone: rapid.SampledFrom([]string{"", "Asia/Shanghai", "America/New_York"}).Draw(t, "zone"), zoneField: rapid.Bool().Draw(t, "zone field")}
	minute := func(label string) int { return 30 * rapid.IntRange(0, 47).Draw(t, label) }
	for i := range rapid.IntRange(map[bool]int{false: 1, true: 2}[m.calm], 3).Draw(t, "channels") {
		c := modelChannel{
			id: fmt.Sprintf("ch%d", i), outbound: rapid.Bool().Draw(t, "outbound"), cost: float64(rapid.IntRange(0, 2).Draw(t, "cost")),
			consent: m.withholds(t, "consent", 2), quiet: m.withholds(t, "do not disturb", 2), weight: -1,
		}
		if c.outbound && m.withholds(t, "quiet hours", 2) {
			c.quietHours = &[2]int{minute("from"), minute("until")}
		}
		for c.outbound && len(c.hours) < 2 && m.withholds(t, "contact hours", 4) {
			c.hours = append(c.hours, modelHours{m.condition(t, "hours when"), minute("from"), minute("until")})
		}
		if rapid.Bool().Draw(t, "pressure") {
			c.above, c.weight = 0.5, rapid.SampledFrom([]float64{0, 0.25, 0.25, 1}).Draw(t, "pressure weight")
		}
		m.channels = append(m.channels, c)
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "issues") {
		m.issues = append(m.issues, modelLevel{id: fmt.Sprintf("i%d", i), eligible: m.condition(t, "issue"), boost: rapid.SampledFrom([]float64{0, 100}).Draw(t, "boost")})
	}
	groups := []string{"g0", "g1", "g2"}
	for _, g := range groups {
		if rapid.Bool().Draw(t, "declared") {
			level := modelLevel{id: g, eligible: m.condition(t, "group"), boost: rapid.SampledFrom([]float64{0, -50}).Draw(t, "boost")}
			if len(m.issues) > 0 && rapid.Bool().Draw(t, "has issue") {
				level.issue = rapid.SampledFrom(m.issues).Draw(t, "issue").id
			}
			m.groups = append(m.groups, level)
		}
	}
	m.drawOffers(t, groups)
	m.drawPlaces(t, groups)
	var channels, touchpoints, offers []string
	for _, c := range m.channels {
		channels = append(channels, c.id)
	}
	for _, tp := range m.touchpoints {
		touchpoints = append(touchpoints, tp.id)
	}
	for _, o := range m.offers {
		if o.id != "fallback" {
			offers = append(offers, o.id)
		}
	}
	counts := []string{"contact", "contact", "rejected", "accepted"}
	if m.calm {
		counts = counts[:1]
	}
	for i := range rapid.IntRange(0, 5).Draw(t, "policies") {
		spans := []int64{60, 24 * 60, 7 * 24 * 60}
		m.policies = append(m.policies, modelPolicy{
			id:    fmt.Sprintf("p%d", i),
			count: rapid.SampledFrom(counts).Draw(t, "count"),
			per:   rapid.SampledFrom([]string{"", "", "offer", "group", "class", "channel", "touchpoint"}).Draw(t, "per"),
			max:   rapid.IntRange(1, 3).Draw(t, "max"), within: rapid.SampledFrom(spans).Draw(t, "within"),
			suppress: rapid.SampledFrom(append(spans, 0, 0, 0)).Draw(t, "suppress"),
			channels: some(t, "channels", channels), touchpoints: some(t, "touchpoints", touchpoints), groups: some(t, "groups", append([]string{"fb"}, groups...)),
			offers: some(t, "offers", offers), classes: some(t, "classes", []string{"care", "marketing"}),
		})
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "capacities") {
		x := modelCapacity{
			id: fmt.Sprintf("cap%d", i), takenBy: rapid.SampledFrom([]string{"", "accepted"}).Draw(t, "taken by"),
			channels: some(t, "channels", channels), groups: some(t, "groups", groups), offers: some(t, "offers", offers),
		}
		if x.groups == nil && x.offers == nil {
			x.groups = groups // a fallback must not run out
		}
		m.capacities = append(m.capacities, x)
	}
	if rapid.Bool().Draw(t, "control") {
		m.control, m.controlled = 50, some(t, "controlled", groups)
	}
	m.onlyUsed()
	return m
}

// onlyUsed takes out what names groups that no offer has.
func (m *model) onlyUsed() {
	used := map[string]bool{}
	for _, o := range m.offers {
		used[o.group] = true
	}
	for _, g := range m.groups {
		used[g.id] = true
	}
	keep := func(list []string) []string {
		out := slices.DeleteFunc(slices.Clone(list), func(g string) bool { return !used[g] })
		if len(out) == 0 {
			return nil
		}
		return out
	}
	for i := range m.policies {
		m.policies[i].groups = keep(m.policies[i].groups)
	}
	m.controlled = keep(m.controlled)
	m.capacities = slices.DeleteFunc(m.capacities, func(x modelCapacity) bool { return x.groups != nil && keep(x.groups) == nil })
	for i := range m.capacities {
		m.capacities[i].groups = keep(m.capacities[i].groups)
	}
}

func (m *model) drawOffers(t *rapid.T, groups []string) {
	offers := rapid.IntRange(2, 14).Draw(t, "offers")
	id := func(i int) string { return fmt.Sprintf("o%d", i) }
	for i := range offers {
		o := modelOffer{
			id: id(i), group: rapid.SampledFrom(groups).Draw(t, "group"),
			class: catalog.Class(rapid.IntRange(0, 2).Draw(t, "class")), value: float64(rapid.IntRange(1, 3).Draw(t, "value")),
			start: rapid.SampledFrom([]float64{0, 0.25, 0.5, 1}).Draw(t, "start"), boost: rapid.SampledFrom([]float64{0, 0, 100}).Draw(t, "boost"),
			propensity: rapid.Bool().Draw(t, "propensity"), eligible: m.condition(t, "eligible"), owned: -1,
		}
		if rapid.Bool().Draw(t, "learns") {
			o.startEvidence = rapid.SampledFrom([]float64{0.5, 3, 100}).Draw(t, "start evidence")
		}
		if m.withholds(t, "has owned", 4) {
			o.owned = rapid.IntRange(1, len(conditions)-1).Draw(t, "owned")
		}
		if m.withholds(t, "has prerequisite", 4) {
			o.prerequisite = m.condition(t, "prerequisite")
		}
		if m.withholds(t, "has begin", 8) {
			o.from = modelStart + int64(rapid.IntRange(-20, 20).Draw(t, "begin"))*hourMicros
		}
		if m.withholds(t, "has end", 8) {
			o.until = max(o.from, modelStart-30*hourMicros) + int64(rapid.IntRange(1, 60).Draw(t, "end"))*hourMicros
		}
		if m.withholds(t, "has exclusive", 2) {
			o.exclusive = rapid.SampledFrom([]string{"x", "y"}).Draw(t, "exclusive")
		}
		others := []string{}
		for j := range offers {
			if j != i {
				others = append(others, id(j))
			}
		}
		if m.withholds(t, "has excludes", 4) {
			o.excludes = some(t, "excludes", others)
		}
		if m.withholds(t, "has bundle", 6) {
			o.bundle = some(t, "bundle", others)
		}
		for c := range m.channels {
			if i > 0 && chance(t, "no treatment", 4) && (c > 0 || len(m.channels) > 1) && !(c == len(m.channels)-1 && len(o.treatments) == 0) {
				continue
			}
			x := modelTreatment{channel: c, script: -1}
			if i > 0 && m.withholds(t, "has format", 4) {
				x.format = rapid.SampledFrom([]string{"text", "banner"}).Draw(t, "format")
			}
			if m.withholds(t, "computed", 5) {
				x.content = rapid.IntRange(0, len(contents)-1).Draw(t, "content")
			}
			if m.withholds(t, "script", 5) {
				x.script = rapid.IntRange(0, len(contents)-1).Draw(t, "script")
			}
			if m.withholds(t, "treatment rule", 5) {
				x.eligible = m.condition(t, "treatment eligible")
			}
			o.treatments = append(o.treatments, x)
		}
		if i > 0 && rapid.Bool().Draw(t, "alike") { // but for its group, so that what becomes of one may become of both
			x := m.offers[i-1]
			o.class, o.eligible, o.owned, o.prerequisite, o.from, o.until = x.class, x.eligible, x.owned, x.prerequisite, x.from, x.until
			o.treatments = slices.Clone(x.treatments)
		}
		m.offers = append(m.offers, o)
	}
	fallback := modelOffer{id: "fallback", group: "fb", class: rapid.SampledFrom([]catalog.Class{catalog.ClassService, catalog.ClassCare}).Draw(t, "fallback class"), value: 1, owned: -1}
	for c := range m.channels {
		fallback.treatments = append(fallback.treatments, modelTreatment{channel: c, script: -1})
	}
	m.offers = append(m.offers, fallback)
}

// drawPlaces draws touchpoints and scenarios.
func (m *model) drawPlaces(t *rapid.T, groups []string) {
	for i := range rapid.IntRange(1, 5).Draw(t, "touchpoints") {
		c := rapid.IntRange(0, len(m.channels)-1).Draw(t, "channel")
		tp := modelTouchpoint{id: fmt.Sprintf("%s.t%d", m.channels[c].id, i), channel: c, slots: rapid.IntRange(1, 4).Draw(t, "slots"), staff: rapid.Bool().Draw(t, "staff"), scenario: -1}
		if m.withholds(t, "formats", 4) {
			tp.formats = []string{"text"}
		}
		m.touchpoints = append(m.touchpoints, tp)
	}
	for i := range rapid.IntRange(1, 2).Draw(t, "scenarios") {
		s := modelScenario{
			id: fmt.Sprintf("s%d", i), classOrder: rapid.Bool().Draw(t, "class order"), preferred: rapid.Bool().Draw(t, "preferred"), cheapest: rapid.Bool().Draw(t, "cheapest"),
			weights: map[string]float64{}, fallback: rapid.Bool().Draw(t, "fallback"), vetoes: m.withholds(t, "vetoes", 3),
		}
		// The first offer has a treatment everywhere, so that no touchpoint is without.
		if rapid.Bool().Draw(t, "groups") {
			s.groups = []string{m.offers[0].group}
			if g := rapid.SampledFrom(groups).Draw(t, "more"); g != s.groups[0] && slices.ContainsFunc(m.offers, func(o modelOffer) bool { return o.group == g }) {
				s.groups = append(s.groups, g)
			}
		}
		if m.withholds(t, "minimum", 3) {
			x := rapid.SampledFrom([]float64{0.25, 0.5, 1}).Draw(t, "least")
			s.minimum = &x
		}
		if chance(t, "weights", 3) {
			s.weights[m.offers[0].group] = rapid.SampledFrom([]float64{0.5, 2}).Draw(t, "weight")
		}
		if rapid.Bool().Draw(t, "personas") {
			s.personas = map[string][]int{}
			for _, p := range []string{"a", "b"} {
				list := rapid.Permutation([]int{0, 1, 2}[:len(m.channels)]).Draw(t, "persona")
				s.personas[p] = slices.Clone(list[:rapid.IntRange(1, len(list)).Draw(t, "persona n")])
			}
		}
		for k := range m.touchpoints {
			if m.touchpoints[k].scenario < 0 && (len(s.touchpoints) == 0 || rapid.Bool().Draw(t, "here")) {
				m.touchpoints[k].scenario = i
				s.touchpoints = append(s.touchpoints, k)
			}
		}
		if len(s.touchpoints) > 0 {
			m.scenarios = append(m.scenarios, s)
		}
	}
}

// list writes a list of names.
func list(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = strconv.Quote(n)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// clock writes minutes of the day.
func clock(minute int) string { return fmt.Sprintf("%02d:%02d", minute/60, minute%60) }

// yaml writes the catalogue.
func (m *model) yaml() string {
	var b strings.Builder
	add := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	rule := func(indent, key string, condition int) {
		if condition > 0 {
			add("%s%s: %q", indent, key, conditions[condition].text)
		}
	}
	add("clock: {zone: %q%s}", m.zone, map[bool]string{true: ", field: general.zone"}[m.zoneField])
	add("channels:")
	for _, c := range m.channels {
		add("  - id: %s\n    direction: %s\n    cost: %g", c.id, map[bool]string{true: "outbound", false: "inbound"}[c.outbound], c.cost)
		if c.consent {
			add("    consent: preference.consent")
		}
		if c.quiet {
			add("    do_not_disturb: preference.quiet")
		}
		if q := c.quietHours; q != nil {
			add("    quiet_hours: {from: %q, until: %q}", clock(q[0]), clock(q[1]))
		}
		if len(c.hours) > 0 {
			add("    contact_hours:")
			for i, h := range c.hours {
				add("      - id: h%d\n        hours: {from: %q, until: %q}", i, clock(h.from), clock(h.until))
				rule("        ", "when", h.when)
			}
		}
		if c.weight >= 0 {
			add("    pressure: {above: %g, weight: %g}", c.above, c.weight)
		}
	}
	add("touchpoints:")
	for _, tp := range m.touchpoints {
		add("  - {id: %s, channel: %s, slots: %d, formats: %s, audience: %s}", tp.id, m.channels[tp.channel].id, tp.slots, list(tp.formats), map[bool]string{true: "staff", false: "customer"}[tp.staff])
	}
	for name, levels := range map[string][]modelLevel{"issues": m.issues, "groups": m.groups} {
		if len(levels) > 0 {
			add("%s:", name)
		}
		for _, l := range levels {
			add("  - id: %s\n    boost: %g", l.id, l.boost)
			if l.issue != "" {
				add("    issue: %s", l.issue)
			}
			rule("    ", "eligible", l.eligible)
		}
	}
	add("offers:")
	for i := range m.offers {
		m.offers[i].write(m, add, rule)
	}
	add("scenarios:")
	for _, s := range m.scenarios {
		s.write(m, add)
	}
	if len(m.policies) > 0 {
		add("contact_policies:")
	}
	for _, p := range m.policies {
		add("  - {id: %s, count: %s, max: %d, within: %dm, per: %q, channels: %s, touchpoints: %s, groups: %s, offers: %s, classes: %s%s}",
			p.id, p.count, p.max, p.within, p.per, list(p.channels), list(p.touchpoints), list(p.groups), list(p.offers), list(p.classes),
			map[bool]string{true: fmt.Sprintf(", suppress: %dm", p.suppress)}[p.suppress > 0])
	}
	if len(m.capacities) > 0 {
		add("capacities:")
	}
	for _, x := range m.capacities {
		add("  - {id: %s, max: 1000, per: day, channels: %s, groups: %s, offers: %s, taken_by: %q}", x.id, list(x.channels), list(x.groups), list(x.offers), x.takenBy)
	}
	if m.control > 0 {
		add("control_group: {percent: %g, salt: salt, groups: %s}", m.control, list(m.controlled))
	}
	return b.String()
}

func (o *modelOffer) write(m *model, add func(string, ...any), rule func(indent, key string, condition int)) {
	add("  - id: %s\n    group: %s\n    class: %s\n    value: %g\n    boost: %g", o.id, o.group, o.class, o.value, o.boost)
	add("    propensity: {start: %g%s%s}", o.start, map[bool]string{true: ", field: marketing.propensity"}[o.propensity],
		map[bool]string{true: fmt.Sprintf(", start_evidence: %g", o.startEvidence)}[o.startEvidence > 0])
	rule("    ", "eligible", o.eligible)
	rule("    ", "prerequisite", o.prerequisite)
	rule("    ", "owned", o.owned)
	for key, at := range map[string]int64{"valid_from": o.from, "valid_until": o.until} {
		if at != 0 {
			add("    %s: %q", key, rfc3339(at))
		}
	}
	if o.exclusive != "" {
		add("    exclusive: %s", o.exclusive)
	}
	add("    excludes: %s\n    bundle: %s\n    treatments:", list(o.excludes), list(o.bundle))
	for _, x := range o.treatments {
		add("      - channel: %s\n        content: %q", m.channels[x.channel].id, contents[x.content].text)
		if x.script >= 0 {
			add("        script: %q", contents[x.script].text)
		}
		if x.format != "" {
			add("        format: %s", x.format)
		}
		rule("        ", "eligible", x.eligible)
	}
}

func (s *modelScenario) write(m *model, add func(string, ...any)) {
	touchpoints := make([]string, len(s.touchpoints))
	for i, k := range s.touchpoints {
		touchpoints[i] = m.touchpoints[k].id
	}
	add("  - id: %s\n    touchpoints: %s\n    groups: %s\n    class_order: %t", s.id, list(touchpoints), list(s.groups), s.classOrder)
	if s.minimum != nil {
		add("    minimum_score: %g", *s.minimum)
	}
	if s.fallback {
		add("    fallback: fallback")
	}
	for g, w := range s.weights {
		add("    weights: [{group: %s, weight: %g}]", g, w)
	}
	add("    channel_choice:\n      otherwise: %s", map[bool]string{true: "cheapest", false: "score"}[s.cheapest])
	if s.preferred {
		add("      preferred: preference.channel")
	}
	if s.personas != nil {
		add("      persona: preference.persona\n      personas:")
		for _, p := range []string{"a", "b"} {
			var names []string
			for _, c := range s.personas[p] {
				names = append(names, m.channels[c].id)
			}
			add("        - {persona: %s, channels: %s}", p, list(names))
		}
	}
}
