package reftable

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"rapport/profilestore/durable"
)

// Limits of a table.
const (
	MaxRows       = 10_000_000
	MaxKeyBytes   = 256
	MaxValueBytes = 1024

	maxBytes    = 2 << 30 // of all keys, and of all values
	maxProblems = 20      // that an error lists
)

// ErrLoadRunning means that another load of the same table is under way.
var ErrLoadRunning = errors.New("another load of this reference table is running")

// LoadOptions describe a load.
type LoadOptions struct {
	Dir   string // DATA/tables
	Table string
	Path  string // CSV in UTF-8, with a header line
	// Key and Value name the columns. Both empty: the file has these two columns
	// alone, the key first.
	Key, Value string
	AllowEmpty bool // take a file without rows
	Now        time.Time
}

// LoadReport says what a load has made.
type LoadReport struct {
	Info Info
	// Noop says that the version was there with the same content. It may be one
	// that is not in force.
	Noop     bool
	Repaired bool // it was damaged, and is whole again
	Took     time.Duration
}

// Problem is one mistake in a file.
type Problem struct {
	Line    int // 0: of the file as a whole
	Message string
}

// LoadError is what is wrong with a file. Nothing was loaded.
type LoadError struct {
	File     string
	Problems []Problem
	More     int // mistakes that are not listed
}

func (e *LoadError) Error() string {
	lines := make([]string, 0, len(e.Problems)+1)
	for _, p := range e.Problems {
		if p.Line == 0 {
			lines = append(lines, fmt.Sprintf("%s: %s", e.File, p.Message))
		} else {
			lines = append(lines, fmt.Sprintf("%s:%d: %s", e.File, p.Line, p.Message))
		}
	}
	if e.More > 0 {
		lines = append(lines, fmt.Sprintf("%s: %d more mistakes", e.File, e.More))
	}
	return strings.Join(lines, "\n")
}

var tableName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)

// Load makes a version of a table from a file. The file is checked completely
// first; an error, such as a [*LoadError], leaves everything as it was. The same
// content as that of a version that is there makes none: that one is returned.
//
// It takes no part in what is in force, so it may run beside a server, and before
// the schema declares the table.
func Load(ctx context.Context, o LoadOptions) (_ *LoadReport, err error) {
	started := time.Now()
	if !tableName.MatchString(o.Table) {
		return nil, fmt.Errorf("%q is not a table name: use a-z, 0-9 and _, beginning with a letter, at most 32", o.Table)
	}
	rows, err := readRows(ctx, o)
	if err != nil {
		return nil, err
	}
	f := folder{root: o.Dir, table: o.Table}
	if err := durable.MakeFolder(f.dir(), 0o750); err != nil {
		return nil, fmt.Errorf("reference table %s: %w", o.Table, err)
	}
	unlock, err := f.lockLoad()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	h := head{Table: o.Table, ContentHash: contentHash(rows), Origin: filepath.Base(o.Path), LoadedAt: o.Now.UTC().Truncate(time.Second)}
	numbers, err := f.versions()
	if err != nil {
		return nil, err
	}
	report := &LoadReport{}
	h.Version = 1
	if len(numbers) > 0 {
		h.Version = numbers[0] + 1
	}
	for _, n := range numbers {
		old, size, err := readHead(f.path(n))
		if err != nil || old.ContentHash != h.ContentHash {
			continue
		}
		if _, err := openVersion(f, n); err == nil {
			return &LoadReport{Info: old.info(o.Table, StateRetained, size), Noop: true, Took: time.Since(started)}, nil
		}
		h.Version, report.Repaired = n, true
		break
	}
	content, err := encode(h, rows)
	if err != nil {
		return nil, err
	}
	made, err := parseVersion(content)
	if err != nil {
		return nil, fmt.Errorf("reference table %s: what was made of it can't be read: %w", o.Table, err)
	}
	if err := f.write(h.Version, content); err != nil {
		return nil, fmt.Errorf("reference table %s: %w", o.Table, err)
	}
	report.Info, report.Took = made.info(o.Table, StateRetained), time.Since(started)
	return report, nil
}

// contentHash identifies the rows, whatever their order in the file was.
func contentHash(rows []row) string {
	sum := sha256.New()
	w := bufio.NewWriter(sum)
	for i := range rows {
		for _, s := range [...]string{rows[i].key, rows[i].value} {
			_, _ = w.WriteString(s) // a hash never fails to write
			_ = w.WriteByte(0)      // no text has one
		}
	}
	_ = w.Flush()
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// lockLoad takes the lock of loads, or returns ErrLoadRunning.
func (f folder) lockLoad() (unlock func() error, err error) {
	file, err := os.OpenFile(filepath.Join(f.dir(), "LOAD.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	switch err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, errors.Join(fmt.Errorf("%w: table %s: wait for it, or end it", ErrLoadRunning, f.table), file.Close())
	case err != nil:
		return nil, errors.Join(err, file.Close())
	}
	return file.Close, nil
}

// reading is a file that is being checked.
type reading struct {
	err        LoadError
	key, value int // columns
	rows       []row
	values     map[string]string // each once
	keyBytes   int
	valueBytes int
}

func (r *reading) fail(line int, format string, args ...any) {
	if len(r.err.Problems) == maxProblems {
		r.err.More++
		return
	}
	r.err.Problems = append(r.err.Problems, Problem{Line: line, Message: fmt.Sprintf(format, args...)})
}

// readRows reads and checks a file. The rows are ascending by key.
func readRows(ctx context.Context, o LoadOptions) ([]row, error) {
	file, err := os.Open(o.Path)
	if err != nil {
		return nil, fmt.Errorf("reference table %s: %w", o.Table, err)
	}
	defer func() { _ = file.Close() }() // it was only read
	r := &reading{err: LoadError{File: o.Path}, values: make(map[string]string)}
	if err := r.read(ctx, file, o); err != nil {
		return nil, err
	}
	if len(r.err.Problems) == 0 && len(r.rows) == 0 && !o.AllowEmpty {
		r.fail(0, "it has no rows: every lookup would then give an empty text; if that is meant, say --allow-empty")
	}
	slices.SortFunc(r.rows, func(a, b row) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.line, b.line)) })
	var again []row
	first := 0
	for i := range r.rows {
		if i > 0 && r.rows[i].key == r.rows[first].key {
			again = append(again, row{key: r.rows[i].key, line: r.rows[i].line, value: fmt.Sprint(r.rows[first].line)})
			continue
		}
		first = i
	}
	slices.SortFunc(again, func(a, b row) int { return cmp.Compare(a.line, b.line) })
	for _, x := range again {
		r.fail(x.line, "the key %.80q is there already, on line %s: a key has one value", x.key, x.value)
	}
	if len(r.err.Problems) > 0 {
		return nil, &r.err
	}
	return r.rows, nil
}

func (r *reading) read(ctx context.Context, file io.Reader, o LoadOptions) error {
	buffered := bufio.NewReaderSize(file, 256<<10)
	switch mark, _ := buffered.Peek(3); { // a shorter file has no mark
	case bytes.HasPrefix(mark, []byte("\xef\xbb\xbf")):
		_, _ = buffered.Discard(3) // it is there
	case bytes.HasPrefix(mark, []byte("\xff\xfe")), bytes.HasPrefix(mark, []byte("\xfe\xff")):
		r.fail(0, `the file is UTF-16, not UTF-8: save it as "CSV UTF-8"`)
		return nil
	}
	in := csv.NewReader(buffered)
	in.ReuseRecord = true
	header, err := in.Read()
	if errors.Is(err, io.EOF) {
		r.fail(0, "the file is empty: it needs a header line")
		return nil
	}
	if err != nil {
		return r.failCSV(err)
	}
	if !r.columns(header, o) {
		return nil
	}
	for n := 0; ; n++ {
		if n%10_000 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		record, err := in.Read()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, csv.ErrFieldCount):
			line, _ := in.FieldPos(0)
			r.fail(line, "has %d values, the header has %d", len(record), in.FieldsPerRecord)
			continue
		case err != nil:
			return r.failCSV(err)
		}
		line, _ := in.FieldPos(0)
		r.add(line, strings.TrimSpace(record[r.key]), strings.TrimSpace(record[r.value]))
		if len(r.rows) > MaxRows || r.keyBytes > maxBytes || r.valueBytes > maxBytes {
			r.fail(line, "the table is too large: at most %d rows, and 2 GiB of keys and of values", MaxRows)
			return nil
		}
	}
}

// failCSV notes what the CSV reader stopped at.
func (r *reading) failCSV(err error) error {
	broken, ok := errors.AsType[*csv.ParseError](err)
	if !ok {
		return fmt.Errorf("%s: %w", r.err.File, err)
	}
	r.fail(broken.Line, "%v, in column %d: a value with quotes or commas stands in quotes, a quote in it is doubled; the rest was not read", broken.Err, broken.Column)
	return nil
}

// columns finds the two columns.
func (r *reading) columns(header []string, o LoadOptions) bool {
	for i := range header {
		header[i] = strings.TrimSpace(header[i])
	}
	if o.Key == "" && o.Value == "" {
		r.key, r.value = 0, 1
		if len(header) != 2 {
			r.fail(1, "the file has %d columns: say which is the key and which the value, with --key and --value", len(header))
			return false
		}
		return true
	}
	find := func(name, flag string) int {
		i := slices.Index(header, name)
		switch {
		case name == "":
			r.fail(1, "--%s is missing: name the column, one of %s", flag, textNames(header))
		case i < 0:
			r.fail(1, "there is no column %q, only %s", name, textNames(header))
		case slices.Contains(header[i+1:], name):
			r.fail(1, "column %q is there twice", name)
		}
		return i
	}
	r.key, r.value = find(o.Key, "key"), find(o.Value, "value")
	return len(r.err.Problems) == 0
}

// add checks a row and keeps it.
func (r *reading) add(line int, key, value string) {
	ok := true
	for _, part := range []struct {
		what, text string
		limit      int
	}{{"key", key, MaxKeyBytes}, {"value", value, MaxValueBytes}} {
		problem := ""
		switch {
		case part.text == "" && part.what == "value":
			problem = "is empty: leave the row out, a key without a row gives an empty text"
		case part.text == "":
			problem = "is empty"
		case len(part.text) > part.limit:
			problem = fmt.Sprintf("has %d bytes: at most %d", len(part.text), part.limit)
		case !utf8.ValidString(part.text):
			problem = fmt.Sprintf("%.80q is not UTF-8", part.text)
		case strings.ContainsFunc(part.text, unicode.IsControl):
			problem = fmt.Sprintf("%.80q has characters that can't be printed", part.text)
		}
		if problem != "" {
			r.fail(line, "the %s %s", part.what, problem)
			ok = false
		}
	}
	if !ok {
		return
	}
	known, ok := r.values[value]
	if !ok { // the text that the reader gives is a part of the whole line
		known = strings.Clone(value)
		r.values[known] = known
		r.valueBytes += len(known)
	}
	r.keyBytes += len(key)
	r.rows = append(r.rows, row{key: strings.Clone(key), value: known, line: line})
}
