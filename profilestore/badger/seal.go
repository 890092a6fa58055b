package badger

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	bdb "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"

	"rapport/profilestore/durable"
)

// seal says what the folder of the delta records had when it was last made durable: by
// [Engine.Barrier], which seals an engine that goes on, or by Close. It is the file SEAL.
//
// Badger alone can't be trusted with its files: a flipped bit or a cut file makes it
// leave records out without a word (RATIONALE.md has the numbers). A closed folder has to
// be what its seal says, file by file. One that was not closed goes on after its seal,
// and what came after may be anything: the journal has it. So of that folder these hold:
//
//   - a table never changes. It is gone only if the MANIFEST says so.
//   - the MANIFEST and the logs of memory tables only grow: they begin with what was sealed.
//   - a log is gone only when its records are in a table, which is in the MANIFEST.
//   - a table that is not sealed yet is checked by the sums that Badger keeps in it.
//
// Where one does not, the records can't be used, and are derived from the journal anew.
type seal struct {
	Format int          `json:"format"`
	Closed bool         `json:"closed"`
	Files  []sealedFile `json:"files"`
}

// sealedFile is a file, or of a MANIFEST or log in a folder that was not closed, the
// beginning of one.
type sealedFile struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
	Sum   string `json:"crc32c"` // of so many bytes, 8 hexadecimal digits
}

const (
	sealName   = "SEAL"
	sealFormat = 1

	manifestName = "MANIFEST"
	registryName = "KEYREGISTRY"
	tableSuffix  = ".sst"
)

// scratch reports whether a file of Badger's never holds anything: delta records are not
// large enough for its value log, so the log and the statistics of it are removed before the
// folder is opened. Nor does its lock.
func scratch(name string) bool {
	return strings.HasSuffix(name, ".vlog") || name == "DISCARD"
}

// sealer keeps what is known of an open folder, so that a table is read once and a log
// on from where it ended. It is used by one goroutine at a time.
type sealer struct {
	dir    string
	tables map[string]sealedFile
	logs   map[string]memLog
}

// newSealer returns the sealer of a folder of which some files are known.
func newSealer(dir string, known []sealedFile) sealer {
	s := sealer{dir: dir, tables: make(map[string]sealedFile, len(known))}
	for _, f := range known {
		if strings.HasSuffix(f.Name, tableSuffix) {
			s.tables[f.Name] = f
		}
	}
	return s
}

// readSeal returns the seal of a folder; nil if there is none. The error wraps
// durable.ErrDamaged if it can't be used.
func readSeal(dir string) (*seal, error) {
	path := filepath.Join(dir, sealName)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	content, ok := durable.Unseal(b)
	if !ok {
		return nil, fmt.Errorf("%s %w", path, durable.ErrDamaged)
	}
	s := new(seal)
	if err := json.Unmarshal(content, s); err != nil || s.Format != sealFormat {
		return nil, fmt.Errorf("%s has the format %d, this version of Rapport knows %d: %w", path, s.Format, sealFormat, durable.ErrDamaged)
	}
	return s, nil
}

func (s *seal) write(dir string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, sealName), durable.Seal(append(b, '\n')))
}

// find returns a file of the seal.
func (s *seal) find(name string) (sealedFile, bool) {
	i := slices.IndexFunc(s.Files, func(f sealedFile) bool { return f.Name == name })
	if i < 0 {
		return sealedFile{}, false
	}
	return s.Files[i], true
}

// manifest is what Badger's MANIFEST says.
type manifest struct {
	sealedFile
	tables map[string]bool
	torn   bool // its end was being written
}

func readManifest(dir string) (*manifest, error) {
	f, err := os.Open(filepath.Join(dir, manifestName))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	parsed, end, err := bdb.ReplayManifestFile(f, 0, bdb.DefaultOptions(dir).WithLogger(nil))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	m := &manifest{tables: make(map[string]bool, len(parsed.Tables)), torn: info.Size() > end}
	for id := range parsed.Tables {
		m.tables[table.IDToFilename(id)] = true
	}
	m.sealedFile, err = sumFile(filepath.Join(dir, manifestName), end)
	return m, err
}

// sumFile returns a file with the checksum of its first bytes; of all if size is negative.
// It has fewer bytes if the file has.
func sumFile(path string, size int64) (sealedFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return sealedFile{}, err
	}
	defer func() { _ = f.Close() }() // only read
	h := crc32.New(castagnoli)
	var r io.Reader = f
	if size >= 0 {
		r = io.LimitReader(f, size)
	}
	n, err := io.CopyBuffer(h, onlyReader{r}, make([]byte, 256<<10))
	return sealedFile{Name: filepath.Base(path), Bytes: n, Sum: fmt.Sprintf("%08x", h.Sum32())}, err
}

// onlyReader hides that a file could be copied in another way.
type onlyReader struct{ io.Reader }

// take seals the folder of an engine that is open, or was just closed. What was applied
// before the call is covered.
//
// Tables come and go meanwhile. One is sealed only if the MANIFEST has it, since then it
// is whole; and if the MANIFEST has changed in the meantime all is looked at again.
func (s *sealer) take(closed bool) (*seal, error) {
	for {
		before, err := readManifest(s.dir)
		if err != nil {
			return nil, err
		}
		out := &seal{Format: sealFormat, Closed: closed, Files: []sealedFile{before.sealedFile}}
		if err := s.add(out, before); err != nil {
			return nil, err
		}
		after, err := readManifest(s.dir)
		if err != nil {
			return nil, err
		}
		if after.sealedFile == before.sealedFile {
			slices.SortFunc(out.Files, func(a, b sealedFile) int { return strings.Compare(a.Name, b.Name) })
			return out, nil
		}
	}
}

// add adds tables, logs and keys to a seal.
func (s *sealer) add(out *seal, m *manifest) error {
	tables, logs := make(map[string]sealedFile, len(m.tables)), make(map[string]memLog)
	for name := range m.tables {
		f, ok := s.tables[name]
		if !ok {
			var err error
			f, err = sumFile(filepath.Join(s.dir, name), -1)
			if errors.Is(err, fs.ErrNotExist) {
				continue // it went, and the MANIFEST says so by now
			}
			if err != nil {
				return err
			}
		}
		tables[name] = f
		out.Files = append(out.Files, f)
	}
	names, err := filesOf(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		switch {
		case name == registryName:
			f, err := sumFile(filepath.Join(s.dir, name), -1)
			if err != nil {
				return err
			}
			out.Files = append(out.Files, f)
		case strings.HasSuffix(name, memSuffix):
			log, err := scanMem(filepath.Join(s.dir, name), s.logs[name])
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			logs[name] = log
			out.Files = append(out.Files, sealedFile{Name: name, Bytes: log.end, Sum: fmt.Sprintf("%08x", log.sum)})
		}
	}
	s.tables, s.logs = tables, logs
	return nil
}

// filesOf lists the files of a folder by name.
func filesOf(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
