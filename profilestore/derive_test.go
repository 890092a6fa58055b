package profilestore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/memory"
)

// withNewField gives a closed house another schema, in which usage.new counts events.
func (h *house) withNewField(t *testing.T) {
	t.Helper()
	slot := len(h.schema.Fields())
	var err error
	h.schema, err = profilestore.NewSchema(h.schema.Sources(), append(slices.Clone(h.schema.Fields()),
		profilestore.Field{Name: "usage.new", Type: profilestore.TypeCounter, Decimals: 0, Events: &profilestore.EventRule{On: "true", Add: "1"}}))
	if err != nil {
		t.Fatal(err)
	}
	h.mapper = countMapper{slot: slot}
}

// retainFrom removes the journal before an entry, where each has a file of its own.
func (h *house) retainFrom(t *testing.T, first uint64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(h.dir, "journal", "*.journal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if journalNumber(file) >= first {
			break
		}
		if err := os.Chtimes(file, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.store.Retain(t.Context(), time.Now().Add(-time.Minute)); err != nil || h.store.JournalFirst() != first {
		t.Fatal(h.store.JournalFirst(), err)
	}
}

// TestNewFieldHasWhatIsLeft: a new field has what is left of the journal, wherever in it
// the base is, and also where the journal begins right after the base. An event that was
// sent again after its first sending, which is gone, is left.
func TestNewFieldHasWhatIsLeft(t *testing.T) {
	ids := []string{"a", "b", "a", "c", "d", "a", "c", "e"} // each an entry of the journal
	const first = 3
	for position := first - 1; position <= len(ids); position++ {
		t.Run(fmt.Sprint("a base at ", position), func(t *testing.T) {
			h := &house{dir: memoryDir(t), schema: storeSchema(t), now: 20_000 * day, memory: new(memory.Memory), segmentBytes: 1}
			if err := h.open(); err != nil {
				t.Fatal(err)
			}
			for i, id := range ids {
				h.now += minute
				if _, err := h.store.Ingest(t.Context(), []*profilestore.Event{event(id, "use", "1", h.now, 1)}); err != nil {
					t.Fatal(err)
				}
				if i+1 != position {
					continue
				}
				if b, err := h.store.WriteBase(t.Context(), profilestore.WriteBaseOptions{}); err != nil || b.Position != uint64(position) {
					t.Fatal(b, err)
				}
			}
			h.retainFrom(t, first)
			if err := h.store.Close(); err != nil {
				t.Fatal(err)
			}
			h.withNewField(t)
			if dropped, err := profilestore.DropForeignDeltas(t.Context(), h.dir, h.schema); err != nil || !dropped {
				t.Fatal(dropped, err)
			}
			if err := h.open(); err != nil {
				t.Fatal(err)
			}
			h.want(t, 0, "usage.calls", "5")
			h.want(t, 0, "usage.new", "4") // all but b
			if err := h.store.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestRemovalNeedsAWholeBase turns over a bit of the base, in one place after the other,
// before a part of the journal is removed because of it: another is written first.
func TestRemovalNeedsAWholeBase(t *testing.T) {
	const flips = 40
	h := &house{dir: memoryDir(t), schema: storeSchema(t), now: 20_000 * day, memory: new(memory.Memory), segmentBytes: 1}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	for i := range flips + 20 {
		h.use(t, fmt.Sprint(i), fmt.Sprint("customer:", i%10), h.now)
	}
	want := h.customers(t)
	h.retainFrom(t, 3)
	again := 0
	for i := range flips {
		if err := h.store.Close(); err != nil {
			t.Fatal(err)
		}
		path := h.baseFile(t)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		damaged := slices.Clone(content)
		damaged[len(content)*i/flips] ^= 0x04
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := h.open(); err != nil {
			t.Fatal(err)
		}
		h.retainFrom(t, uint64(4+i))
		v, err := profilestore.VerifyJournal(t.Context(), h.dir, nil)
		if err != nil || v.BaseError != nil {
			t.Fatalf("flip %d: removed by a damaged base: %v, %v", i, v, err)
		}
		if i%10 > 0 {
			continue
		}
		h.reopen(t, true)
		if got := h.customers(t); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("flip %d: %v, want %v", i, got, want)
		}
		again++
	}
	t.Logf("%d flips; records derived %d times", flips, again)
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestBaseKeepsHorizon: what the records of a base were pruned by holds for those that are
// derived from it, also when the snapshots of then are gone.
func TestBaseKeepsHorizon(t *testing.T) {
	h := &house{dir: memoryDir(t), schema: storeSchema(t), now: 20_000 * day, memory: new(memory.Memory), segmentBytes: 1}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	use := func(id string, at int64) { h.use(t, id, "customer:1", at) }
	load := func(asOf int64, used int) error {
		return h.loadBI(asOf, asOf, fmt.Sprintf("customer,value.balance,usage.data_mb\n1,1,%d\n", used))
	}
	use("1", h.now)
	for i := range 2 {
		h.now += day
		if err := load(h.now, 1); err != nil {
			t.Fatal(i, err)
		}
	}
	use("2", h.now) // which prunes the first
	h.want(t, 0, "usage.data_mb", "2")
	h.retainFrom(t, 2)
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, lost := range []string{"snapshots", "deltas"} {
		if err := os.RemoveAll(filepath.Join(h.dir, lost)); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	if err := load(20_000*day, 0); !errors.Is(err, profilestore.ErrSnapshotPruned) { // it would be 1 too low
		t.Errorf("a snapshot that does not cover what was pruned before the base: %v", err)
	}
	if err := load(h.now, 1); err != nil {
		t.Fatal(err)
	}
	h.want(t, 0, "usage.data_mb", "2")
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
}
