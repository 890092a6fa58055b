package profilestore

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// rowTwin is the naive twin of a row: the values by column.
type rowTwin map[int]twinCell

type twinCell struct {
	cell  rowCell
	value Value
}

// rowCells returns the cells of a twin as naiveRow wants them: texts of a
// dictionary as codes.
func rowCells(l *rowLayout, twin rowTwin) []rowCell {
	cells := make([]rowCell, len(l.Columns))
	for i, c := range twin {
		cells[i] = c.cell
		if p := &l.places[i]; p.form == rowCode {
			cells[i].num = int64(slices.Index(p.dictionary, c.value.Text()))
		}
	}
	return cells
}

// naiveRow is the naive twin of rowEncoder: it appends the columns of a row one
// after the other.
func naiveRow(l *rowLayout, cells []rowCell) []byte {
	head := make([]byte, l.base)
	binary.LittleEndian.PutUint64(head, l.head)
	var values, texts []byte
	for _, i := range l.order {
		c, p := &cells[i], &l.places[i]
		if !c.present {
			continue
		}
		head[p.presentAt] |= p.presentMask
		num := c.num
		switch p.form {
		case rowFlag:
			if num != 0 {
				head[p.flagAt] |= p.flagMask
			}
			continue
		case rowText:
			texts = append(texts, c.text...)
			num = int64(len(texts))
		case rowScaled, rowFloat, rowTime, rowCode:
		}
		for range p.width {
			values = append(values, byte(num))
			num >>= 8
		}
	}
	return slices.Concat(head, values, texts)
}

// drawLayoutRows draws the columns of a source and rows for them, and encodes
// them as a load does.
func drawLayoutRows(t *rapid.T) (*Schema, *rowLayout, [][]byte, []rowTwin) {
	n := rapid.IntRange(1, 150).Draw(t, "columns")
	fields := make([]Field, n)
	for i := range fields {
		f := Field{Name: fmt.Sprintf("tag.f%d", i), Batch: "bi", Decimals: NoDecimals}
		f.Type = rapid.SampledFrom([]Type{TypeNumber, TypeNumber, TypeFlag, TypeText, TypeTime, TypeCounter}).Draw(t, "type")
		if f.Type.Kind() == KindNumber {
			f.Decimals = rapid.IntRange(NoDecimals, 9).Draw(t, "decimals")
		}
		if f.Type == TypeFlag {
			f.Default = rapid.Bool().Draw(t, "default")
		}
		fields[i] = f
	}
	schema, err := NewSchema([]Source{{ID: "bi"}}, fields)
	if err != nil {
		t.Fatal(err)
	}
	var pointers []*Field
	for i := range schema.Fields() {
		pointers = append(pointers, &schema.Fields()[i])
	}
	rows := newLoadRows(pointers)
	var twins []rowTwin
	for line := range rapid.IntRange(1, 12).Draw(t, "rows") {
		twin := make(rowTwin)
		for i, f := range pointers {
			rows.cells[i] = rowCell{}
			if rapid.IntRange(0, 3).Draw(t, "absent") > 0 {
				cell, value := drawCell(t, f)
				rows.cells[i], twin[i] = cell, twinCell{cell, value}
			}
		}
		rows.add(loadPlace{line: int64(line)}, fmt.Sprintf("customer:%04d", line))
		twins = append(twins, twin)
	}
	end := 0
	for _, ref := range rows.refs { // before they are sorted: one after the other in a chunk
		if int(ref.offset) != end {
			t.Fatalf("a row begins at %d, the one before ends at %d", ref.offset, end)
		}
		end += rows.length(rows.at(ref))
	}
	if end != len(rows.chunks[0]) {
		t.Fatalf("the last row ends at %d of %d", end, len(rows.chunks[0]))
	}
	rows.sort()
	layout, err := rows.layout()
	if err != nil {
		t.Fatal(err)
	}
	var encoded [][]byte
	for i, ref := range rows.refs {
		key, _, packed := splitRow(rows.at(ref))
		row := rows.encoder.append(nil, key, packed, rows.owner)
		if want := fmt.Sprintf("customer:%04d", i); string(key) != want {
			t.Fatalf("row %d has key %q", i, key)
		}
		if naive := naiveRow(layout, rowCells(layout, twins[i])); !bytes.Equal(row, naive) {
			t.Fatalf("row %d is %x, the naive encoder makes %x", i, row, naive)
		}
		encoded = append(encoded, row)
	}
	return schema, layout, encoded, twins
}

// drawCell draws a value of a field, extremes among them.
func drawCell(t *rapid.T, f *Field) (rowCell, Value) {
	switch {
	case f.Type == TypeFlag:
		b := rapid.Bool().Draw(t, "flag")
		if b {
			return rowCell{present: true, num: 1}, Flag(true)
		}
		return rowCell{present: true}, Flag(false)
	case f.Type == TypeText:
		s := rapid.OneOf(rapid.SampledFrom([]string{"a", "b", "Month-to-month"}), rapid.StringN(1, 40, -1),
			rapid.Just(strings.Repeat("é", MaxTextBytes/2))).Draw(t, "text")
		return rowCell{present: true, text: []byte(s)}, Text(s)
	case f.Type == TypeTime:
		n := rapid.Int64().Draw(t, "time")
		return rowCell{present: true, num: n}, Time(n)
	case f.Decimals == NoDecimals:
		x := rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{0, math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, math.Inf(1)})).Draw(t, "float")
		return rowCell{present: true, num: int64(math.Float64bits(x))}, Number(x)
	}
	bits := rapid.SampledFrom([]int{7, 8, 15, 16, 23, 24, 31, 32, 53}).Draw(t, "bits")
	n := rapid.OneOf(rapid.Int64Range(-1<<bits, 1<<bits), rapid.SampledFrom([]int64{0, -1, 1 << bits, 1<<bits - 1, -1 << bits})).Draw(t, "scaled")
	return rowCell{present: true, num: n}, Number(unscale(n, f.Decimals))
}

func TestRowReadsBackWhatWasEncoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		schema, layout, rows, twins := drawLayoutRows(t)
		slots, err := fitSnapshot(schema, "bi", layout)
		if err != nil {
			t.Fatal(err)
		}
		s := &Snapshot{layout: layout, slots: slots}
		for r, row := range rows {
			if err := layout.verify(row); err != nil {
				t.Fatalf("row %d: %v", r, err)
			}
			if n := layout.countPresent(row); n != int64(len(twins[r])) {
				t.Fatalf("row %d: %d values, want %d", r, n, len(twins[r]))
			}
			for i, f := range schema.Fields() {
				twin, present := twins[r][i]
				want := twin.value
				if !present && f.Type == TypeFlag {
					want = Flag(f.Default)
				}
				if got := s.Value(row, i); got != want || s.Present(row, i) != present {
					t.Fatalf("row %d, %s (%s): %v, %v; want %v, %v", r, f.Name, f.Type, got, s.Present(row, i), want, present)
				}
			}
		}
	})
}

// A cut, lengthened or foreign row is never read as something else without
// verify noticing, and never panics.
func TestRowDamage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		schema, layout, rows, _ := drawLayoutRows(t)
		slots, err := fitSnapshot(schema, "bi", layout)
		if err != nil {
			t.Fatal(err)
		}
		s := &Snapshot{layout: layout, slots: slots}
		row := rows[0]
		other := slices.Clone(row)
		switch rapid.IntRange(0, 3).Draw(t, "damage") {
		case 0:
			other = row[:rapid.IntRange(0, len(row)-1).Draw(t, "cut")]
		case 1:
			other = append(other, 0)
		case 2:
			other[rapid.IntRange(0, rowHead-1).Draw(t, "head")] ^= 0x40
		default:
			other[rapid.IntRange(0, len(row)-1).Draw(t, "bit")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "of 8")
			_ = layout.verify(other) // may be another row
			readAll(s, other)
			return
		}
		readAll(s, other)
		if layout.verify(other) == nil {
			t.Fatalf("verify accepted %x, made of %x", other, row)
		}
	})
}

func readAll(s *Snapshot, row []byte) {
	for i := range len(s.slots) + 1 {
		_ = s.Value(row, i).String()
		s.Present(row, i)
	}
}

func TestLayoutJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, layout, rows, _ := drawLayoutRows(t)
		encoded, err := json.MarshalIndent(layout, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseRowLayout(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if again.head != layout.head {
			t.Fatal("the layout has another id when read back")
		}
		if err := again.verify(rows[0]); err != nil {
			t.Fatal(err)
		}
	})
}

func TestLayoutRefuses(t *testing.T) {
	for _, test := range []struct{ layout, want string }{
		{`{"format":2,"columns":[]}`, "format 2 is not known"},
		{`{"format":1,"columns":[]}`, "0 columns"},
		{`{"format":1,"columns":[{"field":"a","type":"flag","decimals":-1},{"field":"a","type":"flag","decimals":-1}]}`, "there twice"},
		{`{"format":1,"columns":[{"field":"a","type":"bag","decimals":-1}]}`, `type "bag"`},
		{`{"format":1,"columns":[{"field":"a","type":"number","decimals":2,"width":5}]}`, "width 5"},
		{`{"format":1,"columns":[{"field":"a","type":"number","decimals":10,"width":4}]}`, "10 decimals"},
		{`{"format":1,"columns":[{"field":"a","type":"number","decimals":-1,"width":4}]}`, "width 4"},
		{`{"format":1,"columns":[{"field":"a","type":"text","decimals":-1}]}`, "text width 0"},
		{`{"format":1,"columns":[{"field":"a","type":"text","decimals":-1,"width":1,"dictionary":[]}]}`, "0 texts"},
		{`[`, "unexpected end"},
	} {
		if _, err := parseRowLayout([]byte(test.layout)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.layout, err, test.want)
		}
	}
}

func FuzzRow(f *testing.F) {
	layout := &rowLayout{Format: rowFormat, TextWidth: 2, Columns: []rowColumn{
		{Field: "tag.a", Type: TypeFlag, Decimals: NoDecimals},
		{Field: "value.b", Type: TypeNumber, Decimals: 2, Width: 3},
		{Field: "value.c", Type: TypeNumber, Decimals: NoDecimals, Width: 8},
		{Field: "general.d", Type: TypeText, Decimals: NoDecimals},
		{Field: "general.e", Type: TypeText, Decimals: NoDecimals, Width: 1, Dictionary: []string{"x", "y"}},
		{Field: "general.f", Type: TypeText, Decimals: NoDecimals},
		{Field: "service.g", Type: TypeTime, Decimals: NoDecimals, Width: 8},
		{Field: "usage.h", Type: TypeCounter, Decimals: 6, Width: 4},
		{Field: "usage.i", Type: TypeCounter, Decimals: 0, Width: 2},
		{Field: "usage.j", Type: TypeCounter, Decimals: 0, Width: 1},
	}}
	if err := layout.seal(); err != nil {
		f.Fatal(err)
	}
	s := &Snapshot{layout: layout}
	cells := make([]rowCell, len(layout.Columns))
	for i := range layout.Columns {
		s.slots = append(s.slots, snapshotSlot{place: &layout.places[i]})
		cells[i] = rowCell{present: true, num: 1}
		if layout.Columns[i].form() == rowText {
			cells[i].text = []byte("some text")
		}
	}
	full := naiveRow(layout, cells)
	f.Add(full[rowHead:])
	f.Add(full[rowHead : len(full)-4])
	f.Add(naiveRow(layout, make([]rowCell, len(cells)))[rowHead:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		readAll(s, b)
		row := append(bytes.Clone(full[:rowHead]), b...)
		readAll(s, row)
		if layout.verify(row) != nil {
			return
		}
		// What verify accepts is what append makes of its values.
		for i := range cells {
			cells[i] = rowCell{present: s.Present(row, i)}
			v := s.Value(row, i)
			switch p := &layout.places[i]; {
			case !cells[i].present:
			case p.form == rowText:
				cells[i].text = []byte(v.Text())
			case p.form == rowCode:
				cells[i].num = int64(slices.Index(p.dictionary, v.Text()))
			case p.form == rowFloat:
				at := layout.base + countRowBytes(row, p.before)
				cells[i].num = rowInt(row, at, p.width) // −0 is read as 0
			case v.Kind() == KindNumber:
				cells[i].num, _ = scale(v.Number(), int(p.decimals))
			case v.Kind() == KindTime:
				cells[i].num = v.Micros()
			case v.Flag():
				cells[i].num = 1
			}
		}
		if again := naiveRow(layout, cells); !bytes.Equal(again, row) {
			t.Errorf("verify accepted %x, which is encoded as %x", row, again)
		}
	})
}
