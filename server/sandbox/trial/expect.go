package trial

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Compare says, a line each, in what a result is not what the case expects. Nothing:
// it is.
func (c *Case) Compare(r *Result) []string {
	e := c.Expect
	if e == nil {
		return []string{"nothing is expected: write it down with --update, and look at it"}
	}
	var lines []string
	differ := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if r.Fault != nil {
		if r.FaultKind == e.Fault {
			return nil
		}
		differ("fault: %s: %s%s", r.FaultKind, r.FaultMessage, ofCandidate(r.FaultCandidate))
		return lines
	}
	if e.Fault != "" {
		differ("no fault; want %s", e.Fault)
	}
	if e.Slate != nil && !slices.Equal(r.Slate, *e.Slate) {
		differ("slate %s; want %s", list(r.Slate), list(*e.Slate))
	}
	for _, a := range r.Candidates {
		x, ok := e.Candidates[a.ID]
		if !ok {
			continue
		}
		if x.Score != nil && !near(a.Score, *x.Score, e.Within) {
			differ("%s: score %s; want %s", a.ID, number(a.Score), number(*x.Score))
		}
		if want := x.Reason; want != nil && cmp.Or(a.Reason, NoReason) != *want {
			differ("%s: reason %s; want %s", a.ID, cmp.Or(a.Reason, NoReason), *want)
		}
		if a.Veto != x.Veto {
			differ("%s: %s; want %s", a.ID, vetoed(a.Veto), vetoed(x.Veto))
		}
		if x.Chance != nil && !near(a.Chance, *x.Chance, e.Within) {
			differ("%s: chance %s; want %s", a.ID, number(a.Chance), number(*x.Chance))
		}
	}
	return lines
}

func ofCandidate(id string) string {
	if id == "" {
		return ""
	}
	return " (" + id + ")"
}

func vetoed(veto bool) string {
	if veto {
		return "vetoed"
	}
	return "not vetoed"
}

func list(ids []string) string { return "[" + strings.Join(ids, ", ") + "]" }

// number writes a number in the shortest form that reads back exactly.
func number(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }

// near reports whether a number is what is expected, but for a share of it.
func near(x, want, within float64) bool {
	return x == want || math.Abs(x-want) <= within*math.Abs(want)
}

// expectation returns all that a result says, as it is to be expected.
func expectation(r *Result, within float64) *Expect {
	e := &Expect{Within: within}
	if r.Fault != nil {
		e.Fault = r.FaultKind
		return e
	}
	e.Slate = &r.Slate
	e.Candidates = make(map[string]ExpectCandidate, len(r.Candidates))
	for _, a := range r.Candidates {
		x := ExpectCandidate{Score: &a.Score, Veto: a.Veto}
		if a.Reason != "" {
			x.Reason = &a.Reason
		}
		if a.Chance != 0 {
			x.Chance = &a.Chance
		}
		e.Candidates[a.ID] = x
	}
	return e
}

// Update makes a result what the case expects, in its file. Everything else in the
// file stays as it is, comments too. It reports whether anything has changed.
func (c *Case) Update(r *Result) (changed bool, err error) {
	within := 0.0
	if c.Expect != nil {
		within = c.Expect.Within
		if len(c.Compare(r)) == 0 {
			return false, nil
		}
	}
	text, err := replaceExpect(c.text, writeExpect(c, expectation(r, within)))
	if err != nil {
		return false, fmt.Errorf("%s: %w", c.file, err)
	}
	again, err := Read(c.file, text)
	if err == nil && len(again.Compare(r)) > 0 {
		err = fmt.Errorf("%s: what was to be written does not read back as it is: %s", c.file, strings.Join(again.Compare(r), "; "))
	}
	if err != nil {
		return false, err
	}
	return true, write(c.file, text)
}

// SaveAs writes the case to a file, which must not exist, with a result as what is
// expected.
func (c *Case) SaveAs(name string, r *Result) error {
	text, err := replaceExpect(c.text, writeExpect(c, expectation(r, 0)))
	if err != nil {
		return fmt.Errorf("%s: %w", c.file, err)
	}
	return writeNew(name, text)
}

// writeNew writes a file that must not exist yet.
func writeNew(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666) //nolint:gosec // a case is for its author to share, by the umask
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already: name another file, or remove it", name)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// write replaces a file at once.
func write(name string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".case-*")
	if err != nil {
		return err
	}
	mode := os.FileMode(0o644)
	if info, statErr := os.Stat(name); statErr == nil {
		mode = info.Mode().Perm()
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Chmod(mode)
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// replaceExpect puts other lines in the place of the key expect, or at the end.
func replaceExpect(text, expect []byte) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	root := doc.Content[0]
	if root.Style&yaml.FlowStyle != 0 {
		return nil, fmt.Errorf("it is written as {…}: write its keys at the beginning of lines, so that expect can be written beside them")
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	if last := len(lines) - 1; len(lines[last]) == 0 {
		lines = lines[:last]
	} else {
		lines[last] = append(lines[last], '\n')
	}
	from, to := len(lines), len(lines)
	for i := 0; i < len(root.Content); i += 2 {
		switch {
		case root.Content[i].Value == "expect":
			from = root.Content[i].Line - 1
		case from < len(lines):
			// What stands before the next key, but for comments, is of expect.
			to = root.Content[i].Line - 1
			for to > from && (bytes.HasPrefix(lines[to-1], []byte("#")) || len(bytes.TrimSpace(lines[to-1])) == 0) {
				to--
			}
		}
		if to < len(lines) {
			break
		}
	}
	return slices.Concat(bytes.Join(lines[:from], nil), expect, bytes.Join(lines[to:], nil)), nil
}

// writeExpect writes what is expected for people: a line for each candidate, in the
// order of the case.
func writeExpect(c *Case, e *Expect) []byte {
	var b strings.Builder
	b.WriteString("expect:\n")
	if e.Fault != "" {
		fmt.Fprintf(&b, "  fault: %s\n", e.Fault)
	}
	if e.Within != 0 {
		fmt.Fprintf(&b, "  within: %s\n", number(e.Within))
	}
	if e.Slate != nil {
		quotedIDs := make([]string, len(*e.Slate))
		for i, id := range *e.Slate {
			quotedIDs[i] = quoted(id)
		}
		fmt.Fprintf(&b, "  slate: %s\n", list(quotedIDs))
	}
	if len(e.Candidates) > 0 {
		b.WriteString("  candidates:\n")
	}
	for i := range c.Candidates {
		x, ok := e.Candidates[c.Candidates[i].ID]
		if !ok {
			continue
		}
		var parts []string
		if x.Score != nil {
			parts = append(parts, "score: "+number(*x.Score))
		}
		if x.Reason != nil {
			parts = append(parts, "reason: "+quoted(*x.Reason))
		}
		if x.Veto {
			parts = append(parts, "veto: true")
		}
		if x.Chance != nil {
			parts = append(parts, "chance: "+number(*x.Chance))
		}
		fmt.Fprintf(&b, "    %s: {%s}\n", quoted(c.Candidates[i].ID), strings.Join(parts, ", "))
	}
	return []byte(b.String())
}

// quoted writes a text in quotes where YAML would take it for something else.
func quoted(s string) string {
	var n yaml.Node
	plain := yaml.Unmarshal([]byte("["+s+"]"), &n) == nil && len(n.Content) == 1 && len(n.Content[0].Content) == 1
	if plain {
		x := n.Content[0].Content[0]
		plain = x.Kind == yaml.ScalarNode && x.ShortTag() == "!!str" && x.Value == s && !strings.ContainsAny(s, ":#")
	}
	if plain {
		return s
	}
	return strconv.Quote(s)
}
