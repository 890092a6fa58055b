package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
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

// linkBatch is how many links a request has.
const linkBatch = 1000

// linkLine is a link and the line it stands on, or why it is none.
type linkLine struct {
	line int64
	link *rapportv1.IdentityLink
	err  error
}

// refusedLink is a link that was not made.
type refusedLink struct {
	Line    int64  `json:"line"`
	A       string `json:"a,omitempty"`
	B       string `json:"b,omitempty"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// linkedFile is what became of a batch, or of a file.
type linkedFile struct {
	Changed   int64         `json:"changed"`
	Unchanged int64         `json:"unchanged"` // made before
	Refused   int64         `json:"refused"`
	Refusals  []refusedLink `json:"refusals"`
}

// linkFile makes the links of a file.
func (cmd *identityLinkCmd) linkFile(ctx context.Context, a *app) error {
	if cmd.Concurrency < 1 || cmd.Concurrency > 64 {
		return usagef("--concurrency %d is out of range: use 1 to 64", cmd.Concurrency)
	}
	in, err := openInput(a, cmd.File)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	return a.call(ctx, func(c *clients) error {
		total := linkedFile{Refusals: []refusedLink{}}
		bar := a.progress("linking", in.size)
		started := time.Now()
		send := func(ctx context.Context, batch []linkLine) (linkedFile, error) { return sendLinks(ctx, c, batch) }
		err := inOrder(ctx, cmd.Concurrency, linkBatches(in, cmd.File), send, func(b linkedFile) error {
			bar.at(in.read())
			total.Changed += b.Changed
			total.Unchanged += b.Unchanged
			total.Refused += b.Refused
			if !a.json { // a file of millions may be of the wrong kind
				b.Refusals = b.Refusals[:min(len(b.Refusals), maxRefusedLines-len(total.Refusals))]
			}
			total.Refusals = append(total.Refusals, b.Refusals...)
			return nil
		})
		bar.end()
		if err != nil && total.Changed+total.Unchanged+total.Refused == 0 {
			return err
		}
		if printErr := printLinked(a, cmd.File, &total, time.Since(started)); printErr != nil {
			return errors.Join(err, printErr)
		}
		if err != nil {
			writef(a.err, "not all links were made: send the file again, those made before change nothing\n")
			return err
		}
		if total.Refused > 0 {
			return errReported
		}
		return nil
	})
}

func printLinked(a *app, file string, total *linkedFile, took time.Duration) error {
	if a.json {
		return a.printJSON(total)
	}
	for _, r := range total.Refusals {
		pair := ""
		if r.A != "" && r.B != "" {
			pair = fmt.Sprintf("%s and %s: ", r.A, r.B)
		}
		writef(a.err, "%s\n", printable(fmt.Sprintf("%s:%d: %s%s (%s)", file, r.Line, pair, r.Message, r.Reason)))
	}
	if more := total.Refused - int64(len(total.Refusals)); more > 0 {
		writef(a.err, "… and %d more; --json prints all\n", more)
	}
	_, err := fmt.Fprintf(a.out, "%d linked, %d linked already, %d refused in %v\n", total.Changed, total.Unchanged, total.Refused, took.Round(time.Millisecond))
	return err
}

// linkBatches reads links and puts them together into requests. Lines that hold no
// link are in the batches too, so that refusals come in the order of the file.
func linkBatches(in io.Reader, file string) iter.Seq2[[]linkLine, error] {
	return func(yield func([]linkLine, error) bool) {
		var batch []linkLine
		for l, err := range readLinks(in) {
			if err != nil {
				if len(batch) == 0 || yield(batch, nil) {
					yield(nil, fmt.Errorf("%s: %w", file, err))
				}
				return
			}
			if batch = append(batch, l); len(batch) == linkBatch {
				if !yield(batch, nil) {
					return
				}
				batch = nil
			}
		}
		if len(batch) > 0 {
			yield(batch, nil)
		}
	}
}

// readLinks reads NDJSON, which begins with a brace, or CSV.
func readLinks(in io.Reader) iter.Seq2[linkLine, error] {
	return func(yield func(linkLine, error) bool) {
		r := bufio.NewReaderSize(in, 64<<10)
		if bom, err := r.Peek(3); err == nil && string(bom) == "\ufeff" {
			_, _ = r.Discard(3) // they have been read
		}
		for n := 1; ; n++ {
			start, err := r.Peek(n)
			switch {
			case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull):
				yield(linkLine{}, err)
				return
			case err != nil:
				yield(linkLine{}, errors.New("the file is empty: it needs a line with the names of the columns, a and b, or JSON objects"))
				return
			}
			switch start[n-1] {
			case ' ', '\t', '\r', '\n':
				continue
			case '{':
				readJSONLinks(r, yield)
			default:
				readCSVLinks(r, yield)
			}
			return
		}
	}
}

func readJSONLinks(r *bufio.Reader, yield func(linkLine, error) bool) {
	for line := int64(1); ; line++ {
		text, err := readLine(r)
		if err != nil && !errors.Is(err, io.EOF) {
			yield(linkLine{}, fmt.Errorf("line %d: %w", line, err))
			return
		}
		if len(bytes.TrimSpace(text)) > 0 {
			l := linkLine{line: line, link: &rapportv1.IdentityLink{}}
			if err := protojson.Unmarshal(text, l.link); err != nil {
				l.err = fmt.Errorf("not a link: %s", jsonMistake(err))
			}
			if !yield(l.checked(), nil) {
				return
			}
		}
		if errors.Is(err, io.EOF) {
			return
		}
	}
}

// linkColumns are the columns of a CSV file.
var linkColumns = []string{"a", "b", "time", "reason"}

func readCSVLinks(r *bufio.Reader, yield func(linkLine, error) bool) {
	records := csv.NewReader(r)
	records.FieldsPerRecord = -1 // a line with too few is refused by itself
	header, err := records.Read()
	if err != nil {
		yield(linkLine{}, fmt.Errorf("the line with the names of the columns: %w", err))
		return
	}
	at := make(map[string]int, len(linkColumns))
	for i, name := range header {
		name = strings.TrimSpace(name)
		if _, twice := at[name]; twice || !slices.Contains(linkColumns, name) {
			yield(linkLine{}, fmt.Errorf("column %q: the columns are a and b, and time and reason if there are any, each once", name))
			return
		}
		at[name] = i
	}
	for _, name := range linkColumns[:2] {
		if _, ok := at[name]; !ok {
			yield(linkLine{}, fmt.Errorf("there is no column %q: it has %s", name, strings.Join(header, ", ")))
			return
		}
	}
	for {
		record, err := records.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			yield(linkLine{}, err) // it names the line
			return
		}
		line, _ := records.FieldPos(0)
		l := linkLine{line: int64(line), link: &rapportv1.IdentityLink{}}
		if len(record) != len(header) {
			l.err = fmt.Errorf("the line has %d values, the header has %d columns", len(record), len(header))
		} else {
			l.fill(record, at)
		}
		if !yield(l.checked(), nil) {
			return
		}
	}
}

// fill takes the values of a line of CSV.
func (l *linkLine) fill(record []string, at map[string]int) {
	get := func(name string) string {
		if i, ok := at[name]; ok {
			return record[i]
		}
		return ""
	}
	l.link.A, l.link.B, l.link.Reason = get("a"), get("b"), get("reason")
	if text := get("time"); text != "" {
		if l.link.Time, l.err = parseTime(text); l.err != nil {
			l.err = fmt.Errorf("time: %w", l.err)
		}
	}
}

// checked checks the link as the server would.
func (l linkLine) checked() linkLine {
	if l.err != nil {
		return l
	}
	if err := protovalidate.Validate(l.link); err != nil {
		if invalid, ok := errors.AsType[*protovalidate.ValidationError](err); ok {
			err = errors.New(violations(invalid))
		}
		l.err = err
	}
	return l
}

// sendLinks sends a batch and waits until it is on disk.
func sendLinks(ctx context.Context, c *clients, batch []linkLine) (linkedFile, error) {
	request := &rapportv1.LinkIdentitiesRequest{OmitGroups: true}
	for _, l := range batch {
		if l.err == nil {
			request.Links = append(request.Links, l.link)
		}
	}
	var results []*rapportv1.IdentityResult
	if len(request.GetLinks()) > 0 {
		err := patiently(ctx, func() error {
			r, err := c.profiles.LinkIdentities(ctx, connect.NewRequest(request))
			if err == nil {
				results = r.Msg.GetResults()
			}
			return err
		})
		if err != nil {
			return linkedFile{}, err
		}
		if len(results) != len(request.GetLinks()) {
			return linkedFile{}, fmt.Errorf("the server has answered %d links with %d results", len(request.GetLinks()), len(results))
		}
	}
	var sum linkedFile
	for _, l := range batch {
		r := &rapportv1.IdentityResult{Reason: "LINK_INVALID"}
		if l.err != nil {
			r.Message = l.err.Error()
		} else {
			r, results = results[0], results[1:]
		}
		switch {
		case r.GetReason() != "":
			sum.Refused++
			sum.Refusals = append(sum.Refusals, refusedLink{l.line, l.link.GetA(), l.link.GetB(), r.GetReason(), r.GetMessage()})
		case r.GetChanged():
			sum.Changed++
		default:
			sum.Unchanged++
		}
	}
	return sum, nil
}
