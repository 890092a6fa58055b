package bench

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"rapport/server/sandbox/probe"
	"rapport/server/sandbox/wasm/wasmgen"
)

// PriceFigures say what an instruction takes for what it is charged, in the worst
// way that was found to use it.
type PriceFigures struct {
	Instruction string
	Use         string  // on which operands, and how
	UnitNanos   float64 // of the loop that does nothing else
	Nanos       float64 // of one, with what brings its operands
	Units       float64
}

// operands are two values of each type, of which the second keeps the first as it
// is, more or less, in what is done to it again and again.
type operands struct {
	name string
	i    [2]uint32
	I    [2]uint64
	f    [2]float32
	F    [2]float64
}

var operandSets = []operands{
	{"usual", [2]uint32{0xfffffff9, 3}, [2]uint64{math.MaxUint64 - 700, 3}, [2]float32{1.37, 1.0000001}, [2]float64{1.37, 1.0000001}},
	{"large", [2]uint32{1<<31 - 1, 1}, [2]uint64{1<<63 - 1, 1}, [2]float32{1e30, 1.0000001}, [2]float64{1e300, 1.0000001}},
	{"denormal", [2]uint32{1 << 22, 1 << 21}, [2]uint64{1 << 51, 1 << 50}, [2]float32{1e-40, 0.999}, [2]float64{1e-310, 0.999}},
	{"NaN", [2]uint32{0x7fc00001, 1}, [2]uint64{0x7ff8000000000001, 1}, [2]float32{float32(math.NaN()), 1}, [2]float64{math.NaN(), 1}},
}

const (
	priceRounds = 200 // times round the loop
	priceCopies = 64  // of the instruction in it
	priceTypes  = "iIfFv"
	priceSlot   = 16  // bytes of an operand in memory
	priceAt     = 128 // where they begin
)

// adding returns the instruction that puts two values of a type together.
var adding = map[byte]string{'i': "i32.xor", 'I': "i64.xor", 'f': "f32.add", 'F': "f64.add", 'v': "v128.xor"}

var (
	loading = map[byte]string{'i': "i32.load", 'I': "i64.load", 'f': "f32.load", 'F': "f64.load", 'v': "v128.load"}
	storing = map[byte]string{'i': "i32.store", 'I': "i64.store", 'f': "f32.store", 'F': "f64.store", 'v': "v128.store"}
)

// MeasurePrices measures instructions that compute something of their operands
// alone, each in chains, where one waits for the last, and in sums.
func MeasurePrices(ctx context.Context, only func(name string) bool) ([]PriceFigures, error) {
	var list []PriceFigures
	for _, o := range wasmgen.Ops() {
		in, out, _ := strings.Cut(o.Type, ":")
		if in == "" || len(out) != 1 || strings.Contains(o.Class, "load") || o.Class == "memory" || only != nil && !only(o.Name) {
			continue
		}
		name := o.Name
		switch {
		case strings.Contains(name, "lane"):
			name += " 0"
		case strings.Contains(name, "shuffle"):
			name += " 0x0706050403020100 0x1f1e1d1c1b1a1918"
		}
		worst := PriceFigures{Instruction: o.Name}
		for _, set := range operandSets {
			var others strings.Builder
			for _, t := range []byte(in[1:]) {
				fmt.Fprintf(&others, "local.get %d ", 2+2*strings.IndexByte(priceTypes, t))
			}
			first := fmt.Sprintf("local.get %d ", 1+2*strings.IndexByte(priceTypes, in[0]))
			uses := map[string]string{"summed": first + others.String() + name + " " + adding[out[0]] + " "}
			if out == in[:1] {
				uses["chained"] = others.String() + name + " "
			}
			for use, step := range uses {
				f, err := measurePrice(ctx, step, out[0], set)
				if err != nil {
					return nil, fmt.Errorf("bench: %s: %w", o.Name, err)
				}
				if f.UnitNanos > worst.UnitNanos {
					f.Instruction, f.Use = o.Name, use+", "+set.name
					worst = f
				}
			}
		}
		list = append(list, worst)
	}
	slices.SortStableFunc(list, func(a, b PriceFigures) int { return cmp.Compare(b.UnitNanos, a.UnitNanos) })
	return list, nil
}

// measurePrice measures a loop of copies of code that takes a value of a type and
// leaves one. Conversions of what does not fit trap: there is nothing to measure.
func measurePrice(ctx context.Context, step string, t byte, set operands) (_ PriceFigures, err error) {
	b, err := priceModule(step, t, set)
	if err != nil {
		return PriceFigures{}, err
	}
	p, err := probe.New(ctx, b, probe.Metered)
	if err != nil {
		return PriceFigures{}, err
	}
	defer func() { err = errors.Join(err, p.Close(ctx)) }()
	f, fuel, best := p.Function("run"), int64(0), time.Duration(math.MaxInt64)
	for range 5 {
		before, begin := p.Fuel(), time.Now()
		if _, err := p.Call(ctx, f, priceRounds); err != nil {
			return PriceFigures{}, nil
		}
		best, fuel = min(best, time.Since(begin)), p.Fuel()-before
	}
	const n = priceRounds * priceCopies
	return PriceFigures{UnitNanos: float64(best) / float64(fuel), Nanos: float64(best) / n, Units: float64(fuel) / n}, nil
}

func priceModule(step string, t byte, set operands) ([]byte, error) {
	var data []byte
	var text strings.Builder
	for k, t := range []byte(priceTypes) {
		for which := range 2 {
			fmt.Fprintf(&text, "i32.const %d %s local.set %d ", priceAt+(2*k+which)*priceSlot, loading[t], 1+2*k+which)
			var b []byte
			switch t {
			case 'i':
				b = binary.LittleEndian.AppendUint32(nil, set.i[which])
			case 'I':
				b = binary.LittleEndian.AppendUint64(nil, set.I[which])
			case 'f':
				b = binary.LittleEndian.AppendUint32(nil, math.Float32bits(set.f[which]))
			case 'F':
				b = binary.LittleEndian.AppendUint64(nil, math.Float64bits(set.F[which]))
			case 'v': // for f64x2 in the low half, for f32x4 in the high one
				b = binary.LittleEndian.AppendUint64(nil, math.Float64bits(set.F[which]))
				b = binary.LittleEndian.AppendUint64(b, uint64(math.Float32bits(set.f[which]))*(1<<32+1))
			}
			data = append(data, append(b, make([]byte, priceSlot-len(b))...)...)
		}
	}
	first := 1 + 2*strings.IndexByte(priceTypes, t)
	fmt.Fprintf(&text, "loop i32.const 0 local.get %d %s %s local.get 0 i32.const 1 i32.sub local.tee 0 br_if 0 end",
		first, strings.Repeat(step, priceCopies), storing[t])
	code, err := wasmgen.Parse(text.String())
	if err != nil {
		return nil, err
	}
	m := wasmgen.Module{
		Funcs:   []wasmgen.Func{{Type: "i:", Locals: "iiIIffFFvv", Body: code}},
		Memory:  &wasmgen.Memory{Min: 1},
		Exports: []wasmgen.Export{{Name: "run"}},
		Data:    []wasmgen.Data{{Offset: wasmgen.Instr{Op: 0x41, Imm: []uint64{priceAt}}, Bytes: data}},
	}
	return m.Encode()
}

// WritePrices prints measurements as a table for people.
func WritePrices(w io.Writer, list []PriceFigures) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, err := fmt.Fprintln(t, "instruction\tns a unit\tns\tunits\tuse")
	for _, f := range list {
		_, e := fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%.1f\t%s\n", f.Instruction, f.UnitNanos, f.Nanos, f.Units, f.Use)
		err = errors.Join(err, e)
	}
	return errors.Join(err, t.Flush())
}
