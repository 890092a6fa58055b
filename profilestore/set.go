package profilestore

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxElementBytes is the greatest length of an element of a set.
	MaxElementBytes = 256

	// setSeparator stands between the elements of a set, in files and in rows. An
	// element can't have it.
	setSeparator = ';'
)

// A set is a text: its elements in ascending byte order, each once, with
// setSeparator between. So it goes through rows and their dictionaries as a text
// does, of which most customers of an operator have a common one, and reading it
// copies nothing. Looking for an element goes through the text, which for the
// products that one customer owns is faster than any table.

// setOf returns the set of a text in that form.
func setOf(text string) Value { return Value{kind: KindSet, text: text} }

// Set returns the set of elements, in any order, repetitions counting once. Each
// must be one that [CheckElement] accepts.
func Set(elements ...string) Value {
	sorted := slices.Clone(elements)
	slices.Sort(sorted)
	return setOf(strings.Join(slices.Compact(sorted), string(setSeparator)))
}

// SetText returns the elements of a set in ascending order, with semicolons between; "" if
// v is none.
func (v Value) SetText() string {
	if v.kind != KindSet {
		return ""
	}
	return v.text
}

// CheckElement returns what is wrong with an element of a set.
func CheckElement(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("is empty: an element of a set has 1 to %d bytes", MaxElementBytes)
	case len(s) > MaxElementBytes:
		return fmt.Errorf("has %d bytes: an element of a set has at most %d", len(s), MaxElementBytes)
	case strings.ContainsRune(s, setSeparator):
		return fmt.Errorf("has a %q, which stands between the elements of a set", string(setSeparator))
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return errors.New("has bytes that are not printable UTF-8")
	case strings.TrimSpace(s) != s:
		return errors.New("has spaces at its ends")
	}
	return nil
}

// parseSet reads the elements of a file, in any order with semicolons between, into
// the form of rows.
func parseSet(b []byte) ([]byte, error) {
	var elements []string
	for part := range bytes.SplitSeq(b, []byte{setSeparator}) {
		if part = bytes.TrimSpace(part); len(part) == 0 {
			continue
		}
		if err := CheckElement(string(part)); err != nil {
			return nil, fmt.Errorf("the element %.80q %w", part, err)
		}
		elements = append(elements, string(part))
	}
	text := Set(elements...).text
	if len(text) > MaxTextBytes {
		return nil, fmt.Errorf("is too long: the elements of a set have at most %d bytes together", MaxTextBytes)
	}
	return []byte(text), nil
}

// Elements returns the elements of a set in ascending byte order; none if v is no
// set.
func (v Value) Elements() iter.Seq[string] {
	return func(yield func(string) bool) {
		if v.kind != KindSet {
			return
		}
		for rest := v.text; rest != ""; {
			var element string
			element, rest, _ = strings.Cut(rest, string(setSeparator))
			if !yield(element) {
				return
			}
		}
	}
}

// Size returns how many elements a set has.
func (v Value) Size() int {
	if v.kind != KindSet || v.text == "" {
		return 0
	}
	return strings.Count(v.text, string(setSeparator)) + 1
}

// Has reports whether a set has an element. It does not allocate.
func (v Value) Has(element string) bool {
	for e := range v.Elements() {
		if e == element {
			return true
		}
	}
	return false
}

// mergeSet returns the set of a batch row with the changes of events. Changes are
// in ascending order of their elements.
func mergeSet(batch string, changes []element, from int64) (set string, changed bool) {
	if !slices.ContainsFunc(changes, func(c element) bool { return c.time >= from }) {
		return batch, false
	}
	var b strings.Builder
	size := len(batch)
	for i := range changes {
		size += len(changes[i].text) + 1
	}
	b.Grow(size)
	put := func(s string) {
		if b.Len() > 0 {
			b.WriteByte(setSeparator)
		}
		b.WriteString(s)
	}
	for i := range changes {
		c := &changes[i]
		if c.time < from {
			continue
		}
		for batch != "" {
			next, rest, _ := strings.Cut(batch, string(setSeparator))
			if next > c.text {
				break
			}
			batch = rest
			if next < c.text {
				put(next)
			}
		}
		if c.in {
			put(c.text)
		}
	}
	if batch != "" {
		put(batch)
	}
	return b.String(), true
}

// unionSets returns the set of the elements of two.
func unionSets(a, b string) string {
	switch {
	case a == b || b == "":
		return a
	case a == "":
		return b
	}
	return Set(slices.AppendSeq(slices.Collect(setOf(a).Elements()), setOf(b).Elements())...).text
}
