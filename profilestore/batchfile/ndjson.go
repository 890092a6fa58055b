package batchfile

import (
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// ndjsonReader finds the records of a file of JSON objects, one a line. Empty lines
// are passed over.
type ndjsonReader struct {
	*lines
	columns []Column
	pending record // found, and not yet in a batch
	waits   bool
}

func (n *ndjsonReader) names() []string { return nil }

func (n *ndjsonReader) rows() int64 { return -1 }

func (n *ndjsonReader) want(columns []Column) []Problem {
	n.columns = columns
	return nil
}

func (n *ndjsonReader) next(b *Batch) error {
	for {
		if !n.waits {
			var err error
			if n.pending, err = n.find(); err != nil {
				if errors.Is(err, io.EOF) && len(b.records) > 0 {
					return nil
				}
				return err
			}
		}
		if n.waits = !b.room(n.pending); n.waits {
			return nil
		}
		b.add(n.pending)
	}
}

func (n *ndjsonReader) find() (record, error) {
	for {
		line, terminated, err := n.physicalLine(0)
		if err != nil {
			return record{}, err
		}
		if line == nil {
			return record{}, io.EOF
		}
		if r := n.consume(line, terminated); len(r.bytes) > 0 {
			return r, nil
		}
	}
}

func (n *ndjsonReader) decoder() decoder {
	d := &ndjsonDecoder{columns: n.columns, places: make(map[string]int32), wanted: make([]bool, len(n.columns)), stamp: make([]int64, len(n.columns))}
	for i, c := range n.columns {
		d.places[c.Name] = int32(i)
	}
	return d
}

// ndjsonDecoder takes objects apart. Numbers are the text that they have in the file,
// so the largest is as exact as in a CSV file.
type ndjsonDecoder struct {
	columns []Column
	places  map[string]int32
	wanted  []bool
	others  []string
	unknown map[string]bool

	// order has the members of the object before: most have the same ones in the same
	// order, so comparing the name with one is enough.
	order []member
	stamp []int64 // the object that had the column last
	count int64   // objects so far

	json jsonScanner
}

type member struct {
	name  string
	place int32
}

func (d *ndjsonDecoder) raw(b *Batch, i int) []byte { return b.records[i].bytes }

func (d *ndjsonDecoder) met() ([]bool, []string) { return d.wanted, d.others }

func (d *ndjsonDecoder) decode(b *Batch, i int, r *Record) {
	in := b.records[i]
	r.Line = in.line
	clear(r.Values)
	d.count++
	s := &d.json
	s.begin(in.bytes)
	fail := func() {
		r.Problems = append(r.Problems[:0], Problem{Line: in.line, Column: -1, Message: s.message(), Cut: s.atEnd()})
	}
	s.space()
	if !s.take('{') {
		s.fail("an object is needed, {…}")
		fail()
		return
	}
	s.space()
	for n := 0; !s.take('}'); n++ {
		if n > 0 && !s.comma('}') {
			fail()
			return
		}
		name, ok := s.name()
		if !ok {
			fail()
			return
		}
		place := d.place(n, name)
		if place < 0 {
			if !s.skip(0) {
				fail()
				return
			}
		} else if !d.value(place, r) {
			fail()
			return
		}
		s.space()
	}
	s.space()
	if s.at < len(s.b) {
		s.fail("something after the object: write one object a line")
		fail()
	}
}

// place returns which of the wanted columns the n-th member of an object is.
func (d *ndjsonDecoder) place(n int, name []byte) int32 {
	if n < len(d.order) && d.order[n].name == string(name) {
		return d.order[n].place
	}
	place, ok := d.places[string(name)]
	if !ok {
		place = -1
		if !d.unknown[string(name)] && len(d.others) < maxOthers {
			if d.unknown == nil {
				d.unknown = make(map[string]bool)
			}
			d.unknown[string(name)] = true
			d.others = append(d.others, string(name))
		}
	}
	if n < maxOrder {
		m := member{string(name), place}
		if n < len(d.order) {
			d.order[n] = m
		} else {
			d.order = append(d.order, m)
		}
	}
	return place
}

// maxOrder bounds how many members are remembered.
const maxOrder = 16384

// value reads the value of a wanted column. It returns false if the record is no JSON.
func (d *ndjsonDecoder) value(place int32, r *Record) bool {
	s, column := &d.json, &d.columns[place]
	s.space()
	begin := s.at
	bad := func(message string) bool {
		value := s.b[begin:s.at]
		r.Problems = append(r.Problems, Problem{
			Line: r.Line, Column: int(place), Value: string(value[:min(len(value), 100)]), Message: message,
		})
		return true
	}
	d.wanted[place] = true
	again := d.stamp[place] == d.count
	d.stamp[place] = d.count
	var text []byte
	message := ""
	switch s.peek() {
	case '{':
		if !s.skip(0) {
			return false
		}
		message = "is an object: give a text, a number, true or false, a list of them, or null"
	case '[':
		var ok bool
		if text, message, ok = s.list(); !ok {
			return false
		}
		if !column.Kind.list() && message == "" {
			message = "is a list, and the field has one value"
		}
	default:
		kind, value, ok := s.scalar()
		if !ok {
			return false
		}
		text = value
		switch {
		case kind == jsonNull:
			text = nil
		case kind == jsonHalf:
			message = "has a \\u of half a character: write the other half after it"
		case column.Kind == Key && kind == jsonNumber && !wholeNumber(value):
			message = "is no id: give it as a text, or as a whole number without exponent"
		case column.Kind == Key && kind == jsonBool:
			message = "is no id: give it as a text"
		}
	}
	if again {
		return bad("is there twice in the object")
	}
	if message != "" {
		return bad(message)
	}
	r.Values[place] = text
	return true
}

func wholeNumber(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// jsonKind is what a JSON value is.
type jsonKind uint8

const (
	jsonNull jsonKind = iota
	jsonBool
	jsonNumber
	jsonString
	jsonHalf // a string with half of a pair of \u escapes
)

// maxDepth bounds how deep values may be nested that nobody wants.
const maxDepth = 100

// jsonScanner reads JSON as RFC 8259 has it. The tests' twin is encoding/json.
type jsonScanner struct {
	b    []byte
	at   int
	text []byte // of strings with escapes, and of lists
	what string // is wrong, if something is
}

func (s *jsonScanner) begin(b []byte) { s.b, s.at, s.text, s.what = b, 0, s.text[:0], "" }

func (s *jsonScanner) fail(what string) bool {
	if s.what == "" {
		s.what = what
	}
	return false
}

func (s *jsonScanner) atEnd() bool { return s.at >= len(s.b) }

func (s *jsonScanner) message() string {
	if s.atEnd() {
		return "is not one JSON object: it ends too early"
	}
	return fmt.Sprintf("is not one JSON object: at byte %d: %s", s.at+1, s.what)
}

func (s *jsonScanner) space() {
	for s.at < len(s.b) {
		switch s.b[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return
		}
	}
}

func (s *jsonScanner) peek() byte {
	if s.at < len(s.b) {
		return s.b[s.at]
	}
	return 0
}

func (s *jsonScanner) take(c byte) bool {
	if s.peek() != c || s.atEnd() {
		return false
	}
	s.at++
	return true
}

// comma reads the comma between two members or elements.
func (s *jsonScanner) comma(end byte) bool {
	if !s.take(',') {
		return s.fail("a comma or " + string(end) + " is needed")
	}
	s.space()
	return true
}

// name reads the name of a member and the colon.
func (s *jsonScanner) name() ([]byte, bool) {
	if s.peek() != '"' {
		return nil, s.fail("a name in quotes is needed")
	}
	_, name, ok := s.str()
	if !ok {
		return nil, false
	}
	s.space()
	if !s.take(':') {
		return nil, s.fail("a colon is needed")
	}
	s.space()
	return name, true
}

// scalar reads a value that is no list and no object.
func (s *jsonScanner) scalar() (jsonKind, []byte, bool) {
	switch c := s.peek(); {
	case c == '"':
		return s.str()
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	case c == 't':
		return s.word("true", jsonBool)
	case c == 'f':
		return s.word("false", jsonBool)
	case c == 'n':
		return s.word("null", jsonNull)
	}
	return 0, nil, s.fail("a value is needed: texts are in quotes, an unknown value is null")
}

func (s *jsonScanner) word(word string, kind jsonKind) (jsonKind, []byte, bool) {
	begin := s.at
	for i := range len(word) {
		if !s.take(word[i]) {
			return 0, nil, s.fail(word + " is needed")
		}
	}
	return kind, s.b[begin:s.at], true
}

func (s *jsonScanner) number() (jsonKind, []byte, bool) {
	begin := s.at
	s.take('-')
	if !s.take('0') && s.digits() == 0 {
		return 0, nil, s.fail("a digit is needed")
	}
	if s.take('.') && s.digits() == 0 {
		return 0, nil, s.fail("a digit is needed")
	}
	if s.take('e') || s.take('E') {
		if !s.take('+') {
			s.take('-')
		}
		if s.digits() == 0 {
			return 0, nil, s.fail("a digit is needed")
		}
	}
	return jsonNumber, s.b[begin:s.at], true
}

func (s *jsonScanner) digits() (n int) {
	for s.at < len(s.b) && '0' <= s.b[s.at] && s.b[s.at] <= '9' {
		s.at++
		n++
	}
	return n
}

// str reads a string: a view of the record, or of text if it has escapes.
func (s *jsonScanner) str() (jsonKind, []byte, bool) {
	s.at++
	begin := s.at
	for ; s.at < len(s.b); s.at++ {
		switch c := s.b[s.at]; {
		case c == '"':
			s.at++
			return jsonString, s.b[begin : s.at-1], true
		case c == '\\':
			return s.escaped(begin)
		case c < ' ':
			return 0, nil, s.fail("a control character in a text: write it as an escape")
		}
	}
	return 0, nil, s.fail("a quote is not closed")
}

// escaped reads the rest of a string that has an escape at the present place.
func (s *jsonScanner) escaped(begin int) (jsonKind, []byte, bool) {
	from := len(s.text)
	kind := jsonString
	s.text = append(s.text, s.b[begin:s.at]...)
	for s.at < len(s.b) {
		c := s.b[s.at]
		s.at++
		switch {
		case c == '"':
			return kind, s.text[from:len(s.text):len(s.text)], true
		case c < ' ':
			s.at--
			return 0, nil, s.fail("a control character in a text: write it as an escape")
		case c != '\\':
			s.text = append(s.text, c)
			continue
		}
		switch c = s.peek(); c {
		case '"', '\\', '/':
			s.text = append(s.text, c)
		case 'b':
			s.text = append(s.text, '\b')
		case 'f':
			s.text = append(s.text, '\f')
		case 'n':
			s.text = append(s.text, '\n')
		case 'r':
			s.text = append(s.text, '\r')
		case 't':
			s.text = append(s.text, '\t')
		case 'u':
			s.at++
			r, ok := s.hex()
			if !ok {
				return 0, nil, false
			}
			if r, ok = s.pair(r); !ok {
				kind = jsonHalf
			}
			s.text = utf8.AppendRune(s.text, r)
			continue
		default:
			return 0, nil, s.fail("no escape begins like that")
		}
		s.at++
	}
	return 0, nil, s.fail("a quote is not closed")
}

// hex reads four hexadecimal digits.
func (s *jsonScanner) hex() (r rune, ok bool) {
	for range 4 {
		c := s.peek()
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, s.fail("four hexadecimal digits are needed after \\u")
		}
		r = r<<4 | rune(c)
		s.at++
	}
	return r, true
}

// pair completes a character of two \u escapes, of which the first was read. It
// returns false for half of one.
func (s *jsonScanner) pair(r rune) (rune, bool) {
	if r < 0xd800 || r > 0xdfff {
		return r, true
	}
	if r > 0xdbff || s.at+6 > len(s.b) || s.b[s.at] != '\\' || s.b[s.at+1] != 'u' {
		return utf8.RuneError, false
	}
	at := s.at
	s.at += 2
	low, ok := s.hex()
	if !ok || low < 0xdc00 || low > 0xdfff {
		s.at, s.what = at, ""
		return utf8.RuneError, false
	}
	return (r-0xd800)<<10 | (low - 0xdc00) + 0x10000, true
}

// list reads a list of scalars as they are written in a CSV file: with semicolons
// between. message says what is wrong with its elements.
func (s *jsonScanner) list() (text []byte, message string, ok bool) {
	s.at++
	s.space()
	var joined []byte
	for n := 0; !s.take(']'); n++ {
		if n > 0 {
			if !s.comma(']') {
				return nil, "", false
			}
			joined = append(joined, ';')
		}
		if c := s.peek(); c == '[' || c == '{' {
			if !s.skip(0) {
				return nil, "", false
			}
			message = "has a list or an object as an element: give texts or numbers"
			s.space()
			continue
		}
		kind, value, ok := s.scalar()
		if !ok {
			return nil, "", false
		}
		for _, c := range value {
			if c == ';' {
				message = "has an element with a semicolon, which stands between the elements"
			}
		}
		switch kind {
		case jsonNull: // of hops it is 0, of a set nothing
		case jsonHalf:
			message = "has a \\u of half a character: write the other half after it"
		case jsonBool, jsonNumber, jsonString:
			joined = append(joined, value...)
		}
		s.space()
	}
	return joined, message, true
}

// skip reads a value that nobody wants.
func (s *jsonScanner) skip(depth int) bool {
	c := s.peek()
	if c != '[' && c != '{' {
		text := len(s.text)
		_, _, ok := s.scalar()
		s.text = s.text[:text]
		return ok
	}
	if depth == maxDepth {
		return s.fail(fmt.Sprintf("more than %d lists and objects in each other", maxDepth))
	}
	end := c + 2 // of [ and {
	s.at++
	s.space()
	for n := 0; !s.take(end); n++ {
		if n > 0 && !s.comma(end) {
			return false
		}
		if c == '{' {
			if _, ok := s.name(); !ok {
				return false
			}
		}
		if !s.skip(depth + 1) {
			return false
		}
		s.space()
	}
	return true
}
