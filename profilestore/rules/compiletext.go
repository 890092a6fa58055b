package rules

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// textCall compiles what gives a text. A text that is made lies in the frame until that
// is rewound.
func (c *compiler) textCall(e ast.Expr) node[string] {
	if e.Kind() != ast.CallKind {
		return notCovered[string](c, "a comprehension")
	}
	name := e.AsCall().FunctionName()
	args := operands(e)
	c.scratch = true
	switch {
	case name == operators.Add:
		return c.joined(c.parts(nil, e))
	case name == "string":
		return c.toText(args[0])
	case slices.Contains(c.lang.tables, name):
		return c.table(name, args)
	case name == "decimal":
		return binary(c, c.anyNumber(args[0]), c.wholes.expr(c, args[1]), func(f *frame, v float64, places int64) (string, state) {
			at := len(f.bytes)
			out, ok := appendDecimal(f.bytes, v, places)
			if !ok {
				return "", stateFailed
			}
			f.bytes = out
			return f.textFrom(at), stateKnown
		})
	case name == "charAt":
		return binary(c, c.texts.expr(c, args[0]), c.wholes.expr(c, args[1]), charAt)
	case name == "substring" && len(args) == 2:
		return binary(c, c.texts.expr(c, args[0]), c.wholes.expr(c, args[1]), func(f *frame, s string, from int64) (string, state) {
			f.charge(2*len(s) + 1)
			if !utf8.ValidString(s) {
				return "", f.giveUp()
			}
			at, ok := runeOffset(s, from)
			return s[at:], failedIf(!ok)
		})
	case name == "substring":
		return three(c, c.texts.expr(c, args[0]), c.wholes.expr(c, args[1]), c.wholes.expr(c, args[2]), substring)
	case name == "lowerAscii":
		return unary(c, c.texts.expr(c, args[0]), func(f *frame, s string) (string, state) {
			return f.mapASCII(s, 'A', 'Z', 'a'-'A')
		})
	case name == "upperAscii":
		return unary(c, c.texts.expr(c, args[0]), func(f *frame, s string) (string, state) {
			return f.mapASCII(s, 'a', 'z', 'A'-'a'+256)
		})
	case name == "trim":
		return unary(c, c.texts.expr(c, args[0]), func(f *frame, s string) (string, state) {
			f.charge(2*len(s) + 1)
			return strings.TrimSpace(s), stateKnown
		})
	case name == "replace":
		return c.replace(args)
	}
	return notCovered[string](c, name)
}

// parts appends what stands between the + of a text.
func (c *compiler) parts(dst []node[string], e ast.Expr) []node[string] {
	if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != operators.Add {
		return append(dst, c.texts.expr(c, e))
	}
	for _, a := range e.AsCall().Args() {
		dst = c.parts(dst, a)
	}
	return dst
}

// joined compiles the sum of texts, which is made at once: two by two, each would be
// copied as often as there are others behind it. The first part without a value decides,
// as it does two by two.
func (c *compiler) joined(parts []node[string]) node[string] {
	fixed := true
	for _, p := range parts {
		fixed = fixed && p.fixed
	}
	n := len(parts)
	return fold(c, fixed, func(f *frame) (string, state) {
		at := f.texts.reserve(n)
		var sum state
		size := 0
		for i := range parts {
			v, s := parts[i].run(f)
			if sum == stateKnown {
				sum = s
			}
			if sum == stateFailed {
				return "", sum
			}
			f.texts.items[at+i] = v
			size += len(v)
		}
		f.charge(n * (size/10 + 1))
		if sum != stateKnown {
			return "", sum
		}
		begin := len(f.bytes)
		for _, v := range f.texts.items[at : at+n] {
			f.bytes = append(f.bytes, v...)
		}
		return f.textFrom(begin), stateKnown
	})
}

// textFrom returns what was appended to the frame's bytes as a text. They are not
// written again before the frame is rewound, and the text is not looked at after that.
func (f *frame) textFrom(at int) string {
	b := f.bytes[at:]
	return unsafe.String(unsafe.SliceData(b), len(b)) //nolint:gosec // see above: nobody writes to them
}

// toText compiles string(…).
func (c *compiler) toText(e ast.Expr) node[string] {
	switch c.typeOf(e).Kind() {
	case types.StringKind:
		return c.texts.expr(c, e)
	case types.BoolKind:
		return unary(c, c.flags.expr(c, e), func(_ *frame, v bool) (string, state) { return strconv.FormatBool(v), stateKnown })
	case types.IntKind:
		return formatted(c, c.wholes.expr(c, e), func(dst []byte, v int64) []byte { return strconv.AppendInt(dst, v, 10) })
	case types.DoubleKind:
		return formatted(c, c.numbers.expr(c, e), func(dst []byte, v float64) []byte { return strconv.AppendFloat(dst, v, 'g', -1, 64) })
	case types.TimestampKind:
		return formatted(c, c.times.expr(c, e), func(dst []byte, t time.Time) []byte { return t.AppendFormat(dst, time.RFC3339Nano) })
	case types.DurationKind:
		return formatted(c, c.spans.expr(c, e), func(dst []byte, d time.Duration) []byte {
			return append(strconv.AppendFloat(dst, d.Seconds(), 'f', -1, 64), 's')
		})
	default:
		return notCovered[string](c, "string of a "+plainType(c.typeOf(e)))
	}
}

func formatted[T any](c *compiler, a node[T], appendTo func([]byte, T) []byte) node[string] {
	return unary(c, a, func(f *frame, v T) (string, state) {
		at := len(f.bytes)
		f.bytes = appendTo(f.bytes, v)
		return f.textFrom(at), stateKnown
	})
}

// runeOffset returns where the rune with an index begins, in bytes. The index of the
// end is one too.
func runeOffset(s string, index int64) (at int, ok bool) {
	if index < 0 || index > int64(len(s)) {
		return 0, false
	}
	for at = range s {
		if index == 0 {
			return at, true
		}
		index--
	}
	return len(s), index == 0
}

func charAt(f *frame, s string, index int64) (string, state) {
	f.charge(2*len(s) + 1)
	if !utf8.ValidString(s) {
		return "", f.giveUp()
	}
	at, ok := runeOffset(s, index)
	if !ok {
		return "", stateFailed
	}
	_, size := utf8.DecodeRuneInString(s[at:])
	return s[at : at+size], stateKnown
}

func substring(f *frame, s string, from, to int64) (string, state) {
	f.charge(2*len(s) + 1)
	if !utf8.ValidString(s) {
		return "", f.giveUp()
	}
	begin, ok := runeOffset(s, from)
	end, ok2 := runeOffset(s, to)
	if !ok || !ok2 || from > to {
		return "", stateFailed
	}
	return s[begin:end], stateKnown
}

// mapASCII adds to the letters from first to last.
func (f *frame) mapASCII(s string, first, last byte, add int) (string, state) {
	f.charge(2*len(s) + 1)
	if !utf8.ValidString(s) {
		return "", f.giveUp()
	}
	is := func(b byte) bool { return first <= b && b <= last }
	i := 0
	for i < len(s) && !is(s[i]) {
		i++
	}
	if i == len(s) {
		return s, stateKnown
	}
	at := len(f.bytes)
	f.bytes = append(f.bytes, s...)
	for j, b := range f.bytes[at:] {
		if is(b) {
			f.bytes[at+j] = byte(int(b) + add)
		}
	}
	return f.textFrom(at), stateKnown
}

// replace compiles the function of that name. The two texts are written out, and what is
// put in is not longer than what is taken out: see inspector.walkCall.
func (c *compiler) replace(args []ast.Expr) node[string] {
	old, _ := text(args[1])
	put, _ := text(args[2])
	times := constant(int64(-1), stateKnown)
	if len(args) == 4 {
		times = c.wholes.expr(c, args[3])
	}
	return three(c, c.texts.expr(c, args[0]), times, constant(0, stateKnown), func(f *frame, s string, n int64, _ int) (string, state) {
		f.charge((len(s)+1)*(len(old)+1)/10 + len(s) + 2)
		if old == "" || !strings.Contains(s, old) {
			return s, stateKnown
		}
		at := len(f.bytes)
		for rest := s; ; n-- {
			before, after, found := strings.Cut(rest, old)
			if n == 0 || !found {
				f.bytes = append(f.bytes, rest...)
				return f.textFrom(at), stateKnown
			}
			f.bytes = append(append(f.bytes, before...), put...)
			rest = after
		}
	})
}

// indexOf compiles the search for a part of a text.
func (c *compiler) indexOf(args []ast.Expr, last bool) node[int64] {
	if len(args) != 2 {
		return three(c, c.texts.expr(c, args[0]), c.texts.expr(c, args[1]), c.wholes.expr(c, args[2]), func(f *frame, s, part string, from int64) (int64, state) {
			return indexFrom(f, s, part, from, last)
		})
	}
	return binary(c, c.texts.expr(c, args[0]), c.texts.expr(c, args[1]), func(f *frame, s, part string) (int64, state) {
		if !f.canSearch(s, part) {
			return 0, stateFailed
		}
		at := strings.Index(s, part)
		if last {
			at = strings.LastIndex(s, part)
		}
		if at < 0 {
			return -1, stateKnown
		}
		return int64(utf8.RuneCountInString(s[:at])), stateKnown
	})
}

// canSearch charges for a search and gives up if it is of other than valid UTF-8.
func (f *frame) canSearch(s, part string) bool {
	f.charge((len(s)+1)*(len(part)+1)/10 + 2)
	if !utf8.ValidString(s) || !utf8.ValidString(part) {
		f.giveUp()
		return false
	}
	return true
}

// indexFrom searches from the rune with an index on, or back from it.
func indexFrom(f *frame, s, part string, from int64, last bool) (int64, state) {
	if !f.canSearch(s, part) || from < 0 {
		return 0, stateFailed
	}
	n := int64(utf8.RuneCountInString(s))
	switch {
	case part == "":
		return min(from, n), stateKnown
	case from >= n:
		return -1, stateKnown
	}
	begin, _ := runeOffset(s, from)
	if last {
		at := strings.LastIndex(s[:min(begin+len(part), len(s))], part)
		if at < 0 {
			return -1, stateKnown
		}
		return int64(utf8.RuneCountInString(s[:at])), stateKnown
	}
	at := strings.Index(s[begin:], part)
	if at < 0 {
		return -1, stateKnown
	}
	return from + int64(utf8.RuneCountInString(s[begin:begin+at])), stateKnown
}
