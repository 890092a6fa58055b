package sandbox_test

import (
	"path/filepath"
	"slices"
	"testing"

	"rapport/plugins"
	"rapport/server/sandbox"
	"rapport/server/sandbox/abitest"
)

// The examples of the SDKs, which are one strategy.
const exampleFolder = "testdata/examples"

var exampleModules = map[string]string{
	"C":              exampleFolder + "/spenders_c.wasm",
	"AssemblyScript": exampleFolder + "/spenders_as.wasm",
	"Rust":           exampleFolder + "/spenders_rs.wasm",
}

// Every strategy that ships, or that tests an SDK, meets every requirement. What
// each is warned about is known.
func TestStrategiesConform(t *testing.T) {
	type strategy struct {
		wasm    func(t testing.TB) []byte
		cached  bool // compiled code, as it takes long to make
		options abitest.Options
		warned  []abitest.Requirement
	}
	golden := func(language string, warned ...abitest.Requirement) strategy {
		return strategy{
			wasm:    func(t testing.TB) []byte { return committed(t, goldenModules[language]) },
			options: abitest.Options{Candidates: 1000, Texts: []string{"Büro", "agent", "warm", "plan_a", "none"}},
			warned:  warned,
		}
	}
	example := func(language string, warned ...abitest.Requirement) strategy {
		return strategy{
			wasm:    func(t testing.TB) []byte { return committed(t, exampleModules[language]) },
			options: abitest.Options{Candidates: 1000, Texts: []string{"plan_a"}},
			warned:  warned,
		}
	}
	for name, c := range map[string]strategy{
		"pvcl": {wasm: func(testing.TB) []byte { return plugins.PVCL() }},
		"care": {
			wasm:    func(t testing.TB) []byte { return committed(t, dist+"care.wasm") },
			options: abitest.Options{Texts: []string{"service", "care", "marketing"}}, warned: []abitest.Requirement{abitest.Inputs},
		},
		"epsilon": {wasm: func(t testing.TB) []byte { return committed(t, dist+"epsilon.wasm") }},
		"scorecard": {
			wasm:    func(t testing.TB) []byte { return committed(t, dist+"scorecard.wasm") },
			options: abitest.Options{Texts: []string{"service", "care", "marketing"}}, warned: []abitest.Requirement{abitest.Inputs},
		},
		"upsell, in Go": {wasm: goWasm(upsell), cached: true, options: abitest.Options{Texts: []string{"business"}}},
		"tricky, in Go": {wasm: goWasm(tricky), cached: true, warned: []abitest.Requirement{abitest.Inputs}},
		"reads, in C":   {wasm: readsWasm, warned: []abitest.Requirement{abitest.Logs}},
		// It reads all that an earlier, longer frame could have left: too much, for one
		// candidate of ten thousand.
		"remembers, in C": {wasm: func(t testing.TB) []byte { return committed(t, rememberC) }, options: abitest.Options{Candidates: 1000}},
		// It allocates for each candidate, and the SDK readies 1 MB.
		"remembers, in AssemblyScript": {wasm: func(t testing.TB) []byte { return committed(t, rememberAS) }, options: abitest.Options{Candidates: 1000}},
		"golden, in C":                 golden("C"),
		"golden, in AssemblyScript":    golden("AssemblyScript", abitest.Budget), // it makes strings of texts
		"golden, in Rust":              golden("Rust"),
		"example, in C":                example("C"),
		"example, in AssemblyScript":   example("AssemblyScript", abitest.Budget), // likewise, of 4 KiB
		"example, in Rust":             example("Rust"),
	} {
		t.Run(name, func(t *testing.T) {
			wasm := c.wasm(t)
			o := sandbox.Options{Compiler: command(t)}
			if c.cached {
				o.CacheDir, o.CacheKey = filepath.Join(goGuests.dir, "cache"), goGuestKey
			}
			r := abitest.Run(t, o, wasm, c.options)
			var warned []abitest.Requirement
			for _, f := range r.With(abitest.Warning) {
				warned = append(warned, f.Requirement)
			}
			if !slices.Equal(warned, c.warned) {
				t.Errorf("warned about %v, want %v", warned, c.warned)
			}
			if left := r.With(abitest.Unchecked); len(left) > 0 {
				t.Errorf("unchecked: %+v", left)
			}
		})
	}
}
