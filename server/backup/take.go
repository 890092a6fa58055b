package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rapport/profilestore/backuplock"
	"rapport/profilestore/journal"
)

// Options say what to copy and where to. Data and To are needed.
type Options struct {
	Data string // the data folder; a server may have it open
	To   string // the folder of backups; it is made if it does not exist
	// Version is that of the program, for people.
	Version string
	// ReadAll has every file read, also those that seem not to have changed.
	ReadAll bool
	// MaxRate is how many bytes are read a second at most; 0: no limit.
	MaxRate int64
	// Reserve is how much must stay free on the disk of the backups; DefaultReserve if 0.
	Reserve int64
	// MergeErasures adds those who were erased in one data folder to another, which may lack all but
	// this: see Erased. Nil: the longer files are taken.
	MergeErasures func(into, from string) error
	// Progress, if not nil, is called now and then with the bytes read.
	Progress func(bytes int64)

	// Hook, for tests, is called before each file and folder is read.
	Hook func(path string)
}

// DefaultReserve is what stays free on the disk of the backups.
const DefaultReserve = 64 << 20

// lockTime is how long a backup waits for files that are being removed.
const lockTime = 30 * time.Second

// maxDepth bounds how deep folders are followed: links can lead in circles.
const maxDepth = 16

// Take makes a backup of a data folder. A server, loads and other commands may use the
// folder meanwhile; all that is written there is backup.lock.
//
// Errors: backuplock.ErrUnderWay, ErrBusy, ErrNoFolder, a full disk. After an error, or the
// death of the process, there is no new backup, the others are as they were, and what has
// been copied is not copied again by the next.
func Take(ctx context.Context, o Options) (_ *Manifest, err error) {
	began := time.Now()
	if o.Reserve == 0 {
		o.Reserve = DefaultReserve
	}
	format, err := os.ReadFile(filepath.Join(o.Data, "FORMAT"))
	if err != nil {
		return nil, fmt.Errorf("%s is not a data folder: %w", o.Data, err)
	}
	if o.Data, err = filepath.Abs(o.Data); err != nil {
		return nil, err
	}
	if err := apart(o.Data, o.To); err != nil {
		return nil, err
	}
	waiting, cancel := context.WithTimeout(ctx, lockTime)
	defer cancel()
	lock, err := backuplock.Hold(waiting, o.Data)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	to, err := create(o.To)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, to.close()) }()
	if err := to.clean(); err != nil {
		return nil, err
	}
	ids, err := to.ids()
	if err != nil {
		return nil, err
	}
	t := &taker{o: o, to: to, started: began}
	t.journal = t.journalID()
	if err := t.remember(ids); err != nil {
		return nil, err
	}
	m := &Manifest{
		Format: manifestFormat, ID: newID(began, ids), Began: began.UTC(), Version: o.Version, Data: o.Data,
		DataFormat: strings.TrimSpace(string(format)), Journal: t.journal,
	}
	if err := t.round(ctx, m); err != nil { // the bulk
		return nil, err
	}
	t.known = byPath(m.Files)
	m.AsOf = time.Now().UTC()
	if err := t.round(ctx, m); err != nil {
		return nil, err
	}
	m.Ended, m.Copied = time.Now().UTC(), t.copied
	t.examine(m)
	if err := t.keepErased(m); err != nil {
		return nil, err
	}
	if err := to.syncObjects(); err != nil {
		return nil, err
	}
	return m, to.write(m)
}

// apart refuses a folder of backups in the data folder, or the reverse.
func apart(data, to string) error {
	a, err := filepath.EvalSymlinks(data)
	if err != nil {
		return err
	}
	b, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	for rest := ""; ; { // the folder of backups need not exist
		real, err := filepath.EvalSymlinks(b)
		if err == nil {
			b = filepath.Join(real, rest)
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || b == filepath.Dir(b) {
			return err
		}
		b, rest = filepath.Dir(b), filepath.Join(filepath.Base(b), rest)
	}
	if within(a, b) || within(b, a) {
		return fmt.Errorf("the folder of backups %s and the data folder %s are in each other: use a folder elsewhere, on another disk", to, data)
	}
	return nil
}

func within(dir, name string) bool {
	rel, err := filepath.Rel(dir, name)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// taker is a backup under way.
type taker struct {
	o       Options
	to      *folder
	journal string           // its id
	known   map[string]*File // by path: files that have been copied
	copied  Amount
	started time.Time
	read    int64 // bytes
	buf     []byte
}

func byPath(files []File) map[string]*File {
	known := make(map[string]*File, len(files))
	for i := range files {
		known[files[i].Path] = &files[i]
	}
	return known
}

// journalID returns the name of the journal, or nothing if there is none yet.
func (t *taker) journalID() string {
	b, err := os.ReadFile(filepath.Join(t.o.Data, "journal", "ID"))
	if err != nil {
		return ""
	}
	return string(b)
}

// remember takes what the newest backup has as known. One of another journal is refused:
// the newest of the folder would sometimes be one server's and sometimes another's.
func (t *taker) remember(ids []string) error {
	for _, id := range slices.Backward(ids) {
		m, err := t.to.read(id)
		if errors.Is(err, ErrDamaged) {
			continue // Verify names it
		}
		if err != nil {
			return err
		}
		if m.Journal != "" && m.Journal != t.journal {
			return fmt.Errorf("%s holds backups of another data folder (%s, journal %.8s): %s has journal %.8s; use a folder of its own", t.o.To, m.Data, m.Journal, t.o.Data, t.journal)
		}
		if !t.o.ReadAll {
			t.known = byPath(m.Files)
		}
		return nil
	}
	return nil
}

// errGone means that a file was listed and is not there any more.
var errGone = errors.New("gone")

// round copies everything that is not known, in order, and says in the manifest what there
// is.
func (t *taker) round(ctx context.Context, m *Manifest) error {
	entries, err := os.ReadDir(t.o.Data)
	if err != nil {
		return err
	}
	var steps []string
	for _, e := range entries {
		if !isLeftOut(e.Name()) {
			steps = append(steps, e.Name())
		}
	}
	sortSteps(steps)
	m.Folders, m.Files, m.Problems = nil, nil, nil
	for _, name := range steps {
		if err := t.step(ctx, m, name); err != nil {
			return err
		}
	}
	return nil
}

// step copies what has one name at the top of the data folder. If a file goes that was
// listed (the ledger removes what is empty, and has written before to others what was left
// in it), all of it is done again.
func (t *taker) step(ctx context.Context, m *Manifest, name string) error {
	const tries = 50
	for n := 1; ; n++ {
		var files []File
		var folders []Folder
		err := t.entry(ctx, name, 0, &folders, &files)
		if err == nil {
			m.Folders, m.Files = append(m.Folders, folders...), append(m.Files, files...)
			return nil
		}
		if !errors.Is(err, errGone) {
			return err
		}
		if n == tries {
			return fmt.Errorf("%s changes all the time: %w: files went %d times while they were copied; try again", filepath.Join(t.o.Data, name), err, n)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// entry copies a file or a folder.
func (t *taker) entry(ctx context.Context, name string, depth int, folders *[]Folder, files *[]File) error {
	full := filepath.Join(t.o.Data, filepath.FromSlash(name))
	info, err := os.Stat(full) // operators link folders to other disks
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is %w", full, errGone)
	case err != nil:
		return err
	}
	if t.o.Hook != nil {
		t.o.Hook(name)
	}
	switch {
	case info.Mode().IsRegular():
		f, err := t.file(ctx, name, full)
		if err == nil {
			*files = append(*files, *f)
		}
		return err
	case !info.IsDir():
		return nil // a socket, say: nothing of Rapport's
	case depth == maxDepth:
		return fmt.Errorf("%s: folders lie %d deep: is there a link that leads back?", full, depth)
	}
	*folders = append(*folders, Folder{Path: name, Mode: info.Mode().Perm()})
	for _, p := range pointers {
		for _, p := range [...]string{p, p + copySuffix} {
			err := t.entry(ctx, path.Join(name, p), depth+1, folders, files)
			if err != nil && !errors.Is(err, errGone) {
				return err
			}
		}
	}
	entries, err := os.ReadDir(full)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is %w", full, errGone)
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		below := path.Join(name, e.Name())
		if isLeftOut(below) || isPointer(e.Name()) {
			continue
		}
		if err := t.entry(ctx, below, depth+1, folders, files); err != nil {
			return err
		}
	}
	return nil
}

// settled is how long a file must be unchanged for its times to tell: file systems keep them
// by some milliseconds, FAT by two seconds.
const settled = 3 * time.Second

// file copies a file, unless it is known.
func (t *taker) file(ctx context.Context, name, full string) (*File, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	in, err := os.Open(full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is %w", full, errGone)
	}
	if err != nil {
		return nil, err
	}
	defer in.Close() //nolint:errcheck // only read
	now := time.Now()
	info, err := in.Stat()
	if err != nil {
		return nil, err
	}
	on := onDiskOf(info)
	if k := t.known[name]; k != nil && k.On != nil && *k.On == *on && t.has(k) {
		f := *k
		f.Mode = info.Mode().Perm()
		return &f, nil
	}
	f := &File{Path: name, Mode: info.Mode().Perm(), Bytes: info.Size(), On: on}
	if now.Sub(time.Unix(0, max(on.Changed, on.Modified))).Abs() < settled {
		f.On = nil
	}
	if err := t.limit(f, full, in); err != nil {
		return nil, err
	}
	return f, t.pieces(ctx, f, in)
}

// has reports whether all pieces of a file are stored.
func (t *taker) has(f *File) bool {
	for i, h := range f.Pieces {
		if !t.to.has(h, f.pieceSize(i)) {
			return false
		}
	}
	return true
}

// limit reduces a file that is being written to what is whole.
func (t *taker) limit(f *File, full string, in *os.File) error {
	switch dir, base := path.Split(f.Path); {
	case dir == "journal/" && strings.HasSuffix(base, ".journal"):
		p, err := journal.WholePrefix(full)
		switch _, damaged := errors.AsType[*journal.CorruptError](err); {
		case damaged || errors.Is(err, journal.ErrVersion):
			f.Problem = err.Error()
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%s is %w", full, errGone)
		case err != nil:
			return err
		default:
			if p.Bytes > f.Bytes { // it has grown since
				f.On = nil
			}
			f.Bytes, f.Next, f.Sealed = p.Bytes, p.Next, p.Sealed
		}
	case dir == "audit/" && strings.HasSuffix(base, ".ndjson"):
		n, err := wholeLines(in, f.Bytes)
		f.Bytes = n
		return err
	}
	return nil
}

// wholeLines returns how many of the first size bytes are whole lines.
func wholeLines(r io.ReaderAt, size int64) (int64, error) {
	b := make([]byte, 4096)
	for size > 0 {
		part := b[:min(size, int64(len(b)))]
		if _, err := r.ReadAt(part, size-int64(len(part))); err != nil {
			return 0, err
		}
		for i, c := range slices.Backward(part) {
			if c == '\n' {
				return size - int64(len(part)) + int64(i) + 1, nil
			}
		}
		size -= int64(len(part))
	}
	return 0, nil
}

// pieces reads a file and stores what is not yet stored of it. A file that was cut off
// meanwhile has what was read of it.
func (t *taker) pieces(ctx context.Context, f *File, in *os.File) error {
	if t.buf == nil {
		t.buf = make([]byte, pieceBytes)
	}
	for at := int64(0); at < f.Bytes; at += pieceBytes {
		b := t.buf[:min(pieceBytes, f.Bytes-at)]
		n, err := in.ReadAt(b, at)
		if errors.Is(err, io.EOF) && n < len(b) {
			f.Bytes, f.On = at+int64(n), nil
			b = b[:n]
		} else if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(b) == 0 {
			break
		}
		h := hash(sha256.Sum256(b))
		f.Pieces = append(f.Pieces, h)
		if !t.to.has(h, int64(len(b))) {
			if err := t.to.put(h, b, t.o.Reserve); err != nil {
				return err
			}
			t.copied.Pieces++
			t.copied.Bytes += int64(len(b))
		}
		if err := t.pause(ctx, len(b)); err != nil {
			return err
		}
	}
	return nil
}

// pause waits until so many bytes more may have been read.
func (t *taker) pause(ctx context.Context, n int) error {
	t.read += int64(n)
	if t.o.Progress != nil {
		t.o.Progress(t.read)
	}
	if t.o.MaxRate <= 0 {
		return ctx.Err()
	}
	due := t.started.Add(time.Duration(float64(t.read) / float64(t.o.MaxRate) * float64(time.Second)))
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(due)):
		return nil
	}
}

// examine says in the manifest what is wrong with what was copied, and how far the journal
// goes.
func (t *taker) examine(m *Manifest) {
	var last *File
	for i := range m.Files {
		f := &m.Files[i]
		if f.Problem != "" {
			m.Problems = append(m.Problems, f.Problem)
		}
		if path.Dir(f.Path) != "journal" || !strings.HasSuffix(f.Path, ".journal") {
			continue
		}
		if last != nil && !last.Sealed && last.Problem == "" {
			m.Problems = append(m.Problems, fmt.Sprintf("%s: the last records are missing: it does not end as a file of the journal does that another follows", filepath.Join(t.o.Data, last.Path)))
		}
		last = f
		m.Next = f.Next
	}
}

// keepErased updates what the folder of backups knows of who was erased.
func (t *taker) keepErased(m *Manifest) error {
	if !slices.ContainsFunc(slices.Collect(maps.Keys(byPath(m.Files))), func(name string) bool { return strings.HasPrefix(name, "erasures/") }) {
		return nil
	}
	into := t.to.path(erasedFolder)
	if err := os.MkdirAll(into, 0o700); err != nil {
		return diskError(err)
	}
	return mergeErasures(t.o.MergeErasures, into, t.o.Data)
}
