package whynot_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"rapport/profilestore"
)

// This file draws random catalogues, in a form in which each change that is proposed can
// be made in the files themselves, as a marketer would.

const (
	minute = int64(time.Minute / time.Microsecond)
	hour   = 60 * minute
	day    = 24 * hour
	start  = int64(1_793_512_800_000_000) // 2026-11-01 06:00 UTC
)

var fields = []profilestore.Field{
	field("usage.mb", profilestore.TypeNumber, profilestore.NoDecimals),
	field("value.balance", profilestore.TypeNumber, 2),
	field("value.age", profilestore.TypeNumber, 0),
	field("tag.vip", profilestore.TypeFlag, profilestore.NoDecimals),
	field("tag.heavy", profilestore.TypeFlag, profilestore.NoDecimals),
	field("general.brand", profilestore.TypeText, profilestore.NoDecimals),
	field("marketing.owned", profilestore.TypeSet, profilestore.NoDecimals),
	field("value.contract_end", profilestore.TypeTime, profilestore.NoDecimals),
	field("marketing.propensity", profilestore.TypeNumber, profilestore.NoDecimals),
	field("preference.consent", profilestore.TypeFlag, profilestore.NoDecimals),
	field("preference.quiet", profilestore.TypeFlag, profilestore.NoDecimals),
	field("preference.channel", profilestore.TypeText, profilestore.NoDecimals),
	field("preference.persona", profilestore.TypeText, profilestore.NoDecimals),
	field("marketing.mood", profilestore.TypeFlag, profilestore.NoDecimals), // read by the strategy alone
}

func field(name string, typ profilestore.Type, decimals int) profilestore.Field {
	return profilestore.Field{Name: name, Type: typ, Batch: "bi", Decimals: decimals}
}

func slotOf(name string) int {
	return slices.IndexFunc(fields, func(f profilestore.Field) bool { return f.Name == name })
}

var conditions = []string{
	"profile.usage.mb > 5000.0",
	"profile.usage.mb > 5000.0 && profile.usage.mb <= 9000.0",
	"profile.value.balance >= 29.85",
	"profile.value.balance < 10.0 || profile.value.balance > 100.0",
	"profile.value.age < 30",
	"profile.value.age >= 18 && profile.value.age < 65",
	"profile.tag.vip",
	"!profile.tag.heavy",
	`profile.general.brand == "alpha"`,
	`profile.general.brand in ["alpha", "beta"]`,
	`profile.general.brand != "gamma"`,
	`has(profile.general.brand)`,
	`"data" in profile.marketing.owned`,
	`!("data" in profile.marketing.owned)`,
	`profile.marketing.owned.exists(x, x.startsWith("roam"))`,
	`profile.value.contract_end - now < duration("720h")`,
	`profile.value.contract_end > timestamp("2026-12-01T00:00:00Z")`,
	`now.getHours("Asia/Shanghai") >= 18`,
	`context.role == "adviser"`,
	`context.basket > 20.0`,
	"profile.tag.vip || profile.value.balance > 100.0",
	"profile.value.balance + profile.value.age > 150.0",
	"profile.value.balance * 2.0 < profile.usage.mb",
	"(profile.tag.vip ? 1 : 0) + (profile.tag.heavy ? 1 : 0) == 2", // takes two
	"100 / int(profile.value.age) > 1",
	`table.tier == "gold"`,
	`table.tier == "silver" && profile.value.balance < 100.0`,
}

// tierTable is a decision table that some of the conditions read.
const tierTable = `
decision_tables:
  - id: tier
    inputs: [profile.usage.mb, profile.tag.vip]
    rows:
      - {when: ['>= 7000', "-"], result: gold}
      - {when: ['[1000..7000)', "true"], result: gold}
      - {when: ['[1000..7000)', "-"], result: silver}
    default: none
`

type (
	model struct {
		channels    []channel
		touchpoints []touchpoint
		offers      []offer
		groupBoost  map[string]float64
		policies    []policy
		capacities  []capacity
		minimum     float64 // 0: none
		classOrder  bool
		strategy    bool
		choice      bool
		control     float64
		fallback    bool
	}
	channel struct {
		id               string
		outbound         bool
		consent, disturb bool
		quiet            [2]int // half hours; equal: none
		hours            [2]int // of vips
		pressure         float64
	}
	touchpoint struct {
		id      string
		channel int
		slots   int
	}
	offer struct {
		id, group, class, exclusive string
		value, start, boost         float64
		fromField                   bool
		eligible, owned, first      string
		from, until                 int64
		excludes                    []string
		content                     string
		only                        int // the channel that it has no treatment in; −1: none
		treatment                   string
	}
	policy struct {
		count, per       string
		max              int
		within, suppress int64 // minutes
		classes          string
	}
	capacity struct {
		group, takenBy, period string
	}
)

func chance(r *rand.Rand, of int) bool { return r.IntN(of) == 0 }

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// condition draws one to three conditions, each with the same chance; none once in of.
func condition(r *rand.Rand, of int) string {
	if !chance(r, of) {
		return ""
	}
	parts := make([]string, 1+r.IntN(3))
	for i := range parts {
		parts[i] = "(" + pick(r, conditions...) + ")"
	}
	return strings.Join(parts, " && ")
}

func drawModel(r *rand.Rand) *model {
	calm := chance(r, 2) // rules withhold little, so that much comes as far as the slates
	condition := func(of int) string {
		if calm {
			of *= 8
		}
		return condition(r, of)
	}
	m := &model{groupBoost: map[string]float64{}, strategy: chance(r, 5), classOrder: chance(r, 4), choice: chance(r, 2), fallback: chance(r, 4)}
	if chance(r, 3) {
		m.minimum = pick(r, 0.5, 1, 3)
	}
	if chance(r, 3) {
		m.control = 50
	}
	for i := range 1 + r.IntN(2) {
		c := channel{id: fmt.Sprintf("ch%d", i), outbound: chance(r, 2), consent: chance(r, 2), disturb: chance(r, 2)}
		if c.outbound && chance(r, 2) {
			c.quiet = [2]int{r.IntN(48), r.IntN(48)}
		}
		if c.outbound && chance(r, 3) {
			c.hours = [2]int{r.IntN(24), 24 + r.IntN(23)}
		}
		if chance(r, 2) {
			c.pressure = pick(r, 0.1, 0.5)
		}
		m.channels = append(m.channels, c)
	}
	for i := range 1 + r.IntN(3) {
		k := r.IntN(len(m.channels))
		if i < len(m.channels) {
			k = i
		}
		m.touchpoints = append(m.touchpoints, touchpoint{fmt.Sprintf("%s.t%d", m.channels[k].id, i), k, 1 + r.IntN(2)})
	}
	groups := []string{"g0", "g1"}
	for _, g := range groups {
		m.groupBoost[g] = pick(r, 0.0, 0, 30, -20)
	}
	n := 2 + r.IntN(6)
	for i := range n {
		o := offer{
			id: fmt.Sprintf("o%d", i), group: pick(r, groups...), class: pick(r, "marketing", "marketing", "marketing", "care", "service"),
			value: float64(1 + r.IntN(20)), start: pick(r, 0.0, 0.1, 0.25, 0.5), boost: pick(r, 0.0, 0, 50, -99), fromField: chance(r, 3),
			eligible: condition(2), owned: condition(5), first: condition(6), treatment: condition(8), content: "hello", only: -1,
		}
		if i < 2 {
			o.group = groups[i] // both are used
		}
		if chance(r, 8) {
			o.from = start + int64(r.IntN(40)-10)*hour
		}
		if chance(r, 8) {
			o.until = max(o.from, start-30*hour) + int64(1+r.IntN(40))*hour
		}
		if chance(r, 3) {
			o.exclusive = "x"
		}
		if i > 0 && chance(r, 5) {
			o.excludes = []string{fmt.Sprintf("o%d", r.IntN(i))}
		}
		if chance(r, 6) {
			o.content = pick(r, "{{profile.value.balance}} yuan", "{{100 / int(profile.value.age)}}")
		}
		if i > 0 && len(m.channels) > 1 && chance(r, 5) {
			o.only = r.IntN(2)
		}
		m.offers = append(m.offers, o)
	}
	for range r.IntN(3) {
		spans := []int64{60, 24 * 60, 7 * 24 * 60}
		m.policies = append(m.policies, policy{
			count: pick(r, "contact", "contact", "rejected"), per: pick(r, "", "offer", "group", "channel"), max: 1 + r.IntN(2),
			within: pick(r, spans...), suppress: pick(r, append(spans, 0, 0)...), classes: pick(r, "[]", "[care, marketing]"),
		})
	}
	for range r.IntN(3) {
		m.capacities = append(m.capacities, capacity{pick(r, groups...), pick(r, "", "accepted"), pick(r, "hour", "day", "week", "month", "total")})
	}
	return m
}

func clock(half int) string { return fmt.Sprintf("%02d:%02d", half/2, half%2*30) }

func rfc3339(micros int64) string { return time.UnixMicro(micros).UTC().Format(time.RFC3339) }

// yaml writes the catalogue.
func (m *model) yaml() string {
	var b strings.Builder
	add := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	rule := func(key, text string) {
		if text != "" {
			add("    %s: %s", key, strconv.Quote(text))
		}
	}
	number := func(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }
	add("clock: {zone: Asia/Shanghai}\ncontext:\n  - {name: role, type: text, default: none}\n  - {name: basket, type: number}\nchannels:")
	for _, c := range m.channels {
		add("  - id: %s\n    direction: %s", c.id, map[bool]string{true: "outbound", false: "inbound"}[c.outbound])
		if c.consent {
			add("    consent: preference.consent")
		}
		if c.disturb {
			add("    do_not_disturb: preference.quiet")
		}
		if c.quiet[0] != c.quiet[1] {
			add("    quiet_hours: {from: %q, until: %q}", clock(c.quiet[0]), clock(c.quiet[1]))
		}
		if c.hours[0] != c.hours[1] {
			add("    contact_hours: [{id: vips, when: profile.tag.vip, hours: {from: %q, until: %q}}]", clock(c.hours[0]), clock(c.hours[1]))
		}
		if c.pressure > 0 {
			add("    pressure: {above: 0.5, weight: %g}", c.pressure)
		}
	}
	add("touchpoints:")
	for _, t := range m.touchpoints {
		add("  - {id: %s, channel: %s, slots: %d}", t.id, m.channels[t.channel].id, t.slots)
	}
	add("groups:")
	for _, g := range []string{"g0", "g1"} {
		add("  - {id: %s, boost: %g}", g, m.groupBoost[g])
	}
	add("offers:")
	for _, o := range m.offers {
		add("  - id: %s\n    group: %s\n    class: %s\n    value: %s\n    boost: %s", o.id, o.group, o.class, number(o.value), number(o.boost))
		add("    propensity: {start: %g%s}", o.start, map[bool]string{true: ", field: marketing.propensity"}[o.fromField])
		rule("eligible", o.eligible)
		rule("owned", o.owned)
		rule("prerequisite", o.first)
		if o.from != 0 {
			add("    valid_from: %q", rfc3339(o.from))
		}
		if o.until != 0 {
			add("    valid_until: %q", rfc3339(o.until))
		}
		if o.exclusive != "" {
			add("    exclusive: %s", o.exclusive)
		}
		add("    excludes: [%s]\n    treatments:", strings.Join(o.excludes, ", "))
		for i, c := range m.channels {
			if i != o.only {
				add("      - channel: %s\n        content: %q", c.id, o.content)
				if o.treatment != "" {
					add("        eligible: %s", strconv.Quote(o.treatment))
				}
			}
		}
	}
	add("  - id: sorry\n    group: sorry\n    class: care\n    value: 1\n    propensity: {start: 0.1}\n    treatments:")
	for _, c := range m.channels {
		add("      - {channel: %s, content: sorry}", c.id)
	}
	add("scenarios:\n  - id: all\n    groups: [g0, g1]\n    class_order: %t\n    touchpoints:", m.classOrder)
	for _, t := range m.touchpoints {
		add("      - %s", t.id)
	}
	if m.minimum > 0 {
		add("    minimum_score: %g", m.minimum)
	}
	if m.fallback {
		add("    fallback: sorry")
	}
	if m.strategy {
		add("    strategy: {name: moody, version: live}")
	}
	if m.choice {
		add("    channel_choice:\n      preferred: preference.channel\n      persona: preference.persona\n      personas:")
		for i, p := range []string{"a", "b"} {
			add("        - {persona: %s, channels: [%s]}", p, m.channels[i%len(m.channels)].id)
		}
	}
	if len(m.policies) > 0 {
		add("contact_policies:")
	}
	for i, p := range m.policies {
		add("  - {id: p%d, count: %s, max: %d, within: %dm, per: %q, classes: %s%s}", i, p.count, p.max, p.within, p.per, p.classes,
			map[bool]string{true: fmt.Sprintf(", suppress: %dm", p.suppress)}[p.suppress > 0])
	}
	if len(m.capacities) > 0 {
		add("capacities:")
	}
	for i, c := range m.capacities {
		add("  - {id: cap%d, max: 1000, per: %s, groups: [%s], taken_by: %q}", i, c.period, c.group, c.takenBy)
	}
	if m.control > 0 {
		add("control_group: {percent: %g, salt: salt}", m.control)
	}
	if strings.Contains(b.String(), "table.tier") {
		b.WriteString(tierTable)
	}
	return b.String()
}
