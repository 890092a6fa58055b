package catalog

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"rapport/profilestore/rules"
)

// Template is a text with computed parts, as treatments have: `Your balance is
// {{profile.value.balance}}`. Four braces stand for two. A nil Template is the empty
// text. It is immutable and safe for concurrent use.
type Template struct {
	source string
	text   string         // if nothing is computed
	parts  []templatePart // nil: nothing is
}

// templatePart is a text and the computed part after it.
type templatePart struct {
	text string
	expr *rules.Text // nil at the end
}

// Literal returns a template of which nothing is computed.
func Literal(text string) *Template {
	return &Template{source: strings.NewReplacer("{{", "{{{{", "}}", "}}}}").Replace(text), text: text}
}

// Computed reports whether the text depends on the customer, and so may have no value.
func (t *Template) Computed() bool { return t != nil && t.parts != nil }

// String returns the template as it was written.
func (t *Template) String() string {
	if t == nil {
		return ""
	}
	return t.source
}

// Render returns the text for what an evaluation of the catalogue's rules was reset to,
// and True. It returns Unknown where a computed part needs a value that is not known,
// Failed where one can't be evaluated. A text without computed parts costs nothing.
func (t *Template) Render(e *rules.Evaluation) (string, rules.Truth) {
	switch {
	case t == nil:
		return "", rules.True
	case t.parts == nil:
		return t.text, rules.True
	}
	var room [256]byte
	b := room[:0]
	for i := range t.parts {
		p := &t.parts[i]
		b = append(b, p.text...)
		if p.expr == nil {
			continue
		}
		var truth rules.Truth
		if b, truth = e.AppendText(b, p.expr); truth != rules.True {
			return "", truth
		}
	}
	return string(b), rules.True
}

// maxComputed is how many parts of a template may be computed.
const maxComputed = 100

// templateError is a mistake at a byte of a template. If errs is not nil it has the
// places, in the expression that begins there.
type templateError struct {
	at      int
	message string
	errs    rules.CompileErrors
}

// parseTemplate takes a template apart and compiles its computed parts.
func parseTemplate(source string, compile func(expr string) (*rules.Text, error)) (*Template, []templateError) {
	t := &Template{source: source}
	var mistakes []templateError
	var text strings.Builder
	computed := 0
	for at := 0; at < len(source); {
		rest := source[at:]
		switch {
		case strings.HasPrefix(rest, "{{{{"):
			text.WriteString("{{")
			at += 4
		case strings.HasPrefix(rest, "}}}}"):
			text.WriteString("}}")
			at += 4
		case strings.HasPrefix(rest, "}}"):
			mistakes = append(mistakes, templateError{at: at, message: "}} without {{ before it: to show it, write }}}}"})
			at += 2
		case strings.HasPrefix(rest, "{{"):
			length, ok := expressionEnd(rest[2:])
			if !ok {
				return nil, append(mistakes, templateError{at: at, message: "{{ without }}: a computed part ends with }}; to show {{, write {{{{"})
			}
			if computed++; computed > maxComputed {
				return nil, append(mistakes, templateError{at: at, message: fmt.Sprintf("more than %d parts are computed", maxComputed)})
			}
			expr, err := compile(rest[2 : 2+length])
			if err != nil {
				e := templateError{at: at + 2, message: err.Error()}
				if errs, ok := errors.AsType[rules.CompileErrors](err); ok {
					e.errs = errs
				}
				mistakes = append(mistakes, e)
			}
			t.parts = append(t.parts, templatePart{text.String(), expr})
			text.Reset()
			at += 2 + length + 2
		default:
			next := strings.IndexAny(rest[1:], "{}")
			if next < 0 {
				next = len(rest) - 1
			}
			text.WriteString(rest[:1+next])
			at += 1 + next
		}
	}
	switch {
	case t.parts == nil:
		t.text = text.String()
	case text.Len() > 0:
		t.parts = append(t.parts, templatePart{text: text.String()})
	}
	return t, mistakes
}

// expressionEnd returns where the }} is that ends an expression: not one in a text or
// of a map. Where a text has no end it is the first, and the compiler then finds what is
// wrong.
func expressionEnd(s string) (int, bool) {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\'':
			n := textLength(s, i)
			if n < 0 {
				end := strings.Index(s, "}}")
				return end, end >= 0
			}
			i += n - 1
		case c == '{':
			depth++
		case c == '}' && depth > 0:
			depth--
		case c == '}' && strings.HasPrefix(s[i:], "}}"):
			return i, true
		}
	}
	end := strings.Index(s, "}}")
	return end, end >= 0
}

// textLength returns how many bytes the literal of a text takes that begins at i, −1 if
// it has no end.
func textLength(s string, i int) int {
	quote := s[i : i+1]
	if triple := strings.Repeat(quote, 3); strings.HasPrefix(s[i:], triple) {
		quote = triple
	}
	raw := i > 0 && (s[i-1] == 'r' || s[i-1] == 'R') && (i == 1 || !isWord(s[i-2]))
	for at := i + len(quote); at < len(s); at++ {
		switch {
		case s[at] == '\\' && !raw:
			at++
		case strings.HasPrefix(s[at:], quote):
			return at + len(quote) - i
		}
	}
	return -1
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// template compiles a text with computed parts of an element of a list; nil where it is
// empty or wrong.
func (c *compiler) template(list string, i int, below, source string) *Template {
	if source == "" || c.mistaken >= maxProblems {
		return nil
	}
	t, mistakes := parseTemplate(source, c.text)
	mistakes = slices.DeleteFunc(mistakes, func(m templateError) bool { return m.errs != nil && c.lostName(m.errs) })
	if len(mistakes) == 0 {
		return t
	}
	c.mistaken++
	from := c.origins[list][i]
	if path := from.path + "." + below; !from.doc.suppressed(path) {
		from.doc.failTemplate(path, source, mistakes)
	}
	return nil
}

// text compiles a computed part, the same one once.
func (c *compiler) text(expr string) (*rules.Text, error) {
	if t, ok := c.texts[expr]; ok {
		return t, nil
	}
	t, err := c.env.Text(expr)
	if err == nil {
		c.texts[expr] = t
	}
	return t, err
}

// failTemplate reports the mistakes in the template at path, each at its own place in
// the file.
func (d *document) failTemplate(path, source string, mistakes []templateError) {
	for _, m := range mistakes {
		before := source[:m.at]
		line, column := 1+strings.Count(before, "\n"), 1+len([]rune(before[strings.LastIndexByte(before, '\n')+1:]))
		if m.errs == nil {
			d.failScalar(path, rules.CompileErrors{{Line: line, Column: column, Message: m.message}})
			continue
		}
		placed := make(rules.CompileErrors, len(m.errs))
		for k, e := range m.errs {
			moved := *e
			if moved.Line == 1 {
				moved.Column += column - 1
			}
			moved.Line += line - 1
			placed[k] = &moved
		}
		d.failScalar(path, placed)
	}
}
