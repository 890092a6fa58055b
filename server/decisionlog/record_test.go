package decisionlog_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/oklog/ulid/v2"
	"pgregory.net/rapid"

	"rapport/profilestore"
	"rapport/server/decide"
	"rapport/server/decisionlog"
)

var name = rapid.SampledFrom([]string{"", "a", "web.home", "data_10g", "sms", "🙂", "a;b"})

func drawValue(t *rapid.T) profilestore.Value {
	switch rapid.IntRange(0, 6).Draw(t, "kind") {
	case 1:
		return profilestore.Number(rapid.Float64().Draw(t, "number"))
	case 2:
		return profilestore.Number(float64(rapid.IntRange(-1<<60, 1<<60).Draw(t, "whole")))
	case 3:
		return profilestore.Flag(rapid.Bool().Draw(t, "flag"))
	case 4:
		return profilestore.Text(rapid.String().Draw(t, "text"))
	case 5:
		return profilestore.Time(rapid.Int64().Draw(t, "time"))
	case 6:
		return profilestore.Set(rapid.SliceOfN(rapid.StringMatching(`[a-z0-9]{1,3}`), 0, 4).Draw(t, "set")...)
	}
	return profilestore.Unknown()
}

func drawList[T any](t *rapid.T, what string, draw func() T) []T {
	out := make([]T, rapid.IntRange(0, 3).Draw(t, what))
	for i := range out {
		out[i] = draw()
	}
	return out
}

func drawRecord(t *rapid.T, fields []string, contexts []string) *decisionlog.Record {
	text := func(what string) string { return rapid.String().Draw(t, what) }
	n := func() string { return name.Draw(t, "name") }
	number := func() float64 {
		if rapid.IntRange(0, 20).Draw(t, "infinite") == 0 {
			return math.Inf(-1)
		}
		return rapid.Float64().Draw(t, "number")
	}
	ranker := func() decisionlog.Ranker { return decisionlog.Ranker{Name: n(), Version: n(), Digest: n()} }
	r := &decisionlog.Record{
		Pipeline: rapid.IntRange(0, 300).Draw(t, "pipeline"),
		Time:     rapid.Int64().Draw(t, "time"), Took: rapid.Int64Range(0, 1e7).Draw(t, "took"), Seed: rapid.Uint64().Draw(t, "seed"),
		Identity: text("identity"), Hash: rapid.Uint64().Draw(t, "hash"), Blocked: rapid.Bool().Draw(t, "blocked"),
		Catalog: rapid.Int64().Draw(t, "catalog"), Schema: n(), Fields: fields, ContextFields: contexts,
		Many: rapid.Bool().Draw(t, "many"), OneContact: rapid.Bool().Draw(t, "one"), PendingRead: rapid.Bool().Draw(t, "read"),
	}
	copy(r.ID[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	if r.Customer = r.Identity; rapid.Bool().Draw(t, "named") {
		r.Customer = text("customer")
	}
	if rapid.Bool().Draw(t, "unreserved") {
		r.Unreserved = text("unreserved")
	}
	r.Tables = drawList(t, "tables", func() decisionlog.Version {
		return decisionlog.Version{Name: n(), Number: rapid.Int64().Draw(t, "version")}
	})
	if rapid.Bool().Draw(t, "readable") {
		r.Profile = &decisionlog.ProfileState{
			Known: rapid.Bool().Draw(t, "known"), DeltaVersion: rapid.Uint64().Draw(t, "delta"), IdentityEpoch: rapid.Uint64().Draw(t, "epoch"),
			Snapshots: drawList(t, "snapshots", func() decisionlog.Snapshot {
				return decisionlog.Snapshot{Source: n(), Generation: rapid.Int64().Draw(t, "generation"), HasRow: rapid.Bool().Draw(t, "row")}
			}),
		}
		for range fields {
			r.Values = append(r.Values, drawValue(t))
		}
	}
	for range contexts {
		r.Context = append(r.Context, drawValue(t))
	}
	r.Pending = drawList(t, "pending", func() decide.Contact {
		return decide.Contact{
			Time: rapid.Int64().Draw(t, "time"), Channel: n(), Touchpoint: n(),
			Items: drawList(t, "items", func() profilestore.Item { return profilestore.Item{Offer: n(), Group: n(), Class: n()} }),
		}
	})
	r.Loads = drawList(t, "loads", func() decisionlog.Load { return decisionlog.Load{Channel: n(), Value: number()} })
	if rapid.Bool().Draw(t, "evidence?") {
		r.Evidence = &decisionlog.Evidence{Number: rapid.Uint64Range(1, 3).Draw(t, "reading"), Counts: drawList(t, "counts", func() decisionlog.EvidenceCount {
			return decisionlog.EvidenceCount{Offer: n(), Channel: n(), Presented: rapid.Uint64().Draw(t, "presented"), Successes: rapid.Uint64().Draw(t, "successes")}
		})}
	}
	r.Places = drawList(t, "places", func() decisionlog.PlaceAsked {
		return decisionlog.PlaceAsked{Capacity: n(), Offer: n(), Channel: n(), Taken: rapid.Bool().Draw(t, "taken")}
	})
	r.At = drawList(t, "touchpoints", func() decisionlog.Touchpoint {
		x := decisionlog.Touchpoint{
			ID: n(), Slots: rapid.IntRange(0, 50).Draw(t, "slots"), Scenario: n(), Strategy: ranker(),
			FuelLimit: rapid.Int64().Draw(t, "limit"), FuelUsed: rapid.Int64().Draw(t, "used"),
			Degradations: drawList(t, "degradations", func() decisionlog.Degradation {
				return decisionlog.Degradation{Step: decide.StepFallback, Detail: text("detail")}
			}),
			Reasons: drawList(t, "reasons", func() decide.Reason { return rapid.SampledFrom(decide.Reasons()).Draw(t, "reason") }),
			Details: drawList(t, "details", func() decide.Detail {
				return decide.Detail{Place: rapid.IntRange(0, 1e6).Draw(t, "place"), By: n(), Until: rapid.Int64().Draw(t, "until")}
			}),
			Slate: drawList(t, "slate", func() decisionlog.Placement {
				return decisionlog.Placement{
					Offer: n(), Channel: n(), Content: text("content"), Script: text("script"), Score: number(), Reason: n(),
					Propensity: number(), Value: number(), Weight: number(), Lever: number(),
					Probability: rapid.SampledFrom([]float64{1, 0.5, 0.1}).Draw(t, "probability"), Fallback: rapid.Bool().Draw(t, "fallback"),
				}
			}),
		}
		if x.RankedBy = x.Strategy; rapid.Bool().Draw(t, "stepped down") {
			x.RankedBy = ranker()
		}
		return x
	})
	return r
}

// TestRecordsComeBack writes random records into blocks and reads them back.
func TestRecordsComeBack(t *testing.T) {
	w := decisionlog.NewBlockWriter()
	records, unreadable, lists := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w.Reset()
		fields := [][]string{{}, {"value.arpu"}, {"value.arpu", "tag.heavy", "marketing.owned"}}
		var want []*decisionlog.Record
		for range rapid.IntRange(0, 6).Draw(t, "records") {
			r := drawRecord(t, rapid.SampledFrom(fields).Draw(t, "fields"), rapid.SampledFrom(fields).Draw(t, "context"))
			w.Add(r)
			want = append(want, r)
			records++
			lists += len(r.Fields)
			if r.Profile == nil {
				unreadable++
			}
		}
		b, err := decisionlog.ReadBlock(w.AppendTo(nil))
		if err != nil {
			t.Fatal(err)
		}
		if b.Len() != len(want) || w.Len() != len(want) {
			t.Fatalf("%d records and %d, want %d", b.Len(), w.Len(), len(want))
		}
		for i := range want {
			var got decisionlog.Record
			if err := b.Record(i, &got); err != nil {
				t.Fatal(err)
			}
			if id := b.ID(i); id != want[i].ID || b.Hash(i) != want[i].Hash {
				t.Errorf("id %s and hash %x, want %s and %x", id, b.Hash(i), want[i].ID, want[i].Hash)
			}
			if got, want := text(&got), text(want[i]); got != want {
				t.Fatalf("record %d is\n%s\nwant\n%s", i, got, want)
			}
		}
	})
	t.Logf("%d records, %d without a profile, %d values", records, unreadable, lists)
}

// text writes a record out; numbers as they are in Go, since JSON has no infinite ones.
func text(r *decisionlog.Record) string {
	x := *r
	numbers, values := []uint64{}, []string{}
	x.Loads = append([]decisionlog.Load{}, x.Loads...)
	for i := range x.Loads {
		numbers = append(numbers, math.Float64bits(x.Loads[i].Value))
		x.Loads[i].Value = 0
	}
	x.At = append([]decisionlog.Touchpoint{}, x.At...)
	for i := range x.At {
		x.At[i].Slate = append([]decisionlog.Placement{}, x.At[i].Slate...)
		for k := range x.At[i].Slate {
			p := &x.At[i].Slate[k]
			for _, f := range []*float64{&p.Score, &p.Propensity, &p.Value, &p.Weight, &p.Lever} {
				numbers = append(numbers, math.Float64bits(*f))
				*f = 0
			}
		}
		x.At[i].Reasons = append([]decide.Reason{}, x.At[i].Reasons...)
		x.At[i].Details = append([]decide.Detail{}, x.At[i].Details...)
		x.At[i].Degradations = append([]decisionlog.Degradation{}, x.At[i].Degradations...)
	}
	for _, v := range append(append([]profilestore.Value{}, r.Values...), r.Context...) {
		values = append(values, v.Kind().String()+" "+v.String())
		if v.Kind() == profilestore.KindNumber {
			numbers = append(numbers, math.Float64bits(v.Number()))
		}
	}
	x.Values, x.Context = nil, nil
	history, _ := r.History.AppendBinary(nil)
	x.History = profilestore.History{}
	b, err := json.Marshal(struct {
		Record  decisionlog.Record
		Numbers []uint64
		Values  []string
		History []byte
	}{x, numbers, values, history})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// FuzzReadBlock reads damaged blocks: an error, or records that can be written again.
func FuzzReadBlock(f *testing.F) {
	w := decisionlog.NewBlockWriter()
	f.Add(w.AppendTo(nil))
	w.Add(&decisionlog.Record{
		ID: ulid.MustParse("01ARZ3NDEKTSV4RRFFQ69G5FAV"), Identity: "customer:1", Customer: "customer:1", Fields: []string{"value.arpu"},
		Profile: &decisionlog.ProfileState{}, Values: []profilestore.Value{profilestore.Number(1.5)},
		At: []decisionlog.Touchpoint{{ID: "web.home", Reasons: []decide.Reason{decide.ReasonOffered}, Slate: []decisionlog.Placement{{Offer: "a", Channel: "web", Probability: 1}}}},
	})
	f.Add(w.AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		block, err := decisionlog.ReadBlock(b)
		if err != nil {
			return
		}
		again := decisionlog.NewBlockWriter()
		for i := range block.Len() {
			var r decisionlog.Record
			if err := block.Record(i, &r); err != nil {
				continue
			}
			again.Add(&r)
		}
		if _, err := decisionlog.ReadBlock(again.AppendTo(nil)); err != nil {
			t.Fatal(err)
		}
	})
}
