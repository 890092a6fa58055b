package sandbox

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"rapport/sdk/abi"
	"rapport/server/sandbox/wasm"
)

// checkModule checks a module against the ABI, and against what a strategy must
// not have though it is valid. Its error is an [*InvalidError].
func checkModule(m *wasm.Module) error {
	for _, check := range []func(*wasm.Module) error{checkImports, checkExports, checkState} {
		if err := check(m); err != nil {
			return err
		}
	}
	return nil
}

// readModule reads a module within limits.
func readModule(b []byte, l wasm.Limits) (*wasm.Module, error) {
	m, err := wasm.Read(b, l)
	if err == nil {
		return m, nil
	}
	e := new(wasm.Error)
	if !errors.As(err, &e) {
		return nil, err
	}
	reason := ReasonMalformed
	switch e.Kind {
	case wasm.Unsupported:
		reason = ReasonUnsupported
	case wasm.OverLimit:
		reason = ReasonLimit
	case wasm.Reserved:
		reason = ReasonReserved
	case wasm.Malformed, wasm.Invalid:
	}
	return nil, invalid(reason, "%s (at byte %#x)", e.Message, e.Offset)
}

// signature is the type of a function; i is i32 and I is i64.
type signature struct{ params, results string }

// exports are the functions that a module must export.
var exports = map[string]signature{
	abi.ExportMarker:    {"", ""},
	abi.ExportDescribe:  {"", "I"},
	abi.ExportArena:     {"i", "i"},
	abi.ExportConfigure: {"ii", "i"},
	abi.ExportRank:      {"i", "I"},
}

func (s signature) funcType() wasm.FuncType {
	types := func(s string) []wasm.ValType {
		t := make([]wasm.ValType, len(s))
		for i, c := range s {
			t[i] = wasm.I32
			if c == 'I' {
				t[i] = wasm.I64
			}
		}
		return t
	}
	return wasm.FuncType{Params: types(s.params), Results: types(s.results)}
}

func checkImports(m *wasm.Module) error {
	for _, i := range m.Imports {
		if i.Kind != wasm.ExternFunc {
			return invalid(ReasonImport, "an imported %s, %.80q.%.80q: define it instead", i.Kind, i.Module, i.Name)
		}
		want, ok := signature{"iii", ""}, i.Module == abi.ImportModule && i.Name == abi.ImportLog
		if !ok && i.Module == abi.ImportWASI {
			var w wasiFunc
			w, ok = wasi[i.Name]
			want = signature{w.params, w.results}
		}
		if !ok {
			return invalid(ReasonImport, "unknown import %.80s.%.80s: a strategy may import %s.%s and the functions of %s",
				i.Module, i.Name, abi.ImportModule, abi.ImportLog, abi.ImportWASI)
		}
		if t := m.FuncType(i.Index); !t.Equal(want.funcType()) {
			return invalid(ReasonImport, "import %s.%s has the type %s, not %s", i.Module, i.Name, t, want.funcType())
		}
	}
	return nil
}

func checkExports(m *wasm.Module) error {
	functions, memory := make(map[string]wasm.FuncType), false
	for _, e := range m.Exports {
		switch e.Kind {
		case wasm.ExternFunc:
			functions[e.Name] = m.FuncType(e.Index)
		case wasm.ExternMemory:
			memory = memory || e.Name == abi.ExportMemory
		case wasm.ExternTable, wasm.ExternGlobal:
		}
	}
	if !memory {
		return invalid(ReasonExport, "no memory is exported as %s", abi.ExportMemory)
	}
	if _, ok := functions[abi.ExportMarker]; !ok {
		return invalid(ReasonExport, "no function %s: not a strategy of ABI %d", abi.ExportMarker, abi.Version)
	}
	for _, name := range slices.Sorted(maps.Keys(exports)) {
		want := exports[name].funcType()
		t, ok := functions[name]
		if !ok {
			return invalid(ReasonExport, "no function %s %s is exported", name, want)
		}
		if !t.Equal(want) {
			return invalid(ReasonExport, "export %s has the type %s, not %s", name, t, want)
		}
	}
	if t, ok := functions[abi.ExportInitialize]; ok && !t.Equal(wasm.FuncType{}) {
		return invalid(ReasonExport, "export %s has the type %s, not %s", abi.ExportInitialize, t, wasm.FuncType{})
	}
	for _, name := range slices.Sorted(maps.Keys(functions)) {
		if name == "_start" {
			return invalid(ReasonExport, "export _start: this is a command; build a library (Go: -buildmode=c-shared; C: -Wl,--no-entry)")
		}
		if _, ok := exports[name]; !ok && strings.HasPrefix(name, abi.ReservedPrefix) {
			return invalid(ReasonExport, "export %s is unknown, and names that begin with %s are reserved%s",
				name, abi.ReservedPrefix, Nearest(name, slices.Sorted(maps.Keys(exports))))
		}
	}
	return nil
}

// stateful are the instructions that change what putting memory and globals back
// does not undo. No compiler that we know uses them for what strategies do.
var stateful = []wasm.Op{
	wasm.OpTableSet, wasm.OpTableGrow, wasm.OpTableFill, wasm.OpTableCopy, wasm.OpTableInit,
	wasm.OpElemDrop, wasm.OpDataDrop,
}

// checkState refuses what could carry something from one call to the next past
// the image, and code that runs before the host has given it fuel.
func checkState(m *wasm.Module) error {
	if m.Start >= 0 {
		return invalid(ReasonStart, "a start section: initialise in %s instead", abi.ExportInitialize)
	}
	for _, o := range stateful {
		if m.Uses.Has(o) {
			return invalid(ReasonState, "it uses %s: what that changes can't be put back after a call", o)
		}
	}
	for i, g := range m.Globals {
		if g.Mutable && (g.Type == wasm.V128 || g.Type == wasm.FuncRef || g.Type == wasm.ExternRef) {
			return invalid(ReasonState, "global %d is a mutable %s, which can't be put back after a call", i, g.Type)
		}
	}
	return nil
}
