package wasm_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"rapport/server/sandbox/probe"
	"rapport/server/sandbox/wasm"
	"rapport/server/sandbox/wasm/wasmgen"
)

// The opcodes that the programs of nest have.
const (
	opLoop     wasm.Op = 0x03
	opIf       wasm.Op = 0x04
	opBrIf     wasm.Op = 0x0d
	opLocalSet wasm.Op = 0x21
	opI32Const wasm.Op = 0x41
)

// nest writes a program of nested blocks at random, each of which two paths leave,
// and says what it costs by the definition: where a block ends, each local that is
// written anywhere in it is moved.
type nest struct {
	random *rand.Rand
	locals int
	code   strings.Builder
	fuel   int64
	joins  int
	priced int // of them
}

// block writes some items, and returns which locals they write. Code that does not
// run costs nothing.
func (n *nest) block(depth int, runs bool) map[int]bool {
	written := make(map[int]bool)
	for range 1 + n.random.IntN(6) {
		kind := n.random.IntN(4)
		if depth == 0 {
			kind = 0
		}
		var inside map[int]bool
		switch kind {
		case 0:
			for range 1 + n.random.IntN(20) {
				local := n.random.IntN(n.locals)
				written[local] = true
				fmt.Fprintf(&n.code, "i32.const 1 local.set %d ", local)
				n.pay(runs, opI32Const, opLocalSet)
			}
			continue
		case 1:
			n.code.WriteString("block ")
			inside = n.block(depth-1, runs)
			n.code.WriteString("i32.const 0 br_if 0 end ")
			n.pay(runs, opI32Const, opBrIf)
		case 2:
			n.code.WriteString("loop ")
			inside = n.block(depth-1, runs)
			n.code.WriteString("i32.const 0 br_if 0 end ")
			n.pay(runs, opLoop, opI32Const, opBrIf)
		case 3:
			taken := n.random.IntN(2)
			fmt.Fprintf(&n.code, "i32.const %d if ", taken)
			n.pay(runs, opI32Const, opIf)
			inside = n.block(depth-1, runs && taken == 1)
			if n.random.IntN(2) == 0 {
				n.code.WriteString("else ")
				for local := range n.block(depth-1, runs && taken == 0) {
					inside[local] = true
				}
			}
			n.code.WriteString("end ")
		}
		for local := range inside {
			written[local] = true
		}
		if price := int64(max(0, len(inside)-wasm.FreeMoves)) / wasm.PriceMoves; runs {
			n.fuel += price
			n.joins++
			n.priced += int(min(price, 1))
		}
	}
	return written
}

func (n *nest) pay(runs bool, list ...wasm.Op) {
	for _, o := range list {
		if runs {
			n.fuel += int64(wasm.Price(o))
		}
	}
}

// Where paths meet, what is moved is charged for.
func TestMovesArePaid(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 1))
	joins, priced := 0, 0
	for i := range 30 {
		n := &nest{random: random, locals: 1 + random.IntN(120)}
		n.block(1+random.IntN(4), true)
		n.fuel += 1 + int64(n.locals)/wasm.PriceLocals
		text := n.code.String()
		if got := fuelOf(t, wasmgen.Func{Type: "i:", Locals: strings.Repeat("i", n.locals-1), Body: parse(t, text)}); got != n.fuel {
			t.Fatalf("program %d: %d units, want %d: %s", i, got, n.fuel, text)
		}
		joins, priced = joins+n.joins, priced+n.priced
	}
	t.Logf("%d times paths met, %d with a price", joins, priced)
	if priced == 0 || priced == joins {
		t.Error("this shows nothing")
	}

	// So are the parameters and results of blocks and calls, these twice.
	many := strings.Repeat("I", 200)
	push, drop := strings.Repeat("i64.const 1 ", 200), strings.Repeat("drop ", 200)
	moved, pushed := int64(200-wasm.FreeMoves)/wasm.PriceMoves, 200*int64(wasm.Price(0x42))
	for name, c := range map[string]struct {
		code string
		want int64
	}{
		"if":    {"i32.const 1 if :" + many + " " + push + "else " + push + "end " + drop, pushed + moved + 2},
		"block": {"block :" + many + " " + push + "i32.const 0 br_if 0 end " + drop, pushed + moved + 2},
		"loop":  {push + "loop " + many + ": i32.const 0 br_if 0 " + drop + "end", pushed + moved + 3},
		// What no branch goes to is moved by nobody.
		"block without a branch": {"block :" + many + " " + push + "end " + drop, pushed},
		"loop without a branch":  {push + "loop " + many + ": " + drop + "end", pushed + 1},
		"vectors": {
			"i32.const 1 if :vvvvvvvv " + strings.Repeat("v128.const 1 1 ", 8) + "else unreachable end " + strings.Repeat("drop ", 8),
			2 + 8 + (16-wasm.FreeMoves)/wasm.PriceMoves,
		},
	} {
		if got := fuelOf(t, wasmgen.Func{Type: "i:", Body: parse(t, c.code)}); got != c.want+1 {
			t.Errorf("%s: %d units, want %d", name, got, c.want+1)
		}
	}
	callee := wasmgen.Func{Type: many + ":" + many, Body: parse(t, push)}
	got := fuelOf(t, wasmgen.Func{Type: "i:", Body: parse(t, push+"call 1 "+drop)}, callee)
	if want := 1 + pushed + int64(wasm.Price(0x10)) + (3*200-wasm.FreeMoves)/wasm.PriceMoves + 1 + 200/wasm.PriceLocals + pushed; got != want {
		t.Errorf("a call: %d units, want %d", got, want)
	}
}

func parse(t *testing.T, text string) []wasmgen.Instr {
	t.Helper()
	code, err := wasmgen.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// fuelOf returns what a call of the first function uses, every block charged for
// by itself.
func fuelOf(t *testing.T, funcs ...wasmgen.Func) int64 {
	t.Helper()
	ctx := context.Background()
	m := wasmgen.Module{Funcs: funcs, Exports: []wasmgen.Export{{Name: "run"}}}
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	p, err := probe.New(ctx, b, probe.Exact)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	if _, err := p.Call(ctx, p.Function("run"), 0); err != nil {
		t.Fatal(err)
	}
	return p.Fuel()
}
