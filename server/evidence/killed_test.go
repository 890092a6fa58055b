package evidence_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"rapport/profilestore"
	"rapport/server/evidence"
)

// killedEnv makes TestKilledChild report to the store in that folder until it is killed.
const killedEnv = "RAPPORT_TEST_EVIDENCE"

// TestKilledChild is not a test of its own. It prints a line for each acknowledged call.
func TestKilledChild(t *testing.T) {
	dir := os.Getenv(killedEnv)
	if dir == "" {
		t.Skip("run by TestKilled")
	}
	h := &house{dir: dir, now: begin}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for w := range 16 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(os.Getpid()), uint64(w)))
			ids := os.Getpid()<<32 + w<<24
			var sent []*profilestore.Event
			for {
				var batch []*profilestore.Event
				for range 1 + r.IntN(5) {
					e := randomEvent(r, begin, &ids)
					if len(sent) > 0 && r.IntN(3) == 0 { // in the same microsecond as all others
						e = again(sent[r.IntN(len(sent))])
					}
					batch = append(batch, e)
				}
				if _, err := h.store.Ingest(t.Context(), batch); err != nil {
					return
				}
				sent = append(sent, batch...)
				mu.Lock()
				_, _ = fmt.Println("taken", len(batch)) //nolint:forbidigo // to the parent
				mu.Unlock()
			}
		})
	}
	all.Go(func() {
		for h.store.Err() == nil {
			h.counter.Advance(h.store.Applied())
			if err := h.counter.Save(); err != nil {
				_, _ = fmt.Println("error", err) //nolint:forbidigo // likewise
			}
		}
	})
	all.Wait()
}

// TestKilled kills a process that counts while 16 callers report and the file is written
// without a pause, again and again. After each the counts are those of the histories of
// all customers, and in the end those that the journal alone gives.
func TestKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("runs processes")
	}
	h := &house{dir: t.TempDir(), now: begin}
	r := rand.New(rand.NewPCG(1, 2))
	saved, replayed := 0, uint64(0)
	for range 4 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledChild$")
		cmd.Env = append(os.Environ(), killedEnv+"="+h.dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		for n, until := 0, 200+r.IntN(600); n < until; n++ {
			line, err := lines.ReadString('\n')
			if got := 0; err != nil || func() bool { _, err := fmt.Sscanf(line, "taken %d", &got); return err != nil }() {
				t.Errorf("the child says %q, %v", line, err)
				break
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()

		if err := h.open(); err != nil {
			t.Fatal(err)
		}
		if h.counter.Stats().Saved > 0 {
			saved++
		}
		replayed += h.store.Stats().Replayed
		if got, want := h.counts(), h.histories(t); !maps.Equal(got, want) {
			t.Errorf("%v, the histories say %v", got, want)
		}
		if err := h.close(r.IntN(2) == 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	before := h.counts()
	if err := errors.Join(h.close(true), os.Remove(h.file()), os.RemoveAll(filepath.Join(h.dir, "deltas")), h.open()); err != nil {
		t.Fatal(err)
	}
	if got := h.counts(); !maps.Equal(got, before) {
		t.Errorf("the journal gives %v, want %v", got, before)
	}
	total := uint64(0)
	for _, n := range before {
		total += n
	}
	t.Logf("%d counted in the end, %d starts with a file, %d entries replayed", total, saved, replayed)
	if saved == 0 {
		t.Error("no process was killed after it had saved")
	}
	if err := h.close(true); err != nil {
		t.Fatal(err)
	}
}

// histories counts what the records of all customers have.
func (h *house) histories(t *testing.T) map[evidence.Key]uint64 {
	t.Helper()
	out := make(map[evidence.Key]uint64)
	for customer := range 12 {
		view, err := h.store.View(t.Context(), fmt.Sprintf("customer:%d", customer))
		if err != nil {
			t.Fatal(err)
		}
		history := view.At(begin).History()
		for offer := range 5 {
			for channel := range 3 {
				for _, outcome := range []string{"", "accepted", "clicked", "rejected"} {
					f := profilestore.InteractionFilter{Type: profilestore.Contacts, Channel: fmt.Sprint("c", channel), Offer: fmt.Sprint("o", offer)}
					if outcome != "" {
						f.Type, f.Outcome = profilestore.Outcomes, outcome
					}
					if n := history.Count(f, 0); n > 0 {
						out[evidence.Key{Offer: f.Offer, Channel: f.Channel, Outcome: outcome}] += uint64(n)
					}
				}
			}
		}
	}
	return out
}
