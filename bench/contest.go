package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/badger"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/sandbox"
)

// Contest is a problem that Rapport and others solve alike: which three of some offers does a
// customer get? An offer is for those who spend and use more than it asks for, some only for
// those who are marked; the others are ranked by propensity × value × (1 + boost / 100).
type Contest struct {
	Customers []ContestCustomer
	Offers    []ContestOffer
}

// ContestCustomer is what is known of a customer.
type ContestCustomer struct {
	ID     string  `json:"id"`
	ARPU   float64 `json:"arpu"`
	DataMB float64 `json:"data_mb"`
	Heavy  bool    `json:"heavy"`
	// Propensity is the customer's own, for offers that ask for it.
	Propensity float64 `json:"propensity"`
	// Tags are what no rule asks for, as most of what is known of a customer is in one
	// decision. A store reads them all the same.
	Tags map[string]float64 `json:"tags"`
}

// ContestOffer is an offer.
type ContestOffer struct {
	ID      string  `json:"id"`
	MinARPU float64 `json:"min_arpu"`
	MinMB   float64 `json:"min_mb"`
	Heavy   bool    `json:"heavy"` // only for those who are marked
	Value   float64 `json:"value"`
	Boost   float64 `json:"boost"`
	// Propensity is the same for everybody, or 0: then it is the customer's.
	Propensity float64 `json:"propensity"`
}

// ContestSlots is how many offers a customer gets.
const ContestSlots = 3

// contestTags is how many fields a customer has that nobody asks for.
const contestTags = 95

// NewContest returns a contest, always the same one. Every second offer or so survives.
func NewContest(customers, offers int) *Contest {
	c := &Contest{}
	for i := range customers {
		x := ContestCustomer{
			ID: fmt.Sprint(i), ARPU: float64(20 + i*37%80), DataMB: float64(200+i*7919%10_000) + 0.5, Heavy: i%3 == 0,
			Propensity: float64(1+i*97%999) / 10_000, Tags: make(map[string]float64),
		}
		for t := range contestTags {
			if (i+t)%4 != 0 {
				x.Tags[fmt.Sprintf("t%d", t)] = float64((i*31 + t*17) % 30_000)
			}
		}
		c.Customers = append(c.Customers, x)
	}
	for i := range offers {
		o := ContestOffer{
			ID: fmt.Sprintf("offer%03d", i), MinARPU: float64(i * 13 % 60), MinMB: float64(i * 101 % 6000), Heavy: i%7 == 0,
			Value: 5 + float64(i*i*7%977)/10, Boost: float64(i * 3 % 50),
		}
		if i%2 == 0 {
			o.Propensity = float64(10+i*53%900) / 10_000
		}
		c.Offers = append(c.Offers, o)
	}
	return c
}

// Eligible is the rule of an offer.
func (o *ContestOffer) Eligible(c *ContestCustomer) bool {
	return c.ARPU > o.MinARPU && c.DataMB > o.MinMB && (!o.Heavy || c.Heavy)
}

// Score is what an offer is worth for a customer.
func (o *ContestOffer) Score(c *ContestCustomer) float64 {
	p := o.Propensity
	if p == 0 {
		p = c.Propensity
	}
	return p * o.Value * (1 + o.Boost/100)
}

// Slate is the answer, by the plainest code there is.
func (c *Contest) Slate(customer int) []string {
	x := &c.Customers[customer]
	var best ContestBest
	for i := range c.Offers {
		if o := &c.Offers[i]; o.Eligible(x) {
			best.Add(i, o.Score(x))
		}
	}
	return best.IDs(c)
}

// ContestBest keeps the best offers of those that are added.
type ContestBest struct {
	offers [ContestSlots]int
	scores [ContestSlots]float64
	n      int
}

// Add adds an offer. Of equals the one that was added first is better.
func (b *ContestBest) Add(offer int, score float64) {
	if b.n == ContestSlots && score <= b.scores[ContestSlots-1] {
		return
	}
	b.n = min(b.n+1, ContestSlots)
	i := b.n - 1
	for ; i > 0 && b.scores[i-1] < score; i-- {
		b.offers[i], b.scores[i] = b.offers[i-1], b.scores[i-1]
	}
	b.offers[i], b.scores[i] = offer, score
}

// IDs returns the offers, best first.
func (b *ContestBest) IDs(c *Contest) []string {
	out := make([]string, b.n)
	for i := range out {
		out[i] = c.Offers[b.offers[i]].ID
	}
	return out
}

// schema and catalogue of the contest, for Rapport.
func (c *Contest) schema() string {
	var b strings.Builder
	b.WriteString("sources: [{id: bi}]\nfields:\n" +
		"  - {name: value.arpu, type: number, batch: bi, decimals: 2}\n" +
		"  - {name: usage.data_mb, type: number, batch: bi, decimals: 1}\n" +
		"  - {name: tag.heavy, type: flag, batch: bi}\n" +
		"  - {name: marketing.propensity, type: number, batch: bi, decimals: 4}\n")
	for t := range contestTags {
		fmt.Fprintf(&b, "  - {name: tag.t%d, type: number, batch: bi, decimals: 0}\n", t)
	}
	return b.String()
}

func (c *Contest) catalog() string {
	var b strings.Builder
	b.WriteString("channels: [{id: web, direction: inbound}]\n" +
		"touchpoints: [{id: web.home, channel: web, slots: 3}]\n" +
		"scenarios: [{id: inbound, touchpoints: [web.home], strategy: {name: pvcl}}]\noffers:\n")
	for i := range c.Offers {
		o := &c.Offers[i]
		rule := fmt.Sprintf("profile.value.arpu > %g && profile.usage.data_mb > %g", o.MinARPU, o.MinMB)
		if o.Heavy {
			rule += " && profile.tag.heavy"
		}
		propensity := fmt.Sprintf("{start: %g}", o.Propensity)
		if o.Propensity == 0 {
			propensity = "{field: marketing.propensity, start: 0.05}"
		}
		fmt.Fprintf(&b, "  - {id: %s, group: g%d, class: marketing, value: %g, boost: %g, propensity: %s, eligible: '%s', treatments: [{channel: web, content: text%d}]}\n",
			o.ID, i%7, o.Value, o.Boost, propensity, rule, i)
	}
	return b.String()
}

func (c *Contest) csv() string {
	var b strings.Builder
	b.WriteString("customer,value.arpu,usage.data_mb,tag.heavy,marketing.propensity")
	for t := range contestTags {
		fmt.Fprintf(&b, ",tag.t%d", t)
	}
	for i := range c.Customers {
		x := &c.Customers[i]
		fmt.Fprintf(&b, "\n%s,%g,%g,%t,%g", x.ID, x.ARPU, x.DataMB, x.Heavy, x.Propensity)
		for t := range contestTags {
			b.WriteByte(',')
			if v, ok := x.Tags[fmt.Sprintf("t%d", t)]; ok {
				fmt.Fprintf(&b, "%g", v)
			}
		}
	}
	b.WriteByte('\n')
	return b.String()
}

// ContestEntry is Rapport in the contest: a decision in process, from a customer's identity to
// the slate, with the profile from the store, the rules compiled, and the strategy in the
// sandbox.
type ContestEntry struct {
	dir     string
	store   *profilestore.Store
	runtime *sandbox.Runtime
	ranker  *sandbox.Strategy
	decider *decide.Decider

	compiled *catalog.Compiled
	request  decide.Request
	answer   decide.Answer
	slate    []string
}

// Enter sets Rapport up. With cache 0 every profile is read from the store; compiler is as
// for NewGuests.
func (c *Contest) Enter(ctx context.Context, compiler []string, strategy []byte, cache int) (_ *ContestEntry, err error) {
	e := &ContestEntry{}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	schema, problems := catalog.ReadSchema("schema.yaml", []byte(c.schema()))
	if len(problems) > 0 {
		return nil, fmt.Errorf("bench: schema: %v", problems)
	}
	if e.compiled, _, problems = catalog.Compile([]catalog.File{{Name: "catalog.yaml", Content: []byte(c.catalog())}}, schema, nil); len(problems) > 0 {
		return nil, fmt.Errorf("bench: catalogue: %v", problems)
	}
	if e.dir, err = os.MkdirTemp("", "rapport-bench"); err != nil {
		return nil, err
	}
	if err := e.open(ctx, c, schema, cache); err != nil {
		return nil, err
	}
	if e.runtime, err = sandbox.New(ctx, sandbox.Options{Logger: slog.New(slog.DiscardHandler), Compiler: compiler, NoBreaker: true}); err != nil {
		return nil, err
	}
	module, err := e.runtime.Compile(ctx, strategy)
	if err != nil {
		return nil, err
	}
	if e.ranker, err = module.Bind(ctx, e.compiled, e.compiled.Scenarios[0], sandbox.PoolOptions{Size: runtime.GOMAXPROCS(0) + 1}); err != nil {
		return nil, err
	}
	e.decider, err = decide.New(e.compiled, []decide.Ranker{e.ranker})
	e.request = decide.Request{Now: time.Now().UnixMicro(), Seed: 1}
	return e, err
}

// open opens a store with the customers in it.
func (e *ContestEntry) open(ctx context.Context, c *Contest, schema *profilestore.Schema, cache int) error {
	quiet := slog.New(slog.DiscardHandler)
	mapper, err := rules.NewEventMapper(schema)
	if err != nil {
		return err
	}
	engine, err := badger.Open(filepath.Join(e.dir, "deltas"), badger.Options{Logger: quiet})
	if err != nil {
		return err
	}
	if e.store, err = profilestore.OpenStore(ctx, profilestore.Options{Dir: e.dir, Schema: schema, Mapper: mapper, Engine: engine, CacheEntries: cache, Logger: quiet}); err != nil {
		return err
	}
	file := filepath.Join(e.dir, "bi.csv")
	if err := os.WriteFile(file, []byte(c.csv()), 0o600); err != nil {
		return err
	}
	report, err := profilestore.Load(ctx, profilestore.LoadOptions{
		Dir: filepath.Join(e.dir, "snapshots"), Schema: schema, Engine: badger.Generations(quiet),
		Source: "bi", Path: file, AsOf: time.Now().Truncate(profilestore.CellWidth).UnixMicro(),
	})
	if err != nil {
		return err
	}
	_, _, err = e.store.Snapshots().Activate(ctx, "bi", report.Snapshot.Generation)
	return err
}

// Decide returns the offers for a customer, best first. The result is valid until the next
// call; not for concurrent use.
func (e *ContestEntry) Decide(ctx context.Context, identity string) ([]string, error) {
	view, err := e.store.View(ctx, identity)
	if err != nil {
		return nil, err
	}
	e.request.Profile = view.At(e.request.Now)
	e.decider.Decide(ctx, &e.request, &e.answer)
	if len(e.answer.Degradations) > 0 || e.answer.RankedBy.Name != "pvcl" {
		return nil, fmt.Errorf("a degraded decision: %v", e.answer.Degradations)
	}
	e.slate = e.slate[:0]
	for i := range e.answer.Slate {
		e.slate = append(e.slate, e.compiled.Offers[e.answer.Slate[i].Offer].ID)
	}
	return e.slate, nil
}

// Settle waits until the strategy is ready for the next call, which is not measured.
func (e *ContestEntry) Settle() { settle(e.ranker)() }

// Close releases everything and removes the files.
func (e *ContestEntry) Close() error {
	ctx := context.Background()
	var errs []error
	if e.ranker != nil {
		errs = append(errs, e.ranker.Close(ctx))
	}
	if e.runtime != nil {
		errs = append(errs, e.runtime.Close(ctx))
	}
	if e.store != nil {
		errs = append(errs, e.store.Close())
	}
	if e.dir != "" {
		errs = append(errs, os.RemoveAll(e.dir))
	}
	return errors.Join(errs...)
}

// ContestHost is Rapport's sandbox alone in the contest, where other hosts of plugins are
// measured: rules in plain Go, and a call of the strategy.
type ContestHost struct {
	entry   *ContestEntry
	contest *Contest
	ranking decide.Ranking
}

// Host returns the sandbox of an entry. It is valid until the entry is closed.
func (e *ContestEntry) Host(c *Contest) *ContestHost {
	return &ContestHost{entry: e, contest: c, ranking: decide.Ranking{Now: e.request.Now, Seed: 1}}
}

// Decide returns the offers for a customer, by number, best first. Not for concurrent use.
func (h *ContestHost) Decide(ctx context.Context, customer int) ([]string, error) {
	x, r := &h.contest.Customers[customer], &h.ranking
	r.Candidates, r.Propensity, r.Value, r.Weight, r.Lever = r.Candidates[:0], r.Propensity[:0], r.Value[:0], r.Weight[:0], r.Lever[:0]
	for i := range h.contest.Offers {
		o := &h.contest.Offers[i]
		if !o.Eligible(x) {
			continue
		}
		p := o.Propensity
		if p == 0 {
			p = x.Propensity
		}
		r.Candidates, r.Propensity, r.Value = append(r.Candidates, int32(i)), append(r.Propensity, p), append(r.Value, o.Value)
		r.Weight, r.Lever = append(r.Weight, 1), append(r.Lever, 1+o.Boost/100)
	}
	n := len(r.Candidates)
	if cap(r.Score) < n {
		r.Score, r.Reason, r.Veto = make([]float64, n), make([]uint32, n), make([]bool, n)
	}
	r.Score, r.Reason, r.Veto = r.Score[:n], r.Reason[:n], r.Veto[:n]
	if err := h.entry.ranker.Rank(ctx, r); err != nil {
		return nil, err
	}
	var best ContestBest
	for i, offer := range r.Candidates {
		best.Add(int(offer), r.Score[i])
	}
	return best.IDs(h.contest), nil
}
