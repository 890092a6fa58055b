package abi_test

import (
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"rapport/sdk/abi"
)

func TestPacking(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint32().Draw(t, "a"), rapid.Uint32().Draw(t, "b")
		if p, n := abi.UnpackSpan(abi.PackSpan(a, b)); p != a || n != b {
			t.Fatal("span")
		}
		if s, d := abi.UnpackStatus(abi.PackStatus(a, b)); s != a || d != b {
			t.Fatal("status")
		}
	})
	if abi.PackSpan(1, 2) != 1<<32|2 || abi.PackStatus(1, 2) != 2<<32|1 {
		t.Error("packing is not what ABI.md says")
	}
}

// A static block is what was put into it, after parsing.
func TestStaticBlockRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 200).Draw(t, "candidates")
		parameters := rapid.SliceOfN(rapid.Float64(), 0, 5).Draw(t, "parameters")
		offer, channel := rapid.IntRange(0, 4).Draw(t, "offer"), rapid.IntRange(0, 4).Draw(t, "channel")
		b := abi.NewStaticBuilder(n, parameters, offer, channel)
		type place struct{ table, column, row int }
		texts := make(map[place]string)
		for range rapid.IntRange(0, 20).Draw(t, "cells") {
			p := place{rapid.IntRange(0, 1).Draw(t, "table"), 0, 0}
			table := []*abi.Table{&b.Offer, &b.Channel}[p.table]
			if n == 0 || table.Columns() == 0 {
				continue
			}
			p.column = rapid.IntRange(0, table.Columns()-1).Draw(t, "column")
			p.row = rapid.IntRange(0, n-1).Draw(t, "row")
			texts[p] = rapid.String().Draw(t, "text")
			table.Set(p.column, p.row, b.Text(texts[p]))
		}
		capacity := rapid.IntRange(0, 1<<20).Draw(t, "capacity")
		block := b.Build(capacity)
		s, err := abi.ParseStatic(block)
		if err != nil {
			t.Fatal(err)
		}
		if s.Candidates != n || !slices.Equal(s.Parameters, parameters) || s.FrameCapacity != capacity {
			t.Fatalf("got %+v", s)
		}
		if s.FrameAt != len(block) || s.FrameAt%abi.Align != 0 {
			t.Fatalf("the frame is at %d of %d", s.FrameAt, len(block))
		}
		for i, table := range []*abi.Table{&s.Offer, &s.Channel} {
			for column := range table.Columns() {
				for row := range n {
					cell, ok := table.Cell(column, row)
					want, set := texts[place{i, column, row}]
					got, valid := abi.TextAt(s.Strings, cell)
					if ok != set || !valid || got != want {
						t.Fatalf("table %d, column %d, row %d: %q %v, want %q %v", i, column, row, got, ok, want, set)
					}
				}
			}
		}
	})
}

// A call frame is what was put into it, after parsing, however often its head was
// used before.
func TestCallFrameRoundTrip(t *testing.T) {
	const texts = 100
	heads := make(map[int]*abi.Head)
	rapid.Check(t, func(t *rapid.T) {
		profile := rapid.IntRange(0, 130).Draw(t, "profile")
		if heads[profile] == nil {
			heads[profile] = abi.NewHead(profile, texts)
		}
		head := heads[profile]
		head.Reset()
		cells, strings := make(map[int]uint64), make(map[int]string)
		room := texts
		for range rapid.IntRange(0, 8).Draw(t, "fields") {
			if profile == 0 {
				break
			}
			i := rapid.IntRange(0, profile-1).Draw(t, "field")
			if _, ok := cells[i]; ok {
				continue
			}
			if rapid.Bool().Draw(t, "is text") {
				text := rapid.String().Draw(t, "text")
				fits := head.SetText(i, text)
				if fits && len(text) > room+7 || !fits && len(text) <= room { // the pool ends 8-aligned
					t.Fatalf("%d bytes of %d: fits %v", len(text), room, fits)
				}
				if fits {
					room -= len(text)
					cells[i], strings[i] = 0, text
				}
				continue
			}
			cells[i] = rapid.Uint64().Draw(t, "cell")
			head.Set(i, cells[i])
		}
		n, columns := rapid.IntRange(0, 200).Draw(t, "candidates"), rapid.IntRange(0, 4).Draw(t, "columns")
		now, seed := rapid.Int64().Draw(t, "now"), rapid.Uint64().Draw(t, "seed")
		l, b := head.Finish(n, columns, now, seed)
		w := l.View(abi.NewArena(l.Size))
		copy(w.Bytes(), b)
		w.ClearOutput()
		f, err := abi.ParseFrame(w.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if f.FrameLayout != l || f.Now() != now || f.Seed() != seed {
			t.Fatalf("got %+v, want %+v", f.FrameLayout, l)
		}
		for i, cell := range f.Cells() {
			want, set := cells[i]
			if abi.Bit(f.Presence(), i) != set {
				t.Fatalf("field %d: present is not %v", i, set)
			}
			if text, ok := strings[i]; ok {
				if got, valid := abi.TextAt(f.Strings(), cell); !valid || got != text {
					t.Fatalf("field %d: %q, want %q", i, got, text)
				}
			} else if cell != want {
				t.Fatalf("field %d: %#x, want %#x", i, cell, want)
			}
		}
		for i, x := range f.Score() {
			if x == x || f.Reason()[i] != 0 || abi.Bit(f.Veto(), i) {
				t.Fatalf("output %d is not clear", i)
			}
		}
	})
}

func TestManifestIsJSON(t *testing.T) {
	name := rapid.StringMatching(`[a-z"\\\n\x00é😀]{0,10}`)
	input := rapid.Custom(func(t *rapid.T) abi.Input {
		return abi.Input{Name: name.Draw(t, "name"), Type: rapid.SampledFrom([]string{"number", "flag", "text", "time"}).Draw(t, "type")}
	})
	parameter := rapid.Custom(func(t *rapid.T) abi.Parameter {
		x := rapid.Float64()
		return abi.Parameter{Name: name.Draw(t, "name"), Default: x.Draw(t, "default"), Min: x.Draw(t, "min"), Max: x.Draw(t, "max")}
	})
	fuel := rapid.Ptr(rapid.Custom(func(t *rapid.T) abi.Fuel {
		return abi.Fuel{Base: rapid.Int64().Draw(t, "base"), PerCandidate: rapid.Int64().Draw(t, "per candidate")}
	}), true)
	rapid.Check(t, func(t *rapid.T) {
		m := abi.Manifest{
			ABI: 1, Name: name.Draw(t, "name"), Version: "1", Description: rapid.String().Draw(t, "description"),
			Profile: rapid.SliceOfN(input, 0, 3).Draw(t, "profile"), Offer: rapid.SliceOfN(input, 0, 3).Draw(t, "offer"),
			Channel: rapid.SliceOfN(input, 0, 3).Draw(t, "channel"), Candidate: abi.Columns[:],
			Parameters: rapid.SliceOfN(parameter, 0, 3).Draw(t, "parameters"), Reasons: rapid.SliceOfN(name, 0, 3).Draw(t, "reasons"),
			Fuel: fuel.Draw(t, "fuel"),
		}
		var got abi.Manifest
		if err := json.Unmarshal(m.AppendJSON(nil), &got); err != nil {
			t.Fatal(err)
		}
		if want := clean(m); !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	})
}

// clean replaces what JSON can't hold.
func clean(m abi.Manifest) abi.Manifest {
	m.Description = strings.ToValidUTF8(m.Description, "\uFFFD")
	return m
}

func TestFuel(t *testing.T) {
	most := abi.Fuel{Base: abi.MaxFuelBase, PerCandidate: abi.MaxFuelPerCandidate}
	if got := most.Of(math.MaxUint32); got != 1_000_000_000_000+1_000_000_000*math.MaxUint32 {
		t.Errorf("the most fuel of the most candidates is %d", got)
	}
	if got := abi.DefaultFuel().Of(100); got != 1_500_000 {
		t.Errorf("the default of 100 candidates is %d", got)
	}
	for f, valid := range map[abi.Fuel]bool{
		most:                        true,
		abi.DefaultFuel():           true,
		{Base: 1}:                   true,
		{PerCandidate: 1}:           true,
		{}:                          false,
		{Base: -1}:                  false,
		{Base: 1, PerCandidate: -1}: false,
		{Base: abi.MaxFuelBase + 1}: false,
		{PerCandidate: abi.MaxFuelPerCandidate + 1}: false,
	} {
		if f.Valid() != valid {
			t.Errorf("%+v: valid is %v", f, !valid)
		}
	}
}

func TestTypeNames(t *testing.T) {
	for _, name := range []string{"number", "flag", "text", "time"} {
		if got := abi.TypeOf(name).String(); got != name {
			t.Errorf("TypeOf(%q) is %q", name, got)
		}
	}
	if abi.TypeOf("counter") != 0 || abi.TypeOf("") != 0 || abi.Type(99).String() != "" {
		t.Error("a type that does not exist")
	}
}
