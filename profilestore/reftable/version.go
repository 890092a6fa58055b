package reftable

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"rapport/profilestore/durable"
)

// State is what a version is used for.
type State string

// The states of versions.
const (
	StateActive   State = "active"   // in force
	StateRetained State = "retained" // not in force; events may have been mapped by it
	StateDamaged  State = "damaged"  // its head can't be read
)

// Info describes a version of a table.
type Info struct {
	Table       string
	Version     int64
	State       State
	Rows        int64
	Values      int64 // different ones
	Bytes       int64 // of its file
	ContentHash string
	Origin      string // the name of the file that it was loaded from
	LoadedAt    time.Time
}

// A version's file is a line that says what it is, a line of JSON, and then, all
// numbers little-endian: where each key ends (u32), where each value ends (u32), the
// value of each key (valueWidth bytes), the keys in ascending order one after the
// other, the values likewise, and the SHA-256 of everything before.
const fileHead = "rapport reference table 1\n"

// head is the line of JSON.
type head struct {
	Table       string    `json:"table"`
	Version     int64     `json:"version"`
	Rows        int       `json:"rows"`
	Values      int       `json:"values"`
	ValueWidth  int       `json:"value_width"` // 1, 2 or 4
	ContentHash string    `json:"content_hash"`
	Origin      string    `json:"origin,omitempty"`
	LoadedAt    time.Time `json:"loaded_at"`
}

// maxHead bounds the line of JSON.
const maxHead = 16 << 10

// version is an open version: its file in memory, beside it an index of the keys, and
// the values as texts. It is immutable. 500,000 cells with keys of 16 bytes take 15 MB
// and 150 ns a lookup; a Go map of them took 50 MB and 120 ns. A nil *version is one
// without rows, number 0.
type version struct {
	head   head
	size   int64
	file   []byte   // keys end where ends says
	ends   []byte   // u32 each
	ids    []byte   // ValueWidth each
	keys   []byte   // where each ends is in ends
	values []string // each by itself: a profile may keep one for long
	seed   maphash.Seed
	index  []uint32 // by hash, then the next: the place of a key plus 1; 0 for none
}

// lookup returns the value of a key, or "".
func (v *version) lookup(key string) string {
	if v == nil || len(v.index) == 0 {
		return ""
	}
	mask := len(v.index) - 1
	for at := int(maphash.String(v.seed, key)) & mask; v.index[at] != 0; at = (at + 1) & mask {
		if i := int(v.index[at]) - 1; string(v.key(i)) == key {
			return v.values[v.id(i)]
		}
	}
	return ""
}

func (v *version) number() int64 {
	if v == nil {
		return 0
	}
	return v.head.Version
}

// key returns the key at a place.
func (v *version) key(i int) []byte { return v.keys[end(v.ends, i-1):end(v.ends, i)] }

// end returns where an entry ends.
func end(ends []byte, i int) uint32 {
	if i < 0 {
		return 0
	}
	return binary.LittleEndian.Uint32(ends[4*i:])
}

// id returns the place of a key's value.
func (v *version) id(i int) int {
	switch v.head.ValueWidth {
	case 1:
		return int(v.ids[i])
	case 2:
		return int(binary.LittleEndian.Uint16(v.ids[2*i:]))
	}
	return int(binary.LittleEndian.Uint32(v.ids[4*i:]))
}

func (v *version) info(table string, state State) Info {
	return v.head.info(table, state, v.size)
}

func (h *head) info(table string, state State, size int64) Info {
	return Info{
		Table: table, Version: h.Version, State: state, Rows: int64(h.Rows), Values: int64(h.Values),
		Bytes: size, ContentHash: h.ContentHash, Origin: h.Origin, LoadedAt: h.LoadedAt,
	}
}

// folder is the folder of a table, DATA/tables/TABLE. A server and loads in other
// processes use it at the same time.
type folder struct{ root, table string }

func (f folder) dir() string { return filepath.Join(f.root, f.table) }

func (f folder) path(n int64) string { return filepath.Join(f.dir(), "v-"+strconv.FormatInt(n, 10)) }

// versions returns the numbers of the versions, highest first.
func (f folder) versions() ([]int64, error) {
	entries, err := os.ReadDir(f.dir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reference table %s: %w", f.table, err)
	}
	var numbers []int64
	for _, e := range entries {
		if name, ok := strings.CutPrefix(e.Name(), "v-"); ok {
			if n, err := strconv.ParseInt(name, 10, 64); err == nil && n > 0 && strconv.FormatInt(n, 10) == name {
				numbers = append(numbers, n)
			}
		}
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	return numbers, nil
}

func (f folder) list(active int64) ([]Info, error) {
	numbers, err := f.versions()
	if err != nil {
		return nil, err
	}
	infos := make([]Info, 0, len(numbers))
	for _, n := range numbers {
		state := StateRetained
		if n == active {
			state = StateActive
		}
		h, size, err := readHead(f.path(n))
		if err != nil || h.Version != n || h.Table != f.table {
			infos = append(infos, Info{Table: f.table, Version: n, State: StateDamaged})
			continue
		}
		infos = append(infos, h.info(f.table, state, size))
	}
	return infos, nil
}

// readHead reads only what a version's file says of itself.
func readHead(path string) (h head, size int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return h, 0, err
	}
	defer func() { _ = file.Close() }() // it was only read
	stat, err := file.Stat()
	if err != nil {
		return h, 0, err
	}
	b, err := io.ReadAll(io.LimitReader(file, maxHead))
	if err != nil {
		return h, 0, err
	}
	h, _, err = parseHead(b)
	return h, stat.Size(), err
}

// parseHead returns the head and what follows it.
func parseHead(b []byte) (h head, rest []byte, err error) {
	b, ok := bytes.CutPrefix(b, []byte(fileHead))
	if !ok {
		return h, nil, errors.New("it is no reference table that this version of Rapport knows")
	}
	line, rest, ok := bytes.Cut(b, []byte("\n"))
	if !ok {
		return h, nil, errors.New("its head has no end")
	}
	return h, rest, json.Unmarshal(line, &h)
}

// openVersion reads a version and checks all of it. Number 0 is nil.
func openVersion(f folder, number int64) (*version, error) {
	if number == 0 {
		return nil, nil
	}
	b, err := os.ReadFile(f.path(number))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: its version %d is gone (%s)", ErrNotFound, number, f.path(number))
	}
	if err != nil {
		return nil, err
	}
	v, err := parseVersion(b)
	if err == nil && (v.head.Version != number || v.head.Table != f.table) {
		err = fmt.Errorf("it is version %d of table %s", v.head.Version, v.head.Table)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: version %d, %s: %w", ErrDamaged, number, f.path(number), err)
	}
	return v, nil
}

// parseVersion reads a version's file, which it keeps.
func parseVersion(file []byte) (*version, error) {
	if len(file) < sha256.Size {
		return nil, errors.New("it is cut off")
	}
	b, sum := file[:len(file)-sha256.Size], file[len(file)-sha256.Size:]
	if got := sha256.Sum256(b); !bytes.Equal(got[:], sum) {
		return nil, errors.New("its checksum is wrong")
	}
	h, rest, err := parseHead(b)
	if err != nil {
		return nil, err
	}
	v := &version{head: h, size: int64(len(file)), file: file, seed: maphash.MakeSeed()}
	// What has the right checksum was written by Load; the rest is against our own mistakes.
	if h.Rows < 0 || h.Values < 0 || h.Rows > MaxRows || h.Values > h.Rows || h.ValueWidth != 1 && h.ValueWidth != 2 && h.ValueWidth != 4 {
		return nil, errors.New("its head is wrong")
	}
	take := func(n int) (part []byte) {
		if n > len(rest) {
			err = errors.New("its parts do not fit")
			return nil
		}
		part, rest = rest[:n], rest[n:]
		return part
	}
	v.ends = take(4 * h.Rows)
	valueEnds := take(4 * h.Values)
	v.ids = take(h.ValueWidth * h.Rows)
	if err != nil {
		return nil, err
	}
	v.keys = take(int(end(v.ends, h.Rows-1)))
	texts := take(int(end(valueEnds, h.Values-1)))
	if err != nil || len(rest) > 0 {
		return nil, errors.New("its parts do not fit")
	}
	v.values = make([]string, h.Values)
	for i := range v.values {
		v.values[i] = string(texts[end(valueEnds, i-1):end(valueEnds, i)])
	}
	return v, v.buildIndex()
}

// buildIndex fills the index, of which at most two thirds are then in use.
func (v *version) buildIndex() error {
	if v.head.Rows == 0 {
		return nil
	}
	size := 4
	for size < v.head.Rows+v.head.Rows/2 {
		size *= 2
	}
	v.index = make([]uint32, size)
	for i := range v.head.Rows {
		if end(v.ends, i-1) > end(v.ends, i) || v.id(i) >= len(v.values) {
			return errors.New("its parts do not fit")
		}
		at := int(maphash.Bytes(v.seed, v.key(i))) & (size - 1)
		for v.index[at] != 0 {
			at = (at + 1) & (size - 1)
		}
		v.index[at] = uint32(i) + 1
	}
	return nil
}

// row is one row of a table.
type row struct {
	key, value string
	line       int // of the file that it came from
}

// encode returns the file of a version. Rows are ascending by key.
func encode(h head, rows []row) ([]byte, error) {
	ids := make(map[string]uint32)
	var texts []string
	keyBytes := 0
	for i := range rows {
		keyBytes += len(rows[i].key)
		if _, ok := ids[rows[i].value]; !ok {
			ids[rows[i].value] = uint32(len(texts))
			texts = append(texts, rows[i].value)
		}
	}
	h.Rows, h.Values, h.ValueWidth = len(rows), len(texts), 4
	switch {
	case len(texts) <= 1<<8:
		h.ValueWidth = 1
	case len(texts) <= 1<<16:
		h.ValueWidth = 2
	}
	b, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(fileHead)+len(b)+1+keyBytes+(4+h.ValueWidth)*len(rows)+64*len(texts)+sha256.Size)
	out = append(append(append(out, fileHead...), b...), '\n')
	at := 0
	for i := range rows {
		at += len(rows[i].key)
		out = binary.LittleEndian.AppendUint32(out, uint32(at))
	}
	at = 0
	for _, text := range texts {
		at += len(text)
		out = binary.LittleEndian.AppendUint32(out, uint32(at))
	}
	for i := range rows {
		switch id := ids[rows[i].value]; h.ValueWidth {
		case 1:
			out = append(out, byte(id))
		case 2:
			out = binary.LittleEndian.AppendUint16(out, uint16(id))
		default:
			out = binary.LittleEndian.AppendUint32(out, id)
		}
	}
	for i := range rows {
		out = append(out, rows[i].key...)
	}
	for _, text := range texts {
		out = append(out, text...)
	}
	sum := sha256.Sum256(out)
	return append(out, sum[:]...), nil
}

// write makes a version's file durable under its number.
func (f folder) write(number int64, content []byte) error {
	return durable.WriteFile(f.path(number), content)
}
