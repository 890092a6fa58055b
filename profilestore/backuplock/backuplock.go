// Package backuplock keeps files of a data folder from being removed while a backup
// copies them.
//
// A backup reads which files there are and copies them one after the other, beside a
// server and loads that go on. Files that are only added to, or replaced in one step, are
// no trouble; one that is named by another and then gone is. So whoever removes what has
// become too old (snapshots, files of the journal and of the decision log) asks
// [Removal] first, and leaves it for the next time while a backup is under way.
//
// The lock is an flock of DATA/backup.lock: it ends with its holder, however that ends.
//
// It is a leaf; anything in the module that removes files of a data folder may import it.
package backuplock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Name is the name of the lock file in a data folder.
const Name = "backup.lock"

// ErrUnderWay means that another backup of the data folder is under way.
var ErrUnderWay = errors.New("a backup of this data folder is under way")

// Lock is held during a backup.
type Lock struct{ file *os.File } // nil where nothing can be written

// Hold keeps everybody from removing files of a data folder until the lock is released.
// It waits for removals that are under way until ctx ends. The error wraps ErrUnderWay if
// another backup has the lock.
func Hold(ctx context.Context, data string) (*Lock, error) {
	f, err := open(data)
	if errors.Is(err, syscall.EROFS) { // a snapshot of a disk, say: nobody removes anything there
		return &Lock{}, nil
	}
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*Lock, error) { return nil, errors.Join(err, f.Close()) }
	for {
		ok, err := try(f, syscall.LOCK_EX)
		if err != nil {
			return fail(err)
		}
		if ok {
			break
		}
		// A lock that can be shared is one of somebody who removes; that does not take long.
		if ok, err = try(f, syscall.LOCK_SH); err != nil {
			return fail(err)
		}
		if !ok {
			return fail(fmt.Errorf("%w%s: wait for it, or stop it", ErrUnderWay, holder(f)))
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_UN); err != nil {
			return fail(fmt.Errorf("%s: %w", f.Name(), err))
		}
		select {
		case <-ctx.Done():
			return fail(fmt.Errorf("%s: files are being removed: %w", f.Name(), ctx.Err()))
		case <-time.After(20 * time.Millisecond):
		}
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	if err != nil && !errors.Is(err, syscall.ENOSPC) { // the number is for people
		return fail(err)
	}
	return &Lock{f}, nil
}

// Release lets files be removed again.
func (l *Lock) Release() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

// Removal asks whether files of a data folder may be removed. If so, release is to be
// called when they are gone, which should be soon: a backup waits for it. If not, it is
// nil, since a backup is under way, and they are to be removed some other time.
func Removal(data string) (release func(), err error) {
	f, err := open(data)
	if err != nil {
		return nil, err
	}
	ok, err := try(f, syscall.LOCK_SH)
	if err != nil || !ok {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// open opens the lock file. Others may read it, so that a backup by another user is seen.
func open(data string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(data, Name), os.O_RDWR|os.O_CREATE, 0o644) //nolint:gosec // it says who has it, and no more
	if errors.Is(err, os.ErrPermission) {
		f, err = os.Open(filepath.Join(data, Name)) // another user has made it; to lock it needs no more
	}
	return f, err
}

// try takes the lock if nobody has it.
func try(f *os.File, how int) (bool, error) {
	err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return true, nil
}

// holder says which process has the lock, if that is known.
func holder(f *os.File) string {
	b, err := os.ReadFile(f.Name())
	if pid := strings.TrimSpace(string(b)); err == nil && pid != "" {
		return " (process " + pid + ")"
	}
	return ""
}
