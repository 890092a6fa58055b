package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"iter"
	"time"

	"connectrpc.com/connect"

	rapportv1 "rapport/server/api/rapport/v1"
)

// listChunk is how many customers a request of a list has: what is decided and not
// printed yet when the command is interrupted is at most this for each request under way.
const listChunk = 100

// contactLine is an offer to a customer, as it is listed.
type contactLine struct {
	Customer   string  `json:"customer"`
	Touchpoint string  `json:"touchpoint"`
	Channel    string  `json:"channel"`
	Offer      string  `json:"offer"`
	Content    string  `json:"content"`
	Script     string  `json:"script,omitempty"`
	Score      float64 `json:"score"`
	Token      string  `json:"token,omitempty"` // none in a dry run
	ValidUntil string  `json:"validUntil,omitempty"`
}

// contactColumns are those of CSV.
var contactColumns = []string{"customer", "touchpoint", "channel", "offer", "content", "script", "score", "token", "valid_until"}

func (l *contactLine) record() []string {
	return []string{l.Customer, l.Touchpoint, l.Channel, l.Offer, l.Content, l.Script, formatNumber(l.Score), l.Token, l.ValidUntil}
}

// listed is what a list came to.
type listed struct{ customers, reached, offers, degraded, failed int }

// decideList decides every customer of a file and lists what is offered.
func (cmd *decideCmd) decideList(ctx context.Context, a *app, c *clients, question *rapportv1.DecideManyRequest) error {
	if cmd.Concurrency < 1 || cmd.Concurrency > 1000 {
		return usagef("--concurrency %d is out of range: use 1 to 1000", cmd.Concurrency)
	}
	in, err := openInput(a, cmd.List)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out := contactWriter{a: a, csv: csv.NewWriter(a.out)}
	var total listed
	bar := a.progress("deciding", in.size)
	started := time.Now()
	ask := func(ctx context.Context, customers []string) ([]*rapportv1.DecideStreamResponse, error) {
		return askList(ctx, c, question, customers)
	}
	err = inOrder(ctx, cmd.Concurrency, chunks(customersOf(in, cmd.List, cmd.Column), listChunk), ask, func(answers []*rapportv1.DecideStreamResponse) error {
		bar.at(in.read())
		for _, r := range answers {
			if err := out.write(r, &total); err != nil {
				return err
			}
		}
		return out.flush()
	})
	bar.end()
	if err == nil {
		err = out.end(&total)
	}
	if total.customers > 0 || err == nil {
		took := time.Since(started)
		writef(a.err, "decided %s in %v (%.0f a second): %s to %d, nothing to %d, %d degraded, %d failed\n",
			plural(total.customers, "customer"), took.Round(time.Millisecond), float64(total.customers)/took.Seconds(),
			plural(total.offers, "offer"), total.reached, total.customers-total.reached-total.failed, total.degraded, total.failed)
	}
	if err != nil && question.GetDryRun() == nil && (total.customers > 0 || ctx.Err() != nil) {
		writef(a.err, "not all customers were decided; some that are not listed may hold places until their time is over\n")
	}
	if err == nil && total.failed > 0 {
		return errReported
	}
	return err
}

// askList decides for some customers.
func askList(ctx context.Context, c *clients, question *rapportv1.DecideManyRequest, customers []string) ([]*rapportv1.DecideStreamResponse, error) {
	stream, err := c.decisions.DecideStream(ctx, connect.NewRequest(&rapportv1.DecideStreamRequest{Customers: customers, Question: question}))
	if err != nil {
		return nil, c.reached(err)
	}
	defer func() { _ = stream.Close() }() // what was sent has been read
	answers := make([]*rapportv1.DecideStreamResponse, 0, len(customers))
	for stream.Receive() {
		answers = append(answers, stream.Msg())
	}
	if err := stream.Err(); err != nil {
		return nil, c.reached(err)
	}
	if len(answers) != len(customers) {
		return nil, fmt.Errorf("the server has answered for %d of %d customers", len(answers), len(customers))
	}
	return answers, nil
}

// contactWriter prints what is offered, as CSV or as JSON.
type contactWriter struct {
	a       *app
	csv     *csv.Writer
	begun   bool
	printed int // customers who could not be decided for
}

// write prints the answer for one customer and counts it.
func (w *contactWriter) write(r *rapportv1.DecideStreamResponse, total *listed) error {
	total.customers++
	if r.GetError() != "" {
		total.failed++
		return w.fail(r)
	}
	offers, degraded := 0, false
	for _, d := range r.GetDecision().GetDecisions() {
		degraded = degraded || len(d.GetDegradations()) > 0
		for _, p := range d.GetSlate() {
			offers++
			l := contactLine{
				Customer: r.GetCustomer(), Touchpoint: d.GetTouchpoint(), Channel: p.GetChannel(), Offer: p.GetOffer(),
				Content: p.GetContent(), Script: p.GetScript(), Score: p.GetScore(), Token: p.GetToken(),
			}
			if d.GetValidUntil() != nil {
				l.ValidUntil = formatValidUntil(d.GetValidUntil())
			}
			if err := w.line(&l); err != nil {
				return err
			}
		}
	}
	total.offers += offers
	if offers > 0 {
		total.reached++
	}
	if degraded {
		total.degraded++
	}
	return nil
}

func (w *contactWriter) line(l *contactLine) error {
	if w.a.json {
		return w.a.printLine(l)
	}
	if err := w.begin(); err != nil {
		return err
	}
	return w.csv.Write(l.record())
}

// begin writes the names of the columns, once there is something to list: where the
// question is refused, nothing is.
func (w *contactWriter) begin() error {
	if w.begun {
		return nil
	}
	w.begun = true
	return w.csv.Write(contactColumns)
}

// fail says that a customer could not be decided for.
func (w *contactWriter) fail(r *rapportv1.DecideStreamResponse) error {
	if w.a.json {
		return w.a.printLine(struct {
			Customer string `json:"customer"`
			Error    string `json:"error"`
		}{r.GetCustomer(), r.GetError()})
	}
	if w.printed++; w.printed <= maxRefusedLines {
		writef(w.a.err, "%s\n", printable(fmt.Sprintf("customer %q: %s", r.GetCustomer(), r.GetError())))
	}
	return nil
}

func (w *contactWriter) flush() error {
	w.csv.Flush()
	return w.csv.Error()
}

// end ends the list: an empty one has the names of its columns too.
func (w *contactWriter) end(total *listed) error {
	if w.a.json {
		return nil
	}
	if total.failed > maxRefusedLines {
		writef(w.a.err, "… and %d more; --json prints all\n", total.failed-maxRefusedLines)
	}
	if err := w.begin(); err != nil {
		return err
	}
	return w.flush()
}

// chunks puts the items of a sequence together, so many at a time.
func chunks[T any](items iter.Seq2[T, error], size int) iter.Seq2[[]T, error] {
	return func(yield func([]T, error) bool) {
		var chunk []T
		for item, err := range items {
			if err != nil {
				if len(chunk) == 0 || yield(chunk, nil) {
					yield(nil, err)
				}
				return
			}
			if chunk = append(chunk, item); len(chunk) == size {
				if !yield(chunk, nil) {
					return
				}
				chunk = nil
			}
		}
		if len(chunk) > 0 {
			yield(chunk, nil)
		}
	}
}
