package reftable

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rapport/profilestore/durable"
)

// setsName is the file with every set of versions that was ever in force. Losing it
// is losing what old events mean, so it is never thrown away by itself.
const setsName = "SETS.json"

// maxEarlier is how far back rollbacks can go.
const maxEarlier = 16

// set is the versions in force from one activation to the next.
type set struct {
	Number   uint64           `json:"number"`
	Begun    time.Time        `json:"begun"`
	Versions map[string]int64 `json:"versions"` // by table; 0: nothing loaded
}

// setsFile is the content of SETS.json. It is replaced as a whole and its parts
// never changed, so a copy of it is one.
type setsFile struct {
	Format int `json:"format"`
	// Earlier are the versions that were in force before, by table, the latest last:
	// where rollbacks go.
	Earlier map[string][]int64 `json:"earlier,omitempty"`
	Sets    []set              `json:"sets"` // ascending

	reserved uint64 // the highest number that the journal is known to have used
}

func (f *setsFile) read(dir string) error {
	path := filepath.Join(dir, setsName)
	b, err := durable.ReadSealed(path)
	if errors.Is(err, fs.ErrNotExist) {
		f.Format = 1
		return nil
	}
	if err != nil {
		return fmt.Errorf("reference tables: %w", err)
	}
	err = json.Unmarshal(b, f)
	switch {
	case err == nil && f.Format != 1:
		return fmt.Errorf("%s has format %d, this version of Rapport knows 1: use the version that wrote it", path, f.Format)
	case err == nil && (len(f.Sets) == 0 || !slices.IsSortedFunc(f.Sets, func(a, b set) int { return cmp.Compare(a.Number, b.Number) })):
		err = errors.New("its sets are not in order")
	}
	if err != nil {
		return fmt.Errorf("%s can't be read: %w: put it back from a backup; without it nobody knows by which versions the events in the journal were mapped", path, err)
	}
	return nil
}

func (f *setsFile) write(dir string) error {
	b, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		return err
	}
	if err := durable.MakeFolder(dir, 0o750); err != nil {
		return fmt.Errorf("reference tables: %w", err)
	}
	if err := durable.WriteSealed(filepath.Join(dir, setsName), append(b, '\n')); err != nil {
		return fmt.Errorf("reference tables: %w", err)
	}
	return nil
}

// last returns the newest set; the zero set if there is none.
func (f *setsFile) last() set {
	if len(f.Sets) == 0 {
		return set{}
	}
	return f.Sets[len(f.Sets)-1]
}

// with returns the file with one more set.
func (f *setsFile) with(versions map[string]int64, now time.Time) setsFile {
	next := *f
	number := max(f.last().Number, f.reserved) + 1
	next.Sets = append(slices.Clone(f.Sets), set{Number: number, Begun: now.UTC().Truncate(time.Millisecond), Versions: versions})
	return next
}

// reserve makes sure that a number that the journal has used is not given again.
func (f *setsFile) reserve(number uint64) { f.reserved = max(f.reserved, number) }

// find returns a set, or nil.
func (f *setsFile) find(number uint64) *set {
	i, ok := slices.BinarySearchFunc(f.Sets, number, func(s set, n uint64) int { return cmp.Compare(s.Number, n) })
	if !ok {
		return nil
	}
	return &f.Sets[i]
}

// version returns the version that a set has of a table; of one that it does not
// name, the version with which the table began.
func (f *setsFile) version(number uint64, table string) int64 {
	if s := f.find(number); s != nil {
		if v, ok := s.Versions[table]; ok {
			return v
		}
	}
	for i := range f.Sets {
		if v, ok := f.Sets[i].Versions[table]; ok {
			return v
		}
	}
	return 0
}

func numberNames(numbers []int64) string {
	if len(numbers) == 0 {
		return "none"
	}
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(numbers), " ", ", "), "[]")
}

func textNames(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
