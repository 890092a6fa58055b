// Command upsell is a strategy that looks for the next step up: it ranks offers
// by expected value as the standard arbitration does, and prefers those priced a
// little above what the customer spends now over those far above or below.
//
// It shows what a strategy in Go looks like; README.md beside it is a tour.
package main

import (
	"time"

	rapport "rapport/sdk"
)

var (
	arpu    = rapport.Number("value.arpu")
	heavy   = rapport.Flag("tag.high_traffic")
	segment = rapport.Text("general.customer_type")
	joined  = rapport.Time("general.customer_since")

	price = rapport.OfferNumber("price")
	data  = rapport.OfferFlag("data")
	cost  = rapport.ChannelNumber("cost")

	propensity = rapport.Propensity()
	value      = rapport.Value()
	weight     = rapport.Weight()
	lever      = rapport.Lever()

	reach = rapport.Parameter("reach", 0.5, 0.05, 5)

	stepUp    = rapport.Reason("STEP_UP")
	dataFan   = rapport.Reason("DATA_FAN")
	newcomer  = rapport.Reason("NEWCOMER")
	overspent = rapport.Reason("TOO_DEAR")
)

// settling is how long a new customer is spared dear offers.
const settling = 90 * 24 * time.Hour

func init() {
	rapport.Name("upsell", "1.0.0", "The next step up: offers priced a little above what the customer spends.")
	rapport.Rank(rank)
}

func rank(d *rapport.Decision) {
	spend, spendKnown := arpu.Get(d)
	isHeavy := heavy.Or(d, false)
	since, joinKnown := joined.Get(d)
	isNew := joinKnown && d.Now().Sub(since) < settling
	business := segment.Or(d, "") == "business"

	for c := range d.Candidates() {
		score := propensity.Of(c) * value.Of(c) * weight.Of(c) * lever.Of(c)
		p, priced := price.Get(c)
		if spendKnown && priced {
			step := (p - spend) / max(spend, 1)
			switch {
			case isNew && step > 0:
				score *= 0.5
				c.Because(newcomer)
			case step > 4*reach.Of(d) && !business:
				c.Because(overspent)
				c.Veto()
			case step > 0 && step <= reach.Of(d):
				score *= 1.5
				c.Because(stepUp)
			}
		}
		if isHeavy && data.Or(c, false) {
			score *= 1.25
			c.Because(dataFan)
		}
		c.Score(score - cost.Or(c, 0))
	}
}

func main() {}
