package rules

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// cellKind is a type of inputs of a decision table, and so of the cells below one.
type cellKind uint8

const (
	cellNone cellKind = iota // the input has a mistake
	cellNumber
	cellWhole
	cellText
	cellFlag
	cellTime
	cellSpan
	cellSet
)

// ordered reports whether values have an order, and so cells ranges.
func (k cellKind) ordered() bool {
	return k == cellNumber || k == cellWhole || k == cellTime || k == cellSpan
}

// need says what a cell can be.
func (k cellKind) need() string {
	return [...]string{
		cellNumber: "a number, such as >= 180, 100..200 or 5",
		cellWhole:  "a whole number, such as >= 3, 1..5 or 7",
		cellText:   `a text, such as gold or "mobile broker"`,
		cellFlag:   "true or false",
		cellTime:   "a time, such as >= 2026-01-31T18:00:00+08:00",
		cellSpan:   "a span of days, hours or minutes, such as < 90d or 12h..36h",
		cellSet:    `an element that the set has, such as data_10g`,
	}[k]
}

// cellTest is the test of a cell, and as the zero value one that always holds: -.
type cellTest struct {
	not          bool
	alternatives []cellRange // nil: any value
}

// cellRange is one of the alternatives of a cell.
type cellRange struct {
	missing bool   // the value is not known
	not     bool   // any other than value
	value   string // of texts, flags and sets, which have no order

	low, high         bound
	lowOpen, highOpen bool
}

// bound is an end of a range.
type bound struct {
	given bool
	cel   string
	value float64 // a number, or microseconds
}

// point reports whether only one value is in the range.
func (r *cellRange) point() bool {
	return r.low.given && r.high.given && r.low.value == r.high.value
}

// parseCell reads a cell below an input. A mistake has its column.
func parseCell(text string, in *tableInput) (cellTest, CompileErrors) {
	p := cellParser{text: text, in: in}
	t := p.cell()
	if p.mistake != nil {
		return cellTest{}, CompileErrors{p.mistake}
	}
	return t, nil
}

// cellParser reads a cell.
type cellParser struct {
	text    string
	in      *tableInput
	mistake *CompileError
}

// fail notes a mistake at a byte, if it is the first.
func (p *cellParser) fail(at int, format string, args ...any) {
	if p.mistake == nil {
		p.mistake = &CompileError{Expr: p.text, Line: 1, Column: utf8.RuneCountInString(p.text[:at]) + 1, Message: fmt.Sprintf(format, args...)}
	}
}

func (p *cellParser) cell() cellTest {
	var t cellTest
	at, end := trimmed(p.text, 0, len(p.text))
	switch inner := p.text[at:end]; {
	case inner == "-":
		return t
	case inner == "":
		p.fail(0, "the cell is empty: write - for any value")
		return t
	case !utf8.ValidString(inner):
		p.fail(0, "the cell is not valid UTF-8")
		return t
	case strings.HasPrefix(inner, "not(") && strings.HasSuffix(inner, ")"):
		t.not = true
		at, end = trimmed(p.text, at+len("not("), end-1)
	case strings.Contains(inner, "&&"):
		p.fail(at+strings.Index(inner, "&&"), "a cell has one test, or several joined by commas of which one holds: for both write a range, such as 100..200, or another input")
		return t
	}
	for _, part := range p.split(at, end) {
		begin, stop := trimmed(p.text, part[0], part[1])
		if begin == stop {
			p.fail(begin, "a value is missing here: between commas there is one each")
			return t
		}
		t.alternatives = append(t.alternatives, p.alternative(begin, stop))
	}
	return t
}

// trimmed returns where a part of a text begins and ends without blanks around it.
func trimmed(s string, from, to int) (begin, end int) {
	begin = to - len(strings.TrimLeftFunc(s[from:to], unicode.IsSpace))
	return begin, begin + len(strings.TrimSpace(s[from:to]))
}

// split returns where the parts between commas are, not those in quotes.
func (p *cellParser) split(from, to int) [][2]int {
	var parts [][2]int
	begin := from
	for at := from; at < to; at++ {
		switch p.text[at] {
		case '"', '\'':
			n := textLength(p.text[:to], at)
			if n < 0 {
				p.fail(at, "a text begins here and has no end: it needs the same quote on both sides")
				return nil
			}
			at += n - 1
		case ',':
			parts = append(parts, [2]int{begin, at})
			begin = at + 1
		}
	}
	return append(parts, [2]int{begin, to})
}

// textLength returns how many bytes a quoted text takes that begins at a byte, −1 if it
// has no end.
func textLength(s string, at int) int {
	for i := at + 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case s[at]:
			return i + 1 - at
		}
	}
	return -1
}

// comparisons are what may stand before a value, the longest first.
var comparisons = []string{"<=", ">=", "!=", "==", "<", ">", "="}

// alternative reads what stands between commas.
func (p *cellParser) alternative(at, end int) cellRange {
	s := p.text[at:end]
	if s == "?" {
		if !p.in.canBeMissing {
			p.fail(at, "? asks whether a field is known, and %s is no field", p.in.text)
		}
		return cellRange{missing: true}
	}
	if s == "-" {
		p.fail(at, "- stands for any value, so it stands alone")
		return cellRange{}
	}
	if p.in.kind.ordered() {
		return p.interval(at, end)
	}
	r := cellRange{}
	for _, op := range comparisons {
		if rest, ok := strings.CutPrefix(s, op); ok {
			if r.not = op == "!="; !r.not && op != "==" && op != "=" {
				p.fail(at, "%s does not work here: this needs %s", op, p.in.kind.need())
			}
			at, s = end-len(strings.TrimLeft(rest, " ")), strings.TrimSpace(rest)
			break
		}
	}
	r.value = p.word(at, s)
	if p.in.kind == cellFlag && r.value != "true" && r.value != "false" {
		p.fail(at, "this needs true or false, not %s", s)
	}
	return r
}

// bare is a text that needs no quotes.
var bare = regexp.MustCompile(`^[\pL\pN_][\pL\pN_-]*$`)

// word reads a text, a flag or an element.
func (p *cellParser) word(at int, s string) string {
	switch {
	case bare.MatchString(s):
		return s
	case s == "":
		p.fail(min(at, len(p.text)), "a value is missing here: this needs %s", p.in.kind.need())
	case s[0] == '"' || s[0] == '\'':
		if textLength(s, 0) == len(s) {
			return unquote(s[1 : len(s)-1])
		}
		p.fail(at, "more than one text stands here: put commas between them")
	case strings.Contains(s, ".."):
		p.fail(at, "there are no ranges here: this needs %s", p.in.kind.need())
	default:
		p.fail(at, "%s can't be read: this needs %s", s, p.in.kind.need())
	}
	return ""
}

// unquote takes the backslashes away that stand before quotes and backslashes.
func unquote(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// interval reads a value, a comparison or a range of an ordered type.
func (p *cellParser) interval(at, end int) cellRange {
	s := p.text[at:end]
	var r cellRange
	for _, op := range comparisons {
		rest, ok := strings.CutPrefix(s, op)
		if !ok {
			continue
		}
		b := p.value(end-len(strings.TrimLeft(rest, " ")), end)
		switch op {
		case "<", "<=":
			r.high, r.highOpen = b, op == "<"
		case ">", ">=":
			r.low, r.lowOpen = b, op == ">"
		default:
			r.low, r.high, r.not = b, b, op == "!="
		}
		return r
	}
	first, last := s[0], s[len(s)-1]
	opened, closed := strings.IndexByte("[(]", first) >= 0, strings.IndexByte("])[", last) >= 0
	dots := strings.Index(s, "..")
	switch {
	case dots < 0 && !opened && !closed:
		b := p.value(at, end)
		return cellRange{low: b, high: b}
	case dots < 0 || opened != closed:
		p.fail(at, "a range is written 100..200, with both ends in it, or [100..200), without the second")
		return r
	case opened:
		r.lowOpen, r.highOpen = first != '[', last != ']'
		at, end, dots = at+1, end-1, dots-1
	}
	r.low, r.high = p.value(at, at+dots), p.value(at+dots+2, end)
	if p.mistake == nil && (r.low.value > r.high.value || r.low.value == r.high.value && (r.lowOpen || r.highOpen)) {
		p.fail(at, "no value lies in this range: the lower end stands first")
	}
	return r
}

var (
	plainNumber = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)
	plainSpan   = regexp.MustCompile(`^(-?[0-9]{1,6})([dhm])$`)
)

// value reads a value of an ordered type.
func (p *cellParser) value(at, end int) bound {
	at, end = trimmed(p.text, at, end)
	s := p.text[at:end]
	switch p.in.kind {
	case cellNumber, cellWhole:
		if v, err := strconv.ParseFloat(s, 64); err == nil && plainNumber.MatchString(s) && (p.in.kind == cellNumber || !strings.Contains(s, ".")) {
			return bound{true, s, v}
		}
	case cellTime:
		if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
			return bound{true, "timestamp(" + strconv.Quote(s) + ")", float64(t.UnixMicro())}
		}
	case cellSpan:
		if m := plainSpan.FindStringSubmatch(s); m != nil {
			n, _ := strconv.Atoi(m[1]) // six digits
			unit := map[string]time.Duration{"d": 24 * time.Hour, "h": time.Hour, "m": time.Minute}[m[2]]
			cel := fmt.Sprintf("duration(%q)", s)
			if m[2] == "d" {
				if cel = fmt.Sprintf("days(%d)", n); n > maxDays || n < -maxDays {
					p.fail(at, "%s is too long: at most %dd", s, maxDays)
				}
			}
			return bound{true, cel, float64((time.Duration(n) * unit).Microseconds())}
		}
	case cellNone, cellText, cellFlag, cellSet:
	}
	if s == "" {
		p.fail(min(at, len(p.text)), "a value is missing here: this needs %s", p.in.kind.need())
	} else {
		p.fail(at, "this needs %s, not %s", p.in.kind.need(), s)
	}
	return bound{}
}

// cel returns the test as a condition of the input, "" if it always holds.
func (t *cellTest) cel(in *tableInput) string {
	if t.alternatives == nil {
		return ""
	}
	x := "(" + in.text + ")"
	equal := !slices.ContainsFunc(t.alternatives, func(r cellRange) bool { return r.missing || r.not || in.kind.ordered() && !r.point() })
	var out string
	switch {
	case len(t.alternatives) > 1 && equal && in.kind != cellFlag && in.kind != cellSet:
		list := make([]string, len(t.alternatives))
		for i := range t.alternatives {
			list[i] = t.alternatives[i].constant(in.kind)
		}
		out = x + " in [" + strings.Join(list, ", ") + "]"
	default:
		parts := make([]string, len(t.alternatives))
		for i := range t.alternatives {
			parts[i] = t.alternatives[i].cel(x, in.kind)
			if len(parts) > 1 {
				parts[i] = "(" + parts[i] + ")"
			}
		}
		out = strings.Join(parts, " || ")
	}
	if t.not {
		return "!(" + out + ")"
	}
	return out
}

// constant returns the one value of a range.
func (r *cellRange) constant(k cellKind) string {
	if k.ordered() {
		return r.low.cel
	}
	return strconv.Quote(r.value)
}

// cel returns the test of one alternative.
func (r *cellRange) cel(x string, k cellKind) string {
	switch {
	case r.missing:
		return "!has" + x
	case k == cellFlag && (r.value == "true") != r.not:
		return x
	case k == cellFlag:
		return "!" + x
	case k == cellSet && r.not:
		return "!(" + r.constant(k) + " in " + x + ")"
	case k == cellSet:
		return r.constant(k) + " in " + x
	case r.not:
		return x + " != " + r.constant(k)
	case !k.ordered() || r.point():
		return x + " == " + r.constant(k)
	}
	var parts []string
	if r.low.given {
		parts = append(parts, x+map[bool]string{false: " >= ", true: " > "}[r.lowOpen]+r.low.cel)
	}
	if r.high.given {
		parts = append(parts, x+map[bool]string{false: " <= ", true: " < "}[r.highOpen]+r.high.cel)
	}
	return strings.Join(parts, " && ")
}
