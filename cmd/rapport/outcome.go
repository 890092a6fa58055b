package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"buf.build/go/protovalidate"
	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"

	rapportv1 "rapport/server/api/rapport/v1"
)

// outcomeCmd reports what came of offers.
type outcomeCmd struct {
	Token       string `arg:"" optional:"" help:"The token of the placement, as the answer had it."`
	Outcome     string `arg:"" optional:"" help:"presented, clicked, accepted, rejected, or a name of your own."`
	Time        string `help:"When it happened; now if not given." placeholder:"T"`
	File        string `help:"Reports, one JSON object a line (NDJSON); - for standard input." placeholder:"FILE"`
	Concurrency int    `help:"Requests to have under way at once, each with up to 500 reports, of a file." default:"4" placeholder:"N"`
}

// Help is shown by --help.
func (outcomeCmd) Help() string {
	return `Each placement of a decision has a token: ` + "`rapport decide --json`" + ` shows it, and --list lists it. Whatever is
reported first of a slate says that it was delivered: contact policies count it as one contact, at the
time of the decision. The outcome counts besides, as an event of the customer: see ` + "`rapport profile timeline`" + `.

Reports may come in any order, late and more than once: each counts once. After 90 days none is taken.
A token that was made by another server or was changed is refused.

A file has a report a line:

	{"token": "AQGa…", "outcome": "accepted", "time": "2026-03-01T10:02:00Z"}

Those that are refused are printed with their line, the others are taken; the exit code is then 1.
After an interruption send the same file again.

Examples:

	rapport outcome AQGa… presented
	rapport outcome AQGa… accepted --time 2026-03-01T10:02:00Z
	rapport outcome --file reports.ndjson`
}

// Run reports.
func (cmd *outcomeCmd) Run(ctx context.Context, a *app) error {
	switch {
	case cmd.File != "" && (cmd.Token != "" || cmd.Time != ""):
		return usagef("with --file FILE, token, outcome and time are in the file")
	case cmd.File != "":
		return cmd.reportFile(ctx, a)
	case cmd.Token == "" || cmd.Outcome == "":
		return usagef("give a token and an outcome, as in `rapport outcome TOKEN accepted`, or --file FILE")
	}
	report := &rapportv1.OutcomeReport{Token: cmd.Token, Outcome: cmd.Outcome}
	if cmd.Time != "" {
		var err error
		if report.Time, err = parseTime(cmd.Time); err != nil {
			return usagef("--time: %v", err)
		}
	}
	return a.call(ctx, func(c *clients) error {
		r, err := c.decisions.RecordOutcomes(ctx, connect.NewRequest(&rapportv1.RecordOutcomesRequest{Reports: []*rapportv1.OutcomeReport{report}}))
		if err != nil {
			return err
		}
		refused := r.Msg.GetRefused()
		switch {
		case a.json:
			if err := a.printMessage(r.Msg); err != nil {
				return err
			}
			if len(refused) > 0 {
				return errReported
			}
		case len(refused) > 0:
			return fmt.Errorf("%s (%s)", refused[0].GetMessage(), refused[0].GetReason())
		case r.Msg.GetDuplicates() > 0:
			writef(a.out, "%s was reported before: nothing changes\n", cmd.Outcome)
		default:
			writef(a.out, "%s recorded\n", cmd.Outcome)
		}
		return nil
	})
}

// outcomeBatch is how many reports of a file a request has.
const outcomeBatch = 500

// outcomeLine is a report and the line it stands on, or why it is none.
type outcomeLine struct {
	line   int64
	report *rapportv1.OutcomeReport
	err    error
}

// refusedReport is a report that was not taken.
type refusedReport struct {
	Line    int64  `json:"line"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// reported is what became of a batch, or of a file.
type reported struct {
	Accepted   int64           `json:"accepted"`
	Duplicates int64           `json:"duplicates"`
	Refused    int64           `json:"refused"`
	Refusals   []refusedReport `json:"refusals"`
}

// reportFile sends the reports of a file.
func (cmd *outcomeCmd) reportFile(ctx context.Context, a *app) error {
	if cmd.Concurrency < 1 || cmd.Concurrency > 64 {
		return usagef("--concurrency %d is out of range: use 1 to 64", cmd.Concurrency)
	}
	in, err := openInput(a, cmd.File)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	return a.call(ctx, func(c *clients) error {
		total := reported{Refusals: []refusedReport{}}
		bar := a.progress("reporting", in.size)
		started := time.Now()
		send := func(ctx context.Context, batch []outcomeLine) (reported, error) { return sendReports(ctx, c, batch) }
		err := inOrder(ctx, cmd.Concurrency, lineBatches(in, cmd.File, outcomeBatch, parseReport), send, func(b reported) error {
			bar.at(in.read())
			total.Accepted += b.Accepted
			total.Duplicates += b.Duplicates
			total.Refused += b.Refused
			if !a.json { // a file of millions may be of the wrong kind
				b.Refusals = b.Refusals[:min(len(b.Refusals), maxRefusedLines-len(total.Refusals))]
			}
			total.Refusals = append(total.Refusals, b.Refusals...)
			return nil
		})
		bar.end()
		if printErr := printReported(a, cmd.File, &total, time.Since(started)); printErr != nil {
			return errors.Join(err, printErr)
		}
		if err != nil {
			writef(a.err, "not all reports were sent: send the same file again, what was taken counts once\n")
			return err
		}
		if total.Refused > 0 {
			return errReported
		}
		return nil
	})
}

func printReported(a *app, file string, total *reported, took time.Duration) error {
	if a.json {
		return a.printJSON(total)
	}
	for _, r := range total.Refusals {
		writef(a.err, "%s\n", printable(fmt.Sprintf("%s:%d: %s (%s)", file, r.Line, r.Message, r.Reason)))
	}
	if more := total.Refused - int64(len(total.Refusals)); more > 0 {
		writef(a.err, "… and %d more; --json prints all\n", more)
	}
	_, err := fmt.Fprintf(a.out, "%d accepted, %d duplicate, %d refused in %v\n", total.Accepted, total.Duplicates, total.Refused, took.Round(time.Millisecond))
	return err
}

// parseReport reads a report and checks it as the server would, because the server
// refuses a whole request for one malformed report.
func parseReport(line int64, text []byte) outcomeLine {
	r := &rapportv1.OutcomeReport{}
	if err := protojson.Unmarshal(text, r); err != nil {
		return outcomeLine{line: line, err: fmt.Errorf("not a report: %s", jsonMistake(err))}
	}
	if err := protovalidate.Validate(r); err != nil {
		if invalid, ok := errors.AsType[*protovalidate.ValidationError](err); ok {
			err = errors.New(violations(invalid))
		}
		return outcomeLine{line: line, err: err}
	}
	return outcomeLine{line: line, report: r}
}

// sendReports sends a batch and waits until it is on disk.
func sendReports(ctx context.Context, c *clients, batch []outcomeLine) (reported, error) {
	request := &rapportv1.RecordOutcomesRequest{}
	for _, b := range batch {
		if b.err == nil {
			request.Reports = append(request.Reports, b.report)
		}
	}
	var sum reported
	refused := make(map[int]*rapportv1.RefusedOutcome)
	if len(request.GetReports()) > 0 {
		err := patiently(ctx, func() error {
			r, err := c.decisions.RecordOutcomes(ctx, connect.NewRequest(request))
			if err != nil {
				return err
			}
			sum.Accepted, sum.Duplicates = int64(r.Msg.GetAccepted()), int64(r.Msg.GetDuplicates())
			for _, f := range r.Msg.GetRefused() {
				refused[int(f.GetIndex())] = f
			}
			return nil
		})
		if err != nil {
			return reported{}, err
		}
	}
	sent := 0
	for _, b := range batch {
		if b.err != nil {
			sum.Refusals = append(sum.Refusals, refusedReport{b.line, "REPORT_INVALID", b.err.Error()})
			continue
		}
		if f := refused[sent]; f != nil {
			sum.Refusals = append(sum.Refusals, refusedReport{b.line, f.GetReason(), f.GetMessage()})
		}
		sent++
	}
	sum.Refused = int64(len(sum.Refusals))
	return sum, nil
}
