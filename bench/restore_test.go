package bench_test

import (
	"context"
	"strings"
	"testing"

	"rapport/bench"
)

// BenchmarkRestore prints what the sandbox adds to a bare call, by how it restores
// the memory.
func BenchmarkRestore(b *testing.B) {
	for _, guest := range shared.get(b).All() {
		b.Run(guest.Name, func(b *testing.B) {
			var r *bench.Restore
			var err error
			for b.Loop() {
				if r, err = bench.MeasureRestore(context.Background(), options(), guest, 100); err != nil {
					b.Fatal(err)
				}
			}
			report(b, func(out *strings.Builder) error { return r.Write(out) })
			reportSubject(b, r.Latency, 1)
		})
	}
}

// TestRestoreLayer runs the layer a few times: each way of restoring is there by
// name, and the sandbox's own allocates nothing.
func TestRestoreLayer(t *testing.T) {
	r, err := bench.MeasureRestore(context.Background(), few, shared.get(t).PVCL, 100)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := r.Write(&out); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", out.String())
	for _, c := range []*bench.Comparison{r.Latency, r.BackToBack} {
		if len(c.Subjects) < 3 || !strings.HasSuffix(c.Subjects[len(c.Subjects)-1].Name, "by fresh") {
			t.Errorf("measured %d: %+v", len(c.Subjects), c.Subjects)
		}
		if got := c.Subjects[1].Allocs; got > 0.5 { // a background allocation may fall into the count
			t.Errorf("%s: %.1f allocations a call", c.Subjects[1].Name, got)
		}
	}
}
