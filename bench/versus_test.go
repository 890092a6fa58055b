package bench_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"rapport/bench"
)

// fakeVariable has a report for a process of this test, which prints it, a little different
// each time, and ends.
const fakeVariable = "BENCH_TEST_FAKE"

// fakeMain is such a process.
func fakeMain() int {
	r, err := bench.ReadReport(strings.NewReader(os.Getenv(fakeVariable)))
	if err == nil {
		// A machine whose mood meets both programs alike.
		name := os.Getenv(fakeVariable + "_ROUND")
		b, _ := os.ReadFile(name)
		mood := 1 + float64(len(b)/2)
		for i := range r.Records {
			for k := range r.Records[i].Figures {
				r.Records[i].Figures[k].Value *= mood
			}
		}
		if err = os.WriteFile(name, append(b, '.'), 0o600); err == nil {
			err = r.WriteNDJSON(os.Stdout)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// fake returns a program that prints a report in which a decision takes so long.
func fake(t *testing.T, nanos float64, processors int) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := bench.Report{Environment: bench.Environment{Processor: "A", Processors: processors, System: "linux", Arch: "amd64"}, Records: []bench.Record{
		{Layer: "decision", Name: "in the sandbox", Figures: []bench.Figure{{Name: bench.FigureP50, Value: nanos, Unit: bench.UnitNanos}, {Name: bench.FigureAllocs}}},
	}}
	var lines strings.Builder
	if err := r.WriteNDJSON(&lines); err != nil {
		t.Fatal(err)
	}
	program := t.TempDir() + "/program"
	quoted := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'"'"'`) + "'" }
	script := fmt.Sprintf("#!/bin/sh\n%s=%s exec %s \"$@\"\n", fakeVariable, quoted(lines.String()), quoted(self))
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return program
}

// Two programs are compared round by round: a machine that becomes slower and slower says
// nothing of them. Of machines that are not alike nothing is said.
func TestVersus(t *testing.T) {
	t.Setenv(fakeVariable+"_ROUND", t.TempDir()+"/round")
	rounds := 0
	records, err := bench.Versus(t.Context(), fake(t, 1000, 2), fake(t, 1250, 2), nil, 8, func(int) { rounds++ })
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != 1 || len(records[0].Figures) != 1 || rounds != 8 {
		t.Fatalf("%d rounds: %+v", rounds, records)
	}
	if f := records[0].Figures[0]; f.Value != 1.25 || f.Low != 1.25 || f.High != 1.25 || f.Samples != 8 || f.Unit != bench.UnitRatio {
		b, _ := json.Marshal(f)
		t.Errorf("%s, want 1.25 in each of 8 rounds", b)
	}
	_, err = bench.Versus(t.Context(), fake(t, 1000, 2), fake(t, 1250, 4), nil, 2, nil)
	if err == nil || !strings.Contains(err.Error(), "processors: ") {
		t.Errorf("machines that are not alike: %v", err)
	}
	_, err = bench.Versus(t.Context(), fake(t, 1000, 2), "/bin/false", nil, 2, nil)
	if err == nil || !strings.Contains(err.Error(), "/bin/false") {
		t.Errorf("a program that fails: %v", err)
	}
}
