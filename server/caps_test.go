package server_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/api/rapport/v1/rapportv1connect"
)

var capsReached = flag.Int("caps", 10, "how often every limit has to be reached in TestCapsModel")

// The catalogue of TestCapsModel: a policy of each kind, and a capacity of each period.
const capsYAML = `
channels:
  - {id: web, direction: inbound, hold: 1m}
  - {id: sms, direction: outbound, hold: 3m}
touchpoints:
  - {id: web.home, channel: web, slots: 2}
  - {id: web.side, channel: web}
  - {id: sms.push, channel: sms}
  - {id: web.shop, channel: web, slots: 5}
offers:
  - {id: a1, group: a, class: marketing, propensity: {start: 0.5}, treatments: [{channel: web, content: x}, {channel: sms, content: x}]}
  - {id: a2, group: a, class: marketing, propensity: {start: 0.5}, treatments: [{channel: web, content: x}, {channel: sms, content: x}]}
  - {id: b1, group: b, class: marketing, propensity: {start: 0.5}, treatments: [{channel: web, content: x}, {channel: sms, content: x}]}
  - {id: c1, group: c, class: care, propensity: {start: 0.5}, treatments: [{channel: web, content: x}, {channel: sms, content: x}]}
  - {id: d1, group: d, class: marketing, propensity: {start: 0.5}, treatments: [{channel: web, content: x}, {channel: sms, content: x}]}
  - {id: k_hour, group: k, class: service, propensity: {start: 0.5}, treatments: [{channel: web, content: x}]}
  - {id: k_day, group: k, class: service, propensity: {start: 0.5}, treatments: [{channel: web, content: x}]}
  - {id: k_week, group: k, class: service, propensity: {start: 0.5}, treatments: [{channel: web, content: x}]}
  - {id: k_month, group: k, class: service, propensity: {start: 0.5}, treatments: [{channel: web, content: x}]}
  - {id: k_total, group: k, class: service, propensity: {start: 0.5}, treatments: [{channel: web, content: x}]}
scenarios:
  - {id: inbound, touchpoints: [web.home, web.side], groups: [a, b, c, d]}
  - {id: outbound, touchpoints: [sms.push], groups: [a, b, c, d]}
  - {id: shop, touchpoints: [web.shop], groups: [k]}
contact_policies:
  - {id: rest, per: offer, count: rejected, max: 1, within: 3d, suppress: 5d}
  - {id: clicks, per: group, count: clicked, max: 2, within: 1d}
  - {id: offers, per: offer, count: contact, max: 2, within: 6h, groups: [a]}
  - {id: groups, per: group, count: contact, max: 3, within: 8h, groups: [a, b]}
  - {id: places, per: touchpoint, count: contact, max: 3, within: 40m}
  - {id: channels, per: channel, count: contact, max: 5, within: 5h}
  - {id: flood, count: contact, max: 6, within: 1h, suppress: 4h}
  - {id: messages, count: contact, max: 4, within: 1d, channels: [sms]}
  - {id: classes, per: class, count: contact, max: 8, within: 2d, classes: [care, marketing]}
capacities:
  - {id: hour, max: 6, per: hour, offers: [k_hour]}
  - {id: day, max: 40, per: day, offers: [k_day], taken_by: clicked}
  - {id: week, max: 80, per: week, offers: [k_week]}
  - {id: month, max: 90, per: month, offers: [k_month], taken_by: accepted}
  - {id: total, max: 100, per: total, offers: [k_total], taken_by: accepted}
`

// capsPolicy says of a policy what the catalogue says.
type capsPolicy struct {
	id, per, count   string
	max              int
	within, suppress time.Duration
	groups, channels []string
	care             bool // it binds class care too
}

var capsPolicies = []capsPolicy{
	{id: "rest", per: "offer", count: "rejected", max: 1, within: 3 * day, suppress: 5 * day},
	{id: "clicks", per: "group", count: "clicked", max: 2, within: day},
	{id: "offers", per: "offer", max: 2, within: 6 * time.Hour, groups: []string{"a"}},
	{id: "groups", per: "group", max: 3, within: 8 * time.Hour, groups: []string{"a", "b"}},
	{id: "places", per: "touchpoint", max: 3, within: 40 * time.Minute},
	{id: "channels", per: "channel", max: 5, within: 5 * time.Hour},
	{id: "flood", max: 6, within: time.Hour, suppress: 4 * time.Hour},
	{id: "messages", max: 4, within: day, channels: []string{"sms"}},
	{id: "classes", per: "class", max: 8, within: 2 * day, care: true},
}

const day = 24 * time.Hour

// capsCapacity likewise.
type capsCapacity struct {
	offer, takenBy string
	max            int
	begin          func(time.Time) time.Time
}

var capsCapacities = map[string]capsCapacity{
	"hour": {"k_hour", "", 6, func(t time.Time) time.Time { return t.Truncate(time.Hour) }},
	"day":  {"k_day", "clicked", 40, func(t time.Time) time.Time { return t.Truncate(day) }},
	"week": {"k_week", "", 80, func(t time.Time) time.Time {
		for t = t.Truncate(day); t.Weekday() != time.Monday; t = t.Add(-day) {
		}
		return t
	}},
	"month": {"k_month", "accepted", 90, func(t time.Time) time.Time { return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC) }},
	"total": {"k_total", "accepted", 100, func(time.Time) time.Time { return time.Time{} }},
}

// capsContact is a slate that a decision gave out, and what was reported of it.
type capsContact struct {
	customer, channel, touchpoint string
	items                         []*rapportv1.Placement
	at, expires                   time.Time
	begun                         int64 // the decision, in the order of all that is done
	round                         int
	reported                      bool              // anything, also late
	settled                       int               // the round of the first report
	inTime                        map[string]bool   // outcome by offer, before it expired; and ""
	outcomes                      map[string]*event // by offer and outcome
}

type event struct {
	offer, group, outcome string
	at                    time.Time
	ended                 int64
}

// counts reports whether a contact counts at a time.
func (c *capsContact) counts(now time.Time) bool { return c.reported || c.expires.After(now) }

// keys returns what a policy counts the contact under.
func (p *capsPolicy) keys(c *capsContact) (keys []string, bound map[string]bool) {
	bound = make(map[string]bool)
	if p.channels != nil && !slices.Contains(p.channels, c.channel) {
		return nil, bound
	}
	for _, x := range c.items {
		if p.groups != nil && !slices.Contains(p.groups, x.GetGroup()) || p.care && x.GetClass() == "service" {
			continue
		}
		k := p.key(x, c.touchpoint, c.channel)
		if !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
		bound[k] = bound[k] || p.binds(x)
	}
	return keys, bound
}

func (p *capsPolicy) binds(x *rapportv1.Placement) bool {
	return x.GetClass() == "marketing" || p.care && x.GetClass() == "care"
}

func (p *capsPolicy) key(x *rapportv1.Placement, touchpoint, channel string) string {
	return map[string]string{"offer": x.GetOffer(), "group": x.GetGroup(), "class": x.GetClass(), "touchpoint": touchpoint, "channel": channel}[p.per]
}

// suppressed reports whether times are too many now: the naive reading of a policy.
func (p *capsPolicy) suppressed(times []time.Time, now time.Time) bool {
	for _, end := range append(slices.Clone(times), now) {
		n := 0
		for _, t := range times {
			if t.After(end.Add(-p.within)) && !t.After(end) {
				n++
			}
		}
		lasts := p.suppress
		if lasts == 0 && !end.Equal(now) {
			continue // what is in the window that ends now is all that counts
		}
		if n >= p.max && (end.Equal(now) || end.Add(lasts).After(now)) {
			return true
		}
	}
	return false
}

// direct is an HTTP client of a handler in the same process.
type direct struct{ http.Handler }

// Do answers a request.
func (d direct) Do(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result(), nil
}

// capsWithheld is a candidate that a limit withheld.
type capsWithheld struct{ customer, by, offer, touchpoint, channel string }

// capsModel drives a server and says afterwards what should have been.
type capsModel struct {
	h        *house
	client   rapportv1connect.DecisionServiceClient
	clock    *fakeClock
	round    int
	order    atomic.Int64
	mu       sync.Mutex
	contacts []*capsContact
	withheld []capsWithheld
	tokens   map[string]*capsContact
	items    map[string]*rapportv1.Placement // by token
	reached  map[string]int
	did      map[string]int
}

func (m *capsModel) open(t *testing.T, dir string) {
	m.h = open(t, dir, func(c *server.Config) {
		c.SetClock(m.clock.now)
		c.Deadline, c.MaxConcurrent = 30*time.Second, 64
	})
	m.client = rapportv1connect.NewDecisionServiceClient(direct{m.h.server.Handler()}, "http://in.process")
}

var touchpointChannel = map[string]string{"web.home": "web", "web.side": "web", "web.shop": "web", "sms.push": "sms"}

// decide asks and notes the answer.
func (m *capsModel) decide(t *testing.T, customer string, at ...string) (tokens []string) {
	q := &rapportv1.DecideManyRequest{Customer: customer}
	for _, x := range at {
		q.At = append(q.At, &rapportv1.DecideAt{Touchpoint: x})
	}
	begun := m.order.Add(1)
	var res *connect.Response[rapportv1.DecideManyResponse]
	for {
		var err error
		if res, err = m.client.DecideMany(context.Background(), connect.NewRequest(q)); err == nil {
			break
		} else if connect.CodeOf(err) != connect.CodeResourceExhausted {
			t.Error(err)
			return nil
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	byChannel := make(map[string]*capsContact)
	for _, d := range res.Msg.GetDecisions() {
		channel := touchpointChannel[d.GetTouchpoint()]
		if len(d.GetDegradations()) > 0 {
			t.Errorf("degradations %v", d.GetDegradations())
		}
		for _, w := range d.GetWithheld() {
			for _, x := range w.GetDetails() {
				if r := w.GetReason(); r == rapportv1.Reason_REASON_CAPPED || r == rapportv1.Reason_REASON_CAPACITY {
					m.withheld = append(m.withheld, capsWithheld{customer, x.GetBy(), x.GetOffer(), d.GetTouchpoint(), channel})
					m.reached[x.GetBy()]++
				}
			}
		}
		for _, p := range d.GetSlate() {
			c := byChannel[channel]
			if c == nil {
				c = &capsContact{
					customer: customer, channel: channel, touchpoint: d.GetTouchpoint(), at: res.Msg.GetTime().AsTime(), expires: d.GetValidUntil().AsTime(),
					begun: begun, round: m.round, inTime: make(map[string]bool), outcomes: make(map[string]*event),
				}
				byChannel[channel] = c
				m.contacts = append(m.contacts, c)
			}
			c.items = append(c.items, p)
			m.tokens[p.GetToken()], m.items[p.GetToken()] = c, p
			tokens = append(tokens, p.GetToken())
		}
	}
	m.did["decisions"]++
	m.did["contacts"] += len(byChannel)
	return tokens
}

// report reports and notes it.
func (m *capsModel) report(t *testing.T, token, outcome string) {
	now := m.clock.now()
	res, err := m.client.RecordOutcomes(context.Background(), connect.NewRequest(&rapportv1.RecordOutcomesRequest{
		Reports: []*rapportv1.OutcomeReport{{Token: token, Outcome: outcome}},
	}))
	if err != nil || len(res.Msg.GetRefused()) > 0 {
		t.Error(res, err)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c, x := m.tokens[token], m.items[token]
	if !c.reported {
		c.reported, c.settled = true, m.round
	}
	if c.expires.After(now) {
		c.inTime[""], c.inTime[x.GetOffer()+" "+outcome] = true, true
	} else {
		m.did["late"]++
	}
	if key := x.GetOffer() + " " + outcome; c.outcomes[key] == nil {
		c.outcomes[key] = &event{x.GetOffer(), x.GetGroup(), outcome, now, m.order.Add(1)}
	} else {
		m.did["twice"]++
	}
	m.did[outcome]++
}

// check compares a round with the model.
func (m *capsModel) check(t *testing.T) {
	now := m.clock.now()
	of := make(map[string][]*capsContact)
	for _, c := range m.contacts {
		of[c.customer] = append(of[c.customer], c)
	}
	type limit struct{ customer, policy, key string }
	full := make(map[limit]bool) // at the end of the round
	for customer, contacts := range of {
		for i := range capsPolicies {
			p := &capsPolicies[i]
			if p.count != "" {
				m.checkOutcomes(t, p, customer, contacts, now, func(key string) { full[limit{customer, p.id, key}] = true })
				continue
			}
			before, after, bound := make(map[string][]time.Time), make(map[string][]time.Time), make(map[string]int)
			for _, c := range contacts {
				if !c.counts(now) {
					continue
				}
				keys, binds := p.keys(c)
				for _, k := range keys {
					after[k] = append(after[k], c.at)
					if c.reported && c.settled == m.round {
						after[k] = append(after[k], c.at) // a report counts twice for a moment, so as never to count not at all
					}
					if c.round < m.round {
						before[k] = append(before[k], c.at)
					} else if binds[k] {
						bound[k]++
					}
				}
			}
			for k, times := range after {
				full[limit{customer, p.id, k}] = p.suppressed(times, now)
			}
			for k, n := range bound {
				had := 0
				for _, at := range before[k] {
					if at.After(now.Add(-p.within)) {
						had++
					}
				}
				if had+n > p.max || p.suppressed(before[k], now) {
					t.Errorf("round %d: customer %s was contacted %d times more under %s %s, which had %d of %d", m.round, customer, n, p.id, k, had, p.max)
				}
			}
		}
	}
	used := m.capacities(t, now)
	for _, w := range m.withheld {
		if x, ok := capsCapacities[w.by]; ok {
			if used[w.by] != x.max {
				t.Errorf("round %d: capacity %s withheld, and %d of %d places are used", m.round, w.by, used[w.by], x.max)
			}
			continue
		}
		p := &capsPolicies[slices.IndexFunc(capsPolicies, func(p capsPolicy) bool { return p.id == w.by })]
		class := "marketing"
		if w.offer == "c1" {
			class = "care"
		}
		if k := p.key(&rapportv1.Placement{Offer: w.offer, Group: w.offer[:1], Class: class}, w.touchpoint, w.channel); !full[limit{w.customer, p.id, k}] {
			t.Errorf("round %d: customer %s was withheld by %s %s, which has room", m.round, w.customer, p.id, k)
		}
	}
	m.withheld = m.withheld[:0]
}

// checkOutcomes checks a policy that counts outcomes: no decision that began after too
// many were reported made the offer.
func (m *capsModel) checkOutcomes(t *testing.T, p *capsPolicy, customer string, contacts []*capsContact, now time.Time, full func(key string)) {
	events := make(map[string][]*event)
	for _, c := range contacts {
		for _, e := range c.outcomes {
			if e.outcome == p.count {
				k := p.key(&rapportv1.Placement{Offer: e.offer, Group: e.group}, "", "")
				events[k] = append(events[k], e)
			}
		}
	}
	for k, all := range events {
		times := func(before int64) (out []time.Time) {
			for _, e := range all {
				if e.ended < before {
					out = append(out, e.at)
				}
			}
			return out
		}
		if p.suppressed(times(m.order.Load()+1), now) {
			full(k)
		}
		for _, c := range contacts {
			_, bound := p.keys(c)
			if c.round == m.round && bound[k] && p.suppressed(times(c.begun), now) {
				t.Errorf("round %d: customer %s was contacted after too many of %s %s", m.round, customer, p.id, k)
			}
		}
	}
}

// capacities returns how many places are used of each in its present period, after it
// has checked all periods.
func (m *capsModel) capacities(t *testing.T, now time.Time) map[string]int {
	used := make(map[string]int)
	for id, x := range capsCapacities {
		byPeriod := make(map[time.Time]int)
		for _, c := range m.contacts {
			if !slices.ContainsFunc(c.items, func(p *rapportv1.Placement) bool { return p.GetOffer() == x.offer }) {
				continue
			}
			taken := c.inTime[""]
			if x.takenBy != "" {
				taken = c.inTime[x.offer+" "+x.takenBy]
			}
			if taken || c.expires.After(now) {
				byPeriod[x.begin(c.at)]++
			}
		}
		for period, n := range byPeriod {
			if n > x.max {
				t.Errorf("round %d: %d places of %s were given in the period that began %v, at most %d", m.round, n, id, period, x.max)
			}
		}
		used[id] = byPeriod[x.begin(now)]
	}
	return used
}

// TestCapsModel: 64 callers decide for the same customers at once and report what came of
// it, while the clock stands; then it moves, reservations expire, late reports come, the
// server is started again. No limit is passed, and none withholds that has room.
func TestCapsModel(t *testing.T) {
	const callers = 64
	m := &capsModel{
		clock: &fakeClock{t: time.Date(2026, 1, 5, 0, 0, 0, 123_457_000, time.UTC)}, tokens: make(map[string]*capsContact),
		items: make(map[string]*rapportv1.Placement), reached: make(map[string]int), did: make(map[string]int),
	}
	m.open(t, newData(t))
	if _, err := m.h.publish(capsYAML); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(7, 11))
	outcomes := []string{"presented", "presented", "clicked", "accepted", "rejected"}
	enough := func() bool {
		for _, p := range capsPolicies {
			if m.reached[p.id] < *capsReached {
				return false
			}
		}
		for id := range capsCapacities {
			if m.reached[id] < *capsReached {
				return false
			}
		}
		return true
	}
	var kept []string
	for m.round = 1; !enough() && !t.Failed(); m.round++ {
		if m.round > 100+10**capsReached {
			t.Errorf("not every limit was reached often enough: %v", m.reached)
			break
		}
		var wait sync.WaitGroup
		var mu sync.Mutex
		epoch := m.round / 40 // others, in time
		for range callers {
			r := rand.New(rand.NewPCG(random.Uint64(), 1))
			wait.Go(func() {
				for range 4 {
					at := [][]string{{"web.home"}, {"web.side"}, {"sms.push"}, {"web.home", "sms.push"}, {"web.shop"}, {"web.shop"}}[r.IntN(6)]
					// A customer with more than 256 contacts and outcomes is counted by days.
					customer := fmt.Sprintf("c%d-%d", epoch, r.IntN(24))
					if at[0] == "web.shop" {
						customer = fmt.Sprintf("s%d", r.IntN(4000))
					}
					for _, token := range m.decide(t, customer, at...) {
						switch r.IntN(4) {
						case 0: // never, or later
							mu.Lock()
							kept = append(kept, token)
							mu.Unlock()
						case 1:
						default:
							outcome := outcomes[r.IntN(len(outcomes))]
							m.report(t, token, outcome)
							if r.IntN(4) == 0 {
								m.report(t, token, outcome)
							}
						}
					}
				}
			})
		}
		wait.Wait()
		m.check(t)
		m.clock.add([]time.Duration{7 * time.Second, 31 * time.Second, 61 * time.Second, 11 * time.Minute, 47 * time.Minute, 5 * time.Hour}[random.IntN(6)])
		if random.IntN(8) == 0 {
			dir := m.h.dir
			m.h.stop()
			m.open(t, dir)
			m.did["restarts"]++
		}
		for _, token := range kept { // by now late, or not
			if random.IntN(3) == 0 {
				m.report(t, token, outcomes[random.IntN(len(outcomes))])
			}
		}
		kept = kept[:0]
		for _, c := range m.contacts {
			if !c.reported && c.round == m.round {
				m.did["not reported"]++
			}
		}
		m.forget()
	}
	t.Logf("%d rounds, %v; limits reached: %v", m.round-1, m.did, m.reached)
}

// forget drops the tokens of the past and the contacts that nothing counts any more.
func (m *capsModel) forget() {
	clear(m.tokens)
	clear(m.items)
	now := m.clock.now()
	m.contacts = slices.DeleteFunc(m.contacts, func(c *capsContact) bool {
		return !c.counts(now) || c.at.Before(now.Add(-40*day)) && c.items[0].GetOffer() != "k_total" && len(c.items) == 1
	})
}
