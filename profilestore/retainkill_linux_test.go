package profilestore_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"rapport/profilestore"
)

var everyKill = flag.Bool("kills", false, "kill the process of TestKilledRetention in every system call, not in three")

const (
	killNow   = 20_000 * day
	liveFirst = 1000 // the ids of the events that come while the journal is being removed
	live      = 200
)

// killHouse is a house of TestKilledRetention in a folder.
func killHouse(t *testing.T, dir string) *house {
	t.Helper()
	h := &house{dir: dir, schema: storeSchema(t), now: killNow, segmentBytes: 1000, cache: 100}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	return h
}

func liveEvent(id int) *profilestore.Event {
	return event(strconv.Itoa(id), "use", strconv.Itoa(id%10), killNow-int64(id%7)*day, 1)
}

// fill sends events, links, and loads snapshots by which records are pruned, with the
// beginning of the journal removed between, or not.
func (h *house) fill(t *testing.T, remove bool) {
	t.Helper()
	id := 0
	some := func() {
		for range 40 {
			h.send(t, liveEvent(id))
			id++
		}
	}
	load := func(asOf int64) {
		var csv strings.Builder
		csv.WriteString("customer,value.balance,usage.data_mb\n")
		for c := range 9 {
			fmt.Fprintf(&csv, "%d,%d,%d\n", c, asOf/day%100, 1000*c)
		}
		if err := h.loadBI(asOf, killNow, csv.String()); err != nil {
			t.Fatal(err)
		}
	}
	some()
	load(killNow - 4*day)
	load(killNow - 3*day)
	some()
	h.link(t, "customer:1", "customer:2")
	if remove {
		h.retainAll(t)
	}
	load(killNow - 2*day)
	some()
	h.link(t, "customer:3", "customer:4")
	some()
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRetainChild is not a test of its own: it is the process that TestKilledRetention kills.
func TestRetainChild(t *testing.T) {
	dir := os.Getenv("RAPPORT_TEST_RETAIN")
	if dir == "" {
		t.Skip("run by TestKilledRetention")
	}
	h := killHouse(t, dir)
	runtime.LockOSThread()                                                                                  // the system calls of this thread are counted
	if _, _, err := syscall.RawSyscall6(syscall.SYS_PRCTL, 0x59616d61, ^uintptr(0), 0, 0, 0, 0); err != 0 { // PR_SET_PTRACER: anybody
		t.Log("prctl:", err) // a kernel without Yama, which needs it not
	}
	_, _ = fmt.Fprintln(os.Stdout, "thread", syscall.Gettid())
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	go func() {
		for id := liveFirst; id < liveFirst+live; id++ {
			if _, err := h.store.Ingest(context.Background(), []*profilestore.Event{liveEvent(id)}); err != nil {
				_, _ = fmt.Fprintln(os.Stdout, err)
				os.Exit(3)
			}
			_, _ = fmt.Fprintln(os.Stdout, "taken", id)
		}
	}()
	if _, err := h.store.Retain(context.Background(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	_, _ = fmt.Fprintln(os.Stdout, "removed")
	os.Exit(0) // nothing is closed
}

// killed is what a killed process has left.
type killed struct {
	taken   []int // events that were acknowledged
	removed bool  // it had come to its end before
}

// killIn runs Retain in a process that is killed when it makes a system call for the nth
// time.
func killIn(t *testing.T, strace, dir, call string, n int) (k killed) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRetainChild$")
	child.Env = append(os.Environ(), "RAPPORT_TEST_RETAIN="+dir)
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewScanner(pipe)
	thread := 0
	for thread == 0 && out.Scan() {
		_, _ = fmt.Sscanf(out.Text(), "thread %d", &thread)
	}
	tracer := exec.CommandContext(t.Context(), strace, "-p", strconv.Itoa(thread), "-e", "trace="+call, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n))
	told, err := tracer.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := tracer.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(told).ReadString('\n')
	if err != nil || !strings.Contains(line, "attached") {
		t.Fatal(line, err)
	}
	go func() { _, _ = io.Copy(io.Discard, told) }()
	if _, err := io.WriteString(in, "\n"); err != nil {
		t.Fatal(err)
	}
	for out.Scan() {
		id := 0
		if _, err := fmt.Sscanf(out.Text(), "taken %d", &id); err == nil {
			k.taken = append(k.taken, id)
		} else if k.removed = out.Text() == "removed"; !k.removed {
			t.Log(out.Text())
		}
	}
	err = child.Wait()
	_ = tracer.Wait()
	if status, ok := child.ProcessState.Sys().(syscall.WaitStatus); !ok || k.removed != (err == nil) || err != nil && status.Signal() != syscall.SIGKILL {
		t.Fatal(k.removed, err)
	}
	return k
}

// TestKilledRetention kills a process with kill -9 while it writes a base and removes the
// beginning of the journal, in one system call after the other, with events coming in.
// Whatever is left, the store is that of a house where nothing was ever removed: when it
// is opened, when its records are lost, under another schema, and after a rollback.
func TestKilledRetention(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes")
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		if os.Getenv("RAPPORT_REQUIRE_TOOLS") != "" {
			t.Fatal(err)
		}
		t.Skip("strace is not installed")
	}
	whole, begin := killHouse(t, memoryDir(t)), killHouse(t, memoryDir(t))
	whole.fill(t, false)
	begin.fill(t, true)
	if err := whole.open(); err != nil {
		t.Fatal(err)
	}
	for id := range live {
		whole.send(t, liveEvent(liveFirst+id))
	}
	want := whole.customers(t)
	if _, _, err := whole.store.Snapshots().Rollback(t.Context(), "bi"); err != nil {
		t.Fatal(err)
	}
	wantBack := whole.customers(t)
	if err := whole.store.Close(); err != nil {
		t.Fatal(err)
	}
	if slices.EqualFunc(want, wantBack, slices.Equal) {
		t.Fatal("the rollback changes nothing")
	}
	counts := make(map[string]int)
	kill := func(call string, n int) (removed bool) {
		dir := filepath.Join(memoryDir(t), "DATA")
		if err := os.CopyFS(dir, os.DirFS(begin.dir)); err != nil {
			t.Fatal(err)
		}
		x := afterKill{t: t, kill: fmt.Sprintf("%s %d", call, n), dir: dir, killed: killIn(t, strace, dir, call, n), want: want, wantBack: wantBack}
		x.note(begin, counts)
		x.check()
		return x.removed
	}
	if *everyKill {
		for _, call := range []string{"openat", "write", "fsync", "renameat", "unlinkat", "flock"} {
			for n := 1; !kill(call, n); n++ {
				counts[call]++
			}
		}
	} else {
		kill("write", 4)
		kill("flock", 1)
		kill("unlinkat", 5)
	}
	t.Log(counts)
	for _, c := range []string{"a base half written", "two bases", "a part removed"} {
		if counts[c] == 0 {
			t.Errorf("no kill left %s", c)
		}
	}
}

// afterKill is what is looked at after one kill.
type afterKill struct {
	killed
	t              *testing.T
	kill           string
	dir            string
	want, wantBack [][]string
}

// note counts what the kill has left.
func (x *afterKill) note(begin *house, counts map[string]int) {
	x.t.Helper()
	list := func(dir, pattern string) []string {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			x.t.Fatal(err)
		}
		return files
	}
	saw := func(what string, is bool) {
		if is {
			counts[what]++
		}
	}
	bases, before := list(x.dir, "base/*.base"), list(begin.dir, "base/*.base")
	first := func(dir string) uint64 { return journalNumber(list(dir, "journal/*.journal")[0]) }
	newer := filepath.Base(bases[len(bases)-1]) != filepath.Base(before[0])
	saw("a base half written", len(list(x.dir, "base/*.new")) > 0)
	saw("two bases", len(bases) > 1)
	saw("the new base alone", len(bases) == 1 && newer)
	saw("a part removed", first(x.dir) > first(begin.dir) && !x.removed)
	saw("everything done", x.removed)
	counts["kills"]++
	counts["events taken"] += len(x.taken)
}

// check compares all that can be made of what is left with the house where nothing was
// removed.
func (x *afterKill) check() {
	x.t.Helper()
	v, err := profilestore.VerifyJournal(x.t.Context(), x.dir, nil)
	if err != nil || v.BaseError != nil || v.Missing || len(v.Journal.Damages) > 0 {
		x.t.Fatalf("kill in %s: %+v, %v", x.kill, v, err)
	}
	rebuilt, changed := x.copyOf("rebuilt"), x.copyOf("changed")
	opened := killHouse(x.t, x.dir)
	if files, err := filepath.Glob(filepath.Join(x.dir, "base", "*.new")); err != nil || len(files) > 0 {
		x.t.Errorf("kill in %s: a start leaves %v, %v", x.kill, files, err)
	}
	x.open("opened", opened, true)
	x.open("records lost", killHouse(x.t, rebuilt), false)

	h := &house{dir: changed, schema: storeSchema(x.t), now: killNow, segmentBytes: 1000, cache: 100}
	h.withNewField(x.t)
	if _, err := profilestore.DropForeignDeltas(x.t.Context(), h.dir, h.schema); err != nil {
		x.t.Fatal(err)
	}
	if err := h.open(); err != nil {
		x.t.Fatal(err)
	}
	x.open("another schema", h, false)
}

// copyOf copies what was left, without the delta records.
func (x *afterKill) copyOf(name string) string {
	x.t.Helper()
	dir := filepath.Join(filepath.Dir(x.dir), name)
	for _, part := range []string{"journal", "base", "snapshots"} {
		if err := os.CopyFS(filepath.Join(dir, part), os.DirFS(filepath.Join(x.dir, part))); err != nil {
			x.t.Fatal(err)
		}
	}
	return dir
}

// open looks at an open store: the events are sent again, of which those that were
// acknowledged are known.
func (x *afterKill) open(what string, h *house, andRetain bool) {
	x.t.Helper()
	for id := liveFirst; id < liveFirst+live; id++ {
		r, err := h.store.Ingest(x.t.Context(), []*profilestore.Event{liveEvent(id)})
		if err != nil || slices.Contains(x.taken, id) && r[0].Outcome != profilestore.Duplicate || r[0].Outcome == profilestore.Refused {
			x.t.Errorf("kill in %s, %s: event %d: %v, %v", x.kill, what, id, r, err)
		}
	}
	x.compare(what, h, x.want)
	if _, _, err := h.store.Snapshots().Rollback(x.t.Context(), "bi"); err != nil {
		x.t.Errorf("kill in %s, %s: %v", x.kill, what, err)
	}
	x.compare(what+", rolled back", h, x.wantBack)
	if andRetain {
		h.retainAll(x.t)
		h.baseFile(x.t)
		x.compare(what+", after a removal", h, x.wantBack)
	}
	if err := h.store.Close(); err != nil {
		x.t.Error(err)
	}
}

func (x *afterKill) compare(what string, h *house, want [][]string) {
	x.t.Helper()
	for i, got := range h.customers(x.t) {
		if got = got[:len(want[i])]; !slices.Equal(got, want[i]) {
			x.t.Errorf("kill in %s, %s: customer %d is %v, want %v", x.kill, what, i, got, want[i])
		}
	}
}
