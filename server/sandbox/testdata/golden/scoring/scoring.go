// Package scoring is the golden strategy in Go: it reads one of everything, and its
// scores depend on all of it. golden.c, golden.ts and golden.rs, in the folder above, do
// the same in the same order, so that all have the same bits.
package scoring

import (
	"math"

	rapport "rapport/sdk"
)

var (
	arpu    = rapport.Number("value.arpu")
	heavy   = rapport.Flag("tag.high_traffic")
	segment = rapport.Text("general.customer_type")
	joined  = rapport.Time("general.customer_since")
	owned   = rapport.Set("marketing.owned")
	calls   = rapport.Number("usage.calls")
	willing = rapport.Number("context.willingness")
	role    = rapport.Text("context.role")

	price   = rapport.OfferNumber("price")
	data    = rapport.OfferFlag("data")
	product = rapport.OfferText("product")
	cost    = rapport.ChannelNumber("cost")
	human   = rapport.ChannelFlag("human")
	tone    = rapport.ChannelText("tone")

	propensity = rapport.Propensity()
	value      = rapport.Value()
	weight     = rapport.Weight()
	lever      = rapport.Lever()
	contacts   = rapport.Times("contact", 0)
	rejected   = rapport.Times("rejected", 30)
	accepted   = rapport.DaysSince("accepted")

	reach = rapport.Parameter("reach", 0.5, 0, 5)
	floor = rapport.Parameter("floor", -1.25, -10, 0)

	stepUp = rapport.Reason("STEP_UP")
	tired  = rapport.Reason("TIRED")
	isOwn  = rapport.Reason("OWNED")
)

func init() {
	rapport.Name("golden", "1.0.0", `Reads "everything", in every language.`)
	rapport.Budget(1_000_000, 20_000)
	rapport.SaysChances()
	rapport.Rank(rank)
}

func rank(d *rapport.Decision) {
	spend := arpu.Or(d, 20)
	isHeavy, heavyKnown := heavy.Get(d)
	base := floor.Of(d)
	if heavyKnown {
		if isHeavy {
			base++
		} else {
			base--
		}
	}
	if since, known := joined.Get(d); known {
		base += float64(d.Now().UnixMicro()-since.UnixMicro()) / 31_536_000_000_000
	}
	base += float64(float64(owned.Len(d)) * 0.25)
	base += float64(calls.Or(d, 3) * 0.125)
	will := willing.Or(d, 0.5)
	if will < -20 {
		will = -20
	}
	base -= rapport.Exp(-will)
	if segment.Or(d, "nobody") == "Büro" {
		base += 0.75
	}
	agent := role.Or(d, "") == "agent"
	if agent {
		base *= 1.5
	}
	for _, element := range []string{"plan_a", "Zürich", ""} {
		if owned.Has(d, element) {
			base += 0.0625
		}
	}
	i := 0
	for c := range d.Candidates() {
		i++
		noise := d.Rand().Float64()
		pick := d.Rand().IntN(i)
		if d.Rand().Uint64()>>63 != 0 {
			c.Chance(0.5)
		} else {
			c.Chance(noise)
		}
		if owned.Has(d, product.Or(c, "none")) {
			c.Veto()
			c.Because(isOwn)
			continue
		}
		p := propensity.Of(c) * rapport.Exp(-float64(rejected.Of(c)*0.5))
		if days := accepted.Of(c); days >= 0 {
			p /= 1 + rapport.Exp((7-days)/3)
		}
		v := value.Of(c)
		x := math.Sqrt(float64(v*v)+1) * weight.Of(c) * lever.Of(c)
		score := float64(p*x) + float64(base*noise) + float64(float64(pick)*0.001)
		if above := price.Or(c, spend) - spend; above > 0 {
			score -= float64(math.Sqrt(above) * reach.Of(d))
			c.Because(stepUp)
		}
		if data.Or(c, false) && isHeavy {
			score *= 1.25
		}
		score -= cost.Or(c, 0.01)
		if human.Or(c, false) && agent {
			warmth := -0.1
			if tone.Or(c, "") == "warm" {
				warmth = 0.1
			}
			score += rapport.Exp(warmth)
		}
		shown := contacts.Of(c)
		if shown > 8 {
			shown = 8
		}
		score -= rapport.Exp(shown/4 - 3)
		score += 1 / (1 + rapport.Exp(v*30))                          // most are 0 or infinite
		score += float64(rapport.Exp(-700-float64(noise*50)) * 1e300) // most are subnormal
		if shown > 3 {
			c.Because(tired)
		}
		c.Score(score)
	}
}
