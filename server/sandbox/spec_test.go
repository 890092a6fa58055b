package sandbox_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"rapport/sdk/abi"
	"rapport/server/sandbox"
	"rapport/server/sandbox/wasm"
)

// What ABI.md says of limits, fuel and faults is what the sandbox does.
func TestSpecificationIsTrue(t *testing.T) {
	b, err := os.ReadFile("../../sdk/ABI.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	has := func(format string, args ...any) {
		t.Helper()
		if line := fmt.Sprintf(format, args...); !strings.Contains(text, line) {
			t.Errorf("ABI.md does not have %q", line)
		}
	}
	l := wasm.DefaultLimits()
	if l.ModuleBytes != sandbox.MaxModuleSize || l.MemoryPages != sandbox.DefaultMemoryPages {
		t.Errorf("limits of the reader %d and %d are not those of the sandbox", l.ModuleBytes, l.MemoryPages)
	}
	for what, most := range map[string]int{
		"bytes of the module": l.ModuleBytes, "types": l.Types, "parameters of a function type": l.Params,
		"results of a function type": l.Results, "imports": l.Imports, "functions": l.Functions, "exports": l.Exports,
		"globals": l.Globals, "tables": l.Tables, "entries of all tables together, at first": int(l.TableEntries),
		"element segments": l.Elements, "items of all element segments together": l.ElementItems, "data segments": l.DataSegments,
		"pages of memory, of 64 KiB, at first": int(l.MemoryPages), "bytes of a function's body": l.BodyBytes,
		"locals of a function, with its parameters": l.Locals, "blocks nested in a function": l.Nesting,
		"labels of all `br_table` of a function together": l.BranchLabels, "bytes of a name of an import, export or custom section": l.NameBytes,
	} {
		has("| %s | %s |", what, thousands(most))
	}
	for _, kind := range sandbox.Kinds() {
		has("| `%s` | ", kind)
	}
	fuel := abi.DefaultFuel()
	has("%s and %s for each candidate, unless the server is configured otherwise", thousands(int(fuel.Base)), thousands(int(fuel.PerCandidate)))
	has("20, and 1 for each %d bytes |", wasm.PriceBytes)
	has("20, and %s for each page |", thousands(wasm.PricePage))
	has("1 for each %d of its locals |", wasm.PriceLocals)
	has("beyond %d of them | 1 for each %d |", wasm.FreeMoves, wasm.PriceMoves)
	has("| loads and stores | %d |", wasm.PriceMemory)
	has("%s bytes for each text field that is declared", thousands(sandbox.TextRoom))
	has("names that begin with `%s`", wasm.ReservedPrefix)
	for price, ops := range map[uint32][]wasm.Op{
		1: {0x20, 0x6a, 0xa0}, 0: {0x01, 0x02, 0x05, 0x0b, 0x1a, 0x00}, 2: {0x0e, 0x8d, 0x9e, 0x200 + 204, 0x200 + 245}, 8: {0x95, 0xa3, 0x9f, 0x200 + 227}, 3: {0x10, 0x28, 0x3e, 0x200, 0x25d, 0xa8, 0xb1, 0x100, 0x107},
		6: {0x11}, 10: {0x6d, 0x82, 0x25}, 4: {0x94, 0xa2, 0x200 + 242}, 20: {wasm.OpDataDrop},
	} {
		for _, o := range ops {
			if got := wasm.Price(o); got != price {
				t.Errorf("%s costs %d; ABI.md says %d", o, got, price)
			}
		}
	}
}

// thousands writes a number with commas.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
