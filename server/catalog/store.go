package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"rapport/profilestore/durable"
)

var (
	// ErrVersionNotFound means that there is no such version.
	ErrVersionNotFound = errors.New("no such catalogue version")
	// ErrVersionDamaged means that a version on disk is not as it was published.
	ErrVersionDamaged = errors.New("the catalogue version is damaged")
)

// Version is a published catalogue.
type Version struct {
	Number      int64     `json:"version"`
	PublishedAt time.Time `json:"published_at"`
	ContentHash string    `json:"content_hash"` // of the files, 64 hexadecimal digits
	Counts      Counts    `json:"counts"`
	Files       []File    `json:"-"`
}

// Counts say how large a catalogue is.
type Counts struct {
	Offers    int `json:"offers"`
	Scenarios int `json:"scenarios"`
}

// Store keeps the published versions in a folder: each in a file of its own,
// v000001.json and so on, written at once and never again, and CURRENT, which has
// the number of the one in use. A crash while publishing leaves the old current
// version; its number is then taken by the next one. Safe for concurrent use by
// one process.
type Store struct {
	dir string
	mu  sync.Mutex
}

// stored is a version's file. The text of a catalogue is kept byte by byte, with
// its comments: that is what people want back.
type stored struct {
	Version
	Files []storedFile `json:"files"`
}

type storedFile struct {
	Name    string `json:"name"`
	Content []byte `json:"content"`
}

// OpenStore opens the versions in a folder, which is made if it does not exist.
func OpenStore(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("catalogue versions: %w", err)
	}
	return &Store{dir: dir}, nil
}

// Publish makes files the next version and the current one, durably. Files that
// equal the current version are not published again: it is returned.
func (s *Store) Publish(files []File, counts Counts) (*Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	number, current, err := s.plan(files)
	if err != nil || current != nil {
		return current, err
	}
	v := &Version{Number: number, PublishedAt: time.Now().UTC().Truncate(time.Millisecond), ContentHash: hashOf(files), Counts: counts, Files: files}
	out := stored{Version: *v}
	for _, f := range files {
		out.Files = append(out.Files, storedFile(f))
	}
	b, err := json.MarshalIndent(out, "", " ")
	if err != nil {
		return nil, err
	}
	if err := durable.WriteSealed(s.file(v.Number), append(b, '\n')); err != nil {
		return nil, fmt.Errorf("catalogue versions: %w", err)
	}
	if err := s.setCurrent(v.Number); err != nil {
		return nil, err
	}
	return v, nil
}

// Activate makes an earlier version the current one, durably.
func (s *Store) Activate(number int64) (*Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.Get(number)
	if err != nil {
		return nil, err
	}
	if err := s.setCurrent(number); err != nil {
		return nil, err
	}
	return v, nil
}

func (s *Store) setCurrent(number int64) error {
	if err := durable.WriteSealed(filepath.Join(s.dir, "CURRENT"), []byte(strconv.FormatInt(number, 10)+"\n")); err != nil {
		return fmt.Errorf("catalogue versions: %w", err)
	}
	return nil
}

// Plan returns the number that Publish would return files with.
func (s *Store) Plan(files []File) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	number, _, err := s.plan(files)
	return number, err
}

// plan returns the number that files get when they are published, and the current
// version if they equal it.
func (s *Store) plan(files []File) (number int64, current *Version, err error) {
	current, err = s.current()
	switch {
	case err == nil && current.ContentHash == hashOf(files):
		return current.Number, current, nil
	case err != nil && !errors.Is(err, ErrVersionNotFound) && !errors.Is(err, ErrVersionDamaged):
		return 0, nil, err
	}
	numbers, err := s.numbers()
	if err != nil {
		return 0, nil, err
	}
	if n := len(numbers); n > 0 {
		return numbers[n-1] + 1, nil, nil
	}
	return 1, nil, nil
}

// Current returns the version in use, or ErrVersionNotFound if none was
// published.
func (s *Store) Current() (*Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current()
}

func (s *Store) current() (*Version, error) {
	b, err := durable.ReadSealed(filepath.Join(s.dir, "CURRENT"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: none is published", ErrVersionNotFound)
	}
	if errors.Is(err, durable.ErrDamaged) {
		return nil, fmt.Errorf("%w: which one is in use can't be read: %w", ErrVersionDamaged, err)
	}
	if err != nil {
		return nil, fmt.Errorf("catalogue versions: %w", err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%w: CURRENT has %.40q, not a number", ErrVersionDamaged, b)
	}
	v, err := s.Get(n)
	if errors.Is(err, ErrVersionNotFound) {
		return nil, fmt.Errorf("%w: version %d is the current one, and its file is gone", ErrVersionDamaged, n)
	}
	return v, err
}

// Get returns a version, or ErrVersionNotFound.
func (s *Store) Get(number int64) (*Version, error) {
	b, err := durable.ReadSealed(s.file(number))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %d", ErrVersionNotFound, number)
	}
	if errors.Is(err, durable.ErrDamaged) {
		return nil, fmt.Errorf("%w: %d: %w", ErrVersionDamaged, number, err)
	}
	if err != nil {
		return nil, fmt.Errorf("catalogue versions: %w", err)
	}
	var in stored
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, fmt.Errorf("%w: %d: %w", ErrVersionDamaged, number, err)
	}
	v := in.Version
	for _, f := range in.Files {
		v.Files = append(v.Files, File(f))
	}
	if v.Number != number || v.ContentHash != hashOf(v.Files) {
		return nil, fmt.Errorf("%w: %d: its content has changed since it was published", ErrVersionDamaged, number)
	}
	return &v, nil
}

// List returns the versions, newest first, those that are damaged left out.
func (s *Store) List() ([]*Version, error) {
	numbers, err := s.numbers()
	if err != nil {
		return nil, err
	}
	var out []*Version
	for _, n := range slices.Backward(numbers) {
		v, err := s.Get(n)
		switch {
		case err == nil:
			out = append(out, v)
		case !errors.Is(err, ErrVersionDamaged):
			return nil, err
		}
	}
	return out, nil
}

// numbers returns the numbers of the versions, ascending.
func (s *Store) numbers() ([]int64, error) {
	entries, err := os.ReadDir(s.dir) // by name, which is by number
	if err != nil {
		return nil, fmt.Errorf("catalogue versions: %w", err)
	}
	var out []int64
	for _, e := range entries {
		var n int64
		if _, err := fmt.Sscanf(e.Name(), "v%06d.json", &n); err == nil && e.Name() == filepath.Base(s.file(n)) {
			out = append(out, n)
		}
	}
	return out, nil
}

func (s *Store) file(number int64) string {
	return filepath.Join(s.dir, fmt.Sprintf("v%06d.json", number))
}

// hashOf identifies files by name and content, in their order.
func hashOf(files []File) string {
	h := sha256.New()
	for _, f := range files {
		_, _ = fmt.Fprintf(h, "%d %s %d ", len(f.Name), f.Name, len(f.Content)) // a hash never fails to write
		_, _ = h.Write(f.Content)
	}
	return hex.EncodeToString(h.Sum(nil))
}
