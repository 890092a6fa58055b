package wasm_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"rapport/server/sandbox/wasm"
)

// newPeer returns a wazero that only validates. It ends with the test.
func newPeer(t testing.TB, features api.CoreFeatures) wazero.Runtime {
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(features))
	t.Cleanup(func() {
		if err := r.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return r
}

// accepts says why the peer refuses a module, if it does.
func accepts(ctx context.Context, peer wazero.Runtime, b []byte) error {
	m, err := peer.CompileModule(ctx, b)
	if err != nil {
		return err
	}
	return m.Close(ctx)
}

// acceptsOriginal says why the peer refuses a module that was read, if it does: not
// for a module without a name, which it refuses and the specification allows.
func acceptsOriginal(ctx context.Context, peer wazero.Runtime, b []byte) error {
	err := accepts(ctx, peer, b)
	if err != nil && strings.Contains(err.Error(), emptyModuleName) {
		return nil
	}
	return err
}

// verdictValid is what the suite says of a module that is neither malformed nor
// invalid.
const verdictValid = "valid"

// judged is a module that was read, and what it was rewritten to: nil if it was
// not.
type judged struct {
	binary         []byte
	module         *wasm.Module
	metered, exact *wasm.Metered
}

// judgeFile reads one module and compares what this package says of it with the
// suite and with wazero. want is what the suite says: valid, malformed or invalid.
// If the module is read, or only too large for us, it is rewritten, and what came
// out is checked and returned.
func (r *specRun) judgeFile(ctx context.Context, c specCommand, want string) judged {
	b, err := os.ReadFile(filepath.Join(r.folder.path, c.Filename))
	if err != nil {
		r.t.Fatal(err)
	}
	j := verdict{file: r.folder.name + "/" + c.Filename, want: want, peer: accepts(ctx, r.judge, b)}
	r.folder.see(c.Filename)
	r.tally[columnFiles]++
	r.tally[columnWant+want]++
	if want != verdictValid && r.folder.first && (c.Text == "multiple tables" || j.peer == nil && accepts(ctx, r.first, b) != nil) {
		// Core 1.0 refuses it, 2.0 does not.
		r.suite.note("valid since 2.0: "+c.Text, j.file)
		r.tally[columnSince]++
		j.want = verdictValid
	}
	f := judged{binary: b}
	f.module, err = readSafely(b, wasm.DefaultLimits())
	if err == nil {
		r.accepted(c, j)
		return r.meter(ctx, c, f)
	}
	if !errors.As(err, &j.refusal) {
		r.errorf(c, "error without a kind: %v", err)
		return f
	}
	if j.refusal.Offset < 0 || j.refusal.Offset > len(b) {
		r.errorf(c, "error at offset %d of %d bytes: %v", j.refusal.Offset, len(b), err)
	}
	r.refused(c, j)
	if j.refusal.Kind != wasm.OverLimit || j.want != verdictValid || !r.folder.core {
		return f
	}
	if f.module, err = readSafely(b, wideLimits()); err != nil {
		r.errorf(c, "refused with wide limits: %v", err)
		return f
	}
	r.tally[columnWide]++
	return r.meter(ctx, c, f)
}

// verdict is what is said about one module.
type verdict struct {
	file    string
	want    string      // by the suite
	peer    error       // by wazero; nil if it is valid
	refusal *wasm.Error // by this package; nil if it was read
}

// wideLimits let all of the suite's valid modules through, so that those which are
// too large for us are executed too.
func wideLimits() wasm.Limits {
	l := wasm.DefaultLimits()
	l.BranchLabels = 1 << 15
	return l
}

// accepted compares with the suite and the peer what was read.
func (r *specRun) accepted(c specCommand, j verdict) {
	r.tally[columnRead]++
	if j.want != verdictValid {
		r.errorf(c, "read, but it is %s: %s", j.want, c.Text)
	}
	if j.peer == nil {
		r.tally[columnPeer]++
		return
	}
	r.differs(c, j, "read, but wazero refuses it: "+j.peer.Error(), j.peer.Error())
}

// refused compares with the suite and the peer what was refused.
func (r *specRun) refused(c specCommand, j verdict) {
	kind := string(j.refusal.Kind)
	r.tally[columnRefused+kind]++
	switch {
	case j.want == verdictValid && r.folder.core:
		why, known := knownRefusals[j.refusal.Message]
		if j.refusal.Kind != wasm.OverLimit && !known {
			r.errorf(c, "valid, but refused: %v", j.refusal)
		}
		r.suite.note(fmt.Sprintf("valid, refused as %s: %s%s", kind, j.refusal.Message, why), j.file)
	case j.want == verdictValid:
		r.suite.note(fmt.Sprintf("valid in a later proposal, %s here: %s", kind, j.refusal.Message), j.file)
	case j.want == kind:
		r.tally[columnSameKind]++
	default:
		r.suite.note(fmt.Sprintf("%s in the suite (%s), %s here (%s)", j.want, c.Text, kind, j.refusal.Message), j.file)
	}
	switch {
	case j.peer != nil:
		r.tally[columnPeer]++
	case j.refusal.Kind == wasm.OverLimit:
		r.tally[columnPeerLimit]++
	default:
		r.differs(c, j, "refused, but wazero reads it: "+j.refusal.Error(), j.refusal.Message)
	}
}

// differs fails, unless it is known why this package and wazero differ.
func (r *specRun) differs(c specCommand, j verdict, text, message string) {
	for _, d := range knownDifferences {
		if (d.folder == "" || d.folder == r.folder.name) && strings.Contains(message, d.message) {
			r.tally[columnKnown]++
			r.suite.note("differs from wazero: "+d.why, j.file)
			return
		}
	}
	r.errorf(c, "%s", text)
}

// meter rewrites a module, and checks that what comes out is valid and can't be
// rewritten again.
func (r *specRun) meter(ctx context.Context, c specCommand, f judged) judged {
	metered, err := meterSafely(f.module, false)
	exact, errX := meterSafely(f.module, true)
	if err != nil || errX != nil {
		r.errorf(c, "not rewritten: %v, %v", err, errX)
		return f
	}
	err, errX = accepts(ctx, r.judge, metered.Wasm), accepts(ctx, r.judge, exact.Wasm)
	if err != nil || errX != nil {
		if err == nil || !strings.Contains(err.Error(), emptyModuleName) { // nor is the original, to wazero
			r.errorf(c, "rewritten, it is no longer valid: %v, %v", err, errX)
		}
		return f
	}
	r.tally[columnRewritten]++
	_, err = readSafely(metered.Wasm, wideLimits())
	if refusal := (*wasm.Error)(nil); !errors.As(err, &refusal) || refusal.Kind != wasm.Reserved {
		r.errorf(c, "read again after it was rewritten: %v", err)
	}
	var mutable, saved []wasm.ValType
	for _, g := range f.module.Globals[f.module.ImportedGlobals:] {
		if g.Mutable {
			mutable = append(mutable, g.Type)
		}
	}
	for _, g := range metered.Globals {
		saved = append(saved, g.Type)
	}
	if !slices.Equal(mutable, saved) {
		r.errorf(c, "mutable globals %v, and to be restored are %v", mutable, saved)
	}
	f.metered, f.exact = metered, exact
	return f
}

// readSafely reads; a panic is an error without a kind.
func readSafely(b []byte, l wasm.Limits) (m *wasm.Module, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return wasm.Read(b, l)
}

// meterSafely rewrites so that a start function can run; a panic is an error.
func meterSafely(m *wasm.Module, exact bool) (metered *wasm.Metered, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return m.Meter(wasm.MeterOptions{InitialFuel: specFuel, InitialStack: specStack, Exact: exact})
}
