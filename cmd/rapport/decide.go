package main

import (
	"context"
	"encoding/json"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	rapportv1 "rapport/server/api/rapport/v1"
)

// decideCmd makes one decision, or one for each of many customers.
type decideCmd struct {
	Customer    string            `arg:"" optional:"" help:"The customer: NAMESPACE:ID, or ID for customer:ID."`
	Touchpoints []string          `arg:"" optional:"" name:"touchpoint" help:"The touchpoints, as in the catalogue; of several, one slate is divided among them."`
	At          string            `name:"touchpoint" help:"The touchpoint, with --customers." placeholder:"TOUCHPOINT"`
	OneContact  bool              `help:"The answer is one contact yet to be made: in the channel of the best offer."`
	Context     map[string]string `help:"What the request says of the moment of contact; repeat for more." placeholder:"NAME=VALUE" mapsep:"none"`
	Slots       int32             `help:"At most this many offers at each touchpoint; 0: as many as it has slots." default:"0" placeholder:"N"`
	Time        string            `help:"Dry run: decide as of this time, without any effect." placeholder:"T"`
	Seed        *uint64           `help:"Dry run: the seed of ties and random numbers." placeholder:"N"`
	manyCustomers
	summaryFlag
}

// Help is shown by --help.
func (decideCmd) Help() string {
	return `With --time or --seed the decision is a dry run: it has no effect and no deadline of the server's, and
the same dry run over the same data gives the same answer, byte for byte. Without, what is offered holds
its places until the time that the answer gives, or until ` + "`rapport outcome`" + ` reports what came of it, by
the token of the placement: the table shows its end, --json all of it.

A value of --context is a number, true or false where it looks like one, else a text; quote a text that
looks like a number: --context 'code="42"'.

With --customers every customer of a file is decided, and who wins how often is printed; --count-by
divides the counts by fields of the profile. --json then prints one object a line: the decisions, or
with --count-by the counts.

With --list every customer of a file is decided, and each offer is printed, as CSV or with --json as one
object a line: customer, touchpoint, channel, offer, content, script, score, token, valid_until. Who
gets nothing is not in it. All arguments are touchpoints then.

With --list and --summary counts are printed instead: what is offered by group, offer and channel, with
its expected value, and what is withheld by reason, policy and capacity. In a dry run each customer is
decided as if there were no other, so no capacity is used up; without, with --concurrency 1, who comes
first in the file gets the last place.

The file has an id a line, or is CSV with --column; - is standard input.

Examples:

	rapport decide 7590-VHVEG web.home
	rapport decide 7590-VHVEG agent.desk --context staff_role=retention --slots 3
	rapport decide 7590-VHVEG web.home web.account
	rapport decide 7590-VHVEG sms.push call.out --one-contact
	rapport decide 7590-VHVEG web.home --time 2026-03-01T10:00:00Z --seed 7 --json
	rapport decide --customers ids.txt --touchpoint web.home
	rapport decide --customers customers.csv --column customerID --touchpoint web.home --seed 1 --count-by general.contract,general.churned
	rapport decide --list ids.txt sms.push call.out --one-contact --json`
}

// Run decides.
func (cmd *decideCmd) Run(ctx context.Context, a *app) error {
	question, err := cmd.question()
	if err != nil {
		return err
	}
	return a.call(ctx, func(c *clients) error {
		switch {
		case cmd.Customers != "":
			return cmd.decideMany(ctx, a, c, alone(question))
		case cmd.Summary:
			return cmd.decideSummary(ctx, a, c, question)
		case cmd.List != "":
			return cmd.decideList(ctx, a, c, question)
		case len(question.GetAt()) > 1 || cmd.OneContact:
			r, err := c.decisions.DecideMany(ctx, connect.NewRequest(question))
			if err != nil {
				return err
			}
			if a.json {
				return a.printMessage(r.Msg)
			}
			return printDecisions(a, r.Msg, r.Header().Get(serverTimeHeader))
		}
		r, err := c.decisions.Decide(ctx, connect.NewRequest(alone(question)))
		if err != nil {
			return err
		}
		if a.json {
			return a.printMessage(r.Msg)
		}
		return printDecision(a, r.Msg, r.Header().Get(serverTimeHeader))
	})
}

// serverTimeHeader gives the server's time for a decision in microseconds.
const serverTimeHeader = "Rapport-Server-Time-Us"

// alone is the request for a question about one touchpoint.
func alone(q *rapportv1.DecideManyRequest) *rapportv1.DecideRequest {
	return &rapportv1.DecideRequest{
		Customer: q.GetCustomer(), Touchpoint: q.GetAt()[0].GetTouchpoint(), Slots: q.GetAt()[0].GetSlots(),
		Context: q.GetContext(), DryRun: q.GetDryRun(), OmitWithheld: q.GetOmitWithheld(),
	}
}

// where checks how the flags go together and returns the customer, empty for many, and
// the touchpoints.
func (cmd *decideCmd) where() (customer string, touchpoints []string, err error) {
	if cmd.At != "" {
		touchpoints = []string{cmd.At}
	}
	switch {
	case cmd.Summary && cmd.List == "":
		return "", nil, usagef("--summary needs --list FILE")
	case cmd.Customers != "" && cmd.List != "":
		return "", nil, usagef("--customers counts and --list lists: give one of them")
	case cmd.Customers != "" && (cmd.Customer != "" || cmd.At == ""):
		return "", nil, usagef("with --customers FILE, give the touchpoint as --touchpoint TOUCHPOINT and no single customer")
	case cmd.Customers != "" && cmd.OneContact:
		return "", nil, usagef("--customers counts for one touchpoint, in which there is no channel to choose: use --list FILE with --one-contact")
	case cmd.Customers == "" && len(cmd.CountBy) > 0:
		return "", nil, usagef("--column and --count-by need --customers FILE")
	case cmd.Customers == "" && cmd.List == "" && cmd.Column != "":
		return "", nil, usagef("--column and --count-by need --customers FILE")
	case cmd.Customers != "":
		return "", touchpoints, nil
	case cmd.List != "":
		if cmd.Customer != "" {
			touchpoints = append(touchpoints, cmd.Customer)
		}
		if touchpoints = append(touchpoints, cmd.Touchpoints...); len(touchpoints) == 0 {
			return "", nil, usagef("give the touchpoints, as in `rapport decide --list FILE sms.push`")
		}
		return "", touchpoints, nil
	case cmd.At != "" && len(cmd.Touchpoints) > 0:
		return "", nil, usagef("the touchpoint is given twice: %s and %s", cmd.Touchpoints[0], cmd.At)
	}
	touchpoints = append(touchpoints, cmd.Touchpoints...)
	if cmd.Customer == "" || len(touchpoints) == 0 {
		return "", nil, usagef("give a customer and a touchpoint, as in `rapport decide 7590-VHVEG web.home`, or --customers FILE")
	}
	return cmd.Customer, touchpoints, nil
}

// question is what the flags ask; that about many lacks the customer.
func (cmd *decideCmd) question() (*rapportv1.DecideManyRequest, error) {
	customer, touchpoints, err := cmd.where()
	if err != nil {
		return nil, err
	}
	q := &rapportv1.DecideManyRequest{Customer: customer, OneContact: cmd.OneContact, OmitWithheld: customer == ""}
	for _, t := range touchpoints {
		q.At = append(q.At, &rapportv1.DecideAt{Touchpoint: t, Slots: cmd.Slots})
	}
	for name, text := range cmd.Context {
		if q.Context == nil {
			q.Context = make(map[string]*structpb.Value, len(cmd.Context))
		}
		q.Context[name] = contextValue(text)
	}
	if cmd.Time != "" || cmd.Seed != nil {
		q.DryRun = &rapportv1.DryRun{}
		if cmd.Seed != nil {
			q.DryRun.Seed = *cmd.Seed
		}
		if cmd.Time != "" {
			t, err := parseTime(cmd.Time)
			if err != nil {
				return nil, usagef("--time: %v", err)
			}
			q.DryRun.Time = t
		}
	}
	return q, nil
}

// contextValue reads a value as JSON where it is a number, a flag or a text in
// quotes, else as the text itself.
func contextValue(text string) *structpb.Value {
	var v any
	if err := json.Unmarshal([]byte(text), &v); err == nil {
		switch v := v.(type) {
		case float64:
			return structpb.NewNumberValue(v)
		case bool:
			return structpb.NewBoolValue(v)
		case string:
			return structpb.NewStringValue(v)
		}
	}
	return structpb.NewStringValue(text)
}
