package backup_test

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rapport/server/backup"
)

// filesOf returns the files below a folder.
func filesOf(t testing.TB, dir string) []string {
	t.Helper()
	var files []string
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	}))
	return files
}

// Damage of any file in a folder of backups is found by Verify and by Restore, and never
// restored; what is discarded the next backup copies again.
func TestDamage(t *testing.T) {
	data, to := newData(t), tempDir(t)
	take(t, data, to)
	want := copied(t, data)
	r := rand.New(rand.NewPCG(3, 3))
	var found, manifests int
	objects := filesOf(t, filepath.Join(to, "objects"))
	r.Shuffle(len(objects), func(i, j int) { objects[i], objects[j] = objects[j], objects[i] })
	for i, path := range append(objects[:8], "", "", "", "") { // the last four are of the manifest
		how, inManifest := i%4, path == ""
		if inManifest {
			path = filesOf(t, filepath.Join(to, "backups"))[0]
		}
		b, err := os.ReadFile(path)
		check(t, err)
		switch how {
		case 0:
			flip(t, path)
		case 1:
			check(t, os.Truncate(path, r.Int64N(int64(len(b)))))
		case 2:
			check(t, os.Remove(path))
		case 3:
			check(t, os.WriteFile(path, append(b, 0), 0o600))
		}
		if inManifest {
			manifests++
		}
		v, err := backup.Verify(t.Context(), backup.VerifyOptions{Folder: to})
		if check(t, err); v.Damaged() != 1 && !(inManifest && how == 2) {
			t.Errorf("damage %d of %s is not found: %+v", how, path, v.Backups)
		}
		if quick, err := backup.Verify(t.Context(), backup.VerifyOptions{Folder: to, Quick: true}); err != nil || how != 0 && !inManifest && quick.Damaged() != 1 {
			t.Errorf("damage %d of %s is not found by its size: %v", how, path, err)
		}
		into := filepath.Join(tempDir(t), "restored")
		_, err = backup.Restore(t.Context(), backup.RestoreOptions{Folder: to, Data: into})
		switch {
		case inManifest && how == 2 && errors.Is(err, backup.ErrNotFound):
		case errors.Is(err, backup.ErrDamaged):
			found++
		default:
			t.Errorf("damage %d of %s: restored, or %v", how, path, err)
		}
		if _, err := os.Stat(filepath.Join(into, "FORMAT")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("damage %d of %s: a data folder was made", how, path)
		}
		if inManifest {
			_, err := backup.Prune(backup.PruneOptions{Folder: to, Keep: 1})
			if how != 2 && (err == nil || !strings.Contains(err.Error(), path)) {
				t.Errorf("a prune beside a manifest that can't be read: %v", err)
			}
			check(t, os.WriteFile(path, b, 0o600))
			continue
		}
		discarded, err := backup.Verify(t.Context(), backup.VerifyOptions{Folder: to, Discard: true})
		if check(t, err); how != 2 && discarded.Discarded != 1 {
			t.Errorf("damage %d of %s: %d discarded", how, path, discarded.Discarded)
		}
		take(t, data, to)
		if v, err := backup.Verify(t.Context(), backup.VerifyOptions{Folder: to}); err != nil || v.Damaged() != 0 {
			t.Errorf("damage %d of %s is not mended by a backup: %v", how, path, err)
		}
		if _, err := backup.Prune(backup.PruneOptions{Folder: to, Keep: 1}); err != nil {
			t.Error(err)
		}
		// The folder that was not completed is used again.
		_, err = backup.Restore(t.Context(), backup.RestoreOptions{Folder: to, Data: into})
		check(t, err)
		same(t, contents(t, into), want)
	}
	t.Logf("%d damages, %d of manifests", found, manifests)
	if found < 10 || manifests == 0 {
		t.Error("too few")
	}
}

// A restore never writes over anything.
func TestRestoreRefuses(t *testing.T) {
	data, to := newLargeData(t), tempDir(t)
	m := take(t, data, to)
	before := contents(t, data)
	o := backup.RestoreOptions{Folder: to, Data: data}
	if _, err := backup.Restore(t.Context(), o); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("over a data folder: %v", err)
	}
	write(t, data, map[string]string{"RESTORING": ""}) // of a restore that was killed at its very end
	if _, err := backup.Restore(t.Context(), o); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("over a data folder that was restored: %v", err)
	}
	check(t, os.Remove(filepath.Join(data, "RESTORING")))
	same(t, contents(t, data), before)

	// Not over another restore to the same folder; after one that was interrupted.
	o.Data = filepath.Join(tempDir(t), "a", "b")
	midway, cancel := context.WithCancel(t.Context())
	o.Progress = func(bytes, _ int64) {
		if bytes < 6<<20 {
			return
		}
		second := o
		second.Progress = nil
		if _, err := backup.Restore(t.Context(), second); err == nil || !strings.Contains(err.Error(), "another process") {
			t.Errorf("two at once: %v", err)
		}
		cancel()
	}
	if _, err := backup.Restore(midway, o); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	o.Progress = nil
	_, err := backup.Restore(t.Context(), o)
	check(t, err)
	same(t, contents(t, o.Data), copied(t, data))

	o.Data = tempDir(t)
	for id, want := range map[string]error{"20000101T000000Z": backup.ErrNotFound, "../RAPPORT-BACKUP": backup.ErrNotFound} {
		o.ID = id
		if _, err := backup.Restore(t.Context(), o); !errors.Is(err, want) {
			t.Errorf("backup %s: %v", id, err)
		}
	}
	o.ID, o.Folder = "", data
	if _, err := backup.Restore(t.Context(), o); !errors.Is(err, backup.ErrNoFolder) {
		t.Errorf("from a data folder: %v", err)
	}
	o.Folder, o.At = to, m.Began.Add(-time.Second)
	if _, err := backup.Restore(t.Context(), o); !errors.Is(err, backup.ErrNotFound) {
		t.Errorf("of before the first: %v", err)
	}
	o.At, o.Note = m.Ended, func(string, *backup.Manifest) error { return errors.New("no note") }
	if _, err := backup.Restore(t.Context(), o); err == nil {
		t.Error("without a note")
	}
	if _, err := os.Stat(filepath.Join(o.Data, "FORMAT")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("without a note a data folder was made")
	}
	write(t, to, map[string]string{"RAPPORT-BACKUP": "rapport backup 9\n"})
	if _, err := backup.Restore(t.Context(), o); err == nil || !strings.Contains(err.Error(), "use the version of Rapport that wrote it") {
		t.Errorf("of a later version: %v", err)
	}
}

// Which backup is restored, and which stay.
func TestWhichOne(t *testing.T) {
	data, to := newData(t), tempDir(t)
	var backups []*backup.Manifest
	for i := range 5 {
		write(t, data, map[string]string{"something/unknown": string(rune('a' + i))})
		backups = append(backups, take(t, data, to))
	}
	list, err := backup.List(to)
	check(t, err)
	ids := func(list []backup.Listed) (out []string) {
		for _, b := range list {
			out = append(out, b.ID)
		}
		return out
	}
	all := ids(list)
	for i, m := range backups {
		if all[i] != m.ID {
			t.Errorf("number %d of the list is %s, not %s", i, all[i], m.ID)
		}
		for what, o := range map[string]backup.RestoreOptions{"id": {ID: m.ID}, "time": {At: m.Ended}} {
			o.Folder, o.Data = to, filepath.Join(tempDir(t), "restored")
			got, err := backup.Restore(t.Context(), o)
			check(t, err)
			if b, err := os.ReadFile(filepath.Join(o.Data, "something/unknown")); err != nil || string(b) != string(rune('a'+i)) || got.ID != m.ID {
				t.Errorf("number %d by its %s: %s with %q, %v", i, what, got.ID, b, err)
			}
		}
	}

	if _, err := backup.Prune(backup.PruneOptions{Folder: to}); err == nil {
		t.Error("nothing said which backups stay, and some went")
	}
	dry, err := backup.Prune(backup.PruneOptions{Folder: to, Keep: 2, DryRun: true})
	check(t, err)
	if now, _ := backup.List(to); !slices.Equal(ids(now), all) || !slices.Equal(ids(dry.Kept), all[3:]) || dry.Freed.Bytes != 3 {
		t.Errorf("only asked: %v stay, %+v freed, %v are left", ids(dry.Kept), dry.Freed, ids(now))
	}
	later := backups[4].Ended.Add(time.Hour)
	for _, c := range []struct {
		o    backup.PruneOptions
		want []string
	}{
		{backup.PruneOptions{KeepFor: later.Sub(backups[1].Ended)}, all[1:]},
		{backup.PruneOptions{Keep: 2, KeepFor: later.Sub(backups[2].Ended)}, all[2:]},
		{backup.PruneOptions{Keep: 2, KeepFor: time.Second}, all[3:]},
		{backup.PruneOptions{KeepFor: time.Second}, all[4:]},
	} {
		c.o.Folder, c.o.Now = to, later
		p, err := backup.Prune(c.o)
		check(t, err)
		now, err := backup.List(to)
		if check(t, err); !slices.Equal(ids(now), c.want) || !slices.Equal(ids(p.Kept), c.want) {
			t.Errorf("keep %d, for %v: %v are left, not %v", c.o.Keep, c.o.KeepFor, ids(now), c.want)
		}
		v, err := backup.Verify(t.Context(), backup.VerifyOptions{Folder: to})
		if check(t, err); v.Damaged() != 0 || v.Unused.Pieces != 0 {
			t.Errorf("after that: %+v", v)
		}
	}
	same(t, contents(t, restore(t, to)), copied(t, data))
}

// Whoever was erased after a backup stays so when that is restored: the newest list is
// added, and those of other folders.
func TestErasuresStay(t *testing.T) {
	data, to := newData(t), tempDir(t)
	write(t, data, map[string]string{"erasures/first.erasures": "one"})
	old := take(t, data, to)
	write(t, data, map[string]string{"erasures/first.erasures": "one two", "keys/erasures.key": "k"})
	take(t, data, to)
	_, err := backup.Prune(backup.PruneOptions{Folder: to, KeepFor: time.Hour})
	check(t, err)
	o := backup.RestoreOptions{Folder: to, ID: old.ID, Data: filepath.Join(tempDir(t), "restored")}
	_, err = backup.Restore(t.Context(), o)
	check(t, err)
	for name, want := range map[string]string{"erasures/first.erasures": "one two", "keys/erasures.key": "k"} {
		if b, err := os.ReadFile(filepath.Join(o.Data, name)); string(b) != want {
			t.Errorf("%s is %q, %v", name, b, err)
		}
	}
	write(t, data, map[string]string{"erasures/first.erasures": "one two three"})
	o.Data, o.Erasures = filepath.Join(tempDir(t), "restored"), []string{data}
	_, err = backup.Restore(t.Context(), o)
	check(t, err)
	if b, err := os.ReadFile(filepath.Join(o.Data, "erasures/first.erasures")); string(b) != "one two three" {
		t.Errorf("with those of the data folder: %q, %v", b, err)
	}
	o.Data, o.Erasures = filepath.Join(tempDir(t), "restored"), []string{tempDir(t)}
	if _, err = backup.Restore(t.Context(), o); err == nil || !strings.Contains(err.Error(), "neither a data folder") {
		t.Errorf("with those of an empty folder: %v", err)
	}
}
