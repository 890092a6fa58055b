package wasmgen

// choices turns bytes into decisions. When the bytes are used up every decision
// is 0, so 0 must always be what ends or is simplest: then a fuzzer that makes
// the input shorter makes the program simpler.
type choices struct {
	b  []byte
	at int
}

func (c *choices) done() bool { return c.at >= len(c.b) }

func (c *choices) byte() byte {
	if c.done() {
		return 0
	}
	c.at++
	return c.b[c.at-1]
}

// below returns a number from 0 to n−1, n at most 65,536.
func (c *choices) below(n int) int {
	if n <= 1 {
		return 0
	}
	v := int(c.byte())
	if n > 256 {
		v |= int(c.byte()) << 8
	}
	return v % n
}

// oneIn is true once in n times.
func (c *choices) oneIn(n int) bool { return c.below(n) == n-1 }

func (c *choices) word() (v uint64) {
	for range 8 {
		v = v<<8 | uint64(c.byte())
	}
	return v
}

// weighted returns an index into weights, which together are at most 256.
func (c *choices) weighted(weights ...int) int {
	sum := 0
	for _, w := range weights {
		sum += w
	}
	v := c.below(sum)
	for i, w := range weights {
		if v < w {
			return i
		}
		v -= w
	}
	return 0
}

// pick returns one of a list that is not empty.
func pick[T any](c *choices, list []T) T { return list[c.below(len(list))] }

// valueTypes returns up to most types.
func (g *generator) valueTypes(most int) string {
	b := make([]byte, g.in.below(most+1))
	for i := range b {
		b[i] = g.valueType()
	}
	return string(b)
}

func (g *generator) valueType() byte { return pick(&g.in, []byte("iiiIIIfFviFvIrie")) }

// bits returns the bits of a constant, often one at which something changes.
func (g *generator) bits(t byte) []uint64 {
	in := &g.in
	switch t {
	case 'i':
		switch in.weighted(4, 3, 1) {
		case 0:
			return []uint64{uint64(in.byte())}
		case 1:
			return []uint64{pick(in, []uint64{1, 2, 7, 31, 32, 0x7f, 0x80, 0xffff, 0x10000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0xffff_fffe})}
		default:
			return []uint64{in.word() & 0xffff_ffff}
		}
	case 'I':
		switch in.weighted(4, 3, 1) {
		case 0:
			return []uint64{uint64(in.byte())}
		case 1:
			return []uint64{pick(in, []uint64{1, 63, 64, 0x7f, 0x80, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 32, 1<<63 - 1, 1 << 63, 1<<64 - 1})}
		default:
			return []uint64{in.word()}
		}
	case 'f':
		if in.oneIn(4) {
			return []uint64{in.word() & 0xffff_ffff}
		}
		return []uint64{pick(in, []uint64{
			0, 0x8000_0000, 0x3f80_0000, 0xbf80_0000, 0x3f00_0000, 0x4049_0fdb, 0x7f7f_ffff, 0x0080_0000, 1, // 0, −0, 1, −1, ½, π, greatest, least normal, least
			0x7f80_0000, 0xff80_0000, 0x7fc0_0000, 0x7fa0_0000, 0xffc0_1234, 0x4f00_0000, 0x5f00_0000, // ∞, −∞, NaNs, 2³¹, 2⁶³
		})}
	case 'F':
		if in.oneIn(4) {
			return []uint64{in.word()}
		}
		return []uint64{pick(in, []uint64{
			0, 1 << 63, 0x3ff0 << 48, 0xbff0 << 48, 0x3fe0 << 48, 0x400921fb54442d18, 0x7fef_ffff_ffff_ffff, 1 << 52, 1,
			0x7ff0 << 48, 0xfff0 << 48, 0x7ff8 << 48, 0x7ff4 << 48, 0xfff8_0000_0000_1234, 0x41e0 << 48, 0x43e0 << 48,
		})}
	case 'v':
		if in.oneIn(2) {
			return []uint64{in.word(), in.word()}
		}
		b := uint64(in.byte()) * 0x0101_0101_0101_0101
		return []uint64{b, ^b}
	default:
		return nil
	}
}

// constant returns an instruction that makes a value of a type, a reference being
// null.
func (g *generator) constant(t byte) Instr { return constant(t, g.bits(t)...) }

func constant(t byte, bits ...uint64) Instr {
	switch t {
	case 'i':
		return Instr{Op: opI32Const, Imm: bits}
	case 'I':
		return Instr{Op: opI64Const, Imm: bits}
	case 'f':
		return Instr{Op: opF32Const, Imm: bits}
	case 'F':
		return Instr{Op: opF64Const, Imm: bits}
	case 'v':
		return Instr{Op: opV128Const, Imm: bits}
	default:
		return Instr{Op: opRefNull, Type: string(t)}
	}
}
