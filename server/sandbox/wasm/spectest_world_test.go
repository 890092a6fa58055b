package wasm_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"rapport/server/sandbox/wasm"
)

// What a call in the rewritten world may use: no script of the suite comes near
// the fuel, and wazero's own stack ends long before the counter.
const (
	specFuel  = int64(1) << 50
	specStack = int64(1) << 30
)

// shallowStack is a budget that the host would give.
const shallowStack = int64(1000)

// specWorld is a store in which the modules of one script live: either all as the
// suite has them, or all rewritten. Not safe for concurrent use.
type specWorld struct {
	runtime   wazero.Runtime
	metered   bool
	instances []*specInstance
	named     map[string]*specInstance
	last      *specInstance
}

// specInstance is a module of a world, with its counters if it was rewritten.
type specInstance struct {
	module      api.Module
	fuel, stack api.MutableGlobal
	exports     []wasm.Export
}

// newSpecWorld returns a world with the host module that the suite imports from.
// It ends with the test.
func newSpecWorld(t *testing.T, spectest []byte, features api.CoreFeatures, metered bool) *specWorld {
	t.Helper()
	ctx := t.Context()
	config := wazero.NewRuntimeConfigCompiler()
	if underRace {
		config = wazero.NewRuntimeConfigInterpreter()
	}
	w := &specWorld{
		runtime: wazero.NewRuntimeWithConfig(ctx, config.WithCoreFeatures(features)),
		metered: metered,
		named:   map[string]*specInstance{},
	}
	t.Cleanup(func() {
		if err := w.runtime.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if _, err := w.runtime.Instantiate(ctx, spectest); err != nil {
		t.Fatal(err)
	}
	return w
}

// instantiate adds a module that others import from as as, if that is not empty,
// and makes it the last one. A trap of its start function, or whatever else comes
// between a module and its instance, is the error.
func (w *specWorld) instantiate(ctx context.Context, b []byte, as string) (*specInstance, error) {
	w.refill()
	m, err := w.runtime.InstantiateWithConfig(ctx, b, wazero.NewModuleConfig().WithName(as))
	if err != nil {
		return nil, err
	}
	i := &specInstance{module: m}
	if w.metered {
		var ok bool
		if i.fuel, ok = m.ExportedGlobal(wasm.FuelExport).(api.MutableGlobal); !ok {
			return nil, fmt.Errorf("no mutable global %q", wasm.FuelExport)
		}
		if i.stack, ok = m.ExportedGlobal(wasm.StackExport).(api.MutableGlobal); !ok {
			return nil, fmt.Errorf("no mutable global %q", wasm.StackExport)
		}
	}
	w.instances = append(w.instances, i)
	w.last = i
	return i, nil
}

// forget takes back the last instance, which has no counterpart in the other world.
func (w *specWorld) forget(i *specInstance) {
	if n := len(w.instances); i != nil && n > 0 && w.instances[n-1] == i {
		w.instances, w.last = w.instances[:n-1], nil
	}
}

// find returns a module by its name in the script, the last one by none. It is nil
// if the script has none, or if it was not instantiated.
func (w *specWorld) find(name string) *specInstance {
	if name == "" {
		return w.last
	}
	return w.named[name]
}

// refill gives every instance all that a call may use. Each has counters of its
// own, so a call into another module uses that one's.
func (w *specWorld) refill() {
	for _, i := range w.instances {
		if i.fuel != nil {
			i.fuel.Set(uint64(specFuel))
			i.stack.Set(uint64(specStack))
		}
	}
}

// specOutcome is how a call ended.
type specOutcome struct {
	results []uint64
	types   []api.ValueType
	trap    string // without the stack trace; empty if it returned
}

// call calls an exported function, or reads an exported global.
func (i *specInstance) call(ctx context.Context, action specAction) (specOutcome, error) {
	switch action.Type {
	case "invoke":
		f := i.module.ExportedFunction(action.Field)
		if f == nil {
			return specOutcome{}, fmt.Errorf("no function %q", action.Field)
		}
		var args []uint64
		for _, a := range action.Args {
			words, err := a.words()
			if err != nil {
				return specOutcome{}, fmt.Errorf("argument of %q: %w", action.Field, err)
			}
			args = append(args, words...)
		}
		results, err := f.Call(ctx, args...)
		if err != nil {
			return specOutcome{trap: trapOf(err)}, nil
		}
		return specOutcome{results: slices.Clone(results), types: f.Definition().ResultTypes()}, nil
	case "get":
		g := i.module.ExportedGlobal(action.Field)
		if g == nil {
			return specOutcome{}, fmt.Errorf("no global %q", action.Field)
		}
		return specOutcome{results: []uint64{g.Get()}, types: []api.ValueType{g.Type()}}, nil
	}
	return specOutcome{}, fmt.Errorf("action %q: not one that this suite knows", action.Type)
}

// trapOf returns the first line of an error: what comes after it names functions
// and addresses.
func trapOf(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return strings.TrimPrefix(line, "wasm error: ")
}

// expect says why an outcome is not what the script wants, if it is not.
func (o specOutcome) expect(values []specValue) error {
	if o.trap != "" {
		return errors.New("trap: " + o.trap)
	}
	rest := o.results
	for n, v := range values {
		if len(rest) < v.size() {
			return fmt.Errorf("results %#x: want %d values", o.results, len(values))
		}
		ok, err := v.matches(rest[:v.size()])
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("result %d is %#x, want %s %v", n, rest[:v.size()], v.LaneType, v.Lanes)
		}
		rest = rest[v.size():]
	}
	if len(rest) != 0 {
		return fmt.Errorf("results %#x: want %d values", o.results, len(values))
	}
	return nil
}

// equal says whether two worlds ended a call alike. References to functions are
// addresses, so only null can be compared.
func (o specOutcome) equal(p specOutcome) bool {
	if o.trap != p.trap || !slices.Equal(o.types, p.types) || len(o.results) != len(p.results) {
		return false
	}
	word := 0
	for _, t := range o.types {
		switch t {
		case valueTypeFuncref:
			if (o.results[word] == 0) != (p.results[word] == 0) {
				return false
			}
		case valueTypeV128:
			if o.results[word] != p.results[word] {
				return false
			}
			word++
			fallthrough
		default:
			if o.results[word] != p.results[word] {
				return false
			}
		}
		word++
	}
	return true
}

// The types that package api of wazero has no name for.
const (
	valueTypeV128    = api.ValueType(0x7b)
	valueTypeFuncref = api.ValueType(0x70)
)
