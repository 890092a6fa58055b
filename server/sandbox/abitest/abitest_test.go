package abitest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"rapport/plugins"
	"rapport/server/decide"
	"rapport/server/sandbox"
	"rapport/server/sandbox/abitest"
	"rapport/server/sandbox/abitest/faulty"
	"rapport/server/sandbox/compilertest"
)

func options(t testing.TB) sandbox.Options {
	t.Helper()
	command, err := compilertest.Command()
	if err != nil {
		t.Fatal(err)
	}
	return sandbox.Options{Compiler: command}
}

func check(t testing.TB, wasm []byte, o abitest.Options) *abitest.Report {
	t.Helper()
	r, err := abitest.Check(t.Context(), options(t), wasm, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestGoodStrategiesPass(t *testing.T) {
	for name, wasm := range map[string][]byte{"pvcl": plugins.PVCL(), "assembled": faulty.Good()} {
		t.Run(name, func(t *testing.T) {
			r := abitest.Run(t, options(t), wasm, abitest.Options{})
			for _, f := range r.Findings {
				if f.Result != abitest.OK {
					t.Errorf("%s: %s: %q", f.Requirement, f.Result, f.Seen)
				}
			}
			t.Logf("%+v", r.Figures)
		})
	}
}

// Each requirement has a module that fails it, and nothing else.
func TestEachRequirementCanFail(t *testing.T) {
	var covered []abitest.Requirement
	for _, name := range faulty.Names() {
		t.Run(name, func(t *testing.T) {
			fault, _ := faulty.Get(name)
			r := check(t, fault.Wasm, abitest.Options{})
			want := abitest.Failed
			if fault.Warning {
				want = abitest.Warning
			}
			for _, f := range r.Findings {
				t.Logf("%s: %s: %d times %q", f.Requirement, f.Result, f.Times, f.Seen)
				if string(f.Requirement) != fault.Requirement {
					if f.Result == abitest.Failed || f.Result == abitest.Warning {
						t.Errorf("%s: %s", f.Requirement, f.Result)
					}
					continue
				}
				covered = append(covered, f.Requirement)
				if f.Result != want || !strings.Contains(strings.Join(f.Seen, "\n"), fault.Seen) || f.Times == 0 || f.Do == "" || f.Sentence == "" {
					t.Errorf("%s: %s %q, want %s with %q", f.Requirement, f.Result, f.Seen, want, fault.Seen)
				}
			}
		})
	}
	// No module can fail this one: TestWhatDoesNotRepeatIsFound.
	covered = append(covered, abitest.Repeats)
	for _, r := range abitest.Requirements() {
		if !slices.Contains(covered, r) {
			t.Errorf("nothing fails %s", r)
		}
	}
}

// A module has no means to answer differently the second time; if the sandbox were
// not to put everything back, it would be like this.
func TestWhatDoesNotRepeatIsFound(t *testing.T) {
	for name, leak := range map[string]func(q *decide.Ranking, calls int64){
		"a score": func(q *decide.Ranking, calls int64) { q.Score[0] += float64(calls) },
		"fuel":    func(q *decide.Ranking, calls int64) { q.FuelUsed += calls % 2 },
		"a veto":  func(q *decide.Ranking, calls int64) { q.Veto[0] = calls%7 == 0 },
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int64
			r, err := abitest.CheckThrough(t.Context(), options(t), faulty.Good(), abitest.Options{Candidates: 100}, func(rank abitest.Rank) abitest.Rank {
				return func(ctx context.Context, q *decide.Ranking) error {
					err := rank(ctx, q)
					leak(q, calls.Add(1))
					return err
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if failed := r.With(abitest.Failed); len(failed) != 1 || failed[0].Requirement != abitest.Repeats {
				t.Errorf("failed: %+v", failed)
			}
		})
	}
}

// What can't be checked is an error, and no report.
func TestCheckThatCannotBeMade(t *testing.T) {
	if _, err := abitest.Check(t.Context(), sandbox.Options{}, faulty.Good(), abitest.Options{}); err == nil {
		t.Error("no compiler, and no error")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	if _, err := abitest.Check(ctx, options(t), faulty.Good(), abitest.Options{}); !errors.Is(err, gone) {
		t.Errorf("cancelled: %v", err)
	}
	for _, o := range []abitest.Options{{Candidates: -1}, {Candidates: abitest.MaxCandidates + 1}, {Frames: -1}, {Texts: []string{strings.Repeat("x", 257)}}} {
		if _, err := abitest.Check(t.Context(), options(t), faulty.Good(), o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}

// The answers of two checks are the same if the options are, and only then.
func TestAnswersAreComparable(t *testing.T) {
	answers := func(o abitest.Options) string {
		r := check(t, plugins.PVCL(), o)
		return r.Figures.Answers + r.Figures.ImageDigest
	}
	one, again, other := answers(abitest.Options{Candidates: 100}), answers(abitest.Options{Candidates: 100}), answers(abitest.Options{Candidates: 100, Seed: 2})
	if one != again || one == other {
		t.Errorf("%s, %s, and for another seed %s", one, again, other)
	}
}
