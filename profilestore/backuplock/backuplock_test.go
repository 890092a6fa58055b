package backuplock_test

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"rapport/profilestore/backuplock"
)

// TestLock has backups and removals meet.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	backup, err := backuplock.Hold(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := backuplock.Hold(t.Context(), dir); !errors.Is(err, backuplock.ErrUnderWay) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("a second backup: %v", err)
	}
	if release, err := backuplock.Removal(dir); release != nil || err != nil {
		t.Errorf("a removal during a backup may go on (%v)", err)
	}
	if err := backup.Release(); err != nil {
		t.Fatal(err)
	}

	one, err := backuplock.Removal(dir)
	if one == nil || err != nil {
		t.Fatalf("a removal after the backup: %v", err)
	}
	two, err := backuplock.Removal(dir)
	if two == nil || err != nil {
		t.Fatalf("a second removal: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := backuplock.Hold(short, dir); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, backuplock.ErrUnderWay) {
		t.Errorf("a backup that did not wait for the removals: %v", err)
	}
	held := make(chan error)
	go func() {
		l, err := backuplock.Hold(t.Context(), dir)
		if err == nil {
			err = l.Release()
		}
		held <- err
	}()
	one()
	two()
	if err := <-held; err != nil {
		t.Errorf("a backup after the removals: %v", err)
	}
}
