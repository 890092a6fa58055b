package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"connectrpc.com/connect"

	rapportv1 "rapport/server/api/rapport/v1"
)

// profileCmd shows profiles.
type profileCmd struct {
	Get      profileGetCmd      `cmd:"" help:"Show every field of a customer, and where its value comes from."`
	Timeline profileTimelineCmd `cmd:"" help:"Show the contacts and outcomes of a customer, the latest first."`
}

type profileGetCmd struct {
	Customer string `arg:"" help:"The customer: NAMESPACE:ID, or ID for customer:ID."`
	Known    bool   `help:"Leave out the fields whose value is unknown."`
}

// Help is shown by --help.
func (profileGetCmd) Help() string {
	return `The origin of a value is a batch load (the source and its snapshot are named), events (with the time
of the newest), both for what adds up, or the schema's default. A set is printed as {a, b}, a dwell
in minutes. Of a customer with several identities, the last column names the one whose value stands.

Examples:

	rapport profile get 7590-VHVEG
	rapport profile get msisdn:8613800138000 --known
	rapport profile get 7590-VHVEG --json`
}

// Run prints the profile.
func (cmd *profileGetCmd) Run(ctx context.Context, a *app) error {
	return a.call(ctx, func(c *clients) error {
		r, err := c.profiles.GetProfile(ctx, connect.NewRequest(&rapportv1.GetProfileRequest{Customer: cmd.Customer}))
		if err != nil {
			return err
		}
		if a.json {
			if cmd.Known {
				r.Msg.Fields = knownFields(r.Msg.GetFields())
			}
			return a.printMessage(r.Msg)
		}
		return cmd.print(a, r.Msg)
	})
}

func knownFields(fields []*rapportv1.ProfileValue) []*rapportv1.ProfileValue {
	known := []*rapportv1.ProfileValue{}
	for _, f := range fields {
		if f.GetValue() != nil {
			known = append(known, f)
		}
	}
	return known
}

func (cmd *profileGetCmd) print(a *app, p *rapportv1.GetProfileResponse) error {
	state := "nothing is known of this customer"
	if p.GetKnown() {
		state = plural(len(knownFields(p.GetFields())), "known field") + ", " + plural(p.GetDeltaVersion(), "change") + " by events"
	}
	if p.GetBlocked() != "" {
		state = p.GetBlocked()
	}
	writef(a.out, "%s: %s\n", printable(p.GetCustomer()), printable(state))
	several := len(p.GetGroup().GetMembers()) > 1
	if several {
		writef(a.out, "%s\n", printable(groupLine(p.GetGroup())))
	}
	for _, s := range p.GetSnapshots() {
		switch {
		case s.GetGeneration() == 0:
			writef(a.out, "source %s: no snapshot is active\n", s.GetSource())
		case !s.GetHasRow():
			writef(a.out, "source %s: snapshot %d as of %s has no row for this customer\n", s.GetSource(), s.GetGeneration(), formatTime(s.GetAsOf()))
		default:
			writef(a.out, "source %s: snapshot %d as of %s\n", s.GetSource(), s.GetGeneration(), formatTime(s.GetAsOf()))
		}
	}
	writef(a.out, "\n")
	header := []string{"FIELD", "VALUE", "ORIGIN", "FROM", "EVENT TIME"}
	if several {
		header = append(header, "IDENTITY")
	}
	t := newTable(header...)
	for _, f := range p.GetFields() {
		if cmd.Known && f.GetValue() == nil {
			continue
		}
		row := profileRow(f)
		if several {
			row = append(row, orNone(f.GetIdentity()))
		}
		t.add(row...)
	}
	return t.write(a.out)
}

// profileRow is a field as people read it. What is unknown has no origin, so the
// word stands where the eye looks for one.
func profileRow(f *rapportv1.ProfileValue) []any {
	value, known := formatValue(f)
	if !known {
		from := none
		if f.GetSource() != "" {
			from = f.GetSource()
		}
		return []any{f.GetName(), none, "unknown", from, none}
	}
	from := none
	if f.GetGeneration() > 0 {
		from = fmt.Sprintf("%s@%d", f.GetSource(), f.GetGeneration())
	}
	return []any{f.GetName(), value, formatEnum(f.GetOrigin()), from, formatTime(f.GetEventTime())}
}

// formatValue writes a value exactly. Texts that could be taken for something
// else, or have spaces at their ends, are in quotes.
func formatValue(f *rapportv1.ProfileValue) (text string, known bool) {
	switch v := f.GetValue().(type) {
	case *rapportv1.ProfileValue_Number:
		return formatNumber(v.Number), true
	case *rapportv1.ProfileValue_Flag:
		return strconv.FormatBool(v.Flag), true
	case *rapportv1.ProfileValue_Text:
		if v.Text == "" || v.Text == none || v.Text[0] == ' ' || v.Text[len(v.Text)-1] == ' ' {
			return strconv.Quote(v.Text), true
		}
		return v.Text, true
	case *rapportv1.ProfileValue_Set:
		return "{" + strings.Join(v.Set.GetElements(), ", ") + "}", true
	case *rapportv1.ProfileValue_Time:
		return formatTime(v.Time), true
	}
	return "", false
}
