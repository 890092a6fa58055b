package profilestore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// readHeader finds the columns of the source's fields.
func (l *loader) readHeader(c *csvReader) error {
	header, err := c.next()
	if errors.Is(err, io.EOF) {
		return l.fail(0, "the file is empty: the first line has the names of the columns")
	}
	if bad, ok := errors.AsType[*csvError](err); ok {
		return l.fail(bad.line, "%s", bad.message)
	}
	if err != nil {
		return err
	}
	var problems loadProblems
	var splitter csvSplitter
	columns := splitter.split(header)
	places := make(map[string]int, len(columns))
	for i, f := range columns {
		name := string(bytes.TrimSpace(f))
		l.names = append(l.names, name)
		if first, ok := places[name]; ok && name != "" {
			problems.add(LoadProblem{Line: header.line, Column: name, Message: fmt.Sprintf("is there twice, as number %d and %d", first+1, i+1)})
			continue
		}
		places[name] = i
	}
	i, _ := l.o.Schema.Source(l.o.Source)
	key := l.o.Schema.Sources()[i].Key
	used := map[string]bool{key: true}
	var ok bool
	if l.key, ok = places[key]; !ok {
		problems.add(l.missing(header, key, "", "holds the customer"))
	}
	for i := range l.o.Schema.Fields() {
		f := &l.o.Schema.Fields()[i]
		if f.Batch != l.o.Source {
			continue
		}
		used[f.Column] = true
		place, ok := places[f.Column]
		if !ok {
			problems.add(l.missing(header, f.Column, f.Name, ""))
		}
		l.fields, l.places = append(l.fields, f), append(l.places, place)
	}
	if problems.count > 0 {
		return &LoadError{File: l.o.Path, Summary: "the header does not fit source " + l.o.Source + "; nothing was loaded", Problems: problems.list, Count: problems.count}
	}
	for _, name := range l.names {
		if !used[name] {
			l.unused = append(l.unused, name)
		}
	}
	return nil
}

// missing returns the problem of a column that is not there.
func (l *loader) missing(header csvRecord, column, field, use string) LoadProblem {
	p := LoadProblem{Line: header.line, Field: field, Column: column, Message: "is missing"}
	if use != "" {
		p.Message += "; it " + use
	}
	if nearest, ok := nearestName(column, l.names); ok {
		p.Message += fmt.Sprintf("; is %q meant?", nearest)
	} else if len(l.names) == 1 {
		for _, separator := range []string{";", "\t", "|"} {
			if strings.Contains(l.names[0], separator) {
				p.Message += fmt.Sprintf("; the columns are separated by %q: separate them by commas", separator)
			}
		}
	}
	return p
}
