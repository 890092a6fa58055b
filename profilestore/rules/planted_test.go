package rules

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var planted = flag.Bool("planted", false, "also compare code with cel-go that has mistakes planted in it")

// mistakes are mistakes of the compiler that TestAgainstCEL, or what it is helped by at the
// edges, must find: in a file, what stands there and what is put in its place.
var mistakes = []struct{ name, file, right, wrong string }{
	{"failed beats unknown", "compileflag.go", "min(s, s2) // unknown", "max(s, s2) // unknown"},
	{"|| of many: the last decides", "compileflag.go", "case l.state == stateKnown || s == stateUnknown:", "default:"},
	{"unknown beats failed in ==", "compileflag.go", "		if s = max(s, s2); s", "		if s == stateKnown {\n			s = s2\n		}\n		if s"},
	{"the sides change and the comparison does not", "compileflag.go", "operators.Less: operators.Greater,", "operators.Less: operators.Less,"},
	{"an unknown condition is false", "node.go", "		v, s := ask.run(f)\n		switch {\n		case s != stateKnown:", "		v, s := ask.run(f)\n		switch {\n		case s == stateFailed:"},
	{"the second operand decides", "node.go", "if s == stateUnknown {\n			return out, s\n		}\n		if s2", "if s2"},
	{"a field of no value is 0", "frame.go", "	if !v.Known() {\n		return stateUnknown\n	}", "	if !v.Known() {\n		return stateKnown\n	}"},
	{"sums wrap round", "compilevalue.go", "return sum, (sum > x) == (y > 0)", "return sum, true"},
	{"products wrap round at the edge", "compilevalue.go", " && (x != math.MinInt64 || y != -1)", ""},
	{"the least whole number is one", "compilevalue.go", "x <= math.MinInt64", "x < math.MinInt64"},
	{"bytes are runes", "compilevalue.go", "int64(utf8.RuneCountInString(s))", "int64(max(utf8.RuneCountInString(s), len(s)))"},
	{"unknown in [] is unknown", "compilein.go", "return constant(false, stateKnown) // whatever x is", "return unary(c, c.flags.expr(c, x), func(*frame, bool) (bool, state) { return false, stateKnown })"},
	{"a constant that failed is a list", "compilein.go", "if !of.fixed || of.state != stateKnown {", "if !of.fixed {"},
	{"an index is a call", "compilelist.go", "if of.Kind() != ast.SelectKind {", "if true {"},
	{"lists keep what is unknown", "compilelist.go", "			state = max(state, s)\n", ""},
	{"exists_one keeps what failed", "compileloop.go", "last = s //", "last = max(last, s) //"},
	{"map keeps what failed", "compileloop.go", "sum = s //", "sum = max(sum, s) //"},
	{"turns cost nothing", "compileloop.go", "turn: 4 + c.cost(x.LoopCondition()) + c.cost(x.LoopStep())", "turn: 0"},
	{"days count from 1", "compiletime.go", "return t.Day() - 1", "return t.Day()"},
	{"sums of times are UTC", "compiletime.go", ".In(t.Location()), stateKnown", ".UTC(), stateKnown"},
	{"times have no end", "compiletime.go", "!ok || sec < minSecond || sec > maxSecond", "!ok"},
	{"durations wrap round", "compiletime.go", "failedIf(!ok || !ok2 || !ok3)", "failedIf(!ok && !ok2 && !ok3)"},
	{"a century is too long", "compiletime.go", "math.Abs(n) > maxDays", "math.Abs(n) >= maxDays"},
	{"texts need not be UTF-8", "compiletext.go", "func charAt(f *frame, s string, index int64) (string, state) {\n	f.charge(2*len(s) + 1)\n	if !utf8.ValidString(s) {", "func charAt(f *frame, s string, index int64) (string, state) {\n	f.charge(2*len(s) + 1)\n	if false {"},
	{"the last part of a text decides", "compiletext.go", "if sum == stateKnown {\n				sum = s", "if s != stateKnown {\n				sum = s"},
	{"a key without a row is an empty text", "compiletable.go", "otherwise := func(*frame) (string, state) { return \"\", stateUnknown }", "otherwise := func(*frame) (string, state) { return \"\", stateKnown }"},
	{"tables are asked before they are computed", "evaluation.go", "m.decide(m.atoms[i].decisions, vars, f)\n", "m.decide(nil, vars, f)\n"},
	{"a row that failed is unknown", "decision.go", "			d.state = stateFailed\n", ""},
	{"the end of a range is always in it", "cell.go", "map[bool]string{false: \" <= \", true: \" < \"}[r.highOpen]", "map[bool]string{false: \" <= \", true: \" <= \"}[r.highOpen]"},
	{"an index of the end is none", "compiletext.go", "return len(s), index == 0", "return len(s), false"},
}

// TestPlantedMistakes plants mistakes in the compiler, one at a time, and expects
// the comparison with cel-go to fail. It takes minutes:
//
//	go test ./profilestore/rules -run PlantedMistakes -planted -timeout 30m -v
func TestPlantedMistakes(t *testing.T) {
	if !*planted {
		t.Skip("takes minutes: run it with -planted")
	}
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
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
			out, err := exec.CommandContext(t.Context(), "go", "test", "-overlay", list, "-vet=off", "-run", "^(TestAgainstCEL|TestCompiledEdges|TestGivingUp|TestDecisionTables)$",
				"-rapid.checks=500", "-rapid.nofailfile", "-rapid.shrinktime=1s", ".").CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: Test") {
				t.Fatalf("the tests do not find it: %v\n%.2000s", err, out)
			}
		})
	}
}
