package bench_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"rapport/bench"
)

// newSuite returns a quick suite of some layers, whose processes are this one again.
func newSuite(t testing.TB, only ...string) *bench.Suite {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &bench.Suite{Quick: true, Compiler: compiler(t), Self: []string{self}, Only: only}
}

// A report comes back from its lines, and judges as before.
func TestReport(t *testing.T) {
	r := bench.Report{Environment: bench.ReadEnvironment(), Quick: true}
	var err error
	if r.Records, err = newSuite(t, "rules", "rpc").Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Judgements = bench.Judge(bench.Budgets(), r.Records, true)
	var lines, table, stat bytes.Buffer
	if err := r.WriteNDJSON(&lines); err != nil {
		t.Fatal(err)
	}
	if err := r.Write(&table); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteBenchstat(&stat); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s\n%s", table.String(), stat.String())
	again, err := bench.ReadReport(bytes.NewReader(lines.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	again.Judgements = bench.Judge(bench.Budgets(), again.Records, true)
	var other bytes.Buffer
	if err := again.Write(&other); err != nil {
		t.Fatal(err)
	}
	if other.String() != table.String() {
		t.Errorf("read again:\n%s\nwas:\n%s", other.String(), table.String())
	}
	if unlike := again.Environment.Unlike(&r.Environment); len(unlike) > 0 {
		t.Errorf("an environment is unlike itself: %v", unlike)
	}
	for _, bad := range []string{"", "{}", "no", lines.String() + lines.String()} {
		if _, err := bench.ReadReport(strings.NewReader(bad)); err == nil {
			t.Errorf("%.40q was read", bad)
		}
	}
}
