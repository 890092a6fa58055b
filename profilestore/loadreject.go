package profilestore

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// rejects is the file of the rows that a load has left out. It holds the records as
// they were delivered, so only its owner may read it. A nil *rejects takes everything
// and does nothing.
//
// Batches are parsed in any order, and written in theirs: what waits for its turn is
// what as many workers have in hand.
type rejects struct {
	path string
	file *os.File
	w    *bufio.Writer

	mu     sync.Mutex
	next   int64            // the batch that is to be written next
	waits  map[int64][]byte // those after it
	rows   int64
	err    error
	closed bool
}

// reject is a line of the file.
type reject struct {
	File     string          `json:"file"`
	Line     int64           `json:"line,omitempty"`
	Row      int64           `json:"row,omitempty"` // of a Parquet file
	Problems []rejectProblem `json:"problems"`
	// Record is the row as it was delivered; a Parquet file's, and one whose customer
	// has a row already, as the JSON object of its columns.
	Record string `json:"record"`
	// Bytes is the record where it is no UTF-8, base64.
	Bytes string `json:"bytes,omitempty"`
}

type rejectProblem struct {
	Field  string `json:"field,omitempty"`
	Column string `json:"column,omitempty"`
	Value  string `json:"value,omitempty"`
	Reason string `json:"reason"`
}

// newRejects begins the file anew; nil if path is empty.
func newRejects(path string, parts []*loadPart) (*rejects, error) {
	if path == "" {
		return nil, nil
	}
	if info, err := os.Stat(path); err == nil {
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("rejects: %s is not a file", path)
		}
		for _, p := range parts {
			if other, err := os.Stat(p.path); err == nil && os.SameFile(info, other) {
				return nil, fmt.Errorf("rejects: %s is one of the files to load: name another", path)
			}
		}
		if err := os.Remove(path); err != nil { // others may read it
			return nil, fmt.Errorf("rejects: %w", err)
		}
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("rejects: %w", err)
	}
	return &rejects{path: path, file: file, w: bufio.NewWriter(file), waits: make(map[int64][]byte)}, nil
}

// appendReject appends the line of a bad row.
func appendReject(dst []byte, p *loadPart, line int64, problems []LoadProblem, record []byte) []byte {
	out := reject{File: p.path, Line: line, Record: string(record)}
	if problems[0].Row {
		out.Line, out.Row = 0, line
	}
	if !utf8.Valid(record) {
		out.Bytes = base64.StdEncoding.EncodeToString(record)
	}
	for _, problem := range problems {
		out.Problems = append(out.Problems, rejectProblem{problem.Field, problem.Column, problem.Value, problem.Message})
	}
	b, err := json.Marshal(out)
	if err != nil {
		return dst // no text or number of these fails
	}
	return append(append(dst, b...), '\n')
}

// write writes the lines of a batch, or keeps a copy of them until those before have
// come.
func (r *rejects) write(batch int64, lines []byte) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if batch != r.next {
		r.waits[batch] = append([]byte(nil), lines...)
		return
	}
	for ok := true; ok; lines, ok = r.waits[r.next] {
		delete(r.waits, r.next)
		r.append(lines)
		r.next++
	}
}

// duplicate writes the line of a row whose customer has one already.
func (r *rejects) duplicate(p *loadPart, problem LoadProblem, record []byte) {
	if r != nil {
		r.append(appendReject(nil, p, problem.Line, []LoadProblem{problem}, record))
	}
}

func (r *rejects) append(lines []byte) {
	if r.err == nil && len(lines) > 0 {
		r.rows++
		_, r.err = r.w.Write(lines)
	}
}

// close completes the file, or removes it if there is nothing in it. It is called
// before the snapshot is sealed, and once more where nothing is.
func (r *rejects) close() error {
	if r == nil || r.closed {
		return nil
	}
	r.closed = true
	err := errors.Join(r.err, r.w.Flush(), r.file.Close())
	if r.rows == 0 {
		err = errors.Join(err, os.Remove(r.path))
	}
	if err != nil {
		return fmt.Errorf("rejects: %w", err)
	}
	return nil
}

// object returns a row as a JSON object of its columns.
func (r *loadRows) object(keyColumn string, c *loadCursor) []byte {
	record := map[string]any{keyColumn: string(c.key)}
	flagBytes, words := r.bitmaps()
	at, flag, other := 2*flagBytes+8*words, 0, 8*2*flagBytes
	for i := range r.columns {
		form := r.plan[i].form
		bit := &other
		if form == rowFlag {
			bit = &flag
		}
		b := *bit
		*bit++
		if c.packed[b/8]&(1<<(b%8)) == 0 {
			continue
		}
		var value any
		if form == rowFlag {
			value = c.packed[flagBytes+b/8]&(1<<(b%8)) != 0
		} else {
			value, at = r.value(i, c.packed, at, c.owner)
		}
		record[r.columns[i].field.Column] = value
	}
	out, err := json.Marshal(record)
	if err != nil {
		return nil // the floats of a row are finite
	}
	return out
}

// value returns the value of a column of a packed row at a place, and where the next
// one is.
func (r *loadRows) value(i int, packed []byte, at, owner int) (any, int) {
	n := binary.LittleEndian.Uint32(packed[at:])
	wide := func(at int) int64 { return int64(binary.LittleEndian.Uint64(packed[at:])) }
	plan := r.plan[i]
	scaled := func(n int64) json.Number {
		return json.Number(strconv.FormatFloat(unscale(n, int(plan.decimals)), 'f', -1, 64))
	}
	switch plan.form {
	case rowFloat:
		return math.Float64frombits(uint64(wide(at))), at + 8
	case rowTime:
		return micros(wide(at)).Format(time.RFC3339Nano), at + 8
	case rowScaled:
		if int32(n) == packedWide {
			return scaled(wide(at + 4)), at + 12
		}
		return scaled(int64(int32(n))), at + 4
	case rowFlag, rowText, rowCode:
	}
	var text string
	if at += 4; n&1 == 1 {
		text = string(packed[at : at+int(n>>1)])
		at += int(n >> 1)
	} else {
		text = r.textsOf(i)[owner].texts[n>>1]
	}
	if plan.texts != hopsText {
		return text, at
	}
	var hops []string
	for hop := range strings.SplitSeq(text, string(setSeparator)) {
		n, _ := strconv.ParseInt(hop, 10, 64) // a row has nothing else
		hops = append(hops, scaled(n).String())
	}
	return strings.Join(hops, string(setSeparator)), at
}
