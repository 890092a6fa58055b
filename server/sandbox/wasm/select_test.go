package wasm_test

import (
	"context"
	"encoding/hex"
	"testing"

	"github.com/tetratelabs/wazero/api"

	"rapport/server/sandbox/wasm"
)

// Each of these modules puts two numbers into order with two selects that share their
// condition and their operands, which a call in between has driven out of the registers,
// and returns ten times the lesser and the greater. This is the one of doubles:
//
//	(func (export "t") (param f64 f64) (result f64) (local $p i32) (local $c i32) (local $a f64) (local $b f64)
//	 (f64.store (i32.const 0) (local.get 0))
//	 (f64.store (i32.const 8) (local.get 1))
//	 (local.set $a (f64.load (local.get $p)))
//	 (local.set $b (f64.load offset=8 (local.get $p)))
//	 (f64.store (local.get $p)
//	  (select (local.get $b) (local.get $a)
//	   (local.tee $c (i32.gt_s (call $gt (local.get $a) (local.get $b)) (i32.const 0)))))
//	 (f64.store offset=8 (local.get $p) (select (local.get $a) (local.get $b) (local.get $c)))
//	 (f64.add (f64.mul (f64.const 10) (f64.load (i32.const 0))) (f64.load (i32.const 8))))
//
// wazero 1.12.0 compiled it to what took whatever was in a register for the lesser.
func TestSelectsOfFloatsAndVectors(t *testing.T) {
	for name, module := range map[string]string{
		"f64": "0061736d01000000010d0260027c7c017f60027c7c017c03030200010503010001070501017400010a62020700200020" +
			"01640b5802027f027c410020003903004108200139030020022b0300210420022b030821052002200520042004200510" +
			"0041004a22031b39030020022004200520031b39030844000000000000244041002b0300a241082b0300a00b",
		"f32": "0061736d01000000010d0260027d7d017f60027c7c017c03030200010503010001070501017400010a61020700200020" +
			"015e0b5702027f027d41002000b638020041082001b638020020022a0200210420022a02082105200220052004200420" +
			"05100041004a22031b38020020022004200520031b380208430000204141002a02009441082a020092bb0b",
		"v128": "0061736d01000000010d0260027b7b017f60027c7c017c03030200010503010001070501017400010a72020d002000fd" +
			"21012001fd2100640b6202027f027b41002000fd14fd0b040041102001fd14fd0b04002002fd00040021042002fd0004" +
			"10210520022005200420042005100041004a22031bfd0b040020022004200520031bfd0b041044000000000000244041" +
			"002b0308a241102b0300a00b",
	} {
		b, err := hex.DecodeString(module)
		if err != nil {
			t.Fatal(err)
		}
		m, err := wasm.Read(b, wasm.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		metered, err := m.Meter(wasm.MeterOptions{InitialFuel: 1 << 40, InitialStack: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range engines() {
			ctx := context.Background()
			plain := results(t, e, b)
			if got := results(t, e, metered.Wasm); got != [2]float64{12, 12} {
				t.Errorf("%s, %s: %v, want 12 for 1, 2 and for 2, 1", name, e.name, got)
			}
			t.Logf("%s, %s: %v as it was written", name, e.name, plain)
			if err := e.runtime.Close(ctx); err != nil {
				t.Error(err)
			}
		}
	}
}

// results calls t(1, 2) and t(2, 1) of a module.
func results(t *testing.T, e engine, b []byte) (out [2]float64) {
	t.Helper()
	ctx := context.Background()
	m, err := e.runtime.Instantiate(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range [][2]float64{{1, 2}, {2, 1}} {
		r, err := m.ExportedFunction("t").Call(ctx, api.EncodeF64(p[0]), api.EncodeF64(p[1]))
		if err != nil {
			t.Fatal(err)
		}
		out[i] = api.DecodeF64(r[0])
	}
	if err := m.Close(ctx); err != nil {
		t.Fatal(err)
	}
	return out
}
