package backup_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"rapport/server/backup"
)

// On a disk that is really full a backup and a restore say so, lose nothing, and go on when
// there is room; a prune makes room.
func TestRealFullDisk(t *testing.T) {
	data := newLargeData(t)
	disk := tempDir(t)
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=15m"); err != nil {
		skipWithoutRoot(t, err)
	}
	t.Cleanup(func() { check(t, syscall.Unmount(disk, 0)) })
	to := filepath.Join(disk, "backups")
	o := backup.Options{Data: data, To: to, Reserve: 1} // so that it is the disk that refuses
	first, err := backup.Take(t.Context(), o)
	check(t, err)

	// Another file, too large for what is left.
	write(t, data, map[string]string{"snapshots/bi/gen-3/rows/sst": large()[1:]})
	for range 2 {
		if _, err := backup.Take(t.Context(), o); err == nil || !strings.Contains(err.Error(), "full") {
			t.Fatalf("on a full disk: %v", err)
		}
	}
	list, err := backup.List(to)
	if check(t, err); len(list) != 1 {
		t.Errorf("%d backups are there", len(list))
	}
	if v, err := backup.Verify(t.Context(), backup.VerifyOptions{Folder: to}); err != nil || v.Damaged() != 0 {
		t.Errorf("the backup of before: %+v, %v", v, err)
	}
	into := filepath.Join(disk, "restored")
	if _, err := backup.Restore(t.Context(), backup.RestoreOptions{Folder: to, Data: into}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a restore to the full disk: %v", err)
	}
	check(t, os.RemoveAll(into))
	check(t, os.RemoveAll(filepath.Join(data, "snapshots/bi/gen-1")))
	p, err := backup.Prune(backup.PruneOptions{Folder: to, Keep: 1}) // what the failed ones have left
	if check(t, err); len(p.Kept) != 1 || p.Freed.Bytes == 0 {
		t.Errorf("a prune of the full disk: %+v", p.Freed)
	}
	check(t, os.RemoveAll(filepath.Join(data, "snapshots/bi/gen-3")))
	appendJournal(t, data, 10)
	second, err := backup.Take(t.Context(), o)
	check(t, err)
	same(t, contents(t, restore(t, to)), copied(t, data))
	t.Logf("%s, then %s with %d bytes copied", first.ID, second.ID, second.Copied.Bytes)
}

// A data folder on a disk that can only be read is backed up without a lock.
func TestReadOnlyDisk(t *testing.T) {
	data := newData(t)
	want := copied(t, data)
	disk := tempDir(t)
	if err := syscall.Mount(data, disk, "", syscall.MS_BIND, ""); err != nil {
		skipWithoutRoot(t, err)
	}
	t.Cleanup(func() { check(t, syscall.Unmount(disk, 0)) })
	check(t, syscall.Mount("", disk, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	to := tempDir(t)
	take(t, disk, to)
	same(t, contents(t, restore(t, to)), want)
	if _, err := os.Stat(filepath.Join(data, "backup.lock")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the disk was not read-only")
	}
}

// skipWithoutRoot skips a test that can't mount a disk.
func skipWithoutRoot(t *testing.T, err error) {
	t.Helper()
	if strings.Contains(os.Getenv("RAPPORT_REQUIRE"), "root") {
		t.Fatal("RAPPORT_REQUIRE asks for root, who can mount a disk: ", err)
	}
	t.Skip("a disk can't be mounted, which takes root: ", err)
}
