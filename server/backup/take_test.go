package backup_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rapport/profilestore/backuplock"
	"rapport/server/backup"
)

// What is restored is what was there, without what follows from it or was half written.
func TestRoundTrip(t *testing.T) {
	data, to := newLargeData(t), filepath.Join(tempDir(t), "new", "backups")
	want := copied(t, data)
	m := take(t, data, to)
	if m.Journal != "thisjournal" || m.Next != 301 || len(m.Problems) > 0 || m.Copied.Bytes == 0 || m.Copied.Bytes > m.Bytes() {
		t.Errorf("the manifest: journal %q, next entry %d, problems %v, %+v of %d bytes", m.Journal, m.Next, m.Problems, m.Copied, m.Bytes())
	}
	same(t, contents(t, restore(t, to)), want)
	for name, info := range contents(t, to) {
		if mode := strings.Fields(info)[0]; !strings.HasSuffix(mode, "------") {
			t.Errorf("others may read %s: %s", name, mode)
		}
	}
	// To a folder that is there, as a mounted disk is.
	empty := tempDir(t)
	check(t, os.Mkdir(filepath.Join(empty, "lost+found"), 0o700))
	if _, err := backup.Restore(t.Context(), backup.RestoreOptions{Folder: to, Data: empty}); err != nil {
		t.Fatal(err)
	}
	want["lost+found"] = "drwx------ "
	same(t, contents(t, empty), want)
}

// The order of the copies is that of the package comment.
func TestOrder(t *testing.T) {
	data := newData(t)
	write(t, data, map[string]string{"decisions/1.log": "d", "base/1.base": "b", "tables/SETS.json": "s", "tables/a/v-1": "v", "strategies/x/RELEASE": "r", "strategies/x/1.wasm": "w", "erasures/first.erasures": "e"})
	var order []string
	for _, f := range take(t, data, tempDir(t)).Files {
		if strings.HasPrefix(f.Path, "journal/") {
			f.Path = "journal"
		}
		order = append(order, f.Path)
	}
	want := []string{
		"something/unknown", "decisions/1.log", "evidence", "base/1.base", "ledger/00000001.log", "journal",
		"tables/SETS.json", "tables/a/v-1", "snapshots/bi/CURRENT.json", "snapshots/bi/gen-1/rows/sst", "catalog/CURRENT", "catalog/v000001.json",
		"strategies/x/RELEASE", "strategies/x/1.wasm", "schema", "keys/a.key", "audit/000001.ndjson", "FORMAT", "erasures/first.erasures",
	}
	if got := slices.Compact(order); !slices.Equal(got, want) {
		t.Errorf("copied in the order %v, not %v", got, want)
	}
}

// A second backup copies what has changed, and does not read what has not.
func TestIncremental(t *testing.T) {
	data, to := newLargeData(t), tempDir(t)
	first := take(t, data, to)
	if second := take(t, data, to); second.Copied.Bytes != 0 || second.ID <= first.ID && len(second.ID) <= len(first.ID) {
		t.Errorf("nothing has changed, and %s after %s copied %+v", second.ID, first.ID, second.Copied)
	}
	appendJournal(t, data, 1)
	check(t, os.Rename(filepath.Join(data, "snapshots/bi/gen-1"), filepath.Join(data, "snapshots/bi/gen-3")))
	sst := filepath.Join(data, "snapshots/bi/gen-3/rows/sst")
	f, err := os.OpenFile(sst, os.O_WRONLY|os.O_APPEND, 0)
	check(t, err)
	_, err = f.WriteString("more")
	check(t, errors.Join(err, f.Close()))
	third := take(t, data, to)
	if n := third.Copied.Bytes; n < 1<<20 || n > 1<<20+20_000 {
		t.Errorf("a renamed file grew at its end, and %d bytes were copied: more than its last piece", n)
	}
	t.Logf("%d bytes: first %d, third %d copied", first.Bytes(), first.Copied.Bytes, third.Copied.Bytes)
	same(t, contents(t, restore(t, to)), copied(t, data))

	// What is old enough is not read again, and so what was copied when it was good stays.
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{"something/unknown", sst} {
		if !filepath.IsAbs(name) {
			name = filepath.Join(data, name)
		}
		check(t, os.Chtimes(name, old, old))
	}
	read := func(all bool) (n int64) {
		_, err := backup.Take(t.Context(), backup.Options{Data: data, To: to, ReadAll: all, Progress: func(bytes int64) { n = bytes }})
		check(t, err)
		return n
	}
	read(false)
	if n := read(true); n < 9<<20 {
		t.Errorf("%d bytes were read where all were to be", n)
	}
}

// A backup that is killed leaves none, and its work is not done again.
func TestKilledMidway(t *testing.T) {
	data, to := newLargeData(t), tempDir(t)
	want := copied(t, data)
	killed := 0
	for at := 1; ; at += 5 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), killedEnv+"="+strconv.Itoa(at), "RAPPORT_BACKUP_DATA="+data, "RAPPORT_BACKUP_TO="+to)
		err := cmd.Run()
		list, listErr := backup.List(to)
		if err == nil {
			check(t, listErr)
			if len(list) != 1 || list[0].Err != nil {
				t.Fatalf("a backup that ended: %+v", list)
			}
			// All but the last had been copied before.
			if n := list[0].Manifest.Copied.Bytes; n > 1<<20 {
				t.Errorf("the last copied %d bytes of %d", n, list[0].Manifest.Bytes())
			}
			break
		}
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != -1 {
			t.Fatalf("not killed at %d: %v", at, err)
		}
		if killed++; len(list) > 0 || listErr != nil && !errors.Is(listErr, backup.ErrNoFolder) {
			t.Fatalf("killed at %d: %+v, %v", at, list, listErr)
		}
	}
	t.Logf("killed %d times", killed)
	if killed < 8 {
		t.Error("too seldom")
	}
	same(t, contents(t, restore(t, to)), want)
}

// One backup of a data folder at a time, one to a folder of backups at a time, and what is
// being removed is waited for.
func TestConcurrent(t *testing.T) {
	data, to := newData(t), tempDir(t)
	started, goOn, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		first := true
		_, err := backup.Take(context.WithoutCancel(t.Context()), backup.Options{Data: data, To: to, Hook: func(string) {
			if first {
				first = false
				close(started)
				<-goOn
			}
		}})
		done <- err
	}()
	<-started
	if _, err := backup.Take(t.Context(), backup.Options{Data: data, To: tempDir(t)}); !errors.Is(err, backuplock.ErrUnderWay) {
		t.Errorf("a second backup of the data folder: %v", err)
	}
	if _, err := backup.Take(t.Context(), backup.Options{Data: newData(t), To: to}); !errors.Is(err, backup.ErrBusy) {
		t.Errorf("a second backup to the folder: %v", err)
	}
	if _, err := backup.Prune(backup.PruneOptions{Folder: to, Keep: 1}); !errors.Is(err, backup.ErrBusy) {
		t.Errorf("a prune meanwhile: %v", err)
	}
	if list, err := backup.List(to); err != nil || len(list) != 0 {
		t.Errorf("the list meanwhile: %v, %v", list, err)
	}
	close(goOn)
	check(t, <-done)
	take(t, data, to)
}

// Files that go and come while they are copied: what is copied is of one moment.
func TestGoneMeanwhile(t *testing.T) {
	data, to := newData(t), tempDir(t)
	dir := filepath.Join(data, "ledger")
	n := 0
	m, err := backup.Take(t.Context(), backup.Options{Data: data, To: to, Hook: func(name string) {
		// As the ledger does: what is left in the first file goes to a new one, then the first goes.
		if path, ok := strings.CutPrefix(name, "ledger/"); ok && n < 6 {
			n++
			b, err := os.ReadFile(filepath.Join(dir, path))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, strconv.Itoa(n)+".log"), b, 0o600)
			}
			if err = errors.Join(err, os.Remove(filepath.Join(dir, path))); err != nil {
				t.Error(err)
			}
		}
	}})
	check(t, err)
	i := slices.IndexFunc(m.Files, func(f backup.File) bool { return strings.HasPrefix(f.Path, "ledger/") })
	if n != 6 || i < 0 || m.Files[i].Bytes != int64(len("promises")) {
		t.Errorf("after %d moves the ledger is not in the backup", n)
	}
}

// What is wrong with the journal is said when it is copied.
func TestDamagedJournal(t *testing.T) {
	data, to := newData(t), tempDir(t)
	segments, err := filepath.Glob(filepath.Join(data, "journal", "*.journal"))
	check(t, err)
	if len(segments) < 3 {
		t.Fatal(segments)
	}
	take(t, data, to)
	b, err := os.ReadFile(segments[1])
	check(t, err)
	check(t, os.WriteFile(segments[1], b[:len(b)-20], 0o600)) // without its seal
	m := take(t, data, to)
	if len(m.Problems) != 1 || !strings.Contains(m.Problems[0], filepath.Base(segments[1])) {
		t.Errorf("a file of the journal without its end: %q", m.Problems)
	}
	flip(t, segments[0])
	for range 2 { // also when it is not read again
		m = take(t, data, to)
		if len(m.Problems) != 2 {
			t.Errorf("and a flipped bit in another: %q", m.Problems)
		}
	}
	p, err := backup.Prune(backup.PruneOptions{Folder: to, Keep: 1})
	check(t, err)
	if len(p.Kept) != 4 || len(p.Kept[0].Manifest.Problems) > 0 {
		t.Errorf("the newest backup of an undamaged folder is not among the %d that stay", len(p.Kept))
	}
}

// Mistakes of those who ask.
func TestRefusals(t *testing.T) {
	data, to := newData(t), tempDir(t)
	take(t, data, to)
	other := newData(t)
	write(t, other, map[string]string{"journal/ID": "another"})
	full := tempDir(t)
	write(t, full, map[string]string{"holiday.jpg": "sun"})
	link := filepath.Join(tempDir(t), "link")
	check(t, os.Symlink(data, link))
	for what, c := range map[string]struct{ data, to, want string }{
		"no data folder":          {tempDir(t), to, "not a data folder"},
		"in the data folder":      {data, filepath.Join(data, "a", "b"), "in each other"},
		"in it by a link":         {data, filepath.Join(link, "b"), "in each other"},
		"around the data folder":  {data, filepath.Dir(data), "in each other"},
		"another data folder":     {other, to, "holds backups of another data folder"},
		"a folder with something": {data, full, "not a folder of backups"},
	} {
		_, err := backup.Take(t.Context(), backup.Options{Data: c.data, To: c.to})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got := contents(t, full); len(got) != 1 {
		t.Errorf("a folder that was refused has %v", got)
	}
	circle := filepath.Join(other, "something", "circle")
	check(t, os.Symlink(other, circle))
	if _, err := backup.Take(t.Context(), backup.Options{Data: other, To: tempDir(t)}); err == nil || !strings.Contains(err.Error(), "leads back") {
		t.Errorf("a link that leads back: %v", err)
	}
	// A folder on another disk, by a link, is copied.
	check(t, os.Remove(circle))
	elsewhere := tempDir(t)
	write(t, elsewhere, map[string]string{"deep/file": "far"})
	check(t, os.Symlink(elsewhere, filepath.Join(other, "linked")))
	there := tempDir(t)
	take(t, other, there)
	if b, err := os.ReadFile(filepath.Join(restore(t, there), "linked", "deep", "file")); string(b) != "far" {
		t.Errorf("behind a link is %q, %v", b, err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := backup.Take(cancelled, backup.Options{Data: data, To: to}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := os.Stat(filepath.Join(data, "a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the data folder has been written to: %v", err)
	}
}

// A disk that fills: nothing is lost, and with room again it goes on.
func TestFullDisk(t *testing.T) {
	data, to := newData(t), tempDir(t)
	_, err := backup.Take(t.Context(), backup.Options{Data: data, To: to, Reserve: 1 << 60})
	if err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("without room: %v", err)
	}
	if list, err := backup.List(to); err != nil || len(list) != 0 {
		t.Errorf("without room there is %v, %v", list, err)
	}
	take(t, data, to)
	same(t, contents(t, restore(t, to)), copied(t, data))
}

// A backup at a limited rate takes as long as that.
func TestMaxRate(t *testing.T) {
	data, to := newData(t), tempDir(t)
	limited, cancel := context.WithCancel(t.Context())
	defer cancel()
	var read int64
	_, err := backup.Take(limited, backup.Options{Data: data, To: to, MaxRate: 1, Progress: func(n int64) {
		read = n
		cancel()
	}})
	if !errors.Is(err, context.Canceled) || read == 0 || read > 4<<20 {
		t.Errorf("at a byte a second: %d bytes, %v", read, err)
	}
}
