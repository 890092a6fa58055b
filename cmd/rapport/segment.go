package main

import (
	"context"
	"fmt"
	"math"
	"strings"

	"connectrpc.com/connect"

	rapportv1 "rapport/server/api/rapport/v1"
)

// segmentCmd lists and counts segments.
type segmentCmd struct {
	List  segmentListCmd  `cmd:"" help:"List the segments of the catalogue."`
	Count segmentCountCmd `cmd:"" help:"Count the customers in segments."`
}

// Help is shown by --help.
func (segmentCmd) Help() string {
	return `A segment is a named group of customers: a condition over the profile, declared in the catalogue under
segments. Rules read it as segment.ID.`
}

type segmentListCmd struct{}

// Help is shown by --help.
func (segmentListCmd) Help() string {
	return `Examples:

	rapport segment list`
}

// Run lists the segments.
func (segmentListCmd) Run(ctx context.Context, a *app) error {
	return a.call(ctx, func(c *clients) error {
		r, err := c.register.ListSegments(ctx, connect.NewRequest(&rapportv1.ListSegmentsRequest{}))
		if err != nil {
			return err
		}
		if a.json {
			return a.printMessage(r.Msg)
		}
		if len(r.Msg.GetSegments()) == 0 {
			writef(a.err, "catalogue %d declares no segments\n", r.Msg.GetCatalogVersion())
			return nil
		}
		t := newTable("SEGMENT", "OWNER", "WHEN", "DESCRIPTION")
		for _, s := range r.Msg.GetSegments() {
			t.add(s.GetId(), orNone(s.GetOwner()), strings.TrimSpace(s.GetWhen()), s.GetDescription())
		}
		return t.write(a.out)
	})
}

type segmentCountCmd struct {
	Segments []string `arg:"" optional:"" name:"segment" help:"Only these segments; all of the catalogue if none is given."`
	Sample   string   `help:"Look at this share of the customers only, always the same ones." default:"100%" placeholder:"1%"`
}

// Help is shown by --help.
func (segmentCountCmd) Help() string {
	return `Goes over all customers of whom a current snapshot has a row, once, whatever the number of segments.
Identities that have been linked are one customer. Customers of whom only events are known are not
counted. UNKNOWN are those of whom a value that decides is not known; they are not in the segment.

Decisions go before a count, and one count runs at a time; Ctrl-C ends it.

Examples:

	rapport segment count
	rapport segment count heavy_user leaving --sample 1%
	rapport segment count --data DATA --json`
}

// Run counts.
func (cmd *segmentCountCmd) Run(ctx context.Context, a *app) error {
	share, err := parseShare(cmd.Sample)
	if err != nil || share == 0 {
		return usagef("--sample: %q is not a share of the customers: write it as in 1%% or 0.5%%", cmd.Sample)
	}
	return a.call(ctx, func(c *clients) error {
		stream, err := c.register.CountSegments(ctx, connect.NewRequest(&rapportv1.CountSegmentsRequest{Segments: cmd.Segments, Sample: &share}))
		if err != nil {
			return err
		}
		defer func() { _ = stream.Close() }() // what was sent has been read
		var bar progress
		defer func() { bar.end() }()
		for stream.Receive() {
			r := stream.Msg()
			if counts := r.GetCounts(); counts != nil {
				bar.end()
				bar = progress{}
				if a.json {
					return a.printMessage(counts)
				}
				return printCounts(a, counts)
			}
			if bar.bar == nil {
				bar = a.progress("counting", r.GetTotal())
			}
			bar.at(r.GetDone())
		}
		if err := stream.Err(); err != nil {
			return c.reached(err)
		}
		return fmt.Errorf("the server ended the count without a result: try again")
	})
}

func printCounts(a *app, c *rapportv1.SegmentCounts) error {
	sampled := c.GetSample() < 1
	what := plural(c.GetCustomers(), "customer")
	if sampled {
		what = fmt.Sprintf("a sample of %s%% of the customers: %d; the numbers below are those of the sample, and the estimate for all with its margin of error (95%%)",
			formatNumber(100*c.GetSample()), c.GetCustomers())
	}
	writef(a.out, "catalogue %d, read at %s, %s\n", c.GetCatalogVersion(), formatTime(c.GetReadAt()), what)
	for _, s := range c.GetSnapshots() {
		writef(a.out, "source %s: snapshot %d as of %s with %s\n", s.GetSource(), s.GetGeneration(), formatTime(s.GetAsOf()), plural(s.GetRows(), "row"))
	}
	if len(c.GetSnapshots()) == 0 {
		writef(a.out, "no snapshot is active, so there is nobody to count\n")
	}
	writef(a.out, "not counted: customers of whom only events are known\n\n")
	header := []string{"SEGMENT", ">HEADS", ">SHARE", ">UNKNOWN", ">FAILED"}
	if sampled {
		header = append(header, "ESTIMATE")
	}
	t := newTable(header...)
	for _, s := range c.GetSegments() {
		row := []any{s.GetSegment(), s.GetHeads(), formatShare(s.GetHeads(), c.GetCustomers()), s.GetUnknown(), s.GetFailed()}
		if sampled {
			row = append(row, estimateText(s.GetHeads(), c.GetSample()))
		}
		t.add(row...)
	}
	return t.write(a.out)
}

// estimateText writes how many of all customers there are if a sample of a share has
// some: each customer of a segment is in the sample with the probability share.
func estimateText(heads int64, share float64) string {
	n := float64(heads)
	margin := 1.96 * math.Sqrt(max(n, 1)*(1-share)) / share
	return fmt.Sprintf("%.0f ± %.0f", n/share, math.Ceil(margin))
}
