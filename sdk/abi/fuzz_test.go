package abi_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"rapport/sdk/abi"
)

// aligned returns a copy that the typed views can read.
func aligned(b []byte) []byte {
	a := abi.NewArena(len(b))
	copy(a, b)
	return a
}

// malformed fails a test unless an error is the one of malformed bytes.
func malformed(t *testing.T, err error) {
	t.Helper()
	if bad := new(abi.LayoutError); !errors.As(err, &bad) {
		t.Errorf("error %v", err)
	}
}

// Whatever the bytes, parsing a static block returns, and what it accepts can be
// read.
func FuzzStatic(f *testing.F) {
	static, _ := workedExample()
	f.Add(static)
	f.Add(abi.NewStaticBuilder(0, nil, 0, 0).Build(0))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := abi.ParseStatic(aligned(b))
		if err != nil {
			malformed(t, err)
			return
		}
		if s.Size > len(b) || s.FrameAt < s.Size || s.FrameAt%abi.Align != 0 {
			t.Errorf("a block of %d bytes, and the frame at %d, in %d", s.Size, s.FrameAt, len(b))
		}
		for _, table := range []*abi.Table{&s.Offer, &s.Channel} {
			if s.Candidates == 0 { // columns of no cells take no room, so there may be any number
				continue
			}
			for column := range table.Columns() {
				cells, presence := table.Column(column)
				if len(cells) != s.Candidates || len(presence)*64 < s.Candidates {
					t.Fatalf("%d cells and %d words for %d candidates", len(cells), len(presence), s.Candidates)
				}
				for row, cell := range cells {
					_ = abi.Bit(presence, row)
					if text, ok := abi.TextAt(s.Strings, cell); ok && len(text) > len(s.Strings) {
						t.Fatalf("a text of %d bytes in a pool of %d", len(text), len(s.Strings))
					}
				}
			}
		}
	})
}

// Whatever the bytes, parsing a call frame returns; what it accepts can be read,
// and a guest that writes the whole output writes nothing else.
func FuzzFrame(f *testing.F) {
	const outputAt, outputSize = 68, 72 // as ABI.md has them
	_, frame := workedExample()
	f.Add(frame.Bytes())
	empty := abi.FrameShape{}.Layout()
	_, head := abi.NewHead(0, 0).Finish(0, 0, 0, 0)
	f.Add(append(head, make([]byte, empty.Size-len(head))...))
	f.Fuzz(func(t *testing.T, b []byte) {
		f, err := abi.ParseFrame(aligned(b))
		if err != nil {
			malformed(t, err)
			return
		}
		for i, cell := range f.Cells() {
			_ = abi.Bit(f.Presence(), i)
			if text, ok := abi.TextAt(f.Strings(), cell); ok && len(text) > f.Texts {
				t.Fatalf("a text of %d bytes in a pool of %d", len(text), f.Texts)
			}
		}
		n := f.Candidates
		for i := range min(f.Columns, len(b)) { // without candidates there may be any number
			if len(f.Column(i)) != n {
				t.Fatalf("a column of %d cells for %d candidates", len(f.Column(i)), n)
			}
		}
		if len(f.Score()) != n || len(f.Reason()) != n || len(f.Index()) != n || len(f.Veto())*64 < n {
			t.Fatalf("an output of other sizes for %d candidates", n)
		}
		begin, size := u32(b, outputAt), u32(b, outputSize)
		for i := range n {
			f.Score()[i], f.Reason()[i] = -1, 0xffffffff
			abi.SetBit(f.Veto(), i)
		}
		if !bytes.Equal(f.Bytes()[:begin], b[:begin]) || !bytes.Equal(f.Bytes()[begin+size:], b[begin+size:f.Size]) {
			t.Errorf("writing the output changed bytes outside of it")
		}
	})
}

// Blocks and frames of any shape are after parsing what was put into them, and
// cut short they are refused.
func FuzzRoundTrip(f *testing.F) {
	f.Add(uint64(1), uint16(3), uint8(2), uint8(1), uint8(1), uint8(3), uint8(2), uint16(8))
	f.Add(uint64(2), uint16(0), uint8(0), uint8(0), uint8(0), uint8(0), uint8(0), uint16(0))
	f.Add(uint64(3), uint16(64), uint8(1), uint8(1), uint8(1), uint8(64), uint8(4), uint16(1))
	f.Add(uint64(4), uint16(65), uint8(7), uint8(0), uint8(9), uint8(65), uint8(1), uint16(1000))
	f.Fuzz(func(t *testing.T, seed uint64, candidates uint16, offer, channel, parameters, profile, columns uint8, texts uint16) {
		random := rand.New(rand.NewPCG(seed, 0))
		n := int(candidates % 2000)
		roundTripStatic(t, random, n, int(offer%32), int(channel%32), int(parameters))
		roundTripFrame(t, random, n, int(profile), int(columns%5), int(texts%5000))
	})
}

// textOf returns a random text of at most that many bytes.
func textOf(random *rand.Rand, most int) string {
	b := make([]byte, random.IntN(most+1))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return string(b)
}

func roundTripStatic(t *testing.T, random *rand.Rand, n, offer, channel, parameters int) {
	numbers := make([]float64, parameters)
	for i := range numbers {
		numbers[i] = random.NormFloat64()
	}
	b := abi.NewStaticBuilder(n, numbers, offer, channel)
	type place struct{ table, column, row int }
	cells, texts := make(map[place]uint64), make(map[place]string)
	for i, table := range []*abi.Table{&b.Offer, &b.Channel} {
		for range min(n, 50) * table.Columns() {
			p := place{i, random.IntN(table.Columns()), random.IntN(n)}
			delete(texts, p)
			if cells[p] = random.Uint64(); random.IntN(2) == 0 {
				texts[p] = textOf(random, 20)
				cells[p] = b.Text(texts[p])
			}
			table.Set(p.column, p.row, cells[p])
		}
	}
	capacity := random.IntN(1 << 30)
	block := b.Build(capacity)
	s, err := abi.ParseStatic(block)
	if err != nil {
		t.Fatal(err)
	}
	if s.Candidates != n || !slices.Equal(s.Parameters, numbers) || s.FrameCapacity != capacity || s.FrameAt != len(block) ||
		s.Offer.Columns() != offer || s.Channel.Columns() != channel {
		t.Fatalf("got %d candidates, %v, capacity %d, frame at %d", s.Candidates, s.Parameters, s.FrameCapacity, s.FrameAt)
	}
	for i, table := range []*abi.Table{&s.Offer, &s.Channel} {
		for column := range table.Columns() {
			for row := range n {
				p := place{i, column, row}
				got, present := table.Cell(column, row)
				want, set := cells[p]
				if got != want || present != set {
					t.Fatalf("%+v: %#x %v, want %#x %v", p, got, present, want, set)
				}
				if text, ok := texts[p]; ok {
					if got, ok := abi.TextAt(s.Strings, got); !ok || got != text {
						t.Fatalf("%+v: %q, want %q", p, got, text)
					}
				}
			}
		}
	}
	if _, err := abi.ParseStatic(aligned(block[:random.IntN(s.Size)])); err == nil {
		t.Error("a block that is cut short is accepted")
	}
}

func roundTripFrame(t *testing.T, random *rand.Rand, n, profile, columns, room int) {
	head := abi.NewHead(profile, room)
	head.Reset()
	cells, texts := make(map[int]uint64), make(map[int]string)
	for i := range profile {
		switch random.IntN(3) {
		case 0:
			cells[i] = random.Uint64()
			head.Set(i, cells[i])
		case 1:
			if text := textOf(random, 40); head.SetText(i, text) {
				texts[i] = text
			}
		}
	}
	now, seed := int64(random.Uint64()), random.Uint64()
	l, b := head.Finish(n, columns, now, seed)
	w := l.View(abi.NewArena(l.Size))
	copy(w.Bytes(), b)
	for i := range w.Columns {
		for k := range w.Column(i) {
			w.Column(i)[k] = float64(i*n + k)
		}
	}
	for k := range w.Index() {
		w.Index()[k] = uint32(k)
	}
	w.ClearOutput()
	f, err := abi.ParseFrame(w.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if f.FrameLayout != l || f.Now() != now || f.Seed() != seed {
		t.Fatalf("got %+v, want %+v", f.FrameLayout, l)
	}
	for i, got := range f.Cells() {
		want, isCell := cells[i]
		text, isText := texts[i]
		if abi.Bit(f.Presence(), i) != (isCell || isText) || isCell && got != want {
			t.Fatalf("field %d: %#x, want %#x", i, got, want)
		}
		if isText {
			if got, ok := abi.TextAt(f.Strings(), got); !ok || got != text {
				t.Fatalf("field %d: %q, want %q", i, got, text)
			}
		}
	}
	for i := range f.Columns {
		for k, x := range f.Column(i) {
			if x != float64(i*n+k) {
				t.Fatalf("column %d has %v at %d", i, x, k)
			}
		}
	}
	for k := range n {
		if f.Index()[k] != uint32(k) || f.Score()[k] == f.Score()[k] || f.Reason()[k] != 0 || abi.Bit(f.Veto(), k) {
			t.Fatalf("candidate %d is not as it was made", k)
		}
	}
	short := aligned(f.Bytes()[:random.IntN(f.Size)])
	if _, err := abi.ParseFrame(short); err == nil {
		t.Error("a frame that is cut short is accepted")
	}
	// So is one whose header says that it is as short as it is, but for what has no
	// bytes of its own.
	if len(short) >= abi.FrameHeader && n > 0 {
		binary.LittleEndian.PutUint32(short[12:], uint32(len(short)))
		if _, err := abi.ParseFrame(short); err == nil {
			t.Error("a frame that is shorter than its parts is accepted")
		}
	}
}
