package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	rapportv1 "rapport/server/api/rapport/v1"
)

// replayCmd makes decisions of the log again.
type replayCmd struct {
	ID       string `arg:"" optional:"" name:"id" help:"The decision, by its id."`
	Since    string `help:"The decisions since then: a time, or a span before now such as 1h or 7d." placeholder:"T"`
	Until    string `help:"The decisions before then." placeholder:"T"`
	Customer string `help:"The decisions for this customer: NAMESPACE:ID, or ID for customer:ID." placeholder:"ID"`
	All      bool   `help:"All decisions that are kept."`
	Limit    int64  `help:"At most so many, the latest; 0: all." default:"0" placeholder:"N"`
	With     string `help:"Let this strategy rank in place of the one of its name; the live version if none is given." placeholder:"NAME[@VERSION]"`
	Catalog  int64  `help:"Decide with this version of the catalogue." placeholder:"N"`
	Reveal   bool   `help:"Show personal data in examples. The server has to allow it (--reveal-personal), and the audit log has each time."`
	Examples int32  `help:"How many decisions with another answer are shown." default:"5" placeholder:"N"`
	SaveCase string `help:"With an id: write what was ranked to this file, as a case for rapport plugin test." placeholder:"FILE"`
}

// Help is shown by --help.
func (replayCmd) Help() string {
	return `A decision is a function of what the log has of it, so it can be made again: with the catalogue, the
strategy, the profile, the capacities and the time of then. Without --with and --catalog every bit of the
answer is compared, and the exit code is 1 if one differs. With them it says what would have been decided:
how many answers have another winner, which, and what that changes in expected value. Nothing that is
replayed has an effect.

A decision that can't be made again as it was, because a module or a value is not kept or because another
version of Rapport decided it, is counted with the reason; its answer is not guessed at.

With a server it runs beside decisions, which go first; with --data and no server, on all processors.

Examples:

	rapport replay 01ARZ3NDEKTSV4RRFFQ69G5FAV
	rapport replay 01ARZ3NDEKTSV4RRFFQ69G5FAV --save-case cases/one.yaml
	rapport replay --since 1h
	rapport replay --since 7d --with pvcl@2 --examples 20
	rapport replay --customer 7590-VHVEG --all --catalog 12
	rapport replay --data DATA --all --json`
}

// errReplayDiffers ends a replay that found another answer. It has been said.
var errReplayDiffers = fmt.Errorf("a replay differs: %w", errReported)

// Run replays.
func (cmd *replayCmd) Run(ctx context.Context, a *app) error {
	request, err := cmd.request(time.Now())
	if err != nil {
		return err
	}
	return cmd.replay(ctx, a, request, func(*rapportv1.ReplaySummary) {})
}

// replay has decisions made again, prints what came of it, and then says more.
func (cmd *replayCmd) replay(ctx context.Context, a *app, request *rapportv1.ReplayDecisionsRequest, more func(*rapportv1.ReplaySummary)) error {
	return a.call(ctx, func(c *clients) error {
		if cmd.SaveCase != "" {
			save := &rapportv1.GetDecisionCaseRequest{DecisionId: request.GetDecisionId(), Module: request.GetModule(), Signature: request.GetSignature()}
			if err := a.saveCase(ctx, c, save, cmd.SaveCase); err != nil {
				return err
			}
		}
		stream, err := c.decisions.ReplayDecisions(ctx, connect.NewRequest(request))
		if err != nil {
			return err
		}
		defer func() { _ = stream.Close() }() // what was sent has been read
		bar := a.progress("replaying", -1)
		defer func() { bar.end() }()
		for stream.Receive() {
			bar.at(stream.Msg().GetDone())
			if s := stream.Msg().GetSummary(); s != nil {
				bar.end()
				defer more(s)
				return cmd.print(a, s)
			}
		}
		if err := stream.Err(); err != nil {
			return c.reached(err)
		}
		return errors.New("the server ended the replay without a result: try again")
	})
}

// request is what the flags ask.
func (cmd *replayCmd) request(now time.Time) (*rapportv1.ReplayDecisionsRequest, error) {
	many := cmd.Since != "" || cmd.Until != "" || cmd.Customer != "" || cmd.All || cmd.Limit > 0
	switch {
	case cmd.ID != "" && many:
		return nil, usagef("give the id of one decision, or which ones by --since, --until, --customer, --limit or --all")
	case cmd.SaveCase != "" && cmd.ID == "":
		return nil, usagef("--save-case is of one decision: give its id")
	case cmd.ID == "" && !many:
		return nil, usagef("give the id of a decision, as in `rapport replay 01ARZ3NDEKTSV4RRFFQ69G5FAV`, or --since 1h for all of an hour")
	case cmd.Limit < 0 || cmd.Catalog < 0 || cmd.Examples < 0:
		return nil, usagef("--limit, --catalog and --examples are 0 or more")
	}
	m := &rapportv1.ReplayDecisionsRequest{
		DecisionId: strings.ToUpper(cmd.ID), Customer: cmd.Customer, Limit: cmd.Limit, Strategy: cmd.With, CatalogVersion: cmd.Catalog, Examples: cmd.Examples, Reveal: cmd.Reveal,
	}
	var err error
	if m.Since, err = parseSince(cmd.Since, now); err != nil {
		return nil, usagef("--since: %v", err)
	}
	if m.Until, err = parseSince(cmd.Until, now); err != nil {
		return nil, usagef("--until: %v", err)
	}
	return m, nil
}

// parseSince reads a time, or a span before now; nil for nothing.
func parseSince(s string, now time.Time) (*timestamppb.Timestamp, error) {
	if s == "" {
		return nil, nil //nolint:nilnil // nothing is asked
	}
	d, err := parseSpan(s)
	if err == nil && d >= 0 {
		return timestamppb.New(now.Add(-d)), nil
	}
	t, err := parseTime(s)
	if err != nil {
		return nil, fmt.Errorf("%w; or a span before now, such as 30m, 1h or 7d", err)
	}
	return t, nil
}

// parseSpan reads a duration, also one of days.
func parseSpan(s string) (time.Duration, error) {
	days, ok := strings.CutSuffix(s, "d") // which time.ParseDuration does not know
	if !ok {
		return time.ParseDuration(s)
	}
	d, err := time.ParseDuration(days + "h")
	return 24 * d, err
}

// print prints what came of it.
func (cmd *replayCmd) print(a *app, s *rapportv1.ReplaySummary) error {
	exact := cmd.With == "" && cmd.Catalog == 0
	var failed error
	if exact && s.GetDifferent() > 0 {
		failed = errReplayDiffers
	}
	if a.json {
		return errors.Join(a.printMessage(s), failed)
	}
	if s.GetDecisions() == 0 {
		writef(a.out, "the log has no such decisions\n")
		return nil
	}
	writef(a.out, "%s made again, of %s to %s, in %.2f s: %.0f a second\n", plural(s.GetDecisions(), "decision"),
		formatTime(s.GetFirst()), formatTime(s.GetLast()), s.GetSeconds(), float64(s.GetDecisions())/max(s.GetSeconds(), 1e-6))
	t := newTable("", ">DECISIONS", ">SHARE")
	row := func(what string, n int64) { t.add(what, n, formatShare(n, s.GetDecisions())) }
	row("identical to the last bit", s.GetIdentical())
	row("another answer", s.GetDifferent())
	row("could not be made again", s.GetInexact())
	if err := t.write(a.out); err != nil {
		return err
	}
	for _, c := range s.GetCauses() {
		writef(a.out, "  %d: %s\n", c.GetDecisions(), c.GetWhy())
	}
	if !exact || s.GetWinnersChanged() > 0 {
		if err := printReplayChanges(a, s); err != nil {
			return err
		}
	}
	for _, x := range s.GetExamples() {
		printReplayExample(a, x, exact)
	}
	return failed
}

// maxShownChanges is how many changes of winners are printed.
const maxShownChanges = 20

func printReplayChanges(a *app, s *rapportv1.ReplaySummary) error {
	writef(a.out, "\nof %s, %d have another winner (%s), %d another slate (%s)\n", plural(s.GetAnswers(), "answer"),
		s.GetWinnersChanged(), formatShare(s.GetWinnersChanged(), s.GetAnswers()), s.GetSlatesChanged(), formatShare(s.GetSlatesChanged(), s.GetAnswers()))
	writef(a.out, "expected value of all offers: %.2f, was %.2f (%+.2f%%)\n", s.GetValueAfter(), s.GetValueBefore(),
		100*(s.GetValueAfter()-s.GetValueBefore())/max(s.GetValueBefore(), 1e-9))
	if len(s.GetChanges()) == 0 {
		return nil
	}
	writef(a.out, "\n")
	t := newTable("TOUCHPOINT", "WINNER WAS", "WINNER IS", ">ANSWERS")
	for _, c := range s.GetChanges()[:min(maxShownChanges, len(s.GetChanges()))] {
		t.add(c.GetTouchpoint(), orNone(c.GetFrom()), orNone(c.GetTo()), c.GetAnswers())
	}
	if more := len(s.GetChanges()) - maxShownChanges; more > 0 {
		t.add(fmt.Sprintf("and %d more", more), "", "", "")
	}
	return t.write(a.out)
}

func printReplayExample(a *app, x *rapportv1.ReplayExample, exact bool) {
	writef(a.out, "\n%s for %s at %s\n", x.GetDecisionId(), x.GetCustomer(), x.GetTouchpoint())
	writef(a.out, "  was: %s\n  is:  %s\n", slateLine(x.GetWas()), slateLine(x.GetIs()))
	if exact {
		for _, d := range x.GetDifferences() {
			writef(a.out, "  %s\n", d)
		}
	}
}

// slateLine is a slate in a line.
func slateLine(slate []*rapportv1.ReplayPlacement) string {
	if len(slate) == 0 {
		return "nothing"
	}
	parts := make([]string, len(slate))
	for i, p := range slate {
		parts[i] = fmt.Sprintf("%s by %s (%s)", p.GetOffer(), p.GetChannel(), formatScore(p.GetScore()))
	}
	return strings.Join(parts, ", ")
}
