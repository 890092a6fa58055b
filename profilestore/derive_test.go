package profilestore_test

import (
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
			h := &house{dir: t.TempDir(), schema: storeSchema(t), now: 20_000 * day, memory: new(memory.Memory), segmentBytes: 1}
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
