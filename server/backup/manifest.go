package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"rapport/profilestore/durable"
)

const manifestFormat = 1

// Manifest says what a backup has. It is written once.
type Manifest struct {
	Format int `json:"format"`
	// ID names the backup: when it began, in UTC, and a number if there was one already.
	ID string `json:"id"`
	// What was acknowledged before AsOf is in the backup; what came after Ended is not.
	Began time.Time `json:"began"`
	AsOf  time.Time `json:"as_of"`
	Ended time.Time `json:"ended"`
	// Version is that of Rapport, DataFormat the content of the data folder's FORMAT.
	Version    string `json:"version"`
	DataFormat string `json:"data_format"`
	Data       string `json:"data"` // the data folder
	// Journal is the name that the journal was given when it was made. A data folder that
	// was restored has the same.
	Journal string `json:"journal,omitempty"`
	// Next is the number of the first record that the journal does not have.
	Next    uint64   `json:"journal_next,omitempty"`
	Folders []Folder `json:"folders"`
	Files   []File   `json:"files"` // in the order in which they were copied
	// Copied is what was not in the folder of backups yet.
	Copied Amount `json:"copied"`
	// Problems are what was found wrong with the data folder; what is wrong was copied as it
	// is.
	Problems []string `json:"problems,omitempty"`
}

// Amount is files, or pieces of them, and their bytes.
type Amount struct {
	Pieces int   `json:"pieces"`
	Bytes  int64 `json:"bytes"`
}

// Folder is a folder in the data folder.
type Folder struct {
	Path string      `json:"path"`
	Mode fs.FileMode `json:"mode"`
}

// File is a file of the data folder as it was copied.
type File struct {
	Path   string      `json:"path"` // below the data folder, with slashes
	Mode   fs.FileMode `json:"mode"` // permissions
	Bytes  int64       `json:"bytes"`
	Pieces []hash      `json:"pieces,omitempty"`
	// What the file was on the disk when it was copied, by which the next backup sees that it
	// has not changed; nil if it had just been written, so that a change might not show.
	On *onDisk `json:"on_disk,omitempty"`
	// Of a segment of the journal: see journal.Prefix.
	Next   uint64 `json:"next,omitempty"`
	Sealed bool   `json:"sealed,omitempty"`
	// Problem is what is wrong with the file.
	Problem string `json:"problem,omitempty"`
}

// onDisk is how a file system knows a file.
type onDisk struct {
	Bytes    int64  `json:"bytes"`
	Modified int64  `json:"modified"` // nanoseconds since the Unix epoch
	Changed  int64  `json:"changed"`  // likewise; of the file's entry, not of its content
	Number   uint64 `json:"number"`
}

// pieceSize returns the size of a piece of a file.
func (f *File) pieceSize(i int) int64 { return min(pieceBytes, f.Bytes-int64(i)*pieceBytes) }

// Bytes is the size of all files.
func (m *Manifest) Bytes() (n int64) {
	for i := range m.Files {
		n += m.Files[i].Bytes
	}
	return n
}

// manifestHead is the first line of a manifest's file: the SHA-256 of the rest.
const manifestHead = "rapport backup manifest, sha256 "

func (m *Manifest) encode() ([]byte, error) {
	b, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return nil, err
	}
	b = append(b, '\n')
	return append(fmt.Appendf(nil, "%s%s\n", manifestHead, hash(sha256.Sum256(b))), b...), nil
}

func decodeManifest(b []byte) (*Manifest, error) {
	line, rest, _ := bytes.Cut(b, []byte("\n"))
	text, ok := strings.CutPrefix(string(line), manifestHead)
	if sum, ok2 := parseHash(text); !ok || !ok2 || sha256.Sum256(rest) != sum {
		return nil, fmt.Errorf("%w: its manifest is not as it was written", ErrDamaged)
	}
	m := new(Manifest)
	if err := json.Unmarshal(rest, m); err != nil {
		return nil, fmt.Errorf("%w: its manifest: %w", ErrDamaged, err)
	}
	if m.Format != manifestFormat {
		return nil, fmt.Errorf("its manifest has format %d, this version reads %d: use the version of Rapport that wrote it", m.Format, manifestFormat)
	}
	return m, m.check()
}

// check refuses names that lead out of the folder that is restored to, and files whose
// pieces don't make them up.
func (m *Manifest) check() error {
	var names []string
	format := false
	for _, f := range m.Folders {
		names = append(names, f.Path)
	}
	for i := range m.Files {
		f := &m.Files[i]
		names = append(names, f.Path)
		format = format || f.Path == "FORMAT" && len(f.Pieces) == 1
		if want := (f.Bytes + pieceBytes - 1) / pieceBytes; f.Bytes < 0 || int64(len(f.Pieces)) != want {
			return fmt.Errorf("%w: its manifest has %d pieces for the %d bytes of %s", ErrDamaged, len(f.Pieces), f.Bytes, f.Path)
		}
	}
	if !format {
		return fmt.Errorf("%w: its manifest has no file FORMAT", ErrDamaged)
	}
	for _, name := range names {
		if !fs.ValidPath(name) || name == "." || path.Clean(name) != name {
			return fmt.Errorf("%w: its manifest has a file named %.80q", ErrDamaged, name)
		}
	}
	return nil
}

// read reads a manifest.
func (f *folder) read(id string) (*Manifest, error) {
	b, err := os.ReadFile(f.path(backupsFolder, id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	if err != nil {
		return nil, fmt.Errorf("folder of backups: %w", err)
	}
	m, err := decodeManifest(b)
	if err == nil && m.ID != id {
		err = fmt.Errorf("%w: its manifest is that of %s", ErrDamaged, m.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("backup %s: %w", id, err)
	}
	return m, nil
}

// write makes a backup exist.
func (f *folder) write(m *Manifest) error {
	b, err := m.encode()
	if err != nil {
		return err
	}
	temporary := f.path(tmpFolder, m.ID)
	if err := writeFile(temporary, b); err != nil {
		return diskError(err)
	}
	if err := os.Rename(temporary, f.path(backupsFolder, m.ID)); err != nil {
		return diskError(err)
	}
	return durable.SyncDir(f.path(backupsFolder))
}

// idTime is how an ID begins.
const idTime = "20060102T150405Z"

// newID returns an ID that comes after all that are taken, also if the clock has stepped
// back.
func newID(now time.Time, ids []string) string {
	stamp := now.UTC().Format(idTime)
	if len(ids) == 0 {
		return stamp
	}
	last, number, _ := strings.Cut(ids[len(ids)-1], "-")
	if stamp > last {
		return stamp
	}
	n, _ := strconv.Atoi(number) // none: the first of its second
	return fmt.Sprintf("%s-%d", last, max(n, 1)+1)
}

// ids returns the IDs of all backups, oldest first.
func (f *folder) ids() ([]string, error) {
	entries, err := os.ReadDir(f.path(backupsFolder))
	if err != nil {
		return nil, fmt.Errorf("folder of backups: %w", err)
	}
	var ids []string
	for _, e := range entries {
		stamp, _, _ := strings.Cut(e.Name(), "-")
		if _, err := time.Parse(idTime, stamp); err == nil {
			ids = append(ids, e.Name())
		}
	}
	slices.SortFunc(ids, compareIDs)
	return ids, nil
}

// compareIDs orders ...Z-10 after ...Z-9.
func compareIDs(a, b string) int {
	stampA, restA, _ := strings.Cut(a, "-")
	stampB, restB, _ := strings.Cut(b, "-")
	if c := strings.Compare(stampA, stampB); c != 0 {
		return c
	}
	if len(restA) != len(restB) {
		return len(restA) - len(restB)
	}
	return strings.Compare(restA, restB)
}
