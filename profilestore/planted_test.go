package profilestore_test

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var planted = flag.Bool("planted", false, "also run the model test on code with mistakes planted in it")

// mistake is a mistake that the model test must find: in a file, what stands there
// and what is put in its place.
type mistake struct {
	name, file, right, wrong string
}

var mistakes = []mistake{
	{
		"prune by the current snapshot only", "prune.go",
		"	numbers, err := s.sealed()\n	if err != nil {\n		return h, err\n	}\n",
		"	c, err := s.read()\n	if err != nil || c.Active == 0 {\n		return h, err\n	}\n	numbers := []int64{c.Active}\n",
	},
	{
		"prune by the current snapshot only, and go back behind it", "prune.go",
		"	least := horizonTimes{AsOf: math.MaxInt64, IngestCut: math.MaxInt64}\n",
		"	if c, err := s.read(); err == nil && c.Active > 0 {\n		if m, err := s.manifest(c.Active); err == nil {\n			return horizonTimes{m.AsOf.UnixMicro(), m.IngestCut.UnixMicro()}, nil\n		}\n	}\n	least := horizonTimes{AsOf: math.MaxInt64, IngestCut: math.MaxInt64}\n",
	},
	{
		"event time only", "delta.go",
		"(c.happened+1)*cellMicros <= asOf && (c.logged+1)*cellMicros <= ingestCut",
		"(c.happened+1)*cellMicros <= asOf",
	},
	{
		"ingest time only", "delta.go",
		"(c.happened+1)*cellMicros <= asOf && (c.logged+1)*cellMicros <= ingestCut",
		"(c.logged+1)*cellMicros <= ingestCut",
	},
	{"short id ring", "delta.go", "int64(IDHorizon / time.Microsecond)", "int64(time.Hour / time.Microsecond)"},
	{"checkpoint ahead of the records", "replay.go", "from := state.Applied + 1\n", "from := state.Applied + 2\n"},
	{"a checkpoint without a barrier", "checkpoint.go", "	err := s.engine.Barrier(ctx)\n	if err == nil {\n", "	err := error(nil)\n	if err == nil {\n"},
	{"a base ahead of its records", "derive.go", "state.Applied = b.header.Position\n", "state.Applied = b.header.Position + 1\n"},
	{"a new field has what came after the base twice", "derive.go", "	s.part = others\n", "	s.part = nil\n"},
	{"a new field begins with the base", "derive.go", "if slices.Contains(fresh, true) {", "if slices.Contains(fresh, true) && len(fresh) == 0 {"},
	{"a field of another rule has what the old one made", "derive.go", "reflect.DeepEqual(f.Events, g.Events)", "reflect.DeepEqual(f.Type, g.Type)"},
	{"the load of one source clears the others", "snapshots.go", "slices.Clone(old.snapshots)}", "make([]*Snapshot, len(old.snapshots))}"},
	{"the horizon is not durable", "prune.go", "err := folder.writeHorizon(next); err != nil", "err := error(nil); err != nil"},
	{"elements pruned by the ingest cut", "prune.go", "e.time < h.sources[source].AsOf", "e.time < h.sources[source].IngestCut"},
	{"elements of before the as-of time", "set.go", "		if c.time < from {\n			continue\n		}\n", ""},
	{"windows count a bucket too many", "hops.go", "begin >= from;", "begin > from-bucket;"},
	{"windows count what is to come", "view.go", "begin < r.now-x.window || begin > r.now", "begin < r.now-x.window"},
	{"windows forget too early", "deltaedit.go", "c.happened*x.cell() < edge-x.window", "c.happened*x.cell() < edge"},
	{"amounts become one sum too early", "prune.go", "x.form == formSince && c.happened < edge", "x.form == formSince && c.happened < d.latest"},
	{"a reset may be late for ever", "deltaedit.go", "if e.Time < d.latest-lateMicros {", "if e.Time < -d.latest {"},
	{"moves go too early", "prune.go", "if m.time < edge {", "if m.time < d.latest {"},
	{"a stay begins with its last event", "view.go", "case m.in && !in:", "case m.in:"},
	{"a replay tells one side of a link only", "replay.go", "range change.keys() {", "range change.keys()[:1] {"},
	{"what happened before a handover is the next holder's", "ties.go", "seq > h.seq && at >= h.time", "seq > h.seq"},
	{"a handover changes what was applied before it", "ties.go", "seq > h.seq && at >= h.time", "at >= h.time"},
	{"an earlier holder's row is the next one's", "delta.go", "(m.Since == 0 || at > m.Since)", "true"},
	{"a row is an earlier holder's for ever", "delta.go", "(m.Until == 0 || at <= m.Until)", "true"},
	{"weak identities join", "group.go", "&& !(firm[of[a]] && firm[of[b]])", ""},
	{"a separation is known to one side", "identities.go", "h, err = h.withSeparation(", "_, err = h.withSeparation("},
	{"a cached group stays", "cache.go", "old.group.epoch() != deltas[i].customer().epoch()", "false"},
	{"who has no row is not judged by the snapshot", "view.go", "b.covered && c.covered(", "b.covered && m.rows[x.source] != nil && c.covered("},
	{"a register takes the last to arrive", "deltaedit.go", "cmp.Or(byValue, cmp.Compare(r.time, old.time), cmp.Compare(r.rank, old.rank), cmp.Compare(r.id, old.id)) >= 0", "byValue >= 0"},
	{"a register forgets priorities", "deltaedit.go", "cmp.Compare(r.rank, old.rank), ", ""},
	{"a record forgets the priority of a register", "deltacodec.go", "x.rank = int8(r.byte())", "x.rank = int8(r.byte()) & 1 | 1"},
}

// retainMistakes are those that the tests of what is removed of the journal must find.
var retainMistakes = []struct {
	mistake
	test string // that must find it
}{
	{mistake{"a base of another schema is enough", "retain.go", "b.Position >= upTo && b.Schema == s.schema.ID()", "b.Position >= upTo"}, "TestFieldKeepsItsBeginning"},
	{mistake{"a new field knows what the base knows", "derive.go", "if slices.Contains(fresh, true) {", "if slices.Contains(fresh, true) && s.journal.First() <= b.header.Position {"}, "TestNewFieldHasWhatIsLeft"},
	{mistake{"a base without horizons", "derive.go", "setHorizons(b.end.Horizons)", "setHorizons(nil)"}, "TestBaseKeepsHorizon"},
	{mistake{"a base has its name before it is whole", "basewrite.go", "path + unfinished", "path"}, "TestKilledRetention"},
	{mistake{"a removal by a base that nobody has read", "retain.go", "err := s.verifyBase(ctx, b)\n		if _, damaged", "err := error(nil)\n		if _, damaged"}, "TestRemovalNeedsAWholeBase"},
}

// historyMistakes are those that the tests of the interaction history must find.
var historyMistakes = []mistake{
	{"what arrives is folded, not what is oldest", "history.go", "oldest := h.raw[0]\n		h.raw = slices.Delete(h.raw, 0, 1)", "oldest := in\n		h.raw = slices.Delete(h.raw, i, i+1)"},
	{"cells are given up one by one", "history.go", "			h.dropBefore(int64(h.cells[0].day) + 1)\n", "			h.cellCost -= h.cost(h.cells[0].sig)\n			h.cells = slices.Delete(h.cells, 0, 1)\n"},
	{"cells are kept for 400 days only", "history.go", "int64(MaxWindow/time.Microsecond) + lateMicros", "int64(MaxWindow/time.Microsecond)"},
	{"the last to be folded is the last to happen", "history.go", "max(list[i].last, t.last)", "t.last"},
	{"a new signature moves not all others", "history.go", "	for k := range h.parts {\n		moveFrom(&h.parts[k].sig, at)\n	}\n", ""},
	{"totals stay as fine as they were", "history.go", "		h.sum(named[i], t)\n", "		h.level--\n		h.sum(named[i], t)\n		h.level++\n"},
	{"names stay when nothing has them", "history.go", "	if h.level > 0 {\n		h.collect()\n	}\n", ""},
	{"windows count a day too many", "historyread.go", "m.cells[i].begin() > begin; i--", "m.cells[i].begin() > begin-dayMicros; i--"},
	{"an interaction counts at the end of its window", "historyread.go", "m.raw[i].time > begin; i--", "m.raw[i].time >= begin; i--"},
	{"what is to come counts", "historyread.go", "m.raw[i].time <= end && m.matches", "m.matches"},
	{"any item has the offer and any the class", "historyread.go", "slices.ContainsFunc(m.itemsOf(s), m.matchesItem)", "slices.ContainsFunc(m.itemsOf(s), func(x itemRefs) bool { return m.item.offer == 0 || m.item.offer == x.offer })"},
	{"a limit counts a day from its beginning", "historyread.go", "if w.atEnd {", "if w.atEnd && false {"},
	{"a limit leaves out what is to come", "historyread.go", "return math.MaxInt64\n", "return h.now\n"},
	{"a history is changed under its readers", "deltaedit.go", "d.history, d.own = d.history.clone(), true", "if d.own = true; d.history == nil {\n			d.history = d.history.clone()\n		}"},
}

// TestPlantedMistakes plants mistakes in the package, one at a time, and expects
// TestModel or TestHistory to fail: a model test that passes whatever the code does shows nothing.
// It runs go test with an overlay, so the files stay as they are. It takes minutes:
//
//	go test ./profilestore -run PlantedMistakes -planted -timeout 30m -v
func TestPlantedMistakes(t *testing.T) {
	if !*planted {
		t.Skip("takes minutes: run it with -planted")
	}
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) { m.plant(t, "TestModel") })
	}
	for _, m := range retainMistakes {
		t.Run(m.name, func(t *testing.T) { m.plant(t, m.test) })
	}
	for _, m := range historyMistakes {
		t.Run(m.name, func(t *testing.T) { m.plant(t, "TestHistory") })
	}
}

// plant makes the mistake and expects a test, or one whose name begins so, to fail.
func (m mistake) plant(t *testing.T, test string) {
	t.Helper()
	source, err := os.ReadFile(m.file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), m.right); n != 1 {
		t.Fatalf("what the mistake takes the place of is %d times in %s", n, m.file)
	}
	dir := t.TempDir()
	changed := filepath.Join(dir, m.file)
	if err := os.WriteFile(changed, []byte(strings.Replace(string(source), m.right, m.wrong, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := filepath.Abs(m.file)
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {file: changed}})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(context.Background(), "go", "test", "-overlay", list, "-vet=off", "-run", "^"+test,
		"-rapid.checks=500", "-rapid.nofailfile", "-rapid.shrinktime=1s", ".").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--- FAIL: "+test) {
		t.Fatalf("the test does not find it: %v\n%.2000s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "_test.go") && !strings.Contains(line, "draw") {
			t.Log(strings.TrimSpace(line))
		}
	}
}
