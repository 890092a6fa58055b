package main

import (
	"context"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	rapportv1 "rapport/server/api/rapport/v1"
)

// capacityCmd is about capacities.
type capacityCmd struct {
	List capacityListCmd `cmd:"" help:"List what capacities have left."`
}

type capacityListCmd struct{}

// Help is shown by --help.
func (capacityListCmd) Help() string {
	return `A place is reserved when a decision offers something, and taken for good by the outcome that the
catalogue names in taken_by. What is reserved and not taken is free again when it expires. LEFT is what
the next decisions can give away, until the period ends.

Examples:

	rapport capacity list
	rapport capacity list --json`
}

// Run lists the capacities.
func (capacityListCmd) Run(ctx context.Context, a *app) error {
	return a.call(ctx, func(c *clients) error {
		r, err := c.readings.ListCapacities(ctx, connect.NewRequest(&rapportv1.ListCapacitiesRequest{}))
		if err != nil {
			return err
		}
		if a.json {
			return a.printMessage(r.Msg)
		}
		if len(r.Msg.GetCapacities()) == 0 {
			writef(a.err, "catalogue %d declares no capacities\n", r.Msg.GetCatalogVersion())
			return nil
		}
		t := newTable("CAPACITY", "BINDS", "TAKEN BY", "PER", "FROM", "UNTIL", ">MAX", ">TAKEN", ">RESERVED", ">LEFT")
		for _, x := range r.Msg.GetCapacities() {
			t.add(x.GetId(), binds(x), x.GetTakenBy(), x.GetPer(), timeOrNone(x.GetBegin()), timeOrNone(x.GetEnd()), x.GetMax(), x.GetTaken(), x.GetReserved(), x.GetLeft())
		}
		return t.write(a.out)
	})
}

// binds says what a capacity binds.
func binds(x *rapportv1.CapacityState) string {
	var parts []string
	for _, p := range []struct {
		what  string
		names []string
	}{{"offers", x.GetOffers()}, {"groups", x.GetGroups()}, {"channels", x.GetChannels()}} {
		if len(p.names) > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", p.what, strings.Join(p.names, ", ")))
		}
	}
	if len(parts) == 0 {
		return "all"
	}
	return strings.Join(parts, "; ")
}

func timeOrNone(t *timestamppb.Timestamp) string {
	if t == nil {
		return none
	}
	return t.AsTime().Format("2006-01-02T15:04:05Z")
}
