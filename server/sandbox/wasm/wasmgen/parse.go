package wasmgen

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Parse reads instructions from text, separated by white space: names as in the
// text format of WebAssembly, operands behind them in the order of the binary
// format, labels and everything else as numbers.
//
//	block loop                ;; a comment lasts to the end of its line
//	  local.get 0  i32.eqz  br_if 1
//	  local.get 1  i64.load offset=8 align=1
//	  i64.const -1  call_indirect iI:i 0  drop
//	  br_table 0 1 1          ;; the last label is the default
//	end end
//	if i:iF else end  ref.null e  select_t F  v128.const 0x1 0x2
//
// The type of a block has a colon or is left out; alignment is in bytes and is
// natural if left out; the typed select is select_t.
func Parse(text string) ([]Instr, error) {
	var p parser
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, ";;")
		p.tokens = append(p.tokens, strings.Fields(line)...)
	}
	var code []Instr
	for p.more() {
		i, err := p.instr()
		if err != nil {
			return nil, err
		}
		code = append(code, i)
	}
	return code, nil
}

type parser struct {
	tokens []string
	at     int
}

func (p *parser) more() bool { return p.at < len(p.tokens) }

func (p *parser) peek() string {
	if p.more() {
		return p.tokens[p.at]
	}
	return ""
}

func (p *parser) next() string {
	t := p.peek()
	p.at++
	return t
}

func (p *parser) instr() (Instr, error) {
	name := p.next()
	info, ok := load().byName[name]
	if !ok {
		return Instr{}, fmt.Errorf("wasmgen: token %d: no instruction is named %q", p.at, name)
	}
	i := Instr{Op: info.Op}
	for at, kind := range []byte(info.immediates) {
		var err error
		switch kind {
		case 'b':
			if strings.Contains(p.peek(), ":") {
				i.Type = p.next()
			}
		case 'c':
			i.Type = p.next()
			if isNumber(p.peek()) {
				err = p.number(&i, 32)
			}
		case 'y', 'r':
			i.Type = p.next()
		case 't':
			for err == nil && isNumber(p.peek()) {
				err = p.number(&i, 32)
			}
		case 'm':
			err = p.memory(&i, uint64(info.immediates[at+1]-'0'))
		case 'x', 'l', 'i':
			err = p.number(&i, 32)
		case 'I':
			err = p.number(&i, 64)
		case 'v', 's':
			if err = p.number(&i, 64); err == nil {
				err = p.number(&i, 64)
			}
		case 'f':
			var f float64
			f, err = strconv.ParseFloat(p.next(), 32)
			i.Imm = append(i.Imm, uint64(math.Float32bits(float32(f))))
		case 'F':
			var f float64
			f, err = strconv.ParseFloat(p.next(), 64)
			i.Imm = append(i.Imm, math.Float64bits(f))
		}
		if err != nil {
			return i, fmt.Errorf("wasmgen: token %d: %s: %w", p.at, name, err)
		}
	}
	return i, nil
}

func isNumber(s string) bool { return s != "" && s[0] >= '0' && s[0] <= '9' }

// number reads a number of so many bits, signed or not.
func (p *parser) number(i *Instr, bits int) error {
	t := p.next()
	v, err := strconv.ParseInt(t, 0, bits)
	if err != nil {
		u, unsigned := strconv.ParseUint(t, 0, bits)
		if unsigned != nil {
			return unsigned
		}
		v = int64(u)
	}
	i.Imm = append(i.Imm, uint64(v))
	return nil
}

// memory reads the alignment and offset of a load or store.
func (p *parser) memory(i *Instr, natural uint64) error {
	align, offset := natural, uint64(0)
	for {
		text := p.peek()
		var err error
		if rest, ok := strings.CutPrefix(text, "offset="); ok {
			offset, err = strconv.ParseUint(rest, 0, 32)
		} else if rest, ok := strings.CutPrefix(text, "align="); ok {
			var n uint64
			if n, err = strconv.ParseUint(rest, 0, 8); err == nil {
				align = uint64(math.Log2(float64(max(n, 1))))
			}
		} else {
			i.Imm = append(i.Imm, align, offset)
			return nil
		}
		if err != nil {
			return err
		}
		p.at++
	}
}
