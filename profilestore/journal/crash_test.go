package journal_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"rapport/profilestore/journal"
)

// crashDirEnv makes the test binary append to the journal in that directory until it is killed.
const crashDirEnv = "RAPPORT_JOURNAL_CRASH_DIR"

// appendUntilKilled prints each record's number and payload once it is acknowledged.
func appendUntilKilled(dir string, out io.Writer) int {
	j, err := journal.Open(dir, journal.Options{SegmentBytes: 20_000})
	if err != nil {
		_, _ = fmt.Fprintln(out, "error", err)
		return 1
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				p := fmt.Sprintf("%d/%d/%d/%s", os.Getpid(), g, i, strings.Repeat("x", i%97))
				seq, err := j.Append(context.Background(), &journal.Entry{Payload: []byte(p)})
				mu.Lock()
				if err != nil {
					_, _ = fmt.Fprintln(out, "error", err)
				} else {
					_, _ = fmt.Fprintln(out, seq, p)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return 0
}

// kill -9 of a process that appends, again and again on the same directory.
func TestKill9(t *testing.T) {
	dir := t.TempDir()
	acknowledged := map[uint64]string{}
	random := rand.New(rand.NewPCG(3, 4))
	for range 8 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), crashDirEnv+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(out)
		for n, until := 0, 100+random.IntN(400); ; n++ {
			line, err := r.ReadString('\n')
			if err != nil { // the last line may be cut short
				if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
					t.Error(err)
				}
				break
			}
			var seq uint64
			var p string
			if _, err := fmt.Sscanf(line, "%d %s", &seq, &p); err != nil || acknowledged[seq] != "" {
				t.Fatalf("got %q, had %q", line, acknowledged[seq])
			}
			acknowledged[seq] = p
			if n == until {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait()
	}
	j := mustOpen(t, dir, journal.Options{})
	got := mustReplay(t, j, 1)
	for seq, p := range acknowledged {
		if seq > uint64(len(got)) || got[seq-1] != p {
			t.Fatalf("record %d %q was acknowledged and is not there", seq, p)
		}
	}
	t.Logf("%d acknowledged, %d there, %d segments, %+v", len(acknowledged), len(got), len(segments(t, dir)), j.Recovery())
}

// Copies of the directory taken between any two operations, such as a group's write and its sync, are journals that hold
// what had been acknowledged.
func TestCopyWhileAppending(t *testing.T) {
	dir := t.TempDir()
	var copies []string
	var acknowledged []uint64 // what was when the copy was made
	var durable uint64
	fs := &testFS{}
	ops := 0
	fs.before = func(op, _ string) error {
		if ops++; ops > 5 && ops%7 == 0 && op != "close" && len(copies) < 40 {
			copies, acknowledged = append(copies, copyDir(t, dir)), append(acknowledged, durable)
		}
		return nil
	}
	j := mustOpen(t, dir, journal.Options{FS: fs, SegmentBytes: 3000, Committed: func(seq uint64, _ *journal.Entry) { durable = seq }})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 100 {
				mustAppend(t, j, strings.Repeat("y", i), "second")
			}
		})
	}
	wg.Wait()
	all := mustReplay(t, j, 1)
	for i, dir := range copies {
		c := mustOpen(t, dir, journal.Options{})
		got := mustReplay(t, c, 1)
		if uint64(len(got)) < acknowledged[i] || !slices.Equal(got, all[:len(got)]) {
			t.Errorf("copy %d: %d records, %d were acknowledged", i, len(got), acknowledged[i])
		}
		mustClose(t, c)
	}
	if len(copies) < 10 {
		t.Errorf("only %d copies", len(copies))
	}
}
