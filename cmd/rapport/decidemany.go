package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	rapportv1 "rapport/server/api/rapport/v1"
)

// manyCustomers are the flags of `rapport decide` for many customers.
type manyCustomers struct {
	Customers   string   `help:"Decide every customer of this file, and count who wins; - for standard input." placeholder:"FILE"`
	List        string   `help:"Decide every customer of this file, and list what is offered; - for standard input." placeholder:"FILE"`
	Column      string   `help:"The file is CSV, and this column holds the customer." placeholder:"NAME"`
	CountBy     []string `help:"Profile fields by which to divide the counts, with commas between." placeholder:"FIELD"`
	Concurrency int      `help:"Decisions to have under way at once." default:"8" placeholder:"N"`
}

// decision is what came of one customer.
type decision struct {
	response *rapportv1.DecideResponse
	profile  *rapportv1.GetProfileResponse // nil unless counted by its fields
}

// countKey is a row of the counts: the winner and the values of the fields.
type countKey struct{ winner, fields string }

// counts is what happened to many customers.
type counts struct {
	decided, unknown, degraded int
	by                         map[countKey]int
}

// decideMany decides every customer of a file through the API.
func (cmd *decideCmd) decideMany(ctx context.Context, a *app, c *clients, request *rapportv1.DecideRequest) error {
	if cmd.Concurrency < 1 || cmd.Concurrency > 1000 {
		return usagef("--concurrency %d is out of range: use 1 to 1000", cmd.Concurrency)
	}
	in, err := openInput(a, cmd.Customers)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	total := &counts{by: make(map[countKey]int)}
	bar := a.progress("deciding", in.size)
	started := time.Now()
	one := func(ctx context.Context, customer string) (decision, error) {
		d, err := cmd.decideOne(ctx, c, request, customer)
		if err != nil {
			err = fmt.Errorf("%s: %w", customer, err)
		}
		return d, err
	}
	err = inOrder(ctx, cmd.Concurrency, customersOf(in, cmd.Customers, cmd.Column), one, func(d decision) error {
		bar.at(in.read())
		total.add(d, cmd.CountBy)
		if a.json && len(cmd.CountBy) == 0 {
			b, err := messageJSON(d.response)
			if err != nil {
				return err
			}
			return a.printLine(json.RawMessage(b))
		}
		return nil
	})
	bar.end()
	if err != nil {
		return err
	}
	if err := cmd.printCounts(a, total); err != nil {
		return err
	}
	took := time.Since(started)
	writef(a.err, "decided %s in %v (%.0f a second): %d unknown, %d degraded\n",
		plural(total.decided, "customer"), took.Round(time.Millisecond), float64(total.decided)/took.Seconds(), total.unknown, total.degraded)
	return nil
}

func (cmd *decideCmd) decideOne(ctx context.Context, c *clients, request *rapportv1.DecideRequest, customer string) (decision, error) {
	r := &rapportv1.DecideRequest{
		Customer: customer, Touchpoint: request.GetTouchpoint(), Context: request.GetContext(), Slots: request.GetSlots(),
		DryRun: request.GetDryRun(), OmitWithheld: request.GetOmitWithheld(),
	}
	var d decision
	err := patiently(ctx, func() error {
		response, err := c.decisions.Decide(ctx, connect.NewRequest(r))
		if err == nil {
			d.response = response.Msg
		}
		return err
	})
	if err != nil || len(cmd.CountBy) == 0 {
		return d, err
	}
	profile, err := c.profiles.GetProfile(ctx, connect.NewRequest(&rapportv1.GetProfileRequest{Customer: customer}))
	if err != nil {
		return d, err
	}
	d.profile = profile.Msg
	for _, name := range cmd.CountBy {
		if findField(d.profile, name) == nil {
			return d, fmt.Errorf("--count-by: the schema has no field %q", name)
		}
	}
	return d, nil
}

// patiently repeats a call that an overloaded server has refused, after the
// delay that it asks for.
func patiently(ctx context.Context, call func() error) error {
	const attempts = 20
	for attempt := 1; ; attempt++ {
		err := call()
		var rpc *connect.Error
		if err == nil || attempt == attempts || !errors.As(err, &rpc) || rpc.Code() != connect.CodeResourceExhausted {
			return err
		}
		wait := 50 * time.Millisecond
		for _, d := range rpc.Details() {
			if m, err := d.Value(); err == nil {
				if retry, ok := m.(*errdetails.RetryInfo); ok {
					wait = retry.GetRetryDelay().AsDuration()
				}
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

func findField(p *rapportv1.GetProfileResponse, name string) *rapportv1.ProfileValue {
	for _, f := range p.GetFields() {
		if f.GetName() == name {
			return f
		}
	}
	return nil
}

func (t *counts) add(d decision, by []string) {
	t.decided++
	if !d.response.GetProfile().GetKnown() {
		t.unknown++
	}
	if len(d.response.GetDegradations()) > 0 {
		t.degraded++
	}
	k := countKey{winner: "(nothing)"}
	if slate := d.response.GetSlate(); len(slate) > 0 {
		k.winner = slate[0].GetOffer()
	}
	values := make([]string, len(by))
	for i, name := range by {
		value, known := formatValue(findField(d.profile, name))
		if !known {
			value = "(unknown)"
		}
		values[i] = value
	}
	k.fields = strings.Join(values, "\x00")
	t.by[k]++
}

// rows returns the counts, by winner in the order of their totals, then by the
// fields.
func (t *counts) rows() []countKey {
	totals := make(map[string]int)
	for k, n := range t.by {
		totals[k.winner] += n
	}
	return slices.SortedFunc(maps.Keys(t.by), func(a, b countKey) int {
		return cmp.Or(cmp.Compare(totals[b.winner], totals[a.winner]), cmp.Compare(a.winner, b.winner), cmp.Compare(a.fields, b.fields))
	})
}

func (cmd *decideCmd) printCounts(a *app, total *counts) error {
	if a.json {
		if len(cmd.CountBy) == 0 {
			return nil // the decisions have been printed
		}
		for _, k := range total.rows() {
			fields := make(map[string]string, len(cmd.CountBy))
			for i, value := range strings.Split(k.fields, "\x00") {
				fields[cmd.CountBy[i]] = value
			}
			line := struct {
				Winner    string            `json:"winner"`
				Fields    map[string]string `json:"fields"`
				Customers int               `json:"customers"`
			}{k.winner, fields, total.by[k]}
			if err := a.printLine(line); err != nil {
				return err
			}
		}
		return nil
	}
	header := []string{"WINNER"}
	for _, name := range cmd.CountBy {
		header = append(header, strings.ToUpper(name))
	}
	t := newTable(append(header, ">CUSTOMERS")...)
	for _, k := range total.rows() {
		row := []any{k.winner}
		if len(cmd.CountBy) > 0 {
			for value := range strings.SplitSeq(k.fields, "\x00") {
				row = append(row, value)
			}
		}
		t.add(append(row, total.by[k])...)
	}
	return t.write(a.out)
}

// customersOf reads the ids of a file: a line each, or a column of a CSV file.
// Empty lines are passed over.
func customersOf(in io.Reader, file, column string) iter.Seq2[string, error] {
	if column != "" {
		return csvColumn(in, file, column)
	}
	return func(yield func(string, error) bool) {
		lines := bufio.NewScanner(in)
		for lines.Scan() {
			if id := strings.TrimSpace(lines.Text()); id != "" && !yield(id, nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield("", fmt.Errorf("%s: %w", file, err))
		}
	}
}

func csvColumn(in io.Reader, file, column string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		records := csv.NewReader(in)
		records.ReuseRecord = true
		header, err := records.Read()
		if err != nil {
			yield("", fmt.Errorf("%s: the line with the names of the columns: %w", file, err))
			return
		}
		if len(header) > 0 {
			header[0] = strings.TrimPrefix(header[0], "\ufeff")
		}
		at := slices.Index(header, column)
		if at < 0 {
			yield("", fmt.Errorf("%s: there is no column %q: it has %s", file, column, strings.Join(header, ", ")))
			return
		}
		for {
			record, err := records.Read()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield("", fmt.Errorf("%s: %w", file, err))
				return
			}
			if !yield(strings.Clone(record[at]), nil) {
				return
			}
		}
	}
}

// input is a file or standard input whose reading can be watched.
type input struct {
	io.Reader
	io.Closer
	size  int64 // -1 if it is not known
	count *countingReader
}

// read returns how many bytes have been read.
func (in *input) read() int64 { return in.count.n.Load() }

func openInput(a *app, name string) (*input, error) {
	if name == "-" {
		count := &countingReader{r: a.in}
		return &input{count, io.NopCloser(nil), -1, count}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	size := int64(-1)
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		size = info.Size()
	}
	count := &countingReader{r: f}
	return &input{count, f, size, count}, nil
}
