package bench

import (
	"context"
	"fmt"
	"time"

	"rapport/profilestore"
	"rapport/server/catalog"
	"rapport/server/decide"
)

// upsell is what plugins/upsell computes, as code of the server: with no frame in
// between, its candidates' attributes in a slice. It is the limit for that
// strategy. A test compares the two, bit for bit.
type upsell struct {
	arpu, heavy, segment, joined int // slots
	rows                         []upsellRow
}

type upsellRow struct {
	price  float64
	priced bool
	data   bool
	cost   float64
}

// The reasons, by code.
var upsellReasons = []string{"", "STEP_UP", "DATA_FAN", "NEWCOMER", "TOO_DEAR"}

const (
	stepUp = 1 + iota
	dataFan
	newcomer
	tooDear
)

const (
	upsellReach    = 0.5 // the parameter's default
	upsellSettling = 90 * 24 * time.Hour
)

func newUpsell(c *catalog.Compiled, sc *catalog.Scenario) (decide.Ranker, error) {
	u := &upsell{}
	for name, slot := range map[string]*int{
		"value.arpu": &u.arpu, "tag.high_traffic": &u.heavy, "general.customer_type": &u.segment, "general.customer_since": &u.joined,
	} {
		var ok bool
		if *slot, ok = c.Schema.Lookup(name); !ok {
			return nil, fmt.Errorf("bench: no profile field %s", name)
		}
	}
	for _, k := range sc.Candidates {
		offer, channel := c.Offers[k.Offer].Attributes, c.Channels[k.Channel].Attributes
		var r upsellRow
		if v := offer["price"]; v.Known() {
			r.price, r.priced = v.Number(), true
		}
		if v := offer["data"]; v.Known() {
			r.data = v.Flag()
		}
		if v := channel["cost"]; v.Known() {
			r.cost = v.Number()
		}
		u.rows = append(u.rows, r)
	}
	return u, nil
}

// Info says who ranks.
func (u *upsell) Info() decide.RankerInfo {
	return decide.RankerInfo{Name: "upsell, natively", Version: "1.0.0", Reasons: upsellReasons}
}

// Rank ranks as plugins/upsell does.
func (u *upsell) Rank(_ context.Context, r *decide.Ranking) error {
	spend, spendKnown := number(r.Profile.Get(u.arpu))
	heavy, since := r.Profile.Get(u.heavy), r.Profile.Get(u.joined)
	isHeavy := heavy.Known() && heavy.Flag()
	isNew := since.Known() && time.Duration(r.Now-since.Micros())*time.Microsecond < upsellSettling
	segment := r.Profile.Get(u.segment)
	business := segment.Known() && segment.Text() == "business"
	for i, k := range r.Candidates {
		c := &u.rows[k]
		score := r.Propensity[i] * r.Value[i] * r.Weight[i] * r.Lever[i]
		reason, veto := uint32(0), false
		if spendKnown && c.priced {
			step := (c.price - spend) / max(spend, 1)
			switch {
			case isNew && step > 0:
				score *= 0.5
				reason = newcomer
			case step > 4*upsellReach && !business:
				reason, veto = tooDear, true
			case step > 0 && step <= upsellReach:
				score *= 1.5
				reason = stepUp
			}
		}
		if isHeavy && c.data {
			score *= 1.25
			reason = dataFan
		}
		r.Score[i], r.Reason[i], r.Veto[i] = float64(score)-c.cost, reason, veto
	}
	return nil
}

func number(v profilestore.Value) (float64, bool) {
	if !v.Known() {
		return 0, false
	}
	return v.Number(), true
}
