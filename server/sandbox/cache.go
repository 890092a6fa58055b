package sandbox

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// cache keeps compiled modules in a folder: an entry for each, which is a folder
// named by its key with the files index, module.wasm and code.
//
// What is in it is executed, so nothing is taken on trust. The folder is the
// server's alone; the index of an entry is sealed with a key that is not in the
// folder and says the size and digest of the other files; all is checked before
// any of it is read by wazero, and wazero reads a copy of what was checked. An
// entry that is not as it was left counts as none: the module is compiled again.
//
// An entry is made in a folder with another name and renamed when it is whole. The
// entries that were used least recently go when there are too many. Several
// runtimes may have one folder, though a server sees to it that none does.
type cache struct {
	dir    string
	key    []byte
	limits CacheLimits
	kept   bool     // it is to outlive the runtime
	lock   *os.File // held shared; exclusively while leftovers are removed

	mu      sync.Mutex
	claimed map[string]chan struct{} // keys at work; closed at the end

	hits, misses, damaged, evicted atomic.Uint64
}

// CacheLimits bound the compiled modules that are kept. A zero field has its
// default.
type CacheLimits struct {
	Entries int   // default 1000
	Bytes   int64 // default 2 GiB
}

// Defaults of CacheLimits.
const (
	defaultCacheEntries = 1000
	defaultCacheBytes   = 2 << 30
)

// minCacheKey is the least length of the key that seals entries, in bytes.
const minCacheKey = 16

// Names in the cache folder.
const (
	cacheLock       = "LOCK"
	temporaryPrefix = "tmp-"
)

var entryName = regexp.MustCompile(`^[0-9a-f]{64}$`)

// errMissing means that there is no such entry.
var errMissing = errors.New("sandbox: not in the cache")

// damagedError says why an entry is not used.
type damagedError struct {
	file string
	err  error
}

func (e *damagedError) Error() string { return e.file + ": " + e.err.Error() }

func (e *damagedError) Unwrap() error { return e.err }

// entry is what the cache has of a module. All of it has been checked.
type entry struct {
	result     result
	wasm, code []byte
}

// openCache opens a folder, or makes one, or makes a temporary one if dir is empty.
func openCache(dir string, key []byte, limits CacheLimits) (_ *cache, err error) {
	c := &cache{dir: dir, key: slices.Clone(key), kept: dir != "", claimed: make(map[string]chan struct{})}
	c.limits = CacheLimits{cmp.Or(limits.Entries, defaultCacheEntries), cmp.Or(limits.Bytes, defaultCacheBytes)}
	switch {
	case c.limits.Entries < 0 || c.limits.Bytes < 0:
		return nil, errors.New("sandbox: a limit of the cache is negative: leave it 0 for its default")
	case len(key) == 0:
		c.key = make([]byte, sha256.Size)
		if _, err := rand.Read(c.key); err != nil {
			return nil, err
		}
	case len(key) < minCacheKey:
		return nil, fmt.Errorf("sandbox: a cache key of %d bytes: at least %d are needed", len(key), minCacheKey)
	}
	if !c.kept {
		if c.dir, err = os.MkdirTemp("", "rapport-wasm-"); err != nil {
			return nil, fmt.Errorf("sandbox: folder for compiling: %w", err)
		}
	}
	if err := c.open(); err != nil {
		err = fmt.Errorf("sandbox: the cache folder %s can't be used; it must be a folder that this server may write: %w", c.dir, err)
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *cache) open() (err error) {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	// It may be older than the rule that nobody else may see it.
	if err := os.Chmod(c.dir, 0o700); err != nil { //nolint:gosec // a folder needs its x
		return err
	}
	if c.dir, err = filepath.Abs(c.dir); err != nil {
		return err
	}
	if c.lock, err = os.OpenFile(filepath.Join(c.dir, cacheLock), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	// Whoever can have the lock alone is alone, and what others have left undone is
	// litter.
	if syscall.Flock(int(c.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		if err := c.removeLeftovers(); err != nil {
			return err
		}
	}
	if err := syscall.Flock(int(c.lock.Fd()), syscall.LOCK_SH); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	return c.trim("")
}

func (c *cache) removeLeftovers() error {
	leftovers, err := filepath.Glob(filepath.Join(c.dir, temporaryPrefix+"*"))
	for _, name := range leftovers {
		err = errors.Join(err, os.RemoveAll(name))
	}
	return err
}

// close removes what was not to be kept.
func (c *cache) close() error {
	var err error
	if c.lock != nil {
		err = c.lock.Close()
	}
	if !c.kept && c.dir != "" {
		err = errors.Join(err, os.RemoveAll(c.dir))
	}
	return err
}

// temporary makes a folder in the cache that is no entry. Whoever asks removes it.
func (c *cache) temporary(purpose string) (string, error) {
	dir, err := os.MkdirTemp(c.dir, temporaryPrefix+purpose+"-")
	if err != nil {
		return "", fmt.Errorf("sandbox: cache folder: %w", err)
	}
	return dir, nil
}

// claim waits until nobody else works on a key; release lets the next one.
func (c *cache) claim(ctx context.Context, key string) (release func(), err error) {
	for {
		c.mu.Lock()
		other, taken := c.claimed[key]
		if !taken {
			done := make(chan struct{})
			c.claimed[key] = done
			c.mu.Unlock()
			return func() {
				c.mu.Lock()
				delete(c.claimed, key)
				c.mu.Unlock()
				close(done)
			}, nil
		}
		c.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, fmt.Errorf("sandbox: while the same module was compiled: %w", context.Cause(ctx))
		}
	}
}

// get returns an entry: errMissing, a *damagedError, or what the folder itself says.
func (c *cache) get(key string) (*entry, error) {
	dir := filepath.Join(c.dir, key)
	info, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errMissing
	case err != nil:
		return nil, fmt.Errorf("sandbox: cache: %w", err)
	case !info.IsDir():
		return nil, &damagedError{key, errors.New("it is no folder")}
	}
	e, err := c.readEntry(dir, key)
	if err != nil {
		// Another runtime may just have removed or replaced it.
		if now, lost := os.Lstat(dir); lost != nil || !os.SameFile(info, now) {
			return nil, errMissing
		}
		return nil, err
	}
	now := time.Now()
	_ = os.Chtimes(dir, now, now) // only which entry goes first depends on it
	return e, nil
}

// readEntry reads an entry and checks that it is as it was left: the files that it
// should have, and no others. Its error is a *damagedError.
func (c *cache) readEntry(dir, key string) (*entry, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, &damagedError{key, err}
	}
	defer func() { _ = root.Close() }() // it was only read
	names, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, &damagedError{key, err}
	}
	for _, n := range names {
		if n.Name() != indexFile && n.Name() != moduleFile && n.Name() != codeFile {
			return nil, &damagedError{n.Name(), errors.New("it does not belong there")}
		}
	}
	sealed, err := readPrivate(root, indexFile, maxIndex)
	if err != nil {
		return nil, &damagedError{indexFile, err}
	}
	x, err := openIndex(sealed, c.key, key)
	if err != nil {
		return nil, &damagedError{indexFile, err}
	}
	return x.Result.read(root)
}

// read reads the files that a result describes, and checks that they are those.
func (r *result) read(root *os.Root) (*entry, error) {
	e := &entry{result: *r}
	for _, f := range []struct {
		name string
		sum  fileSum
		to   *[]byte
	}{{moduleFile, r.Wasm, &e.wasm}, {codeFile, r.Code, &e.code}} {
		b, err := readPrivate(root, f.name, f.sum.Size)
		if err != nil {
			return nil, &damagedError{f.name, err}
		}
		if sumOf(b) != f.sum {
			return nil, &damagedError{f.name, errors.New("its content is not what it should be")}
		}
		*f.to = b
	}
	return e, nil
}

// readPrivate reads a file of at most so many bytes, if it is one and no link.
func readPrivate(root *os.Root, name string, most int64) ([]byte, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("it is no file but %v", info.Mode().Type())
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, 0, min(info.Size(), most)+1)
	for len(b) < cap(b) {
		n, err := f.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, errors.New("it is longer than it should be")
}

// put makes an entry of what a compiler process has left in a folder, if that is
// what the process said, and puts it in the place of an older one. It returns the
// entry as it was checked: the next moment it may be damaged, or driven out.
//
// Nothing is synced. What loss of power does to an entry is seen as any damage is.
func (c *cache) put(key, work string, r *result) (*entry, error) {
	e, err := collect(work, r)
	if err != nil {
		return nil, err
	}
	sealed, err := index{key, *r}.seal(c.key)
	if err != nil {
		return nil, err
	}
	made, err := c.temporary("entry")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(made) }() // if it is still there
	err = errors.Join(
		os.Rename(filepath.Join(work, moduleFile), filepath.Join(made, moduleFile)),
		os.Rename(filepath.Join(work, codeFile), filepath.Join(made, codeFile)),
		os.WriteFile(filepath.Join(made, indexFile), sealed, 0o600))
	if err == nil {
		err = c.place(made, filepath.Join(c.dir, key))
	}
	if err == nil {
		err = c.trim(key)
	}
	if err != nil {
		return nil, fmt.Errorf("sandbox: cache: %w", err)
	}
	return e, nil
}

// collect reads what a compiler process has left.
func collect(work string, r *result) (*entry, error) {
	root, err := os.OpenRoot(work)
	if err != nil {
		return nil, fmt.Errorf("sandbox: what the compiler process has left: %w", err)
	}
	e, err := r.read(root)
	if err = errors.Join(err, root.Close()); err != nil {
		return nil, fmt.Errorf("sandbox: what the compiler process has left is not what it said: is the disk failing? %w", err)
	}
	return e, nil
}

// place renames a folder to one that may be there. Another runtime may do the same
// at the same time; either's is as good.
func (c *cache) place(from, to string) error {
	for range 3 {
		if err := c.remove(to); err != nil {
			return err
		}
		err := os.Rename(from, to)
		if !errors.Is(err, fs.ErrExist) && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.ENOTDIR) {
			return err
		}
	}
	return nil // the other one's stays
}

// remove removes an entry, if it is there. It is renamed first, so that nobody finds
// a part of it.
func (c *cache) remove(path string) error {
	dir, err := c.temporary("old")
	if err != nil {
		return err
	}
	if err := os.Rename(path, filepath.Join(dir, "entry")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, os.RemoveAll(dir))
	}
	return os.RemoveAll(dir)
}

// trim removes the entries that were used least recently, until the rest is within
// the limits. One entry stays in any case.
func (c *cache) trim(stays string) error {
	names, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	type kept struct {
		path string
		used time.Time
		size int64
	}
	var all []kept
	var bytes int64
	for _, n := range names {
		info, err := n.Info()
		if err != nil || !entryName.MatchString(n.Name()) {
			continue // somebody else has removed it, or it is no entry
		}
		e := kept{filepath.Join(c.dir, n.Name()), info.ModTime(), folderSize(filepath.Join(c.dir, n.Name()))}
		bytes += e.size
		if n.Name() == stays {
			e.used = time.Now().Add(time.Hour) // whatever the clock of the disk says
		}
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b kept) int {
		return cmp.Or(a.used.Compare(b.used), strings.Compare(a.path, b.path))
	})
	for len(all) > 1 && (len(all) > c.limits.Entries || bytes > c.limits.Bytes) {
		if err := c.remove(all[0].path); err != nil {
			return err
		}
		bytes -= all[0].size
		all = all[1:]
		c.evicted.Add(1)
	}
	return nil
}

// folderSize returns how many bytes the files of a folder have.
func folderSize(dir string) (n int64) {
	names, _ := os.ReadDir(dir) // what is not there has no size
	for _, name := range names {
		if info, err := name.Info(); err == nil {
			n += info.Size()
		}
	}
	return n
}
