package bench

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is a run of the suite.
type Report struct {
	Environment Environment `json:"environment"`
	Begun       time.Time   `json:"begun"`
	Seconds     float64     `json:"seconds"`
	Quick       bool        `json:"quick"`
	// Against is the URL of the server that was measured, if it was not the suite's own.
	Against    string      `json:"against,omitempty"`
	Records    []Record    `json:"-"`
	Judgements []Judgement `json:"-"`
}

// line is a line of NDJSON: one of these.
type line struct {
	Report *Report    `json:"report,omitempty"`
	Record *Record    `json:"record,omitempty"`
	Budget *judgement `json:"budget,omitempty"`
}

// judgement is what a line says of a budget. It is not read again: it follows from the
// records.
type judgement struct {
	Name    string  `json:"name"`
	Says    string  `json:"says"`
	Verdict Verdict `json:"verdict"`
	Gate    bool    `json:"gate,omitempty"`
	Figure  *Figure `json:"figure,omitempty"`
	Bound   string  `json:"bound"`
}

// Layers returns the names of the layers of which the report has records.
func (r *Report) Layers() (out []string) {
	for i := range r.Records {
		if l := r.Records[i].Layer; !slices.Contains(out, l) {
			out = append(out, l)
		}
	}
	return out
}

// Judge judges the budgets of the report's layers anew.
func (r *Report) Judge(budgets []Budget) {
	r.Judgements = Judge(BudgetsOf(r.Layers(), budgets), r.Records, r.Quick)
}

// WriteNDJSON writes the report as lines of JSON: what the run was, then the records, then
// the budgets.
func (r *Report) WriteNDJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	if err := e.Encode(line{Report: r}); err != nil {
		return err
	}
	for i := range r.Records {
		if err := e.Encode(line{Record: &r.Records[i]}); err != nil {
			return err
		}
	}
	for i := range r.Judgements {
		j := &r.Judgements[i]
		l := judgement{Name: j.Budget.Name, Says: j.Budget.Says, Verdict: j.Verdict, Gate: j.Budget.Gate, Bound: j.Budget.bound()}
		if j.Verdict != NotMeasured {
			l.Figure = &j.Figure
		}
		if err := e.Encode(line{Budget: &l}); err != nil {
			return err
		}
	}
	return nil
}

// maxReportLine bounds a line of a report.
const maxReportLine = 16 << 20

// ReadReport reads what WriteNDJSON wrote, without its judgements.
func ReadReport(in io.Reader) (*Report, error) {
	var out *Report
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxReportLine)
	for n := 1; lines.Scan(); n++ {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("bench: line %d of the report: %w", n, err)
		}
		switch {
		case l.Report != nil && out == nil:
			out = l.Report
		case l.Report != nil:
			return nil, fmt.Errorf("bench: line %d begins a second report: give one of them", n)
		case out == nil:
			return nil, errors.New("bench: this is no report: its first line does not say what the run was")
		case l.Record != nil:
			out.Records = append(out.Records, *l.Record)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if out == nil {
		return nil, errors.New("bench: the report is empty")
	}
	return out, nil
}

// WriteBenchstat writes the figures as Go's benchmarks do, for benchstat.
func (r *Report) WriteBenchstat(w io.Writer) error {
	e := &r.Environment
	_, err := fmt.Fprintf(w, "goos: %s\ngoarch: %s\npkg: rapport/bench\ncpu: %s\n", strings.Fields(e.System)[0], strings.Fields(e.Arch)[0], e.Processor)
	errs := []error{err}
	for i := range r.Records {
		rec := &r.Records[i]
		var b strings.Builder
		b.WriteString("Benchmark" + strings.ToUpper(rec.Layer[:1]) + rec.Layer[1:])
		for _, part := range []string{rec.Case.String(), "is=" + rec.Name} {
			if part != "" {
				b.WriteString("/" + strings.NewReplacer(" ", "_", ",", "").Replace(part))
			}
		}
		fmt.Fprintf(&b, "-%d 1", e.Processors)
		for _, f := range rec.Figures {
			fmt.Fprintf(&b, " %g %s", f.Value, f.benchstatUnit())
		}
		_, err := fmt.Fprintln(w, b.String())
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// benchstatUnit is the name of a figure as a unit.
func (f *Figure) benchstatUnit() string {
	switch {
	case f.Name == FigureAllocs:
		return "allocs/op"
	case f.Name == FigureBytes:
		return "B/op"
	case f.Unit == "" || f.Unit == UnitRatio:
		return f.Name
	case f.Unit == UnitPerSecond:
		return f.Name + "/s"
	}
	return f.Name + "-" + f.Unit
}

// Write prints the report for people: a table for each layer, and the budgets.
func (r *Report) Write(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s\nRapport %s, %s, %.0f s\n", r.Environment.String(), cmp.Or(r.Environment.Revision, "of an unknown revision"), kind(r.Quick), r.Seconds)
	errs := []error{err}
	if r.Against != "" {
		_, err := fmt.Fprintf(w, "Of the server at %s. Not known: its version and machine, what else it had to do, how many processors it used, and what\nof its customers was in its caches. The machine and version above are of the generator of load.\n", r.Against)
		errs = append(errs, err)
	}
	errs = append(errs, WriteRecords(w, r.Records))
	return errors.Join(append(errs, r.WriteJudgements(w))...)
}

func kind(quick bool) string {
	if quick {
		return "a quick run"
	}
	return "a full run"
}

// WriteRecords prints records for people, with a table for each layer.
func WriteRecords(w io.Writer, records []Record) error {
	var errs []error
	for i := 0; i < len(records); {
		layer, n := records[i].Layer, 1
		for i+n < len(records) && records[i+n].Layer == layer {
			n++
		}
		_, err := fmt.Fprintf(w, "\n%s: %s\n", layer, layerSays(layer))
		errs = append(errs, err, writeRecords(w, records[i:i+n]))
		i += n
	}
	return errors.Join(errs...)
}

// layerSays returns what a layer measures.
func layerSays(name string) string {
	for _, l := range Layers() {
		if l.Name == name {
			return l.Says
		}
	}
	if name == AgainstLayer {
		return againstSays
	}
	return "measured by another program"
}

// Unlike returns why two reports can't be compared; empty if they can.
func (r *Report) Unlike(other *Report) []string {
	unlike := r.Environment.Unlike(&other.Environment)
	if r.Against != other.Against {
		unlike = append(unlike, fmt.Sprintf("the server: %s and %s", cmp.Or(r.Against, "the suite's own"), cmp.Or(other.Against, "the suite's own")))
	}
	return unlike
}

// isLimit reports whether others are held against a record.
func isLimit(records []Record, rec *Record) bool {
	return slices.ContainsFunc(records, func(r Record) bool { return r.Limit == rec.Name && r.Case.String() == rec.Case.String() })
}

// writeRecords prints the records of a layer, with a column for each figure.
func writeRecords(w io.Writer, records []Record) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	var errs []error
	row := func(cells ...string) {
		_, err := fmt.Fprintln(t, strings.Join(cells, "\t")+"\t")
		errs = append(errs, err)
	}
	figures := columns(records)
	row(append([]string{"case", ""}, figures...)...)
	last := "\x00"
	for i := range records {
		rec := &records[i]
		of := rec.Case.String()
		if of == last {
			of = ""
		} else {
			last = of
		}
		name := rec.Name
		if isLimit(records, rec) {
			name += " (limit)"
		}
		cells := []string{of, name}
		for _, c := range figures {
			cell := ""
			if f, ok := rec.Figure(c); ok {
				cell = f.String()
			}
			cells = append(cells, cell)
		}
		row(cells...)
	}
	errs = append(errs, t.Flush())
	for i := range records {
		for _, e := range records[i].Errors {
			_, err := fmt.Fprintf(w, "  %s %s, failed: %s\n", records[i].Case, records[i].Name, e)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// WriteJudgements prints the budgets for people.
func (r *Report) WriteJudgements(w io.Writer) error {
	if len(r.Judgements) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "\nbudgets; a check fails if one with * is missed, and after a full run if it can't be judged\n")
	errs := []error{err}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := range r.Judgements {
		j := &r.Judgements[i]
		gate := " "
		if j.Budget.Gate {
			gate = "*"
		}
		_, err := fmt.Fprintf(t, "%s %s\t%s\t%s\t%s\n", gate, j.Budget.Name, j.Verdict, j.String(), j.Budget.Says)
		errs = append(errs, err)
	}
	return errors.Join(append(errs, t.Flush())...)
}
