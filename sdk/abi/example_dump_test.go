package abi_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"rapport/sdk/abi"
)

// The worked example of ABI.md: a scenario of three candidates, of which a call
// ranks the first and the third.
func workedExample() (static []byte, frame abi.Frame) {
	b := abi.NewStaticBuilder(3, []float64{1.5}, 2, 1)
	b.Offer.Set(0, 0, abi.NumberCell(10)) // price
	b.Offer.Set(0, 2, abi.NumberCell(30))
	b.Offer.Set(1, 0, b.Text("plan")) // kind
	b.Offer.Set(1, 1, b.Text("care"))
	b.Offer.Set(1, 2, b.Text("plan"))
	for row := range 3 {
		b.Channel.Set(0, row, abi.NumberCell(0.25)) // cost
	}
	const texts = 64
	capacity := abi.FrameShape{Candidates: 3, Profile: 3, Columns: 2, Texts: texts}.Layout().Size
	static = b.Build(capacity)

	head := abi.NewHead(3, texts)
	head.Set(0, abi.NumberCell(29.85)) // value.arpu; tag.heavy is unknown
	head.SetText(2, "Hangzhou")        // general.city
	l, bytes := head.Finish(2, 2, 1_772_366_400_000_000, 42)
	frame = l.View(abi.NewArena(l.Size))
	copy(frame.Bytes(), bytes)
	copy(frame.Index(), []uint32{0, 2})
	copy(frame.Column(0), []float64{0.125, 0.5})
	copy(frame.Column(1), []float64{8, 3})
	frame.ClearOutput()
	return static, frame
}

// answer is what the strategy of the example answers.
func answer(f abi.Frame) {
	copy(f.Score(), []float64{1, 1.5})
	copy(f.Reason(), []uint32{0, 1})
	abi.SetBit(f.Veto(), 0)
}

// dump prints bytes from an offset, 16 in a line, each part with a label.
func dump(b []byte, from int, parts ...part) string {
	var s strings.Builder
	slices.SortStableFunc(parts, func(a, b part) int { return a.at - b.at })
	at := from
	line := func(b []byte, label string) {
		s.WriteString(strings.TrimRight(fmt.Sprintf("%04x  %-47s  %s", at, fmt.Sprintf("% x", b), label), " ") + "\n")
		at += len(b)
	}
	piece := func(end int, label string) {
		for at < end {
			line(b[at:min(at+16, end)], label)
			label = ""
		}
	}
	for _, p := range parts {
		piece(p.at, "padding")
		piece(p.at+p.size, p.label)
	}
	piece(len(b), "padding")
	return s.String()
}

// part is a labelled stretch of bytes.
type part struct {
	at, size int
	label    string
}

// headerParts labels a header by the names that the C header has for it, four
// words to a line.
func headerParts(t *testing.T, name string) []part {
	t.Helper()
	var parts []part
	for _, f := range cStruct(t, name) {
		last := len(parts) - 1
		if last >= 0 && parts[last].at/16 == f.at/16 {
			parts[last].size += f.size
			parts[last].label += " " + f.name
		} else {
			parts = append(parts, part{f.at, f.size, f.name})
		}
	}
	return parts
}

func TestWorkedExampleOfTheSpecification(t *testing.T) {
	static, f := workedExample()
	s, err := abi.ParseStatic(static)
	if err != nil {
		t.Fatal(err)
	}
	h := func(name string) int {
		for _, m := range cStruct(t, "rapport_static") {
			if m.name == name {
				return int(u32(static, m.at))
			}
		}
		t.Fatalf("no field %s", name)
		return 0
	}
	checkSpecification(t, "static", dump(static, 0, append(headerParts(t, "rapport_static"),
		part{h("parameters_at"), 8, "parameters: value_weight 1.5"},
		part{h("offer_at"), 24, "offer column 0, price: 10, absent, 30"},
		part{h("offer_at") + 24, 24, "offer column 1, kind: plan, care, plan"},
		part{h("offer_presence_at"), 8, "presence of price: candidates 0 and 2"},
		part{h("offer_presence_at") + 8, 8, "presence of kind: all three"},
		part{h("channel_at"), 24, "channel column 0, cost: 0.25 each"},
		part{h("channel_presence_at"), 8, "presence of cost"},
		part{h("strings_at"), len(s.Strings), "strings"},
	)...))
	checkSpecification(t, "frame", dump(f.Bytes(), 0, append(headerParts(t, "rapport_frame"),
		part{f.PresenceAt, 8, "profile presence: fields 0 and 2"},
		part{f.CellsAt, 8, "profile field 0, value.arpu: 29.85"},
		part{f.CellsAt + 8, 8, "profile field 1, tag.heavy: unknown"},
		part{f.CellsAt + 16, 8, "profile field 2, general.city: offset 0, length 8"},
		part{f.StringsAt, f.Texts, "strings"},
		part{f.IndexAt, 8, "index: rows 0 and 2"},
		part{f.ColumnsAt, 16, "column 0, propensity: 0.125, 0.5"},
		part{f.ColumnsAt + 16, 16, "column 1, value: 8, 3"},
		part{f.ScoreAt, 16, "output: scores, not given yet"},
		part{f.ReasonAt, 8, "output: reasons"},
		part{f.VetoAt, 8, "output: veto bits"},
	)...))
	answer(f)
	checkSpecification(t, "output", dump(f.Bytes(), f.ScoreAt,
		part{f.ScoreAt, 16, "scores: 1, 1.5"},
		part{f.ReasonAt, 8, "reasons: none, the first"},
		part{f.VetoAt, 8, "veto bits: position 0"},
	))
}
