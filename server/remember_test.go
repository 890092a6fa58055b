package server_test

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"rapport/profilestore/durable"
	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/decisionlog"
)

// logDisk is where a decision log writes: full, or not done with a write before it is
// told.
type logDisk struct {
	full  atomic.Bool
	stuck atomic.Pointer[chan struct{}]
}

type logFile struct {
	decisionlog.File
	disk *logDisk
}

// Create makes a file.
func (d *logDisk) Create(path string) (decisionlog.File, error) {
	if d.full.Load() {
		return nil, &os.PathError{Op: "open", Path: path, Err: syscall.ENOSPC}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return logFile{f, d}, nil
}

func (*logDisk) Remove(path string) error { return os.Remove(path) }
func (*logDisk) SyncDir(dir string) error { return durable.SyncDir(dir) }

// Write writes, late or never.
func (f logFile) Write(b []byte) (int, error) {
	wait(&f.disk.stuck)
	if f.disk.full.Load() {
		return 0, &os.PathError{Op: "write", Path: "log", Err: syscall.ENOSPC}
	}
	return f.File.Write(b)
}

// TestLogInTrouble: decisions go on while the disk of the log is full, or stuck; what is
// not kept is counted, and what is kept is readable.
func TestLogInTrouble(t *testing.T) {
	disk := new(logDisk)
	dir := newData(t)
	decided := make(map[ulid.ULID]bool)
	h := open(t, dir, func(c *server.Config) {
		c.SetDecisionFS(disk)
		c.SetDecided(func(r *decisionlog.Record) { decided[r.ID] = true })
	})
	if _, err := h.publish(catalogYAML); err != nil {
		t.Fatal(err)
	}
	decide := func(n int) {
		t.Helper()
		for i := range n {
			if r := h.decide(t, fmt.Sprint(i%3), "web.home"); len(r.GetSlate()) == 0 || len(r.GetDegradations()) > 0 {
				t.Fatalf("%v", r)
			}
		}
	}
	dropped := func() float64 { return h.metric(t, "rapport_decision_log_dropped_total") }
	until := func(what string, is func() bool) {
		t.Helper()
		for range 200 {
			if is() {
				return
			}
			<-time.After(50 * time.Millisecond)
		}
		t.Fatalf("it never came: %s", what)
	}
	decide(100)
	until("the first are written", func() bool { return h.metric(t, "rapport_decision_log_records_total") == 100 })

	disk.full.Store(true)
	decide(100)
	until("the disk is found full", func() bool { return h.metric(t, "rapport_decision_log_failing") == 1 })
	until("what could not be written is counted", func() bool { return dropped() == 100 })
	disk.full.Store(false)
	until("it has recovered", func() bool {
		decide(1)
		return h.metric(t, "rapport_decision_log_failing") == 0
	})

	release := block(&disk.stuck)
	before := dropped()
	decide(2000) // none waits for the disk, and none is lost: there is room for them to wait
	release()
	if n := dropped(); n != before {
		t.Errorf("%v decisions were dropped while the disk was slow", n-before)
	}
	h.stop()

	h = open(t, dir, nil)
	s, err := h.replay(context.Background(), &rapportv1.ReplayDecisionsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	lost := len(decided) - int(s.GetDecisions())
	t.Logf("%d decisions, %d kept and identical, %d lost", len(decided), s.GetIdentical(), lost)
	if s.GetIdentical() != s.GetDecisions() || float64(lost) != before || lost < 100 || lost > 300 {
		t.Errorf("%d of %d decisions were kept, %d of them identical", s.GetDecisions(), len(decided), s.GetIdentical())
	}
}
