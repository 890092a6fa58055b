package bench_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

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
	s := newSuite(t, "rules", "rpc")
	s.SetLoad(300, 50*time.Millisecond, 300*time.Millisecond)
	if r.Records, err = s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Judge(bench.Budgets())
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
	again.Judge(bench.Budgets())
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

var wholeSuite = flag.Bool("suite", false, "run every layer of the suite")

// Every layer measures something, in a tiny form, and every budget of a layer is of a record
// and a figure that it has: none is out of force for a spelling mistake. Without -suite only
// those layers run that have no test of their own elsewhere.
func TestSuite(t *testing.T) {
	for _, l := range bench.Layers() {
		t.Run(l.Name, func(t *testing.T) {
			if !*wholeSuite && !slices.Contains([]string{"rules", "generator", "tail"}, l.Name) {
				t.Skip("only with -suite")
			}
			s := newSuite(t, l.Name)
			if *wholeSuite {
				s.SetGuests(shared.get(t))
			}
			temp := t.TempDir()
			t.Setenv("TMPDIR", temp)
			s.SetLoad(300, 50*time.Millisecond, 300*time.Millisecond)
			if *wholeSuite {
				s.Quick = false
			}
			records, err := s.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range records {
				if r.Layer != l.Name || r.Name == "" || len(r.Figures) == 0 {
					t.Errorf("%+v", r)
				}
				for _, f := range r.Figures {
					if math.IsNaN(f.Value) || math.IsInf(f.Value, 0) {
						t.Errorf("%s %s %s: %s is %v", r.Layer, r.Case, r.Name, f.Name, f.Value)
					}
				}
			}
			for _, j := range bench.Judge(bench.BudgetsOf([]string{l.Name}, bench.Budgets()), records, s.Quick) {
				t.Logf("%s: %s, %s", j.Budget.Name, j.Verdict, j.String())
				if j.Verdict == bench.NotMeasured {
					t.Errorf("%s is of nothing that is measured", j.Budget.Name)
				}
			}
			if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// The histograms of a report come back from its log, with the tags that say what they are of;
// and its page has them too.
func TestHistograms(t *testing.T) {
	s := newSuite(t, "rpc")
	s.SetLoad(300, 50*time.Millisecond, 300*time.Millisecond)
	r := bench.Report{Environment: bench.ReadEnvironment(), Begun: time.Now(), Seconds: 2, Quick: true}
	var err error
	if r.Records, err = s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var log, page bytes.Buffer
	if err := errors.Join(r.WriteHDR(&log), r.WritePage(&page)); err != nil {
		t.Fatal(err)
	}
	in := hdrhistogram.NewHistogramLogReader(&log)
	for i, name := range []string{"empty_echo", "decisions"} {
		h, err := in.NextIntervalHistogram()
		if err != nil || h == nil {
			t.Fatalf("histogram %d: %v, %v", i, h, err)
		}
		p99, _ := r.Records[i].Figure(bench.FigureP99)
		if got := h.ValueAtQuantile(99); got != int64(p99.Value) || h.TotalCount() == 0 || !strings.HasSuffix(h.Tag(), "/"+name) {
			t.Errorf("%s: p99 %d of %d, want %.0f of %s", h.Tag(), got, h.TotalCount(), p99.Value, name)
		}
	}
	if h, err := in.NextIntervalHistogram(); h != nil {
		t.Errorf("a third histogram: %v, %v", h, err)
	}
	for _, want := range []string{"</html>", "empty echo", "callers=16"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, bad := range []string{"<no value>", "ZgotmplZ", "NaN", "Inf"} {
		if strings.Contains(page.String(), bad) {
			t.Errorf("the page has %q", bad)
		}
	}
}

// Who interrupts the suite is left neither with a process nor with a file.
func TestInterrupted(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	s := newSuite(t, "server")
	s.SetLoad(300, time.Minute, time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := s.Run(ctx)
		done <- err
	}()
	for { // until a server runs, which says where in its folder
		locks, err := filepath.Glob(filepath.Join(temp, "*", "data", "LOCK"))
		if err != nil {
			t.Fatal(err)
		}
		if len(locks) > 0 {
			if b, err := os.ReadFile(locks[0]); err == nil && bytes.Contains(b, []byte("http://")) {
				break
			}
		}
		select {
		case err := <-done:
			t.Fatal(err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
