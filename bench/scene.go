package bench

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"rapport/profilestore"
	"rapport/server/catalog"
	"rapport/server/decide"
)

// scene is what is decided on: one scenario of so many candidates, each with a
// rule, and one customer who is eligible for all of them.
type scene struct {
	schema   *profilestore.Schema
	compiled *catalog.Compiled
	scenario *catalog.Scenario
}

const sceneSchema = `
sources: [{id: bi}]
fields:
  - {name: value.arpu, type: number, batch: bi, decimals: 2}
  - {name: tag.high_traffic, type: flag, batch: bi}
  - {name: general.customer_type, type: text, batch: bi}
  - {name: general.customer_since, type: time, batch: bi}
  - {name: usage.data_mb, type: counter, batch: bi, decimals: 3, events: {on: 'event.type == "data"', add: event.mb}}
  - {name: marketing.propensity, type: number, batch: bi, decimals: 4}
  - {name: service.complaint_open, type: flag, batch: bi}
  - {name: service.satisfaction, type: number, batch: bi}
  - {name: service.hotline_calls, type: number, batch: bi}
`

// The customer, as a batch file has it: one who spends 40.
const (
	sceneCustomer = "customer:1"
	sceneCSV      = "customer,value.arpu,tag.high_traffic,general.customer_type,general.customer_since,usage.data_mb,marketing.propensity,service.complaint_open,service.satisfaction,service.hotline_calls\n" +
		"1,40,yes,private,2020-01-01T00:00:00Z,4000.5,0.07,no,8,0\n"
)

func newScene(g *Guest, candidates int) (*scene, error) { return newSceneOf(g, candidates, 100, 0) }

// newSceneOf returns a scene in which the customer is eligible for so many of a hundred
// candidates, in a catalogue that has so many other offers, for another channel.
func newSceneOf(g *Guest, candidates, percent, others int) (*scene, error) {
	schema, problems := catalog.ReadSchema("schema.yaml", []byte(sceneSchema))
	if len(problems) > 0 {
		return nil, fmt.Errorf("bench: schema: %v", problems)
	}
	compiled, _, problems := catalog.Compile([]catalog.File{{Name: "catalog.yaml", Content: []byte(sceneCatalog(g.named(), candidates, percent) + otherOffers(candidates, others))}}, schema, nil)
	if len(problems) > 0 {
		return nil, fmt.Errorf("bench: catalogue: %v", problems)
	}
	return &scene{schema, compiled, compiled.Scenarios[0]}, nil
}

// named is how a scenario names the strategy.
func (g *Guest) named() string {
	if g.parameters == "" {
		return g.Name
	}
	return g.Name + ", parameters: " + g.parameters
}

// otherOffers are offers that are no candidates, for the end of a sceneCatalog.
func otherOffers(first, n int) string {
	var b strings.Builder
	for i := first; i < first+n; i++ {
		fmt.Fprintf(&b, "  - {id: offer%d, group: g%d, class: marketing, value: %d, propensity: {start: 0.05}, "+
			"eligible: 'profile.value.arpu > %d && profile.usage.data_mb > %d', treatments: [{channel: mail, content: text%d}]}\n",
			i, i%7, 5+i%40, i%60, 10*(i%300), i)
	}
	return b.String()
}

// sceneCatalog is of offers priced 10 to 99, every fifth of which has no price, and
// every second of which is for those who use much data.
func sceneCatalog(strategy string, candidates, percent int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "channels: [{id: web, direction: inbound, cost: 0.01}, {id: mail, direction: outbound}]\n"+
		"touchpoints: [{id: web.home, channel: web, slots: 3}]\n"+
		"scenarios: [{id: inbound, touchpoints: [web.home], strategy: {name: %s}}]\noffers:\n", strategy)
	for i := range candidates {
		attributes := ""
		if i%5 != 4 {
			attributes = fmt.Sprintf("attributes: {price: %d, data: %t}, ", 10+i%90, i%2 == 0)
		}
		arpu := i % 20
		if !eligible(i, percent) {
			arpu += 40 // what the customer spends
		}
		fmt.Fprintf(&b, "  - {id: offer%d, group: g%d, class: marketing, value: %d, boost: %d, propensity: {field: marketing.propensity, start: 0.05}, "+
			"eligible: 'profile.value.arpu > %d && profile.usage.data_mb > %d', %streatments: [{channel: web, content: text%d}]}\n",
			i, i%7, 5+i%40, i%50, arpu, 10*(i%30), attributes, i)
	}
	return b.String()
}

// eligible reports whether the customer is eligible for a candidate of a scene where
// that is so for so many of a hundred, which are spread over all.
func eligible(i, percent int) bool { return i*37%100 < percent }

// values are a customer's, by slot.
type values []profilestore.Value

func (v values) Get(slot int) profilestore.Value { return v[slot] }

// customer is the customer for those who rank without a profile store.
func (s *scene) customer() values {
	v := make(values, len(s.schema.Fields()))
	for name, value := range map[string]profilestore.Value{
		"value.arpu": profilestore.Number(40), "tag.high_traffic": profilestore.Flag(true),
		"general.customer_type": profilestore.Text("private"), "general.customer_since": profilestore.Time(1_577_836_800_000_000),
	} {
		slot, _ := s.schema.Lookup(name)
		v[slot] = value
	}
	return v
}

// sceneNow is 1 March 2026.
const sceneNow = 1_772_366_400_000_000

// ranking returns a ranking of all candidates, with random columns.
func (s *scene) ranking(random *rand.Rand) *decide.Ranking {
	n := len(s.scenario.Candidates)
	r := &decide.Ranking{
		Now: sceneNow, Seed: random.Uint64(), Profile: s.customer(),
		Score: make([]float64, n), Reason: make([]uint32, n), Veto: make([]bool, n),
	}
	for i := range n {
		r.Candidates = append(r.Candidates, int32(i))
		r.Propensity = append(r.Propensity, random.Float64())
		r.Value = append(r.Value, 100*random.Float64())
		r.Weight = append(r.Weight, 2*random.Float64())
		r.Lever = append(r.Lever, 1+random.Float64())
	}
	return r
}
