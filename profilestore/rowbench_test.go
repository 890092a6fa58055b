package profilestore

import (
	"fmt"
	"testing"
)

// wideSnapshot returns a snapshot of 300 tags and a row of it with 75% of them.
func wideSnapshot(tb testing.TB) (*Snapshot, []byte) {
	tb.Helper()
	schema, rows := wideRows(tb, 1000)
	layout, err := rows.layout()
	if err != nil {
		tb.Fatal(err)
	}
	slots, err := fitSnapshot(schema, "bi", layout)
	if err != nil {
		tb.Fatal(err)
	}
	_, _, packed := splitRow(rows.at(rows.refs[0]))
	return &Snapshot{layout: layout, slots: slots}, rows.encoder.append(nil, nil, packed, 0)
}

// wideRows returns rows of 300 tags: 125 flags, 25 numbers of one byte, 50 of two,
// 50 of three, 25 counters of four, and 25 texts of a dictionary.
func wideRows(tb testing.TB, n int) (*Schema, *loadRows) {
	tb.Helper()
	fields := make([]Field, 300)
	for i := range fields {
		f := Field{Name: fmt.Sprintf("tag.f%d", i), Batch: "bi", Decimals: NoDecimals}
		switch i % 12 {
		case 0, 1, 2, 3, 4:
			f.Type = TypeFlag
		case 5, 6, 7:
			f.Type, f.Decimals = TypeNumber, 0
		case 8, 9:
			f.Type, f.Decimals = TypeNumber, 2
		case 10:
			f.Type, f.Decimals = TypeCounter, 2
		default:
			f.Type = TypeText
		}
		fields[i] = f
	}
	schema, err := NewSchema([]Source{{ID: "bi"}}, fields)
	if err != nil {
		tb.Fatal(err)
	}
	var pointers []*Field
	for i := range schema.Fields() {
		pointers = append(pointers, &schema.Fields()[i])
	}
	rows := newLoadRows(pointers)
	for r := range n {
		for i, f := range pointers {
			k := int64((r*7919 + i*104729) % 1000)
			c := rowCell{present: k%4 != 0}
			switch {
			case f.Type == TypeText:
				c.text = fmt.Appendf(nil, "segment-%d", k%50)
			case f.Type == TypeFlag:
				c.num = k % 2
			case i%12 == 5:
				c.num = k % 100
			default:
				c.num = k * map[int]int64{6: 30, 7: 30, 8: 8000, 9: 8000, 10: 900_000}[i%12]
			}
			rows.cells[i] = c
		}
		rows.add(loadPlace{line: int64(r)}, fmt.Sprintf("customer:%09d", r))
	}
	rows.sort()
	return schema, rows
}

func TestRowAllocations(t *testing.T) {
	s, row := wideSnapshot(t)
	var sink Value
	allocs := testing.AllocsPerRun(100, func() {
		for i := range s.slots {
			sink = s.Value(row, i)
		}
	})
	if allocs != 0 {
		t.Errorf("reading 300 fields allocates %v times, the budget is 0", allocs)
	}
	_ = sink
}

// 300 tags, 75% present: the goal is at most 400 bytes.
func TestRowSize(t *testing.T) {
	_, rows := wideRows(t, 1000)
	if _, err := rows.layout(); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, ref := range rows.refs {
		_, _, packed := splitRow(rows.at(ref))
		total += len(rows.encoder.append(nil, nil, packed, 0))
	}
	mean := total / len(rows.refs)
	t.Logf("%d bytes", mean)
	if mean > 400 {
		t.Errorf("a row of 300 tags, 75%% present, has %d bytes, the budget is 400", mean)
	}
}

// BenchmarkRowValue reads all 300 fields of a row; see ns/field.
func BenchmarkRowValue(b *testing.B) {
	s, row := wideSnapshot(b)
	var known int
	for b.Loop() {
		for i := range s.slots {
			if s.Value(row, i).Known() {
				known++
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(s.slots)), "ns/field")
	b.ReportMetric(float64(len(row)), "B/row")
	_ = known
}
