package probe_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rapport/plugins"
	"rapport/server/sandbox/probe"
)

var modes = []probe.Mode{probe.Bare, probe.Metered, probe.Exact, probe.CloseOnDone}

// closed closes a probe when the test ends.
func closed(t *testing.T, p *probe.Probe, err error) *probe.Probe {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

// run calls a program and returns its result and the fuel that it used.
func run(t *testing.T, p *probe.Probe, program probe.Program) (result uint64, fuel int64) {
	t.Helper()
	before := p.Fuel()
	result, err := p.Call(context.Background(), p.Function(program.Name), program.Argument)
	if err != nil {
		t.Fatalf("%s: %v", program.Name, err)
	}
	return result, p.Fuel() - before
}

// A program does the same in every mode and every layout, or what is compared is
// not the same work. Metered, it is charged for at least what it did, which Exact
// counts, and at most for four times that: each fork may cost 64 units for the way
// not taken (see wasm.Module.Meter), and the sort has the most forks. Layouts differ
// in the function pad alone, so fuel does not.
func TestProgramsAgree(t *testing.T) {
	ctx := context.Background()
	type outcome struct {
		result         uint64
		exact, metered int64
	}
	first := make(map[string]outcome)
	for layout := range probe.Layouts {
		var probes []*probe.Probe
		for _, mode := range modes {
			p, err := probe.NewProgram(ctx, layout, mode)
			probes = append(probes, closed(t, p, err))
		}
		for _, program := range probe.Programs() {
			var o outcome
			for i, mode := range modes {
				result, fuel := run(t, probes[i], program)
				if i == 0 {
					o.result = result
				}
				if result != o.result {
					t.Errorf("layout %d, %s: %d when %s, and %d when bare", layout, program.Name, result, mode, o.result)
				}
				switch mode {
				case probe.Metered:
					o.metered = fuel
				case probe.Exact:
					o.exact = fuel
				case probe.Bare, probe.CloseOnDone:
					if fuel != 0 {
						t.Errorf("layout %d, %s: %d units when %s", layout, program.Name, fuel, mode)
					}
				}
			}
			if o.exact <= int64(program.Argument) || o.metered < o.exact || o.metered > 4*o.exact {
				t.Errorf("layout %d, %s: %d units, and %d exactly", layout, program.Name, o.metered, o.exact)
			}
			if layout == 0 {
				first[program.Name] = o
				t.Logf("%-10s %11d  %6d units, %6d exactly (+%.1f%%)", program.Name, int32(o.result), o.metered, o.exact, 100*float64(o.metered-o.exact)/float64(o.exact))
			} else if o != first[program.Name] {
				t.Errorf("layout %d, %s: %+v, and in the first layout %+v", layout, program.Name, o, first[program.Name])
			}
		}
	}
}

// A strategy ranks its frame in every mode, again and again, at the same price and
// with the same scores.
func TestRankStrategy(t *testing.T) {
	ctx := context.Background()
	const n = 100
	for _, mode := range modes {
		p, err := probe.New(ctx, plugins.PVCL(), mode)
		p = closed(t, p, err)
		if err := p.Configure(ctx, n); err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		var price int64
		for i, rank := range []func(context.Context) error{p.Rank, p.RankAnew, p.Rank} {
			p.Restore()
			before := p.Fuel()
			if err := rank(ctx); err != nil {
				t.Fatalf("%s: %v", mode, err)
			}
			used := p.Fuel() - before
			for k, got := range p.Scores() {
				x := 1 + float64(k)/1024 // in each column
				if want := x * x * x * x; got != want {
					t.Fatalf("%s: score %d is %v, want %v", mode, k, got, want)
				}
			}
			if i == 0 {
				price = used
			}
			if metered := mode == probe.Metered || mode == probe.Exact; used != price || metered != (used > n) {
				t.Errorf("%s: call %d took %d units, the first %d", mode, i, used, price)
			}
		}
	}
}

// Instances of a module have the same code and each its own memory.
func TestInstancesAreApart(t *testing.T) {
	ctx := context.Background()
	m, err := probe.Compile(ctx, plugins.PVCL(), probe.Metered)
	if err != nil {
		t.Fatal(err)
	}
	var probes []*probe.Probe
	for n := range 3 {
		p, err := m.New(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Configure(ctx, 10+n); err != nil {
			t.Fatal(err)
		}
		probes = append(probes, p)
	}
	for n, p := range probes {
		if err := p.Rank(ctx); err != nil || len(p.Scores()) != 10+n {
			t.Errorf("%d scores of %d, error %v", len(p.Scores()), 10+n, err)
		}
	}
	if err := m.Close(ctx); err != nil {
		t.Error(err)
	}
}

// What is no module is an error, in every mode.
func TestNewRefuses(t *testing.T) {
	for _, mode := range modes {
		if p, err := probe.New(context.Background(), []byte("\x00asm\x01\x00\x00"), mode); err == nil || p != nil {
			t.Errorf("%s: a torn module was taken", mode)
		}
	}
}

const sums = "programs/SHA256SUMS"

// The committed programs are what their source makes, with the compiler that made
// them.
func TestBuildIsReproducible(t *testing.T) {
	committed, err := os.ReadFile(sums)
	if err != nil {
		t.Fatal(err)
	}
	for layout := range probe.Layouts {
		name := fmt.Sprintf("programs%d.wasm", layout)
		b, err := os.ReadFile(filepath.Join("programs", name))
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("%x  %s\n", sha256.Sum256(b), name); !strings.Contains(string(committed), want) {
			t.Errorf("%s does not have the line %s: run go generate ./server/sandbox/probe", sums, want)
		}
	}
	version, err := exec.CommandContext(t.Context(), "clang", "--version").Output()
	first, _, _ := strings.Cut(string(version), "\n")
	if err != nil || !strings.Contains(string(committed), first+"\n") {
		if os.Getenv("RAPPORT_REQUIRE_TOOLS") != "" {
			t.Fatalf("clang is needed, as %s names it; here is %q", sums, first)
		}
		t.Skipf("the compiler that %s names is not here", sums)
	}
	// The program writes to programs below the folder it runs in.
	dir := t.TempDir()
	for _, folder := range []string{"programs", "generate"} {
		if err := os.CopyFS(filepath.Join(dir, folder), os.DirFS(folder)); err != nil {
			t.Fatal(err)
		}
	}
	generate := exec.CommandContext(t.Context(), "go", "run", "generate/main.go")
	generate.Dir = dir
	if text, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	built, err := os.ReadFile(filepath.Join(dir, sums))
	if err != nil {
		t.Fatal(err)
	}
	if string(built) != string(committed) {
		t.Errorf("built:\n%s\ncommitted:\n%s", built, committed)
	}
}
