package server

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

func newAudit(t *testing.T, dir string) *auditLog {
	t.Helper()
	a, err := openAudit(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func add(t *testing.T, a *auditLog, subject string) {
	t.Helper()
	if err := a.append(auditRecord{Action: "test", Subject: subject, Peer: localPeer}); err != nil {
		t.Fatal(err)
	}
}

// subjects returns what is listed, newest first, and checks that numbers fall.
func subjects(t *testing.T, a *auditLog, subject string, limit int) (out []string, damaged int) {
	t.Helper()
	records, damaged, err := a.list(subject, limit)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range records {
		if i > 0 && r.Number >= records[i-1].Number {
			t.Errorf("numbers %d, %d", records[i-1].Number, r.Number)
		}
		out = append(out, r.Subject)
	}
	return out, damaged
}

// TestAuditTorn cuts the log at every byte: all whole records are there, the next
// one gets a number of its own, and nothing is in its way.
func TestAuditTorn(t *testing.T) {
	source := t.TempDir()
	a := newAudit(t, source)
	for i := range 2 {
		add(t, a, fmt.Sprintf("s/%d", i))
	}
	whole, err := os.ReadFile(a.path(1))
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "000001.ndjson"), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := openAudit(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		add(t, a, "new")
		kept := bytes.Count(whole[:cut], []byte("\n"))
		got, damaged := subjects(t, a, "", 100)
		if len(got) != kept+1 || got[0] != "new" || damaged != 0 {
			t.Errorf("cut at %d: %v, %d damaged, want %d and the new one", cut, got, damaged, kept)
		}
		if err := a.close(); err != nil {
			t.Error(err)
		}
	}
}

// TestAuditDamaged flips a bit in each byte of a record in the middle: it is not listed, the
// others are, and that one is missing is said.
func TestAuditDamaged(t *testing.T) {
	a := newAudit(t, t.TempDir())
	for i := range 3 {
		add(t, a, fmt.Sprintf("s/%d", i))
	}
	whole, err := os.ReadFile(a.path(1))
	if err != nil {
		t.Fatal(err)
	}
	first := bytes.IndexByte(whole, '\n') + 1
	second := first + bytes.IndexByte(whole[first:], '\n')
	for at := first; at < second; at++ {
		b := bytes.Clone(whole)
		b[at] ^= 1 << (at % 8)
		if err := os.WriteFile(a.path(1), b, 0o600); err != nil {
			t.Fatal(err)
		}
		records, damaged, err := a.list("", 100)
		if err != nil || len(records) != 2 || records[0].Subject != "s/2" || records[1].Subject != "s/0" || damaged == 0 {
			t.Fatalf("byte %d: %v, %d damaged, %v", at, records, damaged, err)
		}
	}
}

// TestAuditFailure: a record that can't be written is an error, the file is left
// alone from then on, and the next record begins another.
func TestAuditFailure(t *testing.T) {
	dir := t.TempDir()
	a := newAudit(t, dir)
	add(t, a, "s/1")
	if err := a.file.Close(); err != nil { // writing fails now
		t.Fatal(err)
	}
	called := false
	err := a.changeBy(auditRecord{Subject: "s/2"}, func() error { called = true; return nil })
	if !errors.Is(err, errAuditFailed) || called {
		t.Errorf("error %v, and the change was made: %v", err, called)
	}
	add(t, a, "s/3")
	if got, _ := subjects(t, a, "", 100); len(got) != 2 || got[0] != "s/3" || a.seq != 2 {
		t.Errorf("%v in %d files", got, a.seq)
	}
	again := newAudit(t, dir)
	add(t, again, "s/4")
	if got, _ := subjects(t, again, "", 100); len(got) != 3 || got[0] != "s/4" || again.seq != 2 {
		t.Errorf("reopened: %v in %d files", got, again.seq)
	}
}

// TestAuditChange: the record is there before the change is made, and another one
// if it fails.
func TestAuditChange(t *testing.T) {
	a := newAudit(t, t.TempDir())
	failure := errors.New("it did not work")
	err := a.changeBy(auditRecord{Subject: "s/1", Before: "old", After: "new"}, func() error {
		if got, _ := subjects(t, a, "s/1", 1); len(got) != 1 {
			t.Error("the change is made before it is recorded")
		}
		return failure
	})
	records, _, listErr := a.list("", 100)
	if !errors.Is(err, failure) || listErr != nil || len(records) != 2 || records[0].Failure != failure.Error() || records[0].After != "old" || records[1].After != "new" {
		t.Errorf("error %v, records %v", err, records)
	}
}

// TestAuditFiles: the log goes on in a new file, and is listed through all of them.
func TestAuditFiles(t *testing.T) {
	dir := t.TempDir()
	a := newAudit(t, dir)
	for i := range 30 {
		if i%7 == 6 {
			a.size = maxAuditFile
		}
		add(t, a, fmt.Sprintf("%c/%d", 'a'+i%2, i))
	}
	if a.seq != 5 {
		t.Errorf("%d files", a.seq)
	}
	for _, c := range []struct {
		subject string
		limit   int
		want    int
		newest  string
	}{{"", 100, 30, "b/29"}, {"", 8, 8, "b/29"}, {"a", 100, 15, "a/28"}, {"a/0", 100, 1, "a/0"}, {"a/", 100, 0, ""}, {"b", 9, 9, "b/29"}} {
		for _, log := range []*auditLog{a, newAudit(t, dir)} {
			got, damaged := subjects(t, log, c.subject, c.limit)
			if len(got) != c.want || damaged != 0 || c.want > 0 && got[0] != c.newest {
				t.Errorf("%q, at most %d: %v", c.subject, c.limit, got)
			}
		}
	}
}
