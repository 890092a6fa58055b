package wasm_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// specRun is one script under test, in three worlds at once: as it is, rewritten,
// and rewritten with exact charges.
type specRun struct {
	t      *testing.T
	suite  *specSuite
	folder *specFolder
	name   string
	tally  tally

	judge               wazero.Runtime // the peer: the interpreter, which is quick to validate
	first               wazero.Runtime // the same of core 1.0
	original, rewritten *specWorld
	exact               *specWorld
}

// runScript judges every module that a script names and runs its assertions.
func (s *specSuite) runScript(t *testing.T, folder *specFolder, name string) {
	b, err := os.ReadFile(filepath.Join(folder.path, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var script specScript
	if err := json.Unmarshal(b, &script); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	r := &specRun{
		t: t, suite: s, folder: folder, name: name, tally: tally{},
		judge:     newPeer(t, api.CoreFeaturesV2),
		first:     newPeer(t, api.CoreFeaturesV1),
		original:  newSpecWorld(t, s.spectest, folder.features(), false),
		rewritten: newSpecWorld(t, s.spectest, folder.features(), true),
		exact:     newSpecWorld(t, s.spectest, folder.features(), true),
	}
	defer func() { s.add(folder, r.tally) }()
	for i, c := range script.Commands {
		as := ""
		if next := i + 1; next < len(script.Commands) && script.Commands[next].Type == "register" {
			as = script.Commands[next].As
		}
		r.command(t.Context(), c, as)
	}
	r.compareStates()
}

func (r *specRun) errorf(c specCommand, format string, args ...any) {
	r.t.Helper()
	where := fmt.Sprintf("%s/%s.wast:%d %s %s: ", r.folder.name, r.name, c.Line, c.Type, cmp.Or(c.Filename, c.Action.Field))
	r.t.Error(where + fmt.Sprintf(format, args...))
}

// command does one line of the script. A module is registered as as, when the next
// line says so: wazero names an instance only when it makes it.
func (r *specRun) command(ctx context.Context, c specCommand, as string) {
	switch c.Type {
	case "module":
		r.module(ctx, c, as)
	case "register":
		// The module before it was instantiated under this name.
	case "assert_malformed", "assert_invalid":
		if c.ModuleType == "text" {
			r.tally[columnText]++
			return
		}
		r.judgeFile(ctx, c, strings.TrimPrefix(c.Type, "assert_"))
	case "assert_unlinkable", "assert_uninstantiable":
		r.failingModule(ctx, c)
	case "assert_exhaustion":
		if underRace && r.name == "skip-stack-guard-page" {
			r.tally[columnRace]++ // its frames are so large that it takes 20 seconds
			return
		}
		r.assert(ctx, c)
	case "assert_return", "action", "assert_trap":
		r.assert(ctx, c)
	case "assert_exception": // of a later proposal, whose modules are refused
		r.tally[columnSkipped]++
	default:
		r.errorf(c, "not a command that this suite knows")
	}
}

// module instantiates a module in all worlds.
func (r *specRun) module(ctx context.Context, c specCommand, as string) {
	for _, w := range r.worlds() {
		w.last = nil
		delete(w.named, c.Name)
	}
	f := r.judgeFile(ctx, c, verdictValid)
	if f.metered == nil {
		return
	}
	o, errO := r.original.instantiate(ctx, f.binary, as)
	w, errR := r.rewritten.instantiate(ctx, f.metered.Wasm, as)
	x, errX := r.exact.instantiate(ctx, f.exact.Wasm, as)
	if errO != nil || errR != nil || errX != nil {
		r.errorf(c, "original: %v; rewritten: %v, %v", errO, errR, errX)
		r.original.forget(o)
		r.rewritten.forget(w)
		r.exact.forget(x)
		return
	}
	if c.Name != "" {
		r.original.named[c.Name], r.rewritten.named[c.Name], r.exact.named[c.Name] = o, w, x
	}
	o.exports = f.module.Exports
	r.tally[columnInstantiated]++
	for _, g := range f.metered.Globals {
		exported, ok := w.module.ExportedGlobal(g.Export).(api.MutableGlobal)
		if !ok || exported.Type() != api.ValueType(g.Type) {
			r.errorf(c, "the rewritten module exports no mutable global %q of %s", g.Export, g.Type)
		}
		r.tally[columnSaved]++
	}
}

// worlds are all worlds.
func (r *specRun) worlds() []*specWorld { return []*specWorld{r.original, r.rewritten, r.exact} }

// failingModule checks that a valid module that can't be instantiated fails alike
// in all worlds.
func (r *specRun) failingModule(ctx context.Context, c specCommand) {
	f := r.judgeFile(ctx, c, verdictValid)
	if f.metered == nil {
		return
	}
	lastO, lastR, lastX := r.original.last, r.rewritten.last, r.exact.last
	o, errO := r.original.instantiate(ctx, f.binary, "")
	w, errR := r.rewritten.instantiate(ctx, f.metered.Wasm, "")
	x, errX := r.exact.instantiate(ctx, f.exact.Wasm, "")
	r.tally[columnFailing]++
	switch {
	case errO == nil && errR == nil && errX == nil:
		// Since 2.0 a segment past the end of a table is a trap of instantiation,
		// and wazero, which must keep such an instance's functions, does not
		// report it.
		if c.Text != "out of bounds table access" {
			r.errorf(c, "no error")
		}
	case errO == nil || errR == nil || errX == nil || trapOf(errO) != trapOf(errR) || trapOf(errO) != trapOf(errX):
		r.errorf(c, "original: %v; rewritten: %v, %v", errO, errR, errX)
		r.original.forget(o)
		r.rewritten.forget(w)
		r.exact.forget(x)
	}
	r.original.last, r.rewritten.last, r.exact.last = lastO, lastR, lastX
}

// assert runs an assertion in all worlds.
func (r *specRun) assert(ctx context.Context, c specCommand) {
	if r.original.find(c.Action.Module) == nil {
		r.tally[columnSkipped]++
		return
	}
	r.tally[columnExecuted+c.Type]++
	got, ok := r.call(ctx, c, r.original)
	metered, okR := r.call(ctx, c, r.rewritten)
	if !ok || !okR {
		return
	}
	if c.Type == "assert_exhaustion" {
		r.exhaustion(ctx, c, got, metered)
		return
	}
	exact, ok := r.call(ctx, c, r.exact)
	if !ok {
		return
	}
	if c.Action.Type == "invoke" {
		r.checkCounters(c)
	}
	if !got.equal(metered) || !got.equal(exact) {
		r.errorf(c, "original: %+v; rewritten: %+v, %+v", got, metered, exact)
		return
	}
	if c.Type == "assert_trap" {
		if want, ok := trapNames[c.Text]; !ok || metered.trap != want {
			r.errorf(c, "trap %q, want %q, which is %q here", metered.trap, c.Text, want)
			return
		}
	} else if err := metered.expect(c.Expected); err != nil {
		r.errorf(c, "%v", err)
		return
	}
	r.tally[columnAgreed]++
}

// call does what a command says in one world, with all the fuel and stack there is.
func (r *specRun) call(ctx context.Context, c specCommand, w *specWorld) (specOutcome, bool) {
	w.refill()
	o, err := w.find(c.Action.Module).call(ctx, c.Action)
	if err != nil {
		r.errorf(c, "%v", err)
	}
	return o, err == nil
}

// checkCounters checks what the last call left: it used fuel, and less than there
// was; with exact charges it did not use more; there is some of the stack left.
func (r *specRun) checkCounters(c specCommand) {
	var used [2]int64
	for n, w := range []*specWorld{r.rewritten, r.exact} {
		for _, i := range w.instances {
			fuel, stack := int64(i.fuel.Get()), int64(i.stack.Get())
			if fuel < 0 || fuel > specFuel || stack < 0 || stack > specStack {
				r.errorf(c, "fuel left is %d of %d, stack %d of %d", fuel, specFuel, stack, specStack)
			}
			used[n] += specFuel - fuel
		}
	}
	if used[1] == 0 || used[0] < used[1] {
		r.errorf(c, "the call used %d fuel, and with exact charges %d", used[0], used[1])
	}
	r.tally[columnFuel]++
	if used[0] > used[1] {
		r.tally[columnMore]++
	}
}

// exhaustion checks that a recursion without end ends in both worlds: on wazero's
// stack, or on the counter when the host gives a budget.
func (r *specRun) exhaustion(ctx context.Context, c specCommand, got, metered specOutcome) {
	w := r.rewritten.find(c.Action.Module)
	if got.trap != "stack overflow" {
		r.errorf(c, "original: %+v", got)
		return
	}
	switch {
	case metered.trap == "stack overflow":
		r.tally[columnOverflow]++
	case metered.trap == "unreachable" && int64(w.stack.Get()) < 0:
		r.tally[columnCounter]++
	default:
		r.errorf(c, "rewritten: %+v, stack counter %d", metered, int64(w.stack.Get()))
		return
	}
	r.rewritten.refill()
	w.stack.Set(uint64(shallowStack))
	again, err := w.call(ctx, c.Action)
	if left := int64(w.stack.Get()); err != nil || again.trap != "unreachable" || left >= 0 {
		r.errorf(c, "rewritten, with a stack of %d: %+v, %v, stack counter %d", shallowStack, again, err, left)
		return
	}
	r.tally[columnShallow]++
	r.tally[columnAgreed]++
}

// trapNames is what wazero calls the traps of the suite.
var trapNames = map[string]string{
	"indirect call":                 "indirect call type mismatch",
	"indirect call type mismatch":   "indirect call type mismatch",
	"integer divide by zero":        "integer divide by zero",
	"integer overflow":              "integer overflow",
	"invalid conversion to integer": "invalid conversion to integer",
	"out of bounds memory access":   "out of bounds memory access",
	"out of bounds table access":    "invalid table access",
	"undefined":                     "invalid table access",
	"undefined element":             "invalid table access",
	"uninitialized":                 "invalid table access",
	"uninitialized element":         "invalid table access",
	"uninitialized element 2":       "invalid table access",
	"uninitialized element 7":       "invalid table access",
	"unreachable":                   "unreachable",
}

// compareStates compares what the script left in two worlds: the memories, and the
// globals that the originals export.
func (r *specRun) compareStates() {
	for n, o := range r.original.instances {
		w := r.rewritten.instances[n]
		for name := range o.module.ExportedMemoryDefinitions() {
			a, b := o.module.ExportedMemory(name), w.module.ExportedMemory(name)
			if b == nil || a.Size() != b.Size() {
				r.t.Errorf("%s/%s.wast: memory %q of module %d: another size when rewritten", r.folder.name, r.name, name, n)
				continue
			}
			size := min(a.Size(), 1<<24)
			left, _ := a.Read(0, size)
			right, _ := b.Read(0, size)
			if !bytes.Equal(left, right) {
				r.t.Errorf("%s/%s.wast: memory %q of module %d: other bytes when rewritten", r.folder.name, r.name, name, n)
			}
			r.tally[columnMemories]++
		}
		for _, e := range o.exports {
			a, b := o.module.ExportedGlobal(e.Name), w.module.ExportedGlobal(e.Name)
			if a == nil || a.Type() == valueTypeFuncref { // not a global, or an address
				continue
			}
			if b == nil || a.Get() != b.Get() {
				r.t.Errorf("%s/%s.wast: global %q of module %d: %v, %v when rewritten", r.folder.name, r.name, e.Name, n, a, b)
			}
			r.tally[columnGlobals]++
		}
	}
}
