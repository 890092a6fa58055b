package profilestore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rapport/profilestore/batchfile"
)

// loadPart is one of the files of a load.
type loadPart struct {
	index       int
	path        string
	size        int64
	format      batchfile.Format
	compression string
	declared    int64 // rows, if the file says how many it has, or −1
	names       []string
	rows        int64 // that were read
	last        int64 // the line of the last of them
}

// findParts finds the files.
func (l *loader) findParts() error {
	for _, path := range l.o.Paths {
		info, err := os.Stat(path)
		if err != nil {
			return strippedPathError(err)
		}
		if !info.IsDir() {
			if err := l.addPart(path, info); err != nil {
				return err
			}
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return err
		}
		found := 0
		for _, entry := range entries {
			// Jobs leave marks such as _SUCCESS and .part-0.crc.
			if name := entry.Name(); name[0] == '.' || name[0] == '_' {
				continue
			}
			inside := filepath.Join(path, entry.Name())
			info, err := os.Stat(inside)
			if err != nil {
				return err
			}
			if info.IsDir() {
				return fmt.Errorf("%s is a folder: name it, or the files that are meant", inside)
			}
			if err := l.addPart(inside, info); err != nil {
				return err
			}
			found++
		}
		if found == 0 {
			return fmt.Errorf("the folder %s has no files", path)
		}
	}
	l.name = partNames(l.parts)
	return nil
}

func (l *loader) addPart(path string, info os.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file", path)
	}
	for _, p := range l.parts {
		if other, err := os.Stat(p.path); err == nil && os.SameFile(info, other) {
			return fmt.Errorf("%s is given twice", path)
		}
	}
	l.parts = append(l.parts, &loadPart{index: len(l.parts), path: path, size: info.Size(), declared: -1})
	l.size += info.Size()
	return nil
}

// strippedPathError makes the error of a file that is not there the one of opening
// it, as a person would say it.
func strippedPathError(err error) error {
	if bad, ok := errors.AsType[*os.PathError](err); ok {
		return &os.PathError{Op: "open", Path: bad.Path, Err: bad.Err}
	}
	return err
}

// partNames returns what files are called together.
func partNames(parts []*loadPart) string {
	if len(parts) == 1 {
		return parts[0].path
	}
	return fmt.Sprintf("%s and %d more", parts[0].path, len(parts)-1)
}

// problem returns a problem with a part.
func (l *loader) problem(p *loadPart, in batchfile.Problem) LoadProblem {
	out := LoadProblem{Line: in.Line, Row: p.format == batchfile.Parquet, Column: in.Name, Value: in.Value, Message: in.Message}
	if len(l.parts) > 1 {
		out.File = p.path
	}
	if in.Column >= 0 {
		out.Column = l.columns[in.Column].Name
		if in.Column > 0 {
			out.Field = l.fields[in.Column-1].Name
		}
	}
	return out
}

// partError returns the error of what can't be read of a part.
func (l *loader) partError(p *loadPart, err error) error {
	if bad, ok := errors.AsType[*batchfile.Error](err); ok {
		return l.fail(l.problem(p, bad.Problem))
	}
	return err
}

// checkParts looks at the columns of all files and reports what is wrong with any.
func (l *loader) checkParts() error {
	s, _ := l.o.Schema.Source(l.o.Source)
	l.columns = []batchfile.Column{{Name: l.o.Schema.Sources()[s].Key, Kind: batchfile.Key}}
	for i := range l.o.Schema.Fields() {
		if f := &l.o.Schema.Fields()[i]; f.Batch == l.o.Source {
			l.fields = append(l.fields, f)
			l.columns = append(l.columns, batchfile.Column{Name: f.Column, Kind: kindOf(f)})
		}
	}
	var problems loadProblems
	for _, p := range l.parts {
		file, err := batchfile.Open(p.path, l.o.Format)
		if err != nil {
			if bad, ok := errors.AsType[*batchfile.Error](err); ok && len(l.parts) > 1 {
				problems.add(loadPlace{part: p.index}, l.problem(p, bad.Problem))
				continue
			}
			return l.partError(p, err)
		}
		p.format, p.compression, p.declared = file.Format, file.Compression, file.Rows()
		p.names = file.Names()
		l.checkNames(p, &problems)
		for _, bad := range file.Want(l.columns) {
			problems.add(loadPlace{part: p.index}, l.problem(p, bad))
		}
		file.Close()
	}
	if problems.count > 0 {
		what := "the columns do not fit"
		if len(l.parts) == 1 && l.parts[0].format == batchfile.CSV {
			what = "the header does not fit"
		}
		return &LoadError{File: l.name, Summary: what + " source " + l.o.Source + "; nothing was loaded", Problems: problems.list, Count: problems.count}
	}
	return nil
}

// kindOf returns what the column of a field is read as.
func kindOf(f *Field) batchfile.Kind {
	switch {
	case f.Type == TypeFlag:
		return batchfile.Flag
	case f.Type == TypeSet:
		return batchfile.Set
	case f.Bucket > 0:
		return batchfile.Hops
	case f.Type == TypeText:
		return batchfile.Text
	case f.Type == TypeTime:
		return batchfile.Time
	}
	return batchfile.Number
}

// checkNames looks for the columns of the source's fields among a file's.
func (l *loader) checkNames(p *loadPart, problems *loadProblems) {
	if p.names == nil {
		return // see checkMet
	}
	line := int64(1)
	if p.format == batchfile.Parquet {
		line = 0
	}
	at := loadPlace{p.index, line}
	wanted := make(map[string]bool, len(l.columns))
	for _, c := range l.columns {
		wanted[c.Name] = true
	}
	places := make(map[string]int, len(p.names))
	for i, name := range p.names {
		if first, ok := places[name]; ok && name != "" {
			problems.add(at, l.problem(p, batchfile.Problem{
				Line: line, Column: -1, Name: name, Message: fmt.Sprintf("is there twice, as number %d and %d", first+1, i+1),
			}))
			continue
		}
		places[name] = i
		if !wanted[name] {
			l.noteUnused(name)
		}
	}
	for i := range l.columns {
		if _, ok := places[l.columns[i].Name]; !ok {
			message := "is missing"
			if i == 0 {
				message += "; it holds the customer"
			}
			problems.add(at, l.problem(p, batchfile.Problem{Line: line, Column: i, Message: message + hint(l.columns[i].Name, p.names)}))
		}
	}
}

func (l *loader) noteUnused(name string) {
	if !slices.Contains(l.unused, name) {
		l.unused = append(l.unused, name)
	}
}

// hint says what may have been meant by a file that has no column of a name.
func hint(column string, names []string) string {
	if nearest, ok := nearestName(column, names); ok {
		return fmt.Sprintf("; is %q meant?", nearest)
	}
	if len(names) == 1 {
		for _, separator := range []string{";", "\t", "|"} {
			if strings.Contains(names[0], separator) {
				return fmt.Sprintf("; the columns are separated by %q: separate them by commas", separator)
			}
		}
	}
	return ""
}

// checkMet looks, after all has been read, for columns that no object had: files of
// objects have no header, and a name that is misspelt would else be a field that is
// unknown for everybody.
func (l *loader) checkMet(files []*batchfile.File) error {
	met, rows := make([]bool, len(l.columns)), false
	for _, f := range files {
		wanted, others := f.Met()
		for i, m := range wanted {
			met[i] = met[i] || m
			rows = rows || m
		}
		rows = rows || len(others) > 0
		for _, name := range others {
			l.noteUnused(name)
		}
	}
	if !rows {
		return nil
	}
	var problems loadProblems
	for i, m := range met {
		if !m {
			meant := hint(l.columns[i].Name, l.unused)
			if meant == "" {
				meant = "; if nobody has a value, write null in one"
			}
			p := LoadProblem{Column: l.columns[i].Name, Message: "is in no object" + meant}
			if i > 0 {
				p.Field = l.fields[i-1].Name
			}
			problems.add(loadPlace{}, p)
		}
	}
	if problems.count > 0 {
		return &LoadError{File: l.name, Summary: "the objects do not fit source " + l.o.Source + "; nothing was loaded", Problems: problems.list, Count: problems.count}
	}
	return nil
}
