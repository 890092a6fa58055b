package rapporttest_test

import (
	"fmt"

	rapport "rapport/sdk"
	"rapport/sdk/rapporttest"
)

// A strategy and its test in one: dear offers to those who spend.
var (
	arpu    = rapport.Number("value.arpu")
	price   = rapport.OfferNumber("price")
	chance  = rapport.Propensity()
	spender = rapport.Reason("SPENDER")
)

func declare() {
	rapport.Name("spenders", "1.0.0", "Dear offers to those who spend.")
	rapport.Rank(func(d *rapport.Decision) {
		spend := arpu.Or(d, 0)
		for c := range d.Candidates() {
			c.Score(chance.Of(c) * min(price.Or(c, 0), spend))
			if spend > 100 {
				c.Because(spender)
			}
		}
	})
}

func Example() {
	declare() // in init, where it is the program of a strategy
	results, err := rapporttest.Rank(rapporttest.Decision{
		Profile: map[string]any{"value.arpu": 120.0},
		Candidates: []rapporttest.Candidate{
			{Offer: map[string]any{"price": 99.0}, Propensity: 0.5},
			{Offer: map[string]any{"price": 199.0}, Propensity: 0.5},
		},
	})
	if err != nil {
		fmt.Println(err)
	}
	for _, r := range results {
		fmt.Println(r.Score, r.Reason)
	}
	// Output:
	// 49.5 SPENDER
	// 60 SPENDER
}
