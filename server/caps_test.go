package server_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/api/rapport/v1/rapportv1connect"
)

var capsReached = flag.Int("caps", 5, "how often every limit has to withhold in TestCapsModel: from how many customers, each counted once a round; of capacities, how many offers")

// capsContact is a slate that a decision gave out, and what was reported of it.
type capsContact struct {
	customer, channel string
	items             []capsItem
	at, expires       time.Time
	date              time.Time // by which the history has it
	begun             int64     // the decision, in the order of all that is done
	round             int
	expired           bool              // the clock has been there, whatever it did then
	reported          bool              // anything, also late
	settled           int               // the round of the first report
	inTime            map[string]bool   // outcome by offer, before it expired; and ""
	outcomes          map[string]*event // by offer and outcome
}

// capsItem is an offer on a slate, at a touchpoint.
type capsItem struct {
	*rapportv1.Placement
	at string
}

type event struct {
	item    capsItem
	outcome string
	at      time.Time
	ended   int64
}

// counts reports whether a contact counts.
func (c *capsContact) counts() bool { return c.reported || !c.expired }

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
	*capsWorld
	h        *house
	client   rapportv1connect.DecisionServiceClient
	profiles rapportv1connect.ProfileServiceClient
	clock    *fakeClock
	peak     time.Time // the latest that the clock was
	round    int
	order    atomic.Int64
	mu       sync.Mutex
	pending  []*capsContact            // that have not expired
	contacts map[string][]*capsContact // by customer
	places   map[string][]*capsContact // by capacity
	active   map[string]bool           // customers of this round
	withheld []capsWithheld
	tokens   map[string]*capsContact
	items    map[string]capsItem // by token
	linked   map[string]string   // an identity and the customer whose it is
	linking  map[string]string   // those of this round
	reached  map[string]int
	did      map[string]int
}

func (m *capsModel) open(t *testing.T, dir string, cache int) {
	m.h = open(t, dir, func(c *server.Config) {
		c.SetClock(m.clock.now)
		c.Deadline, c.MaxConcurrent, c.CacheEntries = 30*time.Second, 64, cache
	})
	in := direct{m.h.server.Handler()}
	m.client = rapportv1connect.NewDecisionServiceClient(in, "http://in.process")
	m.profiles = rapportv1connect.NewProfileServiceClient(in, "http://in.process")
}

// ask asks until there is an answer.
func (m *capsModel) ask(t *testing.T, q *rapportv1.DecideManyRequest) *rapportv1.DecideManyResponse {
	for {
		res, err := m.client.DecideMany(context.Background(), connect.NewRequest(q))
		if err == nil {
			return res.Msg
		} else if connect.CodeOf(err) != connect.CodeResourceExhausted {
			t.Error(err)
			return nil
		}
	}
}

// decide asks and notes the answer.
func (m *capsModel) decide(t *testing.T, customer string, one, dry bool, at ...string) (tokens []string) {
	q := &rapportv1.DecideManyRequest{Customer: customer, OneContact: one}
	for _, x := range at {
		q.At = append(q.At, &rapportv1.DecideAt{Touchpoint: x})
	}
	if dry { // it has no effect
		q.DryRun = &rapportv1.DryRun{}
		m.ask(t, q)
		q.DryRun = nil
	}
	begun := m.order.Add(1)
	res := m.ask(t, q)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.active[customer] = true
	byChannel := make(map[string]*capsContact)
	for _, d := range res.GetDecisions() {
		channel := m.channel[d.GetTouchpoint()]
		if len(d.GetDegradations()) > 0 {
			t.Errorf("degradations %v", d.GetDegradations())
		}
		for _, w := range d.GetWithheld() {
			for _, x := range w.GetDetails() {
				if r := w.GetReason(); r == rapportv1.Reason_REASON_CAPPED || r == rapportv1.Reason_REASON_CAPACITY {
					m.withheld = append(m.withheld, capsWithheld{customer, x.GetBy(), x.GetOffer(), d.GetTouchpoint(), channel})
					if _, ok := m.capacities[x.GetBy()]; ok {
						m.reached[x.GetBy()]++
					}
				}
			}
		}
		for _, p := range d.GetSlate() {
			c := byChannel[channel]
			if c == nil {
				c = &capsContact{
					customer: customer, channel: channel, at: res.GetTime().AsTime(), expires: d.GetValidUntil().AsTime(),
					begun: begun, round: m.round, inTime: make(map[string]bool), outcomes: make(map[string]*event),
				}
				c.date = c.at
				byChannel[channel] = c
				m.contacts[customer] = append(m.contacts[customer], c)
				m.pending = append(m.pending, c)
			}
			c.items = append(c.items, capsItem{p, d.GetTouchpoint()})
			for id, x := range m.capacities {
				if x.offer == p.GetOffer() {
					m.places[id] = append(m.places[id], c)
				}
			}
			m.tokens[p.GetToken()], m.items[p.GetToken()] = c, capsItem{p, d.GetTouchpoint()}
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
	made := c.at
	if made.After(now.Add(5 * time.Minute)) { // the clock has stepped back
		made = now
	}
	if !c.reported {
		c.reported, c.settled, c.date = true, m.round, made
	}
	if c.expired {
		m.did["late"]++
	} else {
		c.inTime[""], c.inTime[x.GetOffer()+" "+outcome] = true, true
	}
	if key := x.GetOffer() + " " + outcome; c.outcomes[key] == nil {
		at := now
		if made.After(at) {
			at = made
		}
		c.outcomes[key] = &event{x, outcome, at, m.order.Add(1)}
	} else {
		m.did["twice"]++
	}
	m.did[outcome]++
}

// link makes two identities one customer.
func (m *capsModel) link(t *testing.T, alias, customer string) {
	if _, err := m.profiles.LinkIdentities(context.Background(), connect.NewRequest(&rapportv1.LinkIdentitiesRequest{
		Links: []*rapportv1.IdentityLink{{A: customer, B: alias}},
	})); err != nil {
		t.Error(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.linking[alias] = customer
	m.active[alias], m.active[customer] = true, true
	m.did["links"]++
}

// who returns the customer of an identity.
func (m *capsModel) who(identity string) string {
	if customer, ok := m.linked[identity]; ok {
		return customer
	}
	return identity
}

// check compares a round with the model. Where identities were linked in it, each is
// judged by what it had alone: who decided before the link could not know of the other.
func (m *capsModel) check(t *testing.T) {
	now := m.clock.now()
	full := make(map[capsLimit]bool) // at the end of the round
	busy := make(map[string]bool)    // customers who are counted by days in part
	for customer := range m.active {
		contacts := m.contacts[customer]
		if who := m.who(customer); who != customer {
			contacts = slices.Concat(contacts, m.contacts[who])
		}
		for alias, who := range m.linked {
			if who == customer {
				contacts = slices.Concat(contacts, m.contacts[alias])
			}
		}
		m.checkCustomer(t, customer, contacts, now, full)
		n := 0
		for _, c := range contacts {
			n += 1 + len(c.outcomes)
		}
		busy[customer] = n > 200
	}
	for alias, customer := range m.linking { // for what was withheld: both together
		both := slices.Concat(m.contacts[alias], m.contacts[customer])
		for i := range m.policies {
			for k := range m.fill(&m.policies[i], both, now) {
				full[capsLimit{alias, m.policies[i].id, k}], full[capsLimit{customer, m.policies[i].id, k}] = true, true
			}
		}
	}
	used, met := m.checkCapacities(t, now), make(map[capsLimit]bool)
	for _, w := range m.withheld {
		if x, ok := m.capacities[w.by]; ok {
			if used[w.by] != x.max && !x.begin(now).Before(x.begin(m.peak.Add(-5*time.Hour))) {
				t.Errorf("round %d: capacity %s withheld, and %d of %d places are used", m.round, w.by, used[w.by], x.max)
			}
			continue
		}
		p := &m.policies[slices.IndexFunc(m.policies, func(p capsPolicy) bool { return p.id == w.by })]
		item := capsItem{&rapportv1.Placement{Offer: w.offer, Group: m.group[w.offer], Class: m.class[w.offer]}, w.touchpoint}
		if item.Class == "" {
			item.Class = "marketing"
		}
		limit := capsLimit{w.customer, p.id, p.key(item, w.channel)}
		if !full[limit] && !busy[w.customer] {
			t.Errorf("round %d: customer %s was withheld by %s %s, which has room", m.round, w.customer, p.id, limit.key)
		}
		if !met[limit] { // once a round, however many offers it withheld
			met[limit] = true
			m.reached[p.id]++
		}
	}
	m.withheld = m.withheld[:0]
	maps.Copy(m.linked, m.linking)
	clear(m.linking)
	clear(m.active)
}

type capsLimit struct{ customer, policy, key string }

// fill returns what is full of a policy at the end of the round.
func (m *capsModel) fill(p *capsPolicy, contacts []*capsContact, now time.Time) map[string]bool {
	times := make(map[string][]time.Time)
	for _, c := range contacts {
		if p.count != "" {
			for _, e := range c.outcomes {
				if e.outcome == p.count && p.about(e.item, c.channel) {
					k := p.key(e.item, c.channel)
					times[k] = append(times[k], e.at)
				}
			}
			continue
		}
		if !c.counts() {
			continue
		}
		keys, _ := p.keys(c)
		for _, k := range keys {
			times[k] = append(times[k], c.date)
			if c.reported && c.settled == m.round {
				times[k] = append(times[k], c.at) // a report counts twice for a moment, so as never to count not at all
			}
		}
	}
	out := make(map[string]bool)
	for k, list := range times {
		if p.suppressed(list, now) {
			out[k] = true
		}
	}
	return out
}

// checkCustomer checks that no policy was passed.
func (m *capsModel) checkCustomer(t *testing.T, customer string, contacts []*capsContact, now time.Time, full map[capsLimit]bool) {
	for i := range m.policies {
		p := &m.policies[i]
		for k := range m.fill(p, contacts, now) {
			full[capsLimit{customer, p.id, k}] = true
		}
		if p.count != "" {
			m.checkOutcomes(t, p, customer, contacts, now)
			continue
		}
		before, bound := make(map[string][]time.Time), make(map[string]int)
		for _, c := range contacts {
			if !c.counts() {
				continue
			}
			keys, binds := p.keys(c)
			for _, k := range keys {
				if c.round < m.round {
					before[k] = append(before[k], c.date)
				} else if binds[k] {
					bound[k]++
				}
			}
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

// checkOutcomes checks a policy that counts outcomes: no decision that began after too
// many were reported made the offer.
func (m *capsModel) checkOutcomes(t *testing.T, p *capsPolicy, customer string, contacts []*capsContact, now time.Time) {
	type dated struct {
		at    time.Time
		ended int64
	}
	events := make(map[string][]dated)
	for _, c := range contacts {
		for _, e := range c.outcomes {
			if e.outcome == p.count && p.about(e.item, c.channel) {
				k := p.key(e.item, c.channel)
				events[k] = append(events[k], dated{e.at, e.ended})
			}
		}
	}
	for _, c := range contacts {
		if c.round != m.round {
			continue
		}
		_, bound := p.keys(c)
		for k, is := range bound {
			var times []time.Time
			for _, e := range events[k] {
				if e.ended < c.begun {
					times = append(times, e.at)
				}
			}
			if is && p.suppressed(times, now) {
				t.Errorf("round %d: customer %s was contacted after too many of %s %s", m.round, customer, p.id, k)
			}
		}
	}
}

// checkCapacities returns how many places are used of each capacity in its present period,
// after it has checked all periods.
func (m *capsModel) checkCapacities(t *testing.T, now time.Time) map[string]int {
	used := make(map[string]int)
	for id, x := range m.capacities {
		byPeriod := make(map[time.Time]int)
		for _, c := range m.places[id] {
			taken := c.inTime[""]
			if x.takenBy != "" {
				taken = c.inTime[x.offer+" "+x.takenBy]
			}
			if taken || !c.expired {
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

// move moves the clock, by which contacts expire.
func (m *capsModel) move(by time.Duration) {
	m.clock.add(by)
	now := m.clock.now()
	if now.After(m.peak) {
		m.peak = now
	}
	m.pending = slices.DeleteFunc(m.pending, func(c *capsContact) bool {
		c.expired = !c.expires.After(now)
		if c.expired && !c.reported {
			m.did["expired"]++
		}
		return c.expired
	})
}

// TestCapsModel: 64 callers decide for the same customers at once and report what came of
// it, while identities are found to be one person's and the clock stands. Then it moves,
// forward or back, reservations expire, late reports come, the server is started again
// with a cache that holds all or next to nothing. No limit is passed, and none withholds
// that has room.
//
// The long form reaches each limit as often as asked:
//
//	go test ./server -run CapsModel -caps 1000 -timeout 1h -v
func TestCapsModel(t *testing.T) {
	t.Run("together", func(t *testing.T) { newCapsModel(t, capsTogether()).run(t) })
	t.Run("apart", func(t *testing.T) { newCapsModel(t, capsApart()).run(t) })
}

func newCapsModel(t *testing.T, w *capsWorld) *capsModel {
	t.Helper()
	m := &capsModel{
		capsWorld: w, clock: &fakeClock{t: time.Date(2026, 1, 5, 0, 0, 0, 123_457_000, time.UTC)}, tokens: make(map[string]*capsContact),
		items: make(map[string]capsItem), reached: make(map[string]int), did: make(map[string]int),
		contacts: make(map[string][]*capsContact), places: make(map[string][]*capsContact), active: make(map[string]bool),
		linked: make(map[string]string), linking: make(map[string]string),
	}
	m.open(t, newData(t), 1000)
	if _, err := m.h.publish(w.yaml); err != nil {
		t.Fatal(err)
	}
	return m
}

// limits returns the names of all.
func (m *capsModel) limits() []string {
	names := slices.Sorted(maps.Keys(m.capacities))
	for _, p := range m.policies {
		names = append(names, p.id)
	}
	return names
}

func (m *capsModel) run(t *testing.T) {
	random, late := rand.New(rand.NewPCG(7, 11)), rand.New(rand.NewPCG(7, 12)) // how many are late differs from run to run
	enough := func() bool {
		return !slices.ContainsFunc(m.limits(), func(id string) bool { return m.reached[id] < *capsReached })
	}
	var kept []string
	crowd := random.Perm(3000)[:12]
	for m.round = 1; (m.round <= capsRounds || !enough()) && !t.Failed(); m.round++ {
		if m.round > 100+10**capsReached {
			t.Errorf("not every limit was reached often enough: %v", m.reached)
			break
		}
		for i := range crowd { // of whom half stay for another round, mostly
			if random.IntN(2) == 0 {
				crowd[i] = random.IntN(3000)
			}
		}
		kept = m.callers(t, random, crowd)
		m.check(t)
		m.step(t, random)
		for _, token := range kept { // by now late, or not
			if late.IntN(3) == 0 {
				m.report(t, token, capsOutcomes[late.IntN(len(capsOutcomes))])
			}
		}
		m.forget()
	}
	customers := 0
	for customer := range m.contacts {
		if !strings.HasPrefix(customer, "s") {
			customers++
		}
	}
	var lines []string
	for _, id := range m.limits() {
		lines = append(lines, fmt.Sprintf("%s %d", id, m.reached[id]))
	}
	for _, what := range []string{"expired", "late", "twice", "links", "restarts", "steps back"} {
		if m.did[what] == 0 && !t.Failed() {
			t.Errorf("%q never occurred", what)
		}
	}
	t.Logf("%d rounds of %d callers, %v, %d customers who are limited; limits reached: %s", m.round-1, capsCallers, m.did, customers, strings.Join(lines, ", "))
}

const (
	capsCallers = 64
	capsRounds  = 10 // at least
)

var capsOutcomes = []string{"presented", "presented", "clicked", "accepted", "rejected"}

// callers decide and report, all at once, and return the tokens of which nothing was.
func (m *capsModel) callers(t *testing.T, random *rand.Rand, crowd []int) (kept []string) {
	var wait sync.WaitGroup
	var mu sync.Mutex
	if alias := crowd[random.IntN(len(crowd))]; random.IntN(3) == 0 && m.linked[fmt.Sprint("msisdn:", alias)] == "" {
		wait.Go(func() { m.link(t, fmt.Sprint("msisdn:", alias), fmt.Sprint("c", alias)) })
	}
	for range capsCallers {
		r := rand.New(rand.NewPCG(random.Uint64(), 1))
		wait.Go(func() {
			for range m.each {
				at := m.questions[r.IntN(len(m.questions))]
				// Who has two identities comes with either.
				customer := fmt.Sprint([]string{"c", "msisdn:"}[r.IntN(2)], crowd[r.IntN(len(crowd))])
				if r.IntN(3) == 0 {
					for shop := range m.channel {
						if strings.HasSuffix(shop, ".shop") {
							at = []string{shop}
						}
					}
					customer = fmt.Sprintf("s%d", r.IntN(4000))
				}
				for _, token := range m.decide(t, customer, r.IntN(4) == 0, r.IntN(8) == 0, at...) {
					switch r.IntN(4) {
					case 0: // never, or later
						mu.Lock()
						kept = append(kept, token)
						mu.Unlock()
					case 1:
					default:
						outcome := capsOutcomes[r.IntN(len(capsOutcomes))]
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
	return kept
}

// step moves the clock, mostly forward, and starts the server again sometimes.
func (m *capsModel) step(t *testing.T, random *rand.Rand) {
	by := []time.Duration{7 * time.Second, 31 * time.Second, 61 * time.Second, 11 * time.Minute, 47 * time.Minute, 5 * time.Hour}[random.IntN(6)]
	if back := []time.Duration{time.Second, 90 * time.Second, 4 * time.Minute, 25 * time.Minute, 3 * time.Hour}[random.IntN(5)]; random.IntN(4) == 0 && m.clock.now().Add(-back).After(m.peak.Add(-5*time.Hour)) {
		by = -back
		m.did["steps back"]++
	}
	m.move(by)
	if random.IntN(8) == 0 {
		dir := m.h.dir
		m.h.stop()
		m.open(t, dir, []int{1000, 8}[random.IntN(2)])
		m.did["restarts"]++
	}
}

// forget drops the tokens of the past and the contacts that nothing counts any more.
func (m *capsModel) forget() {
	clear(m.tokens)
	clear(m.items)
	for id, x := range m.capacities {
		m.places[id] = slices.DeleteFunc(m.places[id], func(c *capsContact) bool {
			return c.expired && (!c.reported || c.at.Before(m.peak.Add(-40*day)) && !x.begin(c.at).IsZero())
		})
	}
	for customer := range m.contacts {
		if strings.HasPrefix(customer, "s") {
			delete(m.contacts, customer) // class service is never bound
			continue
		}
		m.contacts[customer] = slices.DeleteFunc(m.contacts[customer], func(c *capsContact) bool { return !c.counts() })
	}
}
