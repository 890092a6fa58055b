package wasm

import (
	"fmt"
	"unicode/utf8"
)

// reader reads a part of a binary. The first error stays and ends everything:
// after it, nothing is left to read and every read returns zero, so that loops
// over what is left end.
type reader struct {
	b      []byte
	at     int
	end    int
	limits *Limits
	err    *Error
}

// fail keeps the first error, at the place that was reached.
func (r *reader) fail(kind Kind, format string, args ...any) {
	r.failAt(r.at, kind, format, args...)
}

func (r *reader) failAt(at int, kind Kind, format string, args ...any) {
	if r.err == nil {
		r.err = &Error{Kind: kind, Offset: at, Message: fmt.Sprintf(format, args...)}
	}
	r.at = r.end
}

// more reports whether there is something left to read.
func (r *reader) more() bool { return r.err == nil && r.at < r.end }

func (r *reader) byte() byte {
	if r.at >= r.end {
		r.fail(Malformed, "it ends too early")
		return 0
	}
	c := r.b[r.at]
	r.at++
	return c
}

// u32 reads an unsigned LEB128 number of at most 32 bits.
func (r *reader) u32() uint32 {
	if r.at < r.end && r.b[r.at] < 0x80 {
		r.at++
		return uint32(r.b[r.at-1])
	}
	return uint32(r.unsignedSlow(32))
}

// opcode reads a number that belongs to the name of an instruction, and refuses one
// that is spelt in more bytes than it needs. The specification allows that, but
// wazero takes only one byte of the number behind the prefix of SIMD. So `fd 8c 00`
// and the 16 bytes behind it, a constant to us, would be a shift to wazero, and the
// constant code, which was not metered and may name the counters.
func (r *reader) opcode() uint32 {
	at := r.at
	n := r.u32()
	if r.err == nil && r.at-at > 1 && r.b[r.at-1] == 0 {
		r.failAt(at, Unsupported, "the number of an instruction is spelt in more bytes than it needs")
	}
	return n
}

func (r *reader) unsignedSlow(bits int) (v uint64) {
	at := r.at
	for shift := 0; ; shift += 7 {
		c := r.byte()
		if r.err != nil {
			return 0
		}
		left := bits - shift
		if left < 7 && c&0x7f>>left != 0 || left <= 7 && c >= 0x80 {
			r.failAt(at, Malformed, "a number of more than %d bits, or spelt in too many bytes", bits)
			return 0
		}
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v
		}
	}
}

// signed reads a signed LEB128 number of at most that many bits.
func (r *reader) signed(bits int) (v int64) {
	at := r.at
	for shift := 0; ; shift += 7 {
		c := r.byte()
		if r.err != nil {
			return 0
		}
		left := bits - shift
		if left <= 7 {
			// The bits beyond must repeat the sign, and no byte may follow.
			beyond := int8(c<<1) >> left // all of them and the sign, at the bottom
			if c >= 0x80 || beyond != 0 && beyond != -1 {
				r.failAt(at, Malformed, "a number of more than %d bits, or spelt in too many bytes", bits)
				return 0
			}
		}
		v |= int64(c&0x7f) << shift
		if c < 0x80 {
			if shift+7 < 64 && c&0x40 != 0 {
				v |= -1 << (shift + 7)
			}
			return v
		}
	}
}

// skip passes over bytes.
func (r *reader) skip(n int) {
	if n > r.end-r.at {
		r.fail(Malformed, "it ends too early")
		return
	}
	r.at += n
}

// count reads how many entries follow, and holds it to a limit. An entry takes at
// least one byte, so no count is believed that is more than the bytes left.
func (r *reader) count(limit int, what string) int {
	at := r.at
	n := r.u32()
	switch {
	case r.err != nil:
	case uint64(n) > uint64(max(limit, 0)):
		r.failAt(at, OverLimit, "%d %s; at most %d are allowed", n, what, limit)
	case uint64(n) > uint64(r.end-r.at):
		r.failAt(at, Malformed, "%d %s in %d bytes", n, what, r.end-r.at)
	default:
		return int(n)
	}
	return 0
}

func (r *reader) name(what string) string {
	at := r.at
	n := r.u32()
	if r.err != nil {
		return ""
	}
	if uint64(n) > uint64(r.end-r.at) {
		r.failAt(at, Malformed, "a name of %d bytes in %d bytes", n, r.end-r.at)
		return ""
	}
	if int(n) > r.limits.NameBytes {
		r.failAt(at, OverLimit, "the %s has %d bytes; at most %d are allowed", what, n, r.limits.NameBytes)
		return ""
	}
	b := r.b[r.at:][:n]
	if !utf8.Valid(b) {
		r.failAt(at, Malformed, "the %s is not UTF-8", what)
		return ""
	}
	r.at += int(n)
	return string(b)
}

func (r *reader) valType() ValType {
	at := r.at
	t := ValType(r.byte())
	if r.err == nil && !t.isNum() && t != V128 && !t.isRef() {
		r.noType(at, "value type", byte(t))
	}
	return t
}

// noType refuses a byte that is no type of core 2.0.
func (r *reader) noType(at int, what string, c byte) {
	switch c {
	case 0x63, 0x64, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x71, 0x72, 0x73, 0x74:
		r.failAt(at, Unsupported, "%#02x is a type of later proposals", c)
	default:
		r.failAt(at, Malformed, "%#02x is no %s", c, what)
	}
}

func (r *reader) refType() ValType {
	at := r.at
	t := ValType(r.byte())
	if r.err == nil && !t.isRef() {
		r.noType(at, "reference type", byte(t))
	}
	return t
}

// bounds reads the limits of a table or memory.
func (r *reader) bounds(what string) (least, most uint32, hasMost bool) {
	at := r.at
	switch flag := r.byte(); flag {
	case 0, 1:
		least = r.u32()
		if hasMost = flag == 1; hasMost {
			most = r.u32()
		}
	case 2, 3, 4, 5, 6, 7:
		r.failAt(at, Unsupported, "a shared or 64-bit %s", what)
	default:
		r.failAt(at, Malformed, "%#02x begins no limits of a %s", flag, what)
	}
	return least, most, hasMost
}
