package profilestore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"rapport/profilestore/durable"
)

// ErrSnapshotInUse is in the error of a removal of a snapshot that is needed.
var ErrSnapshotInUse = errors.New("the snapshot is in use")

// Verify reads all files of a snapshot and compares them with what was sealed, and all of
// its rows with their checksums. The error is ErrSnapshotNotFound, or ErrSnapshotDamaged
// and names the file.
func (s *Snapshots) Verify(ctx context.Context, source string, generation int64) (SnapshotInfo, error) {
	info, err := s.Info(source, generation)
	if err != nil {
		return info, err
	}
	folder := s.folder(source)
	m, err := folder.manifest(generation)
	if errors.Is(err, fs.ErrNotExist) {
		return info, fmt.Errorf("%w: source %s, number %d", ErrSnapshotNotFound, source, generation)
	}
	if err == nil {
		err = m.verifyFiles(ctx, folder.generation(generation), true)
	}
	return info, err
}

// Remove removes a snapshot from the disk, also a damaged one, and returns what it was. The
// error is ErrSnapshotNotFound; or ErrSnapshotInUse if it is the active one, or, unless
// last is given, the one that a rollback would activate.
func (s *Snapshots) Remove(ctx context.Context, source string, generation int64, last bool) (info SnapshotInfo, err error) {
	if err := s.checkSource(source); err != nil {
		return info, err
	}
	folder := s.folder(source)
	if !folder.exists(generation) {
		sealed, err := folder.sealed()
		if err != nil {
			return info, err
		}
		return info, fmt.Errorf("%w: source %s has no number %d, only %s", ErrSnapshotNotFound, source, generation, numberNames(sealed))
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	unlock, err := folder.lockCurrent(ctx)
	if err != nil {
		return info, err
	}
	defer unlock()
	c, err := folder.read()
	if err != nil {
		return info, err
	}
	before, _ := c.before(folder.exists)
	switch {
	case generation == c.Active:
		return info, fmt.Errorf("%w: number %d of source %s is active: activate another first", ErrSnapshotInUse, generation, source)
	case generation == before && !last:
		return info, fmt.Errorf("%w: number %d of source %s is where a rollback would go", ErrSnapshotInUse, generation, source)
	}
	info = SnapshotInfo{Source: source, Generation: generation, State: SnapshotDamaged}
	if m, err := folder.manifest(generation); err == nil {
		info = m.info(false)
	}
	if err := folder.remove(generation); err != nil {
		return info, err
	}
	place, _ := s.schema.Source(source)
	if err := s.advanceLocked(folder, place); err != nil {
		s.log.Warn("the delta records can't be pruned further", "source", source, "error", err)
	}
	return info, nil
}

// remove removes a snapshot. The lock of CURRENT.json is held.
//
// Renamed, it is gone for everybody, and a removal that is interrupted is completed by the
// next load. Readers keep the files they have open.
func (s sourceFolder) remove(n int64) error {
	temp := s.generation(n) + tempSuffix
	if err := os.Rename(s.generation(n), temp); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(temp), durable.SyncDir(s.dir))
}

// readManifest returns the bytes of a snapshot's manifest. There are three witnesses, the
// manifest, its copy and the marker, which has the hash of both: two that agree are
// right.
func (s sourceFolder) readManifest(n int64) ([]byte, error) {
	dir := s.generation(n)
	marker, err := os.ReadFile(filepath.Join(dir, completeFile))
	if err != nil && (!errors.Is(err, fs.ErrNotExist) || !s.exists(n)) {
		return nil, err
	}
	path := filepath.Join(dir, manifestFile)
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil && isMarker(marker, b) {
		return b, nil
	}
	copied, copyErr := os.ReadFile(path + durable.CopySuffix)
	switch {
	case marker == nil && errors.Is(err, fs.ErrNotExist):
		return nil, damaged("%s is missing, and so is %s", path, completeFile)
	case copyErr == nil && (isMarker(marker, copied) || err == nil && bytes.Equal(b, copied)):
		return copied, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, damaged("%s is missing", path)
	}
	return nil, damaged("%s is not as it was sealed", path)
}

// isMarker reports whether a marker is that of a manifest.
func isMarker(marker, manifest []byte) bool {
	return bytes.Equal(bytes.TrimSpace(marker), markerOf(manifest)[:2*sha256.Size])
}

func markerOf(manifest []byte) []byte {
	sum := sha256.Sum256(manifest)
	return append(hex.AppendEncode(nil, sum[:]), '\n')
}

// SnapshotDamage is something that is wrong with a source's snapshots.
type SnapshotDamage struct {
	Source     string
	Generation int64 // 0 if it is about the source
	Active     bool  // the snapshot is the current one
	Origin     string
	Path       string
	Problem    string
	// Mend mends it from what there is, after moving what is damaged to a folder; nil if
	// nothing has what was lost.
	Mend func(aside string) error
}

// CheckSnapshots reads all snapshots in a folder DATA/snapshots and says what is damaged.
// It changes nothing, and may run beside a server and loads; progress is called with the
// bytes that were read.
func CheckSnapshots(ctx context.Context, dir string, progress func(bytes int64)) ([]SnapshotDamage, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []SnapshotDamage
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		found, err := sourceFolder{dir: filepath.Join(dir, e.Name()), source: e.Name()}.check(ctx, progress)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func (s sourceFolder) check(ctx context.Context, progress func(int64)) ([]SnapshotDamage, error) {
	var all []SnapshotDamage
	for _, name := range []string{currentFile, horizonFile} {
		path := filepath.Join(s.dir, name)
		err := durable.CheckSealed(path)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		d := SnapshotDamage{Source: s.source, Path: path, Problem: err.Error()}
		if _, err := durable.ReadSealed(path); err == nil {
			d.Mend = func(aside string) error { return durable.MendSealed(path, aside) }
		}
		all = append(all, d)
	}
	numbers, err := s.folders("")
	if err != nil {
		return nil, err
	}
	c, err := s.read()
	if err != nil {
		c = current{} // it is in the list
	}
	if c.Active != 0 && !slices.Contains(numbers, c.Active) {
		all = append(all, SnapshotDamage{Source: s.source, Generation: c.Active, Active: true, Path: s.generation(c.Active), Problem: s.generation(c.Active) + " is missing"})
	}
	for _, n := range numbers {
		found, err := s.checkGeneration(ctx, n, n == c.Active, progress)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// checkGeneration checks one snapshot. A folder of its name is one: while it is built it
// has another.
func (s sourceFolder) checkGeneration(ctx context.Context, n int64, active bool, progress func(int64)) ([]SnapshotDamage, error) {
	dir := s.generation(n)
	var all []SnapshotDamage
	add := func(path, problem string, mend func(string) error) {
		all = append(all, SnapshotDamage{Source: s.source, Generation: n, Active: active, Path: path, Problem: problem, Mend: mend})
	}
	b, err := s.checkWitnesses(n, add)
	if err != nil || b == nil {
		return all, err
	}
	m := new(manifest)
	if err := json.Unmarshal(b, m); err != nil { // not for a damage: its hash is right
		add(filepath.Join(dir, manifestFile), err.Error(), nil)
		return all, nil
	}
	for i := range m.Files {
		path := filepath.Join(dir, rowsFolder, filepath.FromSlash(m.Files[i].Name))
		err := m.Files[i].verify(ctx, path, true)
		if err != nil && !errors.Is(err, ErrSnapshotDamaged) {
			return nil, err
		}
		if err != nil {
			add(path, err.Error(), nil)
		}
		progress(m.Files[i].Bytes)
	}
	if err := m.checkStats(dir, add); err != nil {
		return nil, err
	}
	for i := range all {
		all[i].Origin = m.Origin
	}
	return all, nil
}

// checkStats checks the distributions and their copy.
func (m *manifest) checkStats(dir string, add func(path, problem string, mend func(string) error)) error {
	path := filepath.Join(dir, statsFile)
	content := make(map[string][]byte)
	var right []byte
	for _, name := range []string{path, path + durable.CopySuffix} {
		b, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		content[name] = b
		if _, err := m.parseStats(name, b); err == nil {
			right = b
		}
	}
	if len(content) == 0 {
		return nil // the snapshot was loaded by an earlier version
	}
	for _, name := range []string{path, path + durable.CopySuffix} {
		b, there := content[name]
		if there && right != nil && bytes.Equal(b, right) || !there && (right == nil || name != path) {
			continue
		}
		problem := name + " is not as it was written"
		if !there {
			problem = name + " is missing"
		}
		add(name, problem, func(aside string) error {
			if err := moveInto(name, aside); err != nil || right == nil {
				return err
			}
			return durable.WriteFile(name, right)
		})
	}
	return nil
}

// checkWitnesses checks manifest, copy and marker, and returns the manifest; nil if there
// is none.
func (s sourceFolder) checkWitnesses(n int64, add func(path, problem string, mend func(string) error)) ([]byte, error) {
	dir := s.generation(n)
	path := filepath.Join(dir, manifestFile)
	read := func(name string) ([]byte, error) {
		b, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return b, err
	}
	main, err := read(path)
	copied, copyErr := read(path + durable.CopySuffix)
	marker, markerErr := read(filepath.Join(dir, completeFile))
	if err := errors.Join(err, copyErr, markerErr); err != nil {
		return nil, err
	}
	var right []byte
	switch {
	case main != nil && isMarker(marker, main), main != nil && bytes.Equal(main, copied):
		right = main
	case copied != nil && isMarker(marker, copied):
		right = copied
	case marker != nil && main != nil && nearMarker(marker, main): // of a time without copies
		right = main
	default:
		add(path, path+" and its marker "+completeFile+" do not agree, and a copy is missing", nil)
		return nil, nil
	}
	for _, w := range []struct {
		name      string
		has, want []byte
	}{{manifestFile, main, right}, {manifestFile + durable.CopySuffix, copied, right}, {completeFile, marker, markerOf(right)}} {
		if bytes.Equal(w.has, w.want) || w.has == nil && w.name == manifestFile+durable.CopySuffix && isMarker(marker, main) {
			continue // a snapshot of before copies has none
		}
		name, problem := filepath.Join(dir, w.name), "is not as it was sealed"
		if w.has == nil {
			problem = "is missing"
		}
		add(name, name+" "+problem, func(aside string) error {
			return errors.Join(moveInto(name, aside), durable.WriteFile(name, w.want))
		})
	}
	return right, nil
}

// nearMarker reports whether a marker is that of a manifest but for a digit or two: of
// another manifest, hardly one digit would be the same.
func nearMarker(marker, manifest []byte) bool {
	want := markerOf(manifest)
	if len(marker) != len(want) {
		return false
	}
	differ := 0
	for i := range want {
		if want[i] != marker[i] {
			differ++
		}
	}
	return differ <= 2
}

// moveInto moves a file to a folder, which is made, if it is there.
func moveInto(path, aside string) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(aside, filepath.Base(path)), b); err != nil {
		return err
	}
	return os.Remove(path)
}
