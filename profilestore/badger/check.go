package badger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"rapport/profilestore/durable"
)

// DamagedError says that the delta records in a folder can't be used: a file is not what
// was written. They are a view of the journal: set the folder aside, and derive them anew.
type DamagedError struct {
	File   string // path
	Reason string
}

func (e *DamagedError) Error() string { return fmt.Sprintf("%s %s", e.File, e.Reason) }

// Check says whether the delta records in a folder that nobody has open are what they
// were when they were last made durable. The error is a *DamagedError if they are not. It
// changes nothing. command is as in [Options.Checker].
func Check(ctx context.Context, dir string, command []string) error {
	c, err := check(ctx, dir)
	if err != nil {
		return err
	}
	return c.inChild(ctx, command)
}

// checked is what a check has found in a folder that is not damaged as far as is known.
type checked struct {
	dir     string
	names   []string
	fresh   bool              // there are no records yet
	closed  bool              // the engine was closed in order
	logs    map[string]memLog // how far each is whole
	tables  []string          // that are in the MANIFEST and not sealed
	litter  []string          // tables that are not in the MANIFEST
	unknown bool              // there is no seal
	sealed  []sealedFile      // files that never change and are as they were sealed
}

// check compares a folder with its seal.
func check(ctx context.Context, dir string) (*checked, error) {
	names, err := filesOf(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return &checked{dir: dir, fresh: true}, nil
	}
	if err != nil {
		return nil, err
	}
	c := &checked{dir: dir, names: names, fresh: true, logs: make(map[string]memLog)}
	for _, name := range names {
		if name == manifestName || strings.HasSuffix(name, tableSuffix) || strings.HasSuffix(name, memSuffix) {
			c.fresh = false
		}
	}
	s, err := readSeal(dir)
	if err != nil && !errors.Is(err, durable.ErrDamaged) {
		return nil, err
	}
	// One file alone is damaged as a rule. Without a seal each is judged by itself.
	c.unknown = s == nil
	if c.fresh && s != nil && len(s.Files) > 0 {
		return nil, c.damaged(manifestName, "is missing")
	}
	if c.fresh {
		return c, nil
	}
	if s == nil {
		s = &seal{Format: sealFormat}
	}
	c.closed = s.Closed
	return c, c.compare(ctx, s)
}

func (c *checked) damaged(name, format string, args ...any) error {
	return &DamagedError{File: filepath.Join(c.dir, name), Reason: fmt.Sprintf(format, args...)}
}

// has reports whether a file is in the folder.
func (c *checked) has(name string) bool {
	return slices.Contains(c.names, name)
}

func (c *checked) compare(ctx context.Context, s *seal) error {
	m, err := readManifest(c.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return c.damaged(manifestName, "is missing")
	}
	if err != nil {
		if _, ok := errors.AsType[*fs.PathError](err); ok {
			return err
		}
		return c.damaged(manifestName, "can't be read: %v", err)
	}
	if sealed, ok := s.find(manifestName); ok {
		begin, err := sumFile(filepath.Join(c.dir, manifestName), sealed.Bytes)
		if err != nil {
			return err
		}
		if begin != sealed || s.Closed && (m.sealedFile != sealed || m.torn) {
			return c.damaged(manifestName, "is not as it was sealed")
		}
	}
	for name := range m.tables {
		if !c.has(name) {
			return c.damaged(name, "is missing")
		}
		if _, ok := s.find(name); !ok {
			c.tables = append(c.tables, name)
		}
	}
	if c.closed && len(c.tables) > 0 {
		return c.damaged(c.tables[0], "has come from elsewhere")
	}
	if err := c.compareLogs(s); err != nil {
		return err
	}
	for _, name := range c.names {
		if strings.HasSuffix(name, tableSuffix) && !m.tables[name] {
			c.litter = append(c.litter, name)
		}
	}
	var files []sealedFile
	for _, f := range s.Files {
		if f.Name == registryName || m.tables[f.Name] {
			files = append(files, f)
		}
	}
	c.sealed = files
	return c.compareFiles(ctx, files)
}

// compareLogs compares the logs of memory tables with those that were sealed.
func (c *checked) compareLogs(s *seal) error {
	for _, name := range c.names {
		if !strings.HasSuffix(name, memSuffix) {
			continue
		}
		log, err := scanMem(filepath.Join(c.dir, name), memLog{})
		if err != nil {
			return err
		}
		c.logs[name] = log
	}
	for _, sealed := range s.Files {
		if !strings.HasSuffix(sealed.Name, memSuffix) || sealed.Bytes <= memHead {
			continue
		}
		log, ok := c.logs[sealed.Name]
		switch {
		case !ok && (c.closed || len(c.tables) == 0):
			return c.damaged(sealed.Name, "is missing, and its records are in no table")
		case !ok: // it became a table
			continue
		case log.end < sealed.Bytes:
			return c.damaged(sealed.Name, "is whole up to byte %d only, and %d were sealed", log.end, sealed.Bytes)
		}
		begin, err := sumFile(filepath.Join(c.dir, sealed.Name), sealed.Bytes)
		if err != nil {
			return err
		}
		if begin != sealed {
			return c.damaged(sealed.Name, "is not as it was sealed")
		}
	}
	return nil
}

// compareFiles compares whole files, several at a time.
func (c *checked) compareFiles(ctx context.Context, files []sealedFile) error {
	next := make(chan sealedFile)
	errs := make([]error, min(4, runtime.GOMAXPROCS(0)))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var work sync.WaitGroup
	for i := range errs {
		work.Go(func() {
			for f := range next {
				if errs[i] = c.compareFile(f); errs[i] != nil {
					cancel()
					return
				}
			}
		})
	}
	var err error
feed:
	for _, f := range files {
		select {
		case next <- f:
		case <-ctx.Done():
			err = ctx.Err()
			break feed
		}
	}
	close(next)
	work.Wait()
	for _, e := range errs { // a damaged file says more than that the rest was given up
		if e != nil {
			return e
		}
	}
	return err
}

func (c *checked) compareFile(sealed sealedFile) error {
	path := filepath.Join(c.dir, sealed.Name)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c.damaged(sealed.Name, "is missing")
	}
	if err != nil {
		return err
	}
	if info.Size() != sealed.Bytes {
		return c.damaged(sealed.Name, "has %d bytes instead of %d", info.Size(), sealed.Bytes)
	}
	got, err := sumFile(path, -1)
	if err == nil && got != sealed {
		err = c.damaged(sealed.Name, "is not as it was sealed")
	}
	return err
}

// ready removes from the folder what Badger must not meet: what was being written when
// the process ended, and files that hold nothing.
func (c *checked) ready() error {
	for _, name := range c.names {
		path := filepath.Join(c.dir, name)
		switch log, ok := c.logs[name]; {
		case scratch(name), ok && log.empty():
			if err := os.Remove(path); err != nil {
				return err
			}
		case ok:
			if info, err := os.Stat(path); err != nil {
				return err
			} else if info.Size() > log.end {
				if err := os.Truncate(path, log.end); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// CheckSeal says whether the seal of a folder is damaged or missing. Then Check judges each
// file by itself. The folder is as good as before, and gets another seal when it is used.
func CheckSeal(dir string) error {
	s, err := readSeal(dir)
	if err != nil || s != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, manifestName)); err == nil {
		return fmt.Errorf("%s is missing", filepath.Join(dir, sealName))
	}
	return nil
}
