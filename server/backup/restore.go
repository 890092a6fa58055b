package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"rapport/profilestore/durable"
)

// restoringFile is in a folder while a backup is restored to it, and stays if that is
// interrupted.
const restoringFile = "RESTORING"

// RestoreOptions say what to restore and where to. Folder and Data are needed.
type RestoreOptions struct {
	Folder string
	// ID names the backup; or At the newest that had ended by then. Without either it is the
	// newest.
	ID string
	At time.Time
	// Data is the data folder that is made: a new folder, or one that is empty.
	Data string
	// Erasures are data folders, or folders of backups, that may know of erasures which Folder does not.
	Erasures []string
	// MergeErasures is as in Options.
	MergeErasures func(into, from string) error
	// Note, if not nil, is called when all files are there and before the folder is a data
	// folder.
	Note func(dir string, m *Manifest) error
	// Progress, if not nil, is called now and then with the bytes written, of total.
	Progress func(bytes, total int64)
}

// Restore makes a data folder of a backup and returns its manifest.
//
// Every piece is compared with its hash while it is copied. FORMAT is written last, when all else is
// durable: until then the folder is none that a server opens, and after an error, or the death of the
// process, Restore may be called again with it.
func Restore(ctx context.Context, o RestoreOptions) (_ *Manifest, err error) {
	f, err := open(o.Folder, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	m, err := f.find(o.ID, o.At)
	if err != nil {
		return nil, err
	}
	var erased []string
	for _, dir := range append([]string{o.Folder}, o.Erasures...) {
		from, err := erasedIn(dir)
		if err != nil {
			return nil, err
		}
		erased = append(erased, from)
	}
	marker, err := begin(o.Data)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, marker.Close()) }()
	r := &restorer{o: o, from: f, total: m.Bytes()}
	if err := r.files(ctx, m); err != nil {
		return nil, fmt.Errorf("backup %s: %w; what is in %s is not complete, and no server opens it: restore another backup to it, or remove it", m.ID, err, o.Data)
	}
	for _, from := range erased {
		if err := mergeErasures(o.MergeErasures, o.Data, from); err != nil {
			return nil, err
		}
	}
	if o.Note != nil {
		if err := o.Note(o.Data, m); err != nil {
			return nil, err
		}
	}
	if err := r.folders(m); err != nil {
		return nil, err
	}
	if err := durable.WriteFile(filepath.Join(o.Data, "FORMAT"), r.format); err != nil {
		return nil, err
	}
	return m, os.Remove(filepath.Join(o.Data, restoringFile))
}

// find returns the manifest of a backup.
func (f *folder) find(id string, at time.Time) (*Manifest, error) {
	if id != "" {
		if !fs.ValidPath(id) || strings.Contains(id, "/") {
			return nil, fmt.Errorf("%w: %q", ErrNotFound, id)
		}
		return f.read(id)
	}
	list, err := f.list()
	if err != nil {
		return nil, err
	}
	for _, b := range slices.Backward(list) {
		if b.Err != nil {
			// It may be the one that was meant. An older one in its place must be asked for.
			return nil, fmt.Errorf("%w; name another one", b.Err)
		}
		if at.IsZero() || !b.Manifest.Ended.After(at) {
			return b.Manifest, nil
		}
	}
	if at.IsZero() {
		return nil, fmt.Errorf("%w: there is none in %s", ErrNotFound, f.dir)
	}
	return nil, fmt.Errorf("%w: none had ended by %s", ErrNotFound, at.UTC().Format(time.RFC3339))
}

// erasedIn returns where a folder keeps who was erased: a folder of backups, or a data
// folder.
func erasedIn(dir string) (string, error) {
	for _, sub := range []string{formatFile, "FORMAT", "erasures"} {
		if _, err := os.Stat(filepath.Join(dir, sub)); err == nil {
			if sub == formatFile {
				return filepath.Join(dir, erasedFolder), nil
			}
			return dir, nil
		}
	}
	return "", fmt.Errorf("%s is neither a data folder nor a folder of backups: erasures can't be read from it", dir)
}

// begin makes the folder that is restored to, and marks it. What an interrupted restore
// has left there is removed.
func begin(dir string) (_ *os.File, err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	marked, data := false, false
	var others []string
	for _, e := range entries {
		switch e.Name() {
		case restoringFile:
			marked = true
		case "lost+found": // on every new ext4 disk
		default:
			data = data || e.Name() == "FORMAT"
			others = append(others, e.Name())
		}
	}
	if len(others) > 0 && (data || !marked) {
		return nil, fmt.Errorf("%s is not empty (%s): a backup is restored to a new or empty folder only, so that nothing is lost", dir, others[0])
	}
	name := filepath.Join(dir, restoringFile)
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("%s: another process is restoring a backup to it: %w", dir, err)
	}
	for _, other := range others {
		if err := os.RemoveAll(filepath.Join(dir, other)); err != nil {
			return nil, fmt.Errorf("data folder: what an interrupted restore has left can't be removed: %w", err)
		}
	}
	return file, durable.SyncDir(dir)
}

// restorer is a restore under way.
type restorer struct {
	o     RestoreOptions
	from  *folder
	total int64
	done  int64

	format []byte // the content of FORMAT
}

// files copies all files but FORMAT, which it reads.
func (r *restorer) files(ctx context.Context, m *Manifest) error {
	for _, d := range m.Folders {
		if err := os.MkdirAll(r.path(d.Path), 0o700); err != nil {
			return err
		}
	}
	for i := range m.Files {
		file := &m.Files[i]
		if file.Path == "FORMAT" {
			var err error
			if r.format, err = r.from.get(file.Pieces[0], file.Bytes); err != nil {
				return fmt.Errorf("%s: %w", file.Path, err)
			}
			continue
		}
		if err := r.file(ctx, file); err != nil {
			return fmt.Errorf("%s: %w", file.Path, err)
		}
	}
	return nil
}

func (r *restorer) path(name string) string {
	return filepath.Join(r.o.Data, filepath.FromSlash(name))
}

// file copies a file.
func (r *restorer) file(ctx context.Context, f *File) (err error) {
	name := r.path(f.Path)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	for i, h := range f.Pieces {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := r.from.get(h, f.pieceSize(i))
		if err != nil {
			return err
		}
		if _, err := out.Write(b); err != nil {
			return err
		}
		r.done += int64(len(b))
		if r.o.Progress != nil {
			r.o.Progress(r.done, r.total)
		}
	}
	if err := out.Chmod(f.Mode.Perm()); err != nil {
		return err
	}
	return out.Sync()
}

// folders gives all folders their permissions and makes the names in them durable, the
// deepest first.
func (r *restorer) folders(m *Manifest) error {
	deepest := slices.Clone(m.Folders)
	slices.SortStableFunc(deepest, func(a, b Folder) int { return depth(b.Path) - depth(a.Path) })
	for _, d := range deepest {
		if err := os.Chmod(r.path(d.Path), d.Mode.Perm()); err != nil {
			return err
		}
		if err := durable.SyncDir(r.path(d.Path)); err != nil {
			return err
		}
	}
	if err := durable.SyncDir(r.o.Data); err != nil {
		return err
	}
	data, err := filepath.Abs(r.o.Data)
	if err != nil {
		return err
	}
	if err := durable.SyncDir(filepath.Dir(data)); !errors.Is(err, fs.ErrPermission) { // one that may be entered and not read
		return err
	}
	return nil
}

func depth(name string) int { return strings.Count(name, "/") }
