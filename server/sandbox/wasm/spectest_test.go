package wasm_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"

	"github.com/tetratelabs/wazero/api"

	"rapport/server/sandbox/wasm"
)

// The peer suite: the WebAssembly specification's own tests, as they lie in
// wazero's module. Each script lives in three worlds at a time: one has its modules
// as they are, the others have them rewritten. All must agree with the script and
// with each other. Three judges look at every module: this
// package, the suite, and wazero; where they differ, the test fails, unless
// knownDifferences says why.

// specSuite is the outcome of all scripts. Safe for concurrent use.
type specSuite struct {
	spectest []byte // the module that scripts import from

	mu      sync.Mutex
	folders []*specFolder
	notes   map[string][]string // files by what is to be said about them
	scripts int
}

// specFolder is one folder of scripts.
type specFolder struct {
	name, path string
	core       bool // of a core specification; else of a proposal after 2.0
	first      bool // of core 1.0

	mu    sync.Mutex
	seen  map[string]bool
	tally tally
}

// tally counts by column.
type tally map[string]int

const (
	columnFiles     = "modules"
	columnText      = "in text format, skipped"
	columnWant      = "the suite says " // and what
	columnSince     = "valid since 2.0"
	columnRead      = "read"
	columnRefused   = "refused as " // and the kind
	columnSameKind  = "refused as what the suite says"
	columnPeer      = "read or refused as wazero does"
	columnPeerLimit = "refused by our limits, read by wazero"
	columnKnown     = "differs from wazero, it is known why"
	columnWide      = "read with wide limits, to execute it"
	columnRewritten = "rewritten and valid"
	columnSaved     = "mutable globals to restore"

	columnInstantiated = "instantiated, in three worlds"
	columnFailing      = "failed to, alike"
	columnExecuted     = "executed " // and the command
	columnAgreed       = "executed, and all agree"
	columnSkipped      = "skipped, for their module was refused"
	columnRace         = "skipped, for it takes too long under race"
	columnOverflow     = "endless recursion: ended by wazero's stack"
	columnCounter      = "endless recursion: ended by a large stack counter"
	columnShallow      = "endless recursion: ended by a stack counter of 1,000"
	columnFuel         = "calls that used fuel"
	columnMore         = "more of it than with exact charges"
	columnMemories     = "memories equal at the end"
	columnGlobals      = "exported globals equal at the end"
)

// columns is the order of the table.
var columns = []string{
	columnFiles, columnText,
	columnWant + string(wasm.Malformed), columnWant + string(wasm.Invalid), columnWant + verdictValid, columnSince,
	columnRead,
	columnRefused + string(wasm.Malformed), columnRefused + string(wasm.Invalid),
	columnRefused + string(wasm.Unsupported), columnRefused + string(wasm.OverLimit),
	columnRefused + string(wasm.Reserved),
	columnSameKind, columnPeer, columnPeerLimit, columnKnown, columnWide, columnRewritten, columnSaved,
	columnInstantiated, columnFailing,
	columnExecuted + "assert_return", columnExecuted + "assert_trap",
	columnExecuted + "assert_exhaustion", columnExecuted + "action",
	columnAgreed, columnSkipped, columnRace,
	columnOverflow, columnCounter, columnShallow,
	columnFuel, columnMore, columnMemories, columnGlobals,
}

// knownDifferences are the modules about which this package and wazero, with the
// features of core 2.0, differ other than by our limits: where they are, what the
// one that refuses them says, and why.
var knownDifferences = []struct{ folder, message, why string }{
	{
		"", "a constant expression with global 0, which is mutable",
		"wazero lets a constant expression read a mutable global; the specification does not (3.3.10, constant expressions)",
	},
	{
		"typed-function-references", " is a type of later proposals",
		"wazero reads the types of typed function references though they are not enabled",
	},
	{
		"typed-function-references", "a table with an initial value",
		"wazero reads the tables of typed function references though they are not enabled",
	},
	{
		"v2", "spelt in more bytes than it needs",
		"we refuse a number of an instruction that is spelt in more bytes than it needs; wazero takes it behind one prefix, and misreads it behind the other",
	},
	{
		"v1", emptyModuleName,
		"wazero refuses an import from a module whose name is empty; the specification allows any name",
	},
}

// knownRefusals are the reasons, other than our limits, for which valid modules are
// refused, and why.
var knownRefusals = map[string]string{
	"the number of an instruction is spelt in more bytes than it needs": ", which engines read differently, and no compiler does",
}

// emptyModuleName is what wazero says of one.
const emptyModuleName = "has an empty module name"

// TestSpecSuite runs the specification's tests. Run it with -v to see its tables.
func TestSpecSuite(t *testing.T) {
	root := specRoot(t)
	spectest, err := os.ReadFile(filepath.Join(root, "testdata", "spectest.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	s := &specSuite{spectest: spectest, notes: map[string][]string{}}
	folders, err := filepath.Glob(filepath.Join(root, "*", "testdata"))
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	t.Run("scripts", func(t *testing.T) {
		for _, path := range folders {
			name := filepath.Base(filepath.Dir(path))
			folder := &specFolder{
				name: name, path: path, core: name == "v1" || name == "v2", first: name == "v1",
				seen: map[string]bool{}, tally: tally{},
			}
			s.folders = append(s.folders, folder)
			scripts, err := filepath.Glob(filepath.Join(path, "*.json"))
			if err != nil {
				t.Fatal(err)
			}
			total += len(scripts)
			for _, script := range scripts {
				script := strings.TrimSuffix(filepath.Base(script), ".json")
				t.Run(folder.name+"/"+script, func(t *testing.T) {
					t.Parallel()
					s.runScript(t, folder, script)
				})
			}
		}
	})
	s.report(t)
	if s.scripts < total {
		t.Logf("%d of %d scripts ran: their number is not checked", s.scripts, total)
		return
	}
	s.checkNumbers(t)
}

// specRoot finds the suite in wazero's module, which whoever builds this has.
func specRoot(t testing.TB) string {
	t.Helper()
	const module = "github.com/tetratelabs/wazero"
	cmd := exec.CommandContext(context.Background(), "go", "list", "-m", "-f", "{{.Dir}}", module)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("where the module %s is: %v: %s", module, err, stderr.String())
	}
	root := filepath.Join(strings.TrimSpace(string(out)), "internal", "integration_test", "spectest")
	for _, folder := range []string{"v1", "v2"} {
		if _, err := os.Stat(filepath.Join(root, folder, "testdata")); err != nil {
			t.Fatalf("the specification's tests are not where wazero 1.12 has them (after an upgrade, look where they went): %v", err)
		}
	}
	return root
}

// features are those of the specification that the scripts run under. Core 1.0
// wants the segments of a module checked before any of them is written.
func (f *specFolder) features() api.CoreFeatures {
	if f.first {
		return api.CoreFeaturesV1
	}
	return api.CoreFeaturesV2
}

// see records that a script names a file.
func (f *specFolder) see(file string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen[file] = true
}

// add adds what a script counted.
func (s *specSuite) add(f *specFolder, counts tally) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scripts++
	for column, n := range counts {
		f.tally[column] += n
	}
}

// note remembers a file under what is to be said about it.
func (s *specSuite) note(text, file string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes[text] = append(s.notes[text], file)
}

// report logs a table of the folders, and the notes.
func (s *specSuite) report(t *testing.T) {
	var rows, b strings.Builder
	for _, f := range s.folders {
		rows.WriteString("\t" + f.name)
	}
	rows.WriteString("\ttotal\t\n")
	for _, column := range columns {
		rows.WriteString(column)
		for _, f := range s.folders {
			fmt.Fprintf(&rows, "\t%d", f.tally[column])
		}
		fmt.Fprintf(&rows, "\t%d\t\n", s.total(column))
	}
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	if _, err := io.WriteString(w, rows.String()); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, text := range slices.Sorted(maps.Keys(s.notes)) {
		fmt.Fprintf(&b, "%s: %s\n", text, abridge(s.notes[text]))
	}
	t.Log("\n" + b.String())
}

// total is the sum of a column over all folders.
func (s *specSuite) total(column string) int {
	sum := 0
	for _, f := range s.folders {
		sum += f.tally[column]
	}
	return sum
}

// abridge lists files by their script: "v1/memory.{4,18}".
func abridge(files []string) string {
	scripts := map[string][]int{}
	for _, file := range files {
		script, rest, _ := strings.Cut(file, ".")
		n, err := strconv.Atoi(strings.TrimSuffix(rest, ".wasm"))
		if err != nil {
			script, n = file, 0
		}
		scripts[script] = append(scripts[script], n)
	}
	list := make([]string, 0, len(scripts))
	for _, script := range slices.Sorted(maps.Keys(scripts)) {
		numbers := scripts[script]
		slices.Sort(numbers)
		numbers = slices.Compact(numbers)
		var spans []string
		for len(numbers) > 0 {
			n := 1
			for n < len(numbers) && numbers[n] == numbers[0]+n {
				n++
			}
			span := strconv.Itoa(numbers[0])
			if n > 1 {
				span += "-" + strconv.Itoa(numbers[n-1])
			}
			spans = append(spans, span)
			numbers = numbers[n:]
		}
		list = append(list, script+".{"+strings.Join(spans, ",")+"}")
	}
	return fmt.Sprintf("%d: %s", len(files), strings.Join(list, " "))
}

// checkNumbers fails if the suite has become smaller than it was, so that it can't
// pass by not running.
func (s *specSuite) checkNumbers(t *testing.T) {
	for _, f := range s.folders {
		files, err := filepath.Glob(filepath.Join(f.path, "*.wasm"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if !f.seen[filepath.Base(file)] {
				t.Errorf("no script names %s", file)
			}
		}
	}
	for column, least := range atLeast {
		if got := s.total(column); got < least {
			t.Errorf("%s: %d, want at least %d", column, got, least)
		}
	}
}

// atLeast is what the suite of wazero 1.12 has, in all folders, rounded down. The
// race detector leaves 20 endless recursions out.
var atLeast = map[string]int{
	columnFiles:                          7800,
	columnWant + string(wasm.Malformed):  1380,
	columnWant + string(wasm.Invalid):    3590,
	columnWant + verdictValid:            2850,
	columnRead:                           2700,
	columnSameKind:                       4700,
	columnPeer:                           7700,
	columnRewritten:                      2700,
	columnInstantiated:                   2400,
	columnSaved:                          60,
	columnFailing:                        250,
	columnExecuted + "assert_return":     61000,
	columnExecuted + "assert_trap":       2800,
	columnExecuted + "assert_exhaustion": 10,
	columnShallow:                        10,
	columnAgreed:                         64000,
	columnFuel:                           64000,
	columnMore:                           1000,
	columnMemories:                       60,
	columnGlobals:                        60,
}
