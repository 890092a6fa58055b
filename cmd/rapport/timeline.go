package main

import (
	"cmp"
	"context"
	"strings"

	"connectrpc.com/connect"

	rapportv1 "rapport/server/api/rapport/v1"
)

type profileTimelineCmd struct {
	Customer   string `arg:"" help:"The customer: NAMESPACE:ID, or ID for customer:ID."`
	Contacts   bool   `help:"Only contacts." xor:"type"`
	Outcome    string `help:"Only this outcome, such as rejected; any for all outcomes." placeholder:"NAME" xor:"type"`
	Offer      string `help:"Only what was about this offer." placeholder:"NAME"`
	Group      string `help:"Only what was about offers of this group." placeholder:"NAME"`
	Class      string `help:"Only what was about offers of this class." placeholder:"NAME"`
	Channel    string `help:"Only in this channel." placeholder:"NAME"`
	Touchpoint string `help:"Only at this touchpoint." placeholder:"NAME"`
	Limit      int    `help:"How many to show; 0 for all that are kept one by one." default:"50" placeholder:"N"`
}

// Help is shown by --help.
func (profileTimelineCmd) Help() string {
	return `First how many there were of each offer, channel and outcome: in the last 7 days, in the last 30, and ever. A
slate of several offers is one contact, and counts for each of them. Then the interactions, the latest
first: of each identity the latest 256 are kept one by one, those before in counts.

They come in as events of two reserved types:

	{"id": "c1", "type": "contact", "identity": "7590-VHVEG", "time": "2026-03-01T10:00:00Z", "attributes":
	 {"channel": "web", "touchpoint": "web.home", "items": [{"offer": "data_10g", "group": "data", "class": "marketing"}]}}
	{"id": "o1", "type": "outcome", "identity": "7590-VHVEG", "time": "2026-03-01T10:02:00Z", "attributes":
	 {"outcome": "rejected", "channel": "web", "offer": "data_10g", "group": "data", "class": "marketing"}}

Examples:

	rapport profile timeline 7590-VHVEG
	rapport profile timeline 7590-VHVEG --offer data_10g --outcome rejected
	rapport profile timeline 7590-VHVEG --channel sms --contacts --limit 0 --json`
}

// timelineRequestPage is how many interactions are asked for at once.
const timelineRequestPage = 1000

// Run prints the timeline.
func (cmd *profileTimelineCmd) Run(ctx context.Context, a *app) error {
	if cmd.Limit < 0 {
		return usagef("--limit %d is out of range: use 1 or more, or 0 for all", cmd.Limit)
	}
	request := &rapportv1.GetTimelineRequest{Customer: cmd.Customer, Filter: cmd.filter()}
	return a.call(ctx, func(c *clients) error {
		var whole *rapportv1.GetTimelineResponse
		for {
			request.PageSize = timelineRequestPage
			if cmd.Limit > 0 {
				request.PageSize = int32(min(timelineRequestPage, cmd.Limit-len(whole.GetInteractions())))
			}
			r, err := c.profiles.GetTimeline(ctx, connect.NewRequest(request))
			if err != nil {
				return err
			}
			if whole == nil {
				whole = r.Msg
			} else {
				whole.Interactions = append(whole.Interactions, r.Msg.GetInteractions()...)
				whole.NextPageToken = r.Msg.GetNextPageToken()
			}
			request.PageToken = whole.GetNextPageToken()
			if request.GetPageToken() == "" || cmd.Limit > 0 && len(whole.GetInteractions()) >= cmd.Limit {
				break
			}
		}
		if a.json {
			return a.printMessage(whole)
		}
		return cmd.print(a, whole)
	})
}

func (cmd *profileTimelineCmd) filter() *rapportv1.InteractionFilter {
	f := &rapportv1.InteractionFilter{Offer: cmd.Offer, Group: cmd.Group, Class: cmd.Class, Channel: cmd.Channel, Touchpoint: cmd.Touchpoint}
	switch {
	case cmd.Contacts:
		f.Type = rapportv1.InteractionType_INTERACTION_TYPE_CONTACT
	case cmd.Outcome == "any":
		f.Type = rapportv1.InteractionType_INTERACTION_TYPE_OUTCOME
	case cmd.Outcome != "":
		f.Type, f.Outcome = rapportv1.InteractionType_INTERACTION_TYPE_OUTCOME, cmd.Outcome
	}
	return f
}

func (cmd *profileTimelineCmd) print(a *app, r *rapportv1.GetTimelineResponse) error {
	switch {
	case r.GetBlocked() != "":
		writef(a.out, "%s: %s\n", printable(r.GetCustomer()), printable(r.GetBlocked()))
		return nil
	case len(r.GetCounts()) == 0:
		writef(a.out, "%s: no contacts or outcomes\n", printable(r.GetCustomer()))
		return nil
	}
	writef(a.out, "%s: %s, %s\n\n", printable(r.GetCustomer()), plural(r.GetContacts(), "contact"), plural(r.GetOutcomes(), "outcome"))
	counts := newTable("OFFER", "CHANNEL", "WHAT", ">7 DAYS", ">30 DAYS", ">EVER", "FIRST", "LAST")
	for _, c := range r.GetCounts() {
		counts.add(cmp.Or(c.GetOffer(), none), cmp.Or(c.GetChannel(), none), cmp.Or(c.GetOutcome(), "contact"), c.GetLastWeek(), c.GetLastMonth(), c.GetCount(), formatTime(c.GetFirst()), formatTime(c.GetLast()))
	}
	if err := counts.write(a.out); err != nil {
		return err
	}
	writef(a.out, "\n")
	t := newTable("TIME", "WHAT", "CHANNEL", "TOUCHPOINT", "OFFERS", "GROUPS", "CLASSES")
	for _, x := range r.GetInteractions() {
		offers := listNames(x, (*rapportv1.InteractionItem).GetOffer)
		groups := listNames(x, (*rapportv1.InteractionItem).GetGroup)
		classes := listNames(x, (*rapportv1.InteractionItem).GetClass)
		t.add(formatTime(x.GetTime()), cmp.Or(x.GetOutcome(), "contact"), cmp.Or(x.GetChannel(), none), cmp.Or(x.GetTouchpoint(), none), offers, groups, classes)
	}
	if len(r.GetInteractions()) > 0 {
		if err := t.write(a.out); err != nil {
			return err
		}
	}
	if r.GetNextPageToken() != "" {
		writef(a.err, "there are more: --limit 0 shows all\n")
	}
	if r.GetOlder() > 0 {
		writef(a.err, "%s before that, of every kind, kept in counts only\n", plural(r.GetOlder(), "interaction"))
	}
	return nil
}

// listNames lists a name of each item, once if neighbours have the same.
func listNames(x *rapportv1.Interaction, name func(*rapportv1.InteractionItem) string) string {
	var names []string
	for _, item := range x.GetItems() {
		if n := cmp.Or(name(item), none); len(names) == 0 || names[len(names)-1] != n {
			names = append(names, n)
		}
	}
	return cmp.Or(strings.Join(names, ", "), none)
}
