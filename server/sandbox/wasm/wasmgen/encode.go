package wasmgen

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// Encode returns the module's binary. Its error says which part can't be written:
// an unknown instruction or type, or too few immediates.
func (m *Module) Encode() ([]byte, error) {
	e := encoder{long: m.LongForm, types: slices.Clone(m.Types)}
	// The bodies first: they may add types.
	code := e.code(m.Funcs)
	sections := [][]byte{
		2: e.imports(m.Imports), 3: e.funcs(m.Funcs), 4: e.tables(m.Tables), 5: e.memory(m.Memory),
		6: e.globals(m.Globals), 7: e.exports(m.Exports), 9: e.elems(m.Elems), 10: code, 11: e.data(m.Data), 12: nil,
	}
	if m.Start != nil {
		sections[8] = e.number(nil, uint64(*m.Start))
	}
	if m.DataCount {
		sections[12] = e.number(nil, uint64(len(m.Data)))
	}
	sections[1] = e.typeSection()
	b := []byte("\x00asm\x01\x00\x00\x00")
	for _, id := range []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11, 0} {
		for _, c := range m.Customs {
			if c.Before == id {
				b = append(b, 0)
				b = e.sized(b, append(e.sized(nil, []byte(c.Name)), c.Content...))
			}
		}
		if id != 0 && len(sections[id]) > 0 {
			b = append(b, id)
			b = e.sized(b, sections[id])
		}
	}
	return b, e.err
}

// encoder holds the types that were met, and the first error.
type encoder struct {
	long  bool
	types []string
	err   error
}

func (e *encoder) fail(format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf("wasmgen: "+format, args...)
	}
}

// number appends an unsigned number.
func (e *encoder) number(b []byte, v uint64) []byte {
	if !e.long || v > 1<<28 {
		return binary.AppendUvarint(b, v)
	}
	return append(b, byte(v)|0x80, byte(v>>7)|0x80, byte(v>>14)|0x80, byte(v>>21)|0x80, byte(v>>28))
}

func signed(b []byte, v int64) []byte {
	for {
		low := byte(v & 0x7f)
		v >>= 7
		if v == 0 && low&0x40 == 0 || v == -1 && low&0x40 != 0 {
			return append(b, low)
		}
		b = append(b, low|0x80)
	}
}

// sized appends content behind its length.
func (e *encoder) sized(b, content []byte) []byte {
	return append(e.number(b, uint64(len(content))), content...)
}

func vector[T any](e *encoder, items []T, write func([]byte, T) []byte) []byte {
	if len(items) == 0 {
		return nil
	}
	b := e.number(nil, uint64(len(items)))
	for _, item := range items {
		b = write(b, item)
	}
	return b
}

// valueType returns the byte of a letter.
func (e *encoder) valueType(letter byte) byte {
	at := strings.IndexByte("iIfFvre", letter)
	if at < 0 {
		e.fail("unknown type %q", letter)
		return 0
	}
	return []byte{0x7f, 0x7e, 0x7d, 0x7c, 0x7b, 0x70, 0x6f}[at]
}

func (e *encoder) valueTypes(b []byte, letters string) []byte {
	b = e.number(b, uint64(len(letters)))
	for _, l := range []byte(letters) {
		b = append(b, e.valueType(l))
	}
	return b
}

// funcType returns the index of a function type.
func (e *encoder) funcType(t string) uint64 {
	at := slices.Index(e.types, t)
	if at < 0 {
		at = len(e.types)
		e.types = append(e.types, t)
	}
	return uint64(at)
}

func (e *encoder) typeSection() []byte {
	return vector(e, e.types, func(b []byte, t string) []byte {
		params, results, ok := strings.Cut(t, ":")
		if !ok {
			e.fail("the type %q has no colon", t)
		}
		return e.valueTypes(e.valueTypes(append(b, 0x60), params), results)
	})
}

func (e *encoder) limits(b []byte, least, most uint32, hasMost bool) []byte {
	if !hasMost {
		return e.number(append(b, 0), uint64(least))
	}
	return e.number(e.number(append(b, 1), uint64(least)), uint64(most))
}

func (e *encoder) tableType(b []byte, t Table) []byte {
	return e.limits(append(b, e.valueType(t.Type)), t.Min, t.Max, t.HasMax)
}

func (e *encoder) globalType(b []byte, g Global) []byte {
	mutable := byte(0)
	if g.Mutable {
		mutable = 1
	}
	return append(b, e.valueType(g.Type), mutable)
}

func (e *encoder) imports(imports []Import) []byte {
	return vector(e, imports, func(b []byte, i Import) []byte {
		b = append(e.sized(e.sized(b, []byte(i.Module)), []byte(i.Name)), byte(i.Kind))
		switch i.Kind {
		case KindFunc:
			return e.number(b, e.funcType(i.Func))
		case KindTable:
			return e.tableType(b, i.Table)
		case KindMemory:
			return e.limits(b, i.Memory.Min, i.Memory.Max, i.Memory.HasMax)
		default:
			return e.globalType(b, i.Global)
		}
	})
}

func (e *encoder) funcs(funcs []Func) []byte {
	return vector(e, funcs, func(b []byte, f Func) []byte { return e.number(b, e.funcType(f.Type)) })
}

func (e *encoder) tables(tables []Table) []byte { return vector(e, tables, e.tableType) }

func (e *encoder) memory(m *Memory) []byte {
	if m == nil {
		return nil
	}
	return e.limits([]byte{1}, m.Min, m.Max, m.HasMax)
}

func (e *encoder) globals(globals []Global) []byte {
	return vector(e, globals, func(b []byte, g Global) []byte { return e.constant(e.globalType(b, g), g.Init) })
}

// constant appends an expression of one instruction.
func (e *encoder) constant(b []byte, i Instr) []byte { return append(e.instr(b, i), 0x0b) }

func (e *encoder) exports(exports []Export) []byte {
	return vector(e, exports, func(b []byte, x Export) []byte {
		return e.number(append(e.sized(b, []byte(x.Name)), byte(x.Kind)), uint64(x.Index))
	})
}

func (e *encoder) elems(elems []Elem) []byte {
	return vector(e, elems, func(b []byte, s Elem) []byte {
		// The flags: not active, has a table or is declared, has expressions.
		flags := map[Mode]uint64{Active: 0, Passive: 1, Declared: 3}[s.Mode]
		short := s.Mode == Active && s.Table == 0 && s.Type == 'r'
		if s.Mode == Active && !short {
			flags = 2
		}
		if !s.Indices {
			flags |= 4
		}
		b = e.number(b, flags)
		if s.Mode == Active {
			if !short {
				b = e.number(b, uint64(s.Table))
			}
			b = e.constant(b, s.Offset)
		}
		switch {
		case short:
		case s.Indices:
			b = append(b, 0) // functions
		default:
			b = append(b, e.valueType(s.Type))
		}
		b = e.number(b, uint64(len(s.Items)))
		for _, i := range s.Items {
			if !s.Indices {
				b = e.constant(b, i)
			} else if b = e.number(b, i.imm(0)); i.Op != opRefFunc {
				e.fail("%s in an element segment of indices", i.Op)
			}
		}
		return b
	})
}

func (e *encoder) data(data []Data) []byte {
	return vector(e, data, func(b []byte, d Data) []byte {
		if d.Mode == Active {
			b = e.constant(append(b, 0), d.Offset)
		} else {
			b = append(b, 1)
		}
		return e.sized(b, d.Bytes)
	})
}

func (e *encoder) code(funcs []Func) []byte {
	return vector(e, funcs, func(b []byte, f Func) []byte {
		type run struct {
			n int
			t byte
		}
		var runs []run
		for _, t := range []byte(f.Locals) {
			if last := len(runs) - 1; last >= 0 && runs[last].t == t {
				runs[last].n++
				continue
			}
			runs = append(runs, run{1, t})
		}
		body := e.number(nil, uint64(len(runs)))
		for _, r := range runs {
			body = append(e.number(body, uint64(r.n)), e.valueType(r.t))
		}
		for _, i := range f.Body {
			body = e.instr(body, i)
		}
		return e.sized(b, append(body, 0x0b))
	})
}
