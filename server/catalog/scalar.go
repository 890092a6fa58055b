package catalog

import (
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"rapport/profilestore/rules"
)

// failScalar reports mistakes in the text at path, which is an expression or holds
// some, each at its own place in the file.
func (d *document) failScalar(path string, errs rules.CompileErrors) {
	n := d.node(path)
	for _, e := range errs {
		p := Problem{File: d.file, Path: path, Message: e.Message}
		if n != nil {
			p.Line, p.Column = d.within(n, e.Line, e.Column)
		}
		d.problems = append(d.problems, p)
	}
	d.reported[path] = true
}

// within returns where a place in the text of a scalar is in the file.
//
// YAML folds, indents and quotes a text, but it neither adds nor removes
// characters other than blanks (escapes aside). So the place is found by
// counting: the character with so many others before it in the text has as many
// before it in the file.
func (d *document) within(n *yaml.Node, line, column int) (int, int) {
	if n.Kind != yaml.ScalarNode {
		return n.Line, n.Column
	}
	count := 0
	for i, text := range strings.Split(n.Value, "\n") {
		for j, r := range []rune(text) {
			if i+1 > line || i+1 == line && j+1 >= column {
				break
			}
			if !unicode.IsSpace(r) {
				count++
			}
		}
	}
	at, skip := n.Line-1, n.Column-1
	switch {
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		at, skip = at+1, 0
	case n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		skip++
	}
	lastLine, lastColumn := n.Line, n.Column
	for ; at < len(d.lines); at, skip = at+1, 0 {
		text := []rune(strings.TrimSuffix(d.lines[at], "\r"))
		for i := skip; i < len(text); {
			width, blank := charWidth(text[i:], n.Style)
			if !blank {
				if count == 0 {
					return at + 1, i + 1
				}
				count--
				lastLine, lastColumn = at+1, i+1+width
				if count == 0 && atEnd(n.Value, line, column) {
					return lastLine, lastColumn
				}
			}
			i += width
		}
	}
	return lastLine, lastColumn
}

// atEnd reports whether no character but blanks stands at or after a place.
func atEnd(text string, line, column int) bool {
	lines := strings.Split(text, "\n")
	if line > len(lines) {
		return true
	}
	rest := []rune(lines[line-1])
	rest = rest[min(column-1, len(rest)):]
	return strings.TrimSpace(string(rest)+strings.Join(lines[line:], "")) == ""
}

// charWidth returns how many characters of a line stand for the next one of the
// text, and whether that is a blank.
func charWidth(text []rune, style yaml.Style) (width int, blank bool) {
	switch {
	case style&yaml.SingleQuotedStyle != 0 && text[0] == '\'' && len(text) > 1 && text[1] == '\'':
		return 2, false
	case style&yaml.DoubleQuotedStyle != 0 && text[0] == '\\' && len(text) == 1:
		return 1, true // the line goes on in the next one
	case style&yaml.DoubleQuotedStyle != 0 && text[0] == '\\':
		width := map[rune]int{'x': 4, 'u': 6, 'U': 10}[text[1]]
		return min(max(width, 2), len(text)), strings.ContainsRune("tnvfr N_LP\t", text[1])
	}
	return 1, unicode.IsSpace(text[0])
}
