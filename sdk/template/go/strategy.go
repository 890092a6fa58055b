// Command my_strategy is a Rapport strategy: it ranks offers by expected value,
// makes those wait that the customer has rejected lately, and does not offer what
// is far above what the customer spends.
package main

import rapport "rapport/sdk"

// What the strategy reads. The server brings exactly that, and refuses a strategy
// that reads what its profile schema or catalogue does not have.
var (
	arpu     = rapport.Number("value.arpu")  // what the customer spends a month
	price    = rapport.OfferNumber("price")  // an attribute of the offer
	rejected = rapport.Times("rejected", 30) // how often the offer was rejected in 30 days

	propensity = rapport.Propensity()
	value      = rapport.Value()
	weight     = rapport.Weight()
	lever      = rapport.Lever()
)

// What a scenario may set, with default, least and greatest.
var reach = rapport.Parameter("reach", 0.5, 0, 10)

// Why a candidate has its score.
var (
	tooDear = rapport.Reason("TOO_DEAR")
	notNow  = rapport.Reason("REJECTED_LATELY")
)

func init() {
	rapport.Name("my_strategy", "0.1.0", "Expected value; waits after a rejection, and offers nothing too dear.")
	rapport.Rank(rank)
}

func rank(d *rapport.Decision) {
	spend, spendKnown := arpu.Get(d)
	most := spend * (1 + reach.Of(d))
	for c := range d.Candidates() {
		score := propensity.Of(c) * value.Of(c) * weight.Of(c) * lever.Of(c)
		if n := rejected.Of(c); n > 0 {
			score /= 1 + n
			c.Because(notNow)
		}
		if p, known := price.Get(c); known && spendKnown && p > most {
			c.Because(tooDear)
			c.Veto()
		}
		c.Score(score)
	}
}

func main() {}
