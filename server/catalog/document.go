package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"buf.build/go/protoyaml"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
)

// document is one file, parsed to YAML nodes, with the place of every value. It
// collects the problems of the file.
//
// A file is checked three times, each time for all it is worth: walk.go holds
// the nodes against the message's descriptor (unknown and repeated keys, values
// of a wrong type), validate.go the message against its protovalidate rules, and
// the compiler what it says against the rest of the catalogue. protoyaml decodes
// between the first two; its own errors can be had as text only, and it lets
// repeated keys, nulls and a second document pass.
type document struct {
	file     string
	content  []byte
	lines    []string
	root     *yaml.Node
	places   map[string]place
	problems []Problem
	reported map[string]bool // the paths of problems
	invalid  map[string]bool // those of the document by itself, before the compiler's
	partial  bool            // a whole list may be missing from the message
	more     int             // problems that were only counted
}

// place is where a value stands; key is nil for an element of a list.
type place struct{ key, value *yaml.Node }

// readDocument parses a file. Where that fails, root is nil, and the problem
// says why.
func readDocument(f File) *document {
	d := &document{
		file: f.Name, content: bytes.TrimPrefix(f.Content, []byte("\ufeff")),
		places: make(map[string]place), reported: make(map[string]bool),
	}
	if err := d.parse(); err != nil {
		line, message := yamlError(err)
		p := Problem{File: d.file, Line: line, Message: message}
		if line > 0 {
			p.Column = 1
		}
		d.problems = append(d.problems, p)
		d.root = nil
	}
	return d
}

// parse reads the one document of the file.
func (d *document) parse() (err error) {
	if err := checkBytes(d.content); err != nil {
		return err
	}
	d.lines = strings.Split(string(d.content), "\n")
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the YAML parser gave up: %v", r)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(d.content))
	var first, second yaml.Node
	switch err := dec.Decode(&first); {
	case errors.Is(err, io.EOF):
		return errors.New("the file is empty")
	case err != nil:
		return err
	}
	switch err := dec.Decode(&second); {
	case err == nil:
		return &placedError{line: max(second.Line, 1), message: "a second document begins here: write it to a file of its own"}
	case !errors.Is(err, io.EOF):
		return err
	}
	d.root = first.Content[0]
	if isNull(d.root) {
		return errors.New("the file is empty")
	}
	return nil
}

// checkBytes refuses what would be dear to parse, and what YAML and editors
// number differently.
func checkBytes(b []byte) error {
	if len(b) > MaxFileBytes {
		return fmt.Errorf("the file has %d bytes: at most %d", len(b), MaxFileBytes)
	}
	if !utf8.Valid(b) {
		return errors.New("the file is not UTF-8")
	}
	values := 0
	for _, sep := range []string{"\n", ",", "[", "{"} {
		values += bytes.Count(b, []byte(sep))
	}
	if values > maxValues {
		return fmt.Errorf("the file has some %d values: at most %d", values, maxValues)
	}
	for line, rest := 1, b; len(rest) > 0; line++ {
		var text []byte
		text, rest, _ = bytes.Cut(rest, []byte("\n"))
		text = bytes.TrimSuffix(text, []byte("\r"))
		if i := bytes.IndexAny(text, "\r\u0085\u2028\u2029\x00"); i >= 0 {
			return &placedError{line: line, message: "the line has a character that YAML takes for the end of a line, or a NUL: remove it"}
		}
	}
	return nil
}

// placedError is an error with a line.
type placedError struct {
	line    int
	message string
}

func (e *placedError) Error() string { return e.message }

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// yamlError takes the line out of an error of the YAML parser, which has it in
// its text only.
func yamlError(err error) (line int, message string) {
	if placed, ok := errors.AsType[*placedError](err); ok {
		return placed.line, placed.message
	}
	message, _, _ = strings.Cut(err.Error(), "\n")
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		line, _ = strconv.Atoi(m[1])
		message = "not YAML: " + m[2]
	}
	return line, message
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// decode checks the nodes against m's descriptor and then decodes them into m.
// What was a problem is left out of m.
func (d *document) decode(m proto.Message) {
	if d.root == nil || !d.checkNodes(d.root, 0) {
		d.root, d.partial = nil, true
		return
	}
	d.walkMessage(d.root, m.ProtoReflect().Descriptor(), "")
	if d.more > 0 { // it is no catalogue at all
		d.root, d.partial = nil, true
		return
	}
	for path := range d.reported {
		d.partial = d.partial || !strings.Contains(path, "[")
	}
	defer func() {
		if r := recover(); r != nil {
			d.failAt(d.root, "", "can't be decoded: %v", r)
		}
	}()
	err := protoyaml.UnmarshalOptions{DiscardUnknown: true, AllowPartial: true}.Unmarshal(d.content, m)
	if err != nil && len(d.problems) == 0 { // not foreseen by the walk
		text := err.Error()
		d.failAt(d.root, "", "can't be decoded: %.300s", text)
	}
}

// checkNodes refuses what YAML can do and catalogues do not need: aliases, by
// which a small file becomes a large one, tags, and deep nesting. It reports
// whether the tree is fit to be walked.
func (d *document) checkNodes(n *yaml.Node, depth int) bool {
	if depth > maxNesting {
		d.failAt(n, "", "nested more than %d deep", maxNesting)
		return false
	}
	ok := true
	switch {
	case n.Kind == yaml.AliasNode:
		d.failAt(n, "", "*%s is an alias: write the value out", n.Value)
		return false
	case n.Anchor != "":
		d.failAt(n, "", "&%s is an anchor: remove it, aliases can't be used here", n.Anchor)
		ok = false
	case n.Style&yaml.TaggedStyle != 0:
		d.failAt(n, "", "%s is a tag: remove it", n.Tag)
		ok = false
	}
	for _, c := range n.Content {
		ok = d.checkNodes(c, depth+1) && ok
		if d.more > 0 {
			return false
		}
	}
	return ok
}

// fail reports a problem of the value at path, or where it should be.
func (d *document) fail(path, format string, args ...any) {
	d.failAt(d.node(path), path, format, args...)
}

// failKey reports a problem at the key of path.
func (d *document) failKey(path, format string, args ...any) {
	n := d.places[path].key
	if n == nil {
		n = d.node(path)
	}
	d.failAt(n, path, format, args...)
}

func (d *document) failAt(n *yaml.Node, path, format string, args ...any) {
	if len(d.problems) >= maxProblems {
		d.more++
		return
	}
	p := Problem{File: d.file, Path: path, Message: fmt.Sprintf(format, args...)}
	if n != nil {
		p.Line, p.Column = n.Line, n.Column
	}
	d.problems = append(d.problems, p)
	d.reported[path] = true
}

// node returns the node of a path, or of the nearest value that it would be in.
func (d *document) node(path string) *yaml.Node {
	for {
		if p, ok := d.places[path]; ok {
			return p.value
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return d.root
		}
		path = path[:i]
	}
}

// has reports whether the file has a value at path.
func (d *document) has(path string) bool {
	_, ok := d.places[path]
	return ok
}

// line returns the line of a path, for messages about two places.
func (d *document) line(path string) int {
	if n := d.node(path); n != nil {
		return n.Line
	}
	return 0
}
