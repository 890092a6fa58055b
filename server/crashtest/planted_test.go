package crashtest_test

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var planted = flag.Bool("planted", false, "also run the tests on servers with mistakes planted in them")

// mistake is a mistake that a test must find: in a file, what stands there and what is
// put in its place.
type mistake struct {
	name, file, right, wrong string
	tests                    []string // with their flags; each must find it
}

const (
	killRun  = "-run ^TestKill$ -kills 100 "
	cutRun   = "-run ^TestPowerCut$ -cuts 40 "
	lossyRun = "-run ^TestLossyDisk$ -cuts 100 "
)

var mistakes = []mistake{
	{
		"a catalogue is current before it is there", "server/catalog/store.go",
		"	if err := durable.WriteSealed(s.file(v.Number), append(b, '\\n')); err != nil {\n",
		"	if err := s.setCurrent(v.Number); err != nil {\n		return nil, err\n	}\n	if err := durable.WriteSealed(s.file(v.Number), append(b, '\\n')); err != nil {\n",
		[]string{killRun + "-only publish"},
	},
	{
		"the module of a strategy is written before what describes it", "server/strategies.go",
		"	if err := durable.WriteFile(module+uploadSuffix, wasm); err != nil {\n",
		"	if err := durable.WriteFile(module, wasm); err != nil {\n		return err\n	}\n	if err := durable.WriteFile(module+uploadSuffix, wasm); err != nil {\n",
		[]string{killRun + "-only upload"},
	},
	{
		"events are acknowledged before they are written", "profilestore/journal/committer.go",
		"	if err := writeAll(j.file, g.buf, j.size); err != nil {\n		return \"write\", err\n	}\n",
		"	b, at, f := append([]byte(nil), g.buf...), j.size, j.file\n	time.AfterFunc(5*time.Millisecond, func() { _ = writeAll(f, b, at) })\n",
		[]string{killRun + "-only ingest"},
	},
	{
		"events are acknowledged before they are synced", "profilestore/journal/committer.go",
		"	if err := j.file.Sync(); err != nil {\n		return \"sync\", err\n	}\n", "",
		[]string{lossyRun, cutRun},
	},
	{
		"the last group is not written again at a start", "profilestore/journal/open.go",
		"	buf := make([]byte, min(scanBuffer, s.size-p.redo))\n", "	if s.size > 0 {\n		return nil\n	}\n	buf := make([]byte, min(scanBuffer, s.size-p.redo))\n",
		[]string{lossyRun + "-only ingest"},
	},
	{
		"no sync of the folder after a rename", "profilestore/durable/durable.go",
		"	return SyncDir(filepath.Dir(name))\n", "	_ = filepath.Dir(name)\n	return nil\n",
		[]string{lossyRun},
	},
	{
		"no sync of the file before a rename", "profilestore/durable/durable.go",
		"errors.Join(err, f.Sync(), f.Close())", "errors.Join(err, f.Close())",
		[]string{lossyRun},
	},
	{
		"the place of what was sold is not synced", "server/outcomes.go",
		"	if !taken {\n", "	if taken || !taken {\n",
		[]string{lossyRun + "-only outcome"},
	},
	{
		"the audit log is not synced", "server/audit.go",
		"		err = a.file.Sync()\n", "",
		[]string{lossyRun},
	},
}

// TestPlantedMistakes plants mistakes, one at a time, and expects the tests to find each.
// It runs go test with an overlay, so the files stay as they are. It takes many minutes,
// and what TestPowerCut takes:
//
//	go test ./server/crashtest -run PlantedMistakes -planted -timeout 2h -v
func TestPlantedMistakes(t *testing.T) {
	if !*planted {
		t.Skip("takes many minutes: run it with -planted")
	}
	for _, m := range mistakes {
		for _, test := range m.tests {
			t.Run(m.name, func(t *testing.T) { m.plant(t, test) })
		}
	}
}

// plant makes the mistake and expects a test to fail.
func (m mistake) plant(t *testing.T, test string) {
	t.Helper()
	file, err := filepath.Abs(filepath.Join("..", "..", m.file))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), m.right); n != 1 {
		t.Fatalf("what the mistake takes the place of is %d times in %s", n, m.file)
	}
	dir := t.TempDir()
	changed := filepath.Join(dir, filepath.Base(m.file))
	if err := os.WriteFile(changed, []byte(strings.Replace(string(source), m.right, m.wrong, 1)), 0o600); err != nil {
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
	args := append([]string{"test", "-overlay", list, "-vet=off", "-timeout", "30m"}, strings.Fields(test)...)
	out, err := exec.CommandContext(t.Context(), "go", append(args, ".")...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "run with -seed") {
		t.Fatalf("%s does not find it: %v\n%.2000s", test, err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "run with -seed") {
			t.Logf("%.400s", strings.TrimSpace(line))
		}
	}
}
