package abitest

import (
	"context"
	"strings"

	"rapport/server/sandbox"
)

// T is what [Run] needs of a *testing.T. The command would link package testing if
// this one imported it.
type T[Self any] interface {
	Helper()
	Context() context.Context
	Run(name string, test func(Self)) bool
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Skip(args ...any)
}

// Run checks a module in a Go test, with a subtest for each requirement: it fails
// if that is not met, and is skipped if it could not be checked. Warnings and figures
// are logged. The options are as those of [Check].
func Run[Test T[Test]](t Test, so sandbox.Options, wasm []byte, o Options) *Report {
	t.Helper()
	r, err := Check(t.Context(), so, wasm, o)
	if err != nil {
		t.Fatal(err)
		return nil
	}
	for _, f := range r.Findings {
		t.Run(string(f.Requirement), func(t Test) {
			t.Helper()
			seen := strings.Join(f.Seen, "\n")
			switch f.Result {
			case Failed:
				t.Errorf("%s\nSeen %d times:\n%s\n%s", f.Sentence, f.Times, seen, f.Do)
			case Warning:
				t.Logf("warning: %s\n%s\n%s", f.Sentence, seen, f.Do)
			case Unchecked:
				t.Skip(seen)
			case OK:
			}
		})
	}
	t.Logf("%d calls; fuel %v, at most %.1f%% of the limit; image of %d bytes", r.Figures.Calls, r.Figures.Fuel, 100*r.Figures.Share, r.Figures.Image)
	return r
}
