package hostile

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"rapport/server/sandbox"
	"rapport/server/sandbox/wasm/wasmgen"
)

// bombs are modules that cost much more than their size to read, to compile or to
// keep. None of them has to be a strategy: they are refused before that is looked
// at.
func bombs() []Attack {
	raw := func(sections ...[]byte) func() ([]byte, error) {
		return func() ([]byte, error) {
			return slices.Concat(append([][]byte{[]byte("\x00asm\x01\x00\x00\x00")}, sections...)...), nil
		}
	}
	// One type, one function.
	head := slices.Concat(section(1, []byte{1, 0x60, 0, 0}), section(3, []byte{1, 0}))
	limit := func(name string, build func() ([]byte, error)) Attack { return bare(name, sandbox.ReasonLimit, build) }
	locals := func(groups ...uint64) []byte {
		b := binary.AppendUvarint(nil, uint64(len(groups)))
		for _, n := range groups {
			b = append(binary.AppendUvarint(b, n), 0x7f)
		}
		return append(b, 0x0b)
	}
	code := func(bodies ...[]byte) []byte {
		b := binary.AppendUvarint(nil, uint64(len(bodies)))
		for _, body := range bodies {
			b = append(binary.AppendUvarint(b, uint64(len(body))), body...)
		}
		return section(10, b)
	}
	many := func(n int, item ...byte) []byte {
		return append(binary.AppendUvarint(nil, uint64(n)), slices.Repeat(item, n)...)
	}
	return []Attack{
		limit("20 million locals", raw(head, code(locals(20_000_000)))),
		limit("20 million locals in groups", raw(head, code(locals(slices.Repeat([]uint64{4000}, 5000)...)))),
		limit("4 billion locals twice", raw(head, code(locals(1<<32-1, 1<<32-1)))),
		limit("20 million locals in functions", raw(section(1, []byte{1, 0x60, 0, 0}), section(3, many(5000, 0)), code(slices.Repeat([][]byte{locals(4097)}, 5000)...))),
		limit("a function of 10 MB", raw(head, code(slices.Concat([]byte{0}, []byte(strings.Repeat("\x41\x00\x1a", 10<<20/3)), []byte{0x0b})))),
		limit("memory of 4 GB", strategy{pages: 65536}.encode),
		limit("memory of one page too many", strategy{pages: 513}.encode),
		limit("table of 10 million", edited(func(m *wasmgen.Module) { m.Tables = []wasmgen.Table{{Type: 'r', Min: 10_000_000}} }).encode),
		limit("tables that are too large together", edited(func(m *wasmgen.Module) { m.Tables = slices.Repeat([]wasmgen.Table{{Type: 'e', Min: 10_000}}, 10) }).encode),
		limit("a hundred tables", edited(func(m *wasmgen.Module) { m.Tables = slices.Repeat([]wasmgen.Table{{Type: 'r'}}, 100) }).encode),
		limit("br_table of 200 KB", strategy{before: "block local.get 1 br_table " + repeat(200_000, "0") + "end"}.encode),
		limit("many br_table", strategy{before: repeat(20, "block local.get 1 br_table "+repeat(1000, "0")+"end")}.encode),
		limit("blocks nested 5,000 deep", strategy{before: repeat(5000, "block") + repeat(5000, "end")}.encode),
		limit("data segments without end", raw(section(11, many(200_000, 1, 0)))),
		limit("a hundred thousand functions", raw(section(1, []byte{1, 0x60, 0, 0}), section(3, many(100_000, 0)), section(10, many(100_000, 2, 0, 0x0b)))),
		limit("a hundred thousand types", raw(section(1, many(100_000, 0x60, 0, 0)))),
		limit("a function of 1,000 parameters", raw(section(1, slices.Concat([]byte{1, 0x60}, many(1000, 0x7f), []byte{0})))),
		limit("a function of 1,000 results", raw(section(1, slices.Concat([]byte{1, 0x60, 0}, many(1000, 0x7f))))),
		limit("a hundred thousand globals", raw(section(6, many(100_000, 0x7f, 1, 0x41, 0, 0x0b)))),
		limit("a hundred thousand imports", raw(head[:6], section(2, many(100_000, 1, 'a', 1, 'b', 0, 0)))),
		limit("a hundred thousand exports", edited(func(m *wasmgen.Module) {
			for i := range 100_000 {
				m.Exports = append(m.Exports, wasmgen.Export{Name: fmt.Sprint(i)})
			}
		}).encode),
		limit("a name of 1 MB", edited(func(m *wasmgen.Module) {
			m.Exports = append(m.Exports, wasmgen.Export{Name: strings.Repeat("x", 1<<20)})
		}).encode),
		limit("a million elements", edited(func(m *wasmgen.Module) {
			m.Elems = []wasmgen.Elem{{Mode: wasmgen.Passive, Type: 'r', Indices: true, Items: slices.Repeat([]wasmgen.Instr{{Op: 0xd2, Imm: []uint64{0}}}, 1_000_000)}}
		}).encode),
		bare("sections that promise 4 billion", sandbox.ReasonLimit, raw(section(1, []byte{0xff, 0xff, 0xff, 0xff, 0x0f}))),
		bare("data of 20 MB", sandbox.ReasonTooLarge, edited(func(m *wasmgen.Module) {
			m.Data = append(m.Data, wasmgen.Data{Mode: wasmgen.Passive, Bytes: make([]byte, 20<<20)})
		}).encode),
		refused("data past the end of the memory", sandbox.ReasonInit, edited(func(m *wasmgen.Module) {
			m.Data = append(m.Data, wasmgen.Data{Offset: wasmgen.Instr{Op: opConst, Imm: []uint64{memoryEnd - 1}}, Bytes: []byte("ab")})
		})),
		refused("data at the end of all memory", sandbox.ReasonInit, edited(func(m *wasmgen.Module) {
			m.Data = append(m.Data, wasmgen.Data{Offset: wasmgen.Instr{Op: opConst, Imm: []uint64{1<<64 - 1}}, Bytes: []byte("ab")})
		})),
	}
}

func section(id byte, content []byte) []byte {
	return append(binary.AppendUvarint([]byte{id}, uint64(len(content))), content...)
}
