package main

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	rapportv1 "rapport/server/api/rapport/v1"
)

// summaryFlag is the flag of `rapport decide --list` for what a campaign comes to.
type summaryFlag struct {
	Summary bool `help:"With --list: count instead what is offered by group and channel, and what is withheld by reason."`
}

// made is what is offered of a group, or of an offer, in a channel.
type made struct {
	Group   string  `json:"group"`
	Offer   string  `json:"offer"`
	Channel string  `json:"channel"`
	Offers  int     `json:"offers"`
	Value   float64 `json:"value"` // expected: propensity × value of each
}

// kept is what a reason keeps from customers in a channel; a customer whom it keeps from
// several offers is one.
type kept struct {
	Reason     string `json:"reason"`
	By         string `json:"by,omitempty"` // the policy, capacity, hours, offer or channel
	Touchpoint string `json:"touchpoint"`
	Offers     int    `json:"offers"`
	Customers  int    `json:"customers"`
	last       int    // the customer who was counted last
}

// summary is what a list came to.
type summary struct {
	customers, reached, contacts, offers, degraded, failed int

	value float64
	made  map[made]*made // by group, offer and channel
	kept  map[kept]*kept // by reason, by and touchpoint
}

// decideSummary decides every customer of a file and counts.
func (cmd *decideCmd) decideSummary(ctx context.Context, a *app, c *clients, question *rapportv1.DecideManyRequest) error {
	if cmd.Concurrency < 1 || cmd.Concurrency > 1000 {
		return usagef("--concurrency %d is out of range: use 1 to 1000", cmd.Concurrency)
	}
	in, err := openInput(a, cmd.List)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	question.OmitWithheld = false
	total := summary{made: make(map[made]*made), kept: make(map[kept]*kept)}
	bar := a.progress("deciding", in.size)
	started := time.Now()
	ask := func(ctx context.Context, customers []string) ([]*rapportv1.DecideStreamResponse, error) {
		return askList(ctx, c, question, customers)
	}
	err = inOrder(ctx, cmd.Concurrency, chunks(customersOf(in, cmd.List, cmd.Column), listChunk), ask, func(answers []*rapportv1.DecideStreamResponse) error {
		bar.at(in.read())
		for _, r := range answers {
			if err := total.add(a, r); err != nil {
				return err
			}
		}
		return nil
	})
	bar.end()
	if err != nil {
		return err
	}
	if err := total.print(a); err != nil {
		return err
	}
	took := time.Since(started)
	writef(a.err, "decided %s in %v (%.0f a second): %d degraded, %d failed\n", plural(total.customers, "customer"), took.Round(time.Millisecond),
		float64(total.customers)/took.Seconds(), total.degraded, total.failed)
	if total.failed > 0 {
		return errReported
	}
	return nil
}

// add counts the answer for one customer.
func (t *summary) add(a *app, r *rapportv1.DecideStreamResponse) error {
	t.customers++
	if r.GetError() != "" {
		if t.failed++; t.failed <= maxRefusedLines {
			writef(a.err, "%s\n", printable("customer "+r.GetCustomer()+": "+r.GetError()))
		}
		return nil
	}
	channels, degraded := make(map[string]bool), false
	for _, d := range r.GetDecision().GetDecisions() {
		degraded = degraded || len(d.GetDegradations()) > 0
		for _, p := range d.GetSlate() {
			channels[p.GetChannel()] = true
			value := p.GetParts().GetPropensity() * p.GetParts().GetValue()
			key := made{Group: p.GetGroup(), Offer: p.GetOffer(), Channel: p.GetChannel()}
			if t.made[key] == nil {
				row := key
				t.made[key] = &row
			}
			t.made[key].Offers++
			t.made[key].Value += value
			t.offers++
			t.value += value
		}
		for _, w := range d.GetWithheld() {
			by := make(map[string]string)
			for _, x := range w.GetDetails() {
				by[x.GetOffer()] = x.GetBy()
			}
			for _, offer := range w.GetOffers() {
				t.keep(kept{Reason: formatEnum(w.GetReason()), By: by[offer], Touchpoint: d.GetTouchpoint()})
			}
		}
	}
	t.contacts += len(channels)
	if len(channels) > 0 {
		t.reached++
	}
	if degraded {
		t.degraded++
	}
	return nil
}

func (t *summary) keep(key kept) {
	if t.kept[key] == nil {
		row := key
		t.kept[key] = &row
	}
	k := t.kept[key]
	k.Offers++
	if k.last != t.customers {
		k.Customers++
		k.last = t.customers
	}
}

// print prints the counts: what is offered by group, the most valuable first, and what is
// withheld, by reason.
func (t *summary) print(a *app) error {
	groups := make(map[string]float64)
	for _, x := range t.made {
		groups[x.Group] += x.Value
	}
	offered := slices.SortedFunc(maps.Values(t.made), func(x, y *made) int {
		return cmp.Or(cmp.Compare(groups[y.Group], groups[x.Group]), cmp.Compare(x.Group, y.Group), cmp.Compare(x.Offer, y.Offer), cmp.Compare(x.Channel, y.Channel))
	})
	withheld := slices.SortedFunc(maps.Values(t.kept), func(x, y *kept) int {
		return cmp.Or(cmp.Compare(x.Reason, y.Reason), cmp.Compare(x.By, y.By), cmp.Compare(x.Touchpoint, y.Touchpoint))
	})
	if a.json {
		return a.printLine(struct {
			Customers int     `json:"customers"`
			Reached   int     `json:"reached"`
			Contacts  int     `json:"contacts"`
			Offers    int     `json:"offers"`
			Value     float64 `json:"value"`
			Failed    int     `json:"failed"`
			Offered   []*made `json:"offered"`
			Withheld  []*kept `json:"withheld"`
		}{t.customers, t.reached, t.contacts, t.offers, t.value, t.failed, offered, withheld})
	}
	writef(a.out, "%s, %d reached, %s, %s, expected value %.0f\n\n", plural(t.customers, "customer"), t.reached, plural(t.contacts, "contact"), plural(t.offers, "offer"), t.value)
	made := newTable("GROUP", "OFFER", "CHANNEL", ">OFFERS", ">VALUE")
	for _, x := range offered {
		made.add(x.Group, x.Offer, x.Channel, x.Offers, strconv.FormatFloat(x.Value, 'f', 0, 64))
	}
	if err := made.write(a.out); err != nil {
		return err
	}
	writef(a.out, "\n")
	kept := newTable("WITHHELD", "BY", "TOUCHPOINT", ">OFFERS", ">CUSTOMERS")
	for _, x := range withheld {
		kept.add(x.Reason, orNone(x.By), x.Touchpoint, x.Offers, x.Customers)
	}
	return kept.write(a.out)
}
