package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"

	rapportv1 "rapport/server/api/rapport/v1"
)

// ingestCmd sends events.
type ingestCmd struct {
	File        string `arg:"" optional:"" help:"Events, one JSON object a line (NDJSON); - for standard input."`
	Watch       string `help:"Folder whose files are sent as they come, instead of one file." placeholder:"DIR"`
	Once        bool   `help:"With --watch: send the files that are there, and end."`
	Concurrency int    `help:"Requests to have under way at once, each with up to 500 events." default:"4" placeholder:"N"`
}

// Help is shown by --help.
func (ingestCmd) Help() string {
	return `An event has an id, a type, an identity (the customer), a time with offset, and attributes:

	{"id": "e1", "type": "balance", "identity": "7590-VHVEG", "time": "2026-03-01T10:00:00Z", "attributes": {"amount": 3.5}}

The types contact and outcome are reserved for what was offered to a customer and what came of it: see
` + "`rapport profile timeline --help`" + `.

When the command ends well, every event is on disk and visible to the next decision. An event is known
by its customer and id: sent again, it changes nothing, so after an interruption send the same file again.
Events that are refused are printed with their line, the others are taken; the exit code is then 1.
An event may say when it was first logged, "logged": see profile schema, as_of and ingest cut.

With --watch it takes the files of a folder, in the order of their names, until it is stopped: *.ndjson,
*.jsonl and *.json, also with .gz or .zst behind it. Move files in (a rename in one file system); one that is
copied in is taken when its size and time have not changed for two seconds. Names that begin with a dot
are left alone. When all of a file is on disk in the server it is moved to DIR/done. Lines that are refused
go to DIR/refused/NAME, each with line, reason and text; a file that can't be read to its end is moved
there whole, with the reason in NAME.reason, and the feed goes on. While the server can't be reached the
files wait. Stopped or killed, it goes on at the next start; what had been sent of a file counts once.

The folder holds personal data: remove from done what is no longer needed.

Examples:

	rapport ingest events.ndjson
	zcat events.ndjson.gz | rapport ingest -
	rapport ingest --watch /var/spool/rapport --server http://127.0.0.1:8080
	rapport ingest --watch drop --once --json`
}

const (
	ingestBatch     = 500     // events a request
	maxBatchBytes   = 2 << 20 // of their text; the server takes 4 MiB a request
	maxEventLine    = 1 << 20
	maxRefusedLines = 100 // printed for people; --json has all
)

// eventLine is an event and the line it stands on, or why it is none.
type eventLine struct {
	line  int64
	event *rapportv1.Event
	err   error
	text  string // of the line; with --watch only
}

// refusal is an event that was not taken.
type refusal struct {
	Line    int64  `json:"line"`
	ID      string `json:"id,omitempty"`
	Message string `json:"message"`
	Text    string `json:"text,omitempty"` // of the line; with --watch only
}

// ingested is what became of a batch, or of all.
type ingested struct {
	Accepted   int64     `json:"accepted"`
	Duplicates int64     `json:"duplicates"`
	Refused    []refusal `json:"refused"`
}

// Run sends the events.
func (cmd *ingestCmd) Run(ctx context.Context, a *app) error {
	if cmd.Concurrency < 1 || cmd.Concurrency > 64 {
		return usagef("--concurrency %d is out of range: use 1 to 64", cmd.Concurrency)
	}
	switch {
	case cmd.Watch != "" && cmd.File != "":
		return usagef("a file and --watch exclude each other: give one of them")
	case cmd.Watch != "":
		return cmd.watch(ctx, a)
	case cmd.Once:
		return usagef("--once goes with --watch DIR")
	case cmd.File == "":
		return usagef("which events? Give a file, - for standard input, or --watch DIR")
	}
	in, err := openInput(a, cmd.File)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	return a.call(ctx, func(c *clients) error {
		total := ingested{Refused: []refusal{}}
		bar := a.progress("sending", in.size)
		started := time.Now()
		send := func(ctx context.Context, batch []eventLine) (ingested, error) { return sendEvents(ctx, c, batch) }
		err := inOrder(ctx, cmd.Concurrency, lineBatches(in, cmd.File, ingestBatch, parseEvent), send, func(b ingested) error {
			bar.at(in.read())
			total.Accepted += b.Accepted
			total.Duplicates += b.Duplicates
			total.Refused = append(total.Refused, b.Refused...)
			return nil
		})
		bar.end()
		if printErr := printIngested(a, cmd.File, &total, time.Since(started)); printErr != nil {
			return errors.Join(err, printErr)
		}
		if err != nil {
			writef(a.err, "not all events were sent: send the same file again, what was taken counts once\n")
			return err
		}
		if len(total.Refused) > 0 {
			return errReported
		}
		return nil
	})
}

func printIngested(a *app, file string, total *ingested, took time.Duration) error {
	if a.json {
		return a.printJSON(total)
	}
	for i, r := range total.Refused {
		if i == maxRefusedLines {
			writef(a.err, "… and %d more; --json prints all\n", len(total.Refused)-i)
			break
		}
		id := ""
		if r.ID != "" && !strings.HasPrefix(r.Message, "event ") { // the server names it
			id = fmt.Sprintf("event %s: ", r.ID)
		}
		writef(a.err, "%s\n", printable(fmt.Sprintf("%s:%d: %s%s", file, r.Line, id, r.Message)))
	}
	_, err := fmt.Fprintf(a.out, "%d accepted, %d duplicate, %d refused in %v\n", total.Accepted, total.Duplicates, len(total.Refused), took.Round(time.Millisecond))
	return err
}

// lineBatches reads lines and puts what they hold together into requests, of at most
// so many each. Lines that hold nothing of use are in the batches too, so that refusals
// come in the order of the file; empty ones are passed over.
func lineBatches[T any](in io.Reader, file string, most int, parse func(line int64, text []byte) T) iter.Seq2[[]T, error] {
	return func(yield func([]T, error) bool) {
		r := bufio.NewReaderSize(in, 64<<10)
		var batch []T
		size := 0
		for line := int64(1); ; line++ {
			text, err := readLine(r)
			if err != nil && !errors.Is(err, io.EOF) {
				yield(nil, fmt.Errorf("%s:%d: %w", file, line, err))
				return
			}
			if len(bytes.TrimSpace(text)) > 0 {
				batch = append(batch, parse(line, text))
				size += len(text)
			}
			last := errors.Is(err, io.EOF)
			if len(batch) >= most || size >= maxBatchBytes-maxEventLine || last && len(batch) > 0 {
				if !yield(batch, nil) {
					return
				}
				batch, size = nil, 0
			}
			if last {
				return
			}
		}
	}
}

// readLine returns the next line, with io.EOF if it is the last.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxEventLine:
			return nil, fmt.Errorf("the line has more than %d bytes: write one JSON object a line", maxEventLine)
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		}
		return line, err
	}
}

// parseEvent reads an event and checks it as the server would, because the server
// refuses a whole request for one malformed event.
func parseEvent(line int64, text []byte) eventLine {
	e := &rapportv1.Event{}
	if err := protojson.Unmarshal(text, e); err != nil {
		return eventLine{line: line, err: fmt.Errorf("not an event: %s", jsonMistake(err))}
	}
	if err := protovalidate.Validate(e); err != nil {
		if invalid, ok := errors.AsType[*protovalidate.ValidationError](err); ok {
			err = errors.New(violations(invalid))
		}
		return eventLine{line: line, event: e, err: err}
	}
	return eventLine{line: line, event: e}
}

// sendEvents sends a batch and waits until it is on disk.
func sendEvents(ctx context.Context, c *clients, batch []eventLine) (ingested, error) {
	var result ingested
	request := &rapportv1.IngestEventsRequest{}
	lines := make([]*eventLine, 0, len(batch))
	for i := range batch {
		b := &batch[i]
		if b.err != nil {
			result.Refused = append(result.Refused, refusal{b.line, b.event.GetId(), b.err.Error(), b.text})
			continue
		}
		request.Events = append(request.Events, b.event)
		lines = append(lines, b)
	}
	if len(lines) == 0 {
		return result, nil
	}
	err := patiently(ctx, func() error {
		r, err := c.profiles.IngestEvents(ctx, connect.NewRequest(request))
		if err != nil {
			return err
		}
		result.Accepted, result.Duplicates = int64(r.Msg.GetAccepted()), int64(r.Msg.GetDuplicates())
		for _, f := range r.Msg.GetRefused() {
			if i := int(f.GetIndex()); i >= 0 && i < len(lines) {
				result.Refused = append(result.Refused, refusal{lines[i].line, f.GetId(), f.GetMessage(), lines[i].text})
			}
		}
		return nil
	})
	sortRefusals(result.Refused)
	return result, err
}

// sortRefusals puts what was refused here and by the server into the order of the
// file.
func sortRefusals(r []refusal) {
	slices.SortFunc(r, func(a, b refusal) int { return cmp.Compare(a.Line, b.Line) })
}
