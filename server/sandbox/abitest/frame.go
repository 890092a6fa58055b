package abitest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"rapport/profilestore"
	"rapport/sdk/abi"
	"rapport/server/decide"
)

// profile is what is known of a customer, by slot of the schema, and behind that the
// context of the request.
type profile []profilestore.Value

// Get returns the value of a field.
func (p profile) Get(slot int) profilestore.Value {
	if slot >= len(p) {
		return profilestore.Unknown()
	}
	return p[slot]
}

// frame is a decision to be ranked. It is not changed when it was made, so it can
// be ranked again.
type frame struct {
	what       string // it is, for people
	huge       bool   // it has numbers that no business has
	now        int64
	seed       uint64
	profile    profile
	candidates []int32
	columns    [][]float64 // in the order of world.columns
	world      *world
}

// HistoryColumn fills in a column of the history for the frame's candidates.
func (f *frame) HistoryColumn(column string, _ []int32, cells []float64) {
	copy(cells, f.columns[slices.Index(f.world.columns, column)])
}

// Get returns the value of a profile field.
func (f *frame) Get(slot int) profilestore.Value { return f.profile.Get(slot) }

// ranking returns the frame as it is ranked, with places for the answer.
func (f *frame) ranking() *decide.Ranking {
	n := len(f.candidates)
	return &decide.Ranking{
		Now: f.now, Seed: f.seed, Profile: f, Context: f.profile[len(f.world.schema.Fields()):], Candidates: f.candidates,
		Propensity: f.columns[0], Value: f.columns[1], Weight: f.columns[2], Lever: f.columns[3],
		Score: make([]float64, n), Reason: make([]uint32, n), Veto: make([]bool, n),
	}
}

// maxSystematicSeed bounds the seeds of frames that are not random: small numbers,
// so that what a strategy draws is the same in all of them, or nearly.
const maxSystematicSeed = 1 << 16

// frame draws an ordinary decision about n of so many candidates, and a customer of
// whom everything is known.
func (w *world) frame(random *rand.Rand, n, of int) *frame {
	f := &frame{
		what: fmt.Sprintf("%d of %d candidates", n, of),
		now:  now, seed: random.Uint64N(maxSystematicSeed),
		profile:    make(profile, len(w.schema.Fields())+len(w.context)),
		candidates: make([]int32, n),
		columns:    make([][]float64, len(w.columns)),
		world:      w,
	}
	for i, in := range w.manifest.Profile {
		f.profile[w.slots[i]] = w.values.ordinary(random, in.Type)
	}
	chosen := random.Perm(of)[:n]
	slices.Sort(chosen)
	for i, k := range chosen {
		f.candidates[i] = int32(k)
	}
	for i := range f.columns {
		f.columns[i] = make([]float64, n)
	}
	for i := range n {
		f.columns[0][i] = 0.01 + 0.98*random.Float64()
		f.columns[1][i] = 1 + cents(random, 100)
		f.columns[2][i] = 0.5 + 1.5*random.Float64()
		f.columns[3][i] = 1 + 0.5*random.Float64()
		for k, cells := range f.columns[len(abi.Columns):] {
			cells[i] = ordinaryPast(random, w.columns[len(abi.Columns)+k])
		}
	}
	return f
}

// because returns a copy whose description says what is special about it. What is
// behind its slices is shared, except for the profile.
func (f *frame) because(format string, args ...any) *frame {
	g := *f
	g.what = f.what + ", " + fmt.Sprintf(format, args...)
	g.profile = slices.Clone(f.profile)
	return &g
}

// withField returns the frame with another value for a profile field.
func (w *world) withField(f *frame, field int, v variant) *frame {
	g := f.because("profile field %s is %s", w.manifest.Profile[field].Name, v.what)
	g.profile[w.slots[field]] = v.value
	g.huge = f.huge || v.huge
	return g
}

var negativeZero = math.Copysign(0, -1)

// extremeColumns are values of the candidate columns: the greatest that a catalogue can
// have, and far beyond them; the product of four that are the greatest is still a number.
var extremeColumns = map[string][]float64{
	abi.ColumnPropensity: {0, 5e-324, 1, 1e70},
	abi.ColumnValue:      {0, negativeZero, -1e12, 1e12, -1e70, 1e70},
	abi.ColumnWeight:     {0, 5e-324, 1e6, 1e70},
	abi.ColumnLever:      {0, 5e-324, 101, 1e4, -1e70, 1e70},
}

// columnExtremes returns the extreme values of a candidate column. Those of the history
// begin with that of a customer who has none, and are all that a history can say.
func columnExtremes(name string) []float64 {
	h, ok := abi.ParseHistoryColumn(name)
	switch {
	case !ok:
		return extremeColumns[name]
	case h.What == abi.HistoryDays:
		return []float64{-1, 0, 1e-9, 1, 30, 4e4}
	}
	return []float64{0, 1, 2, 7, 1e9}
}

// ordinaryPast draws what a column of the history says of an offer: most customers have
// met few.
func ordinaryPast(random *rand.Rand, name string) float64 {
	h, _ := abi.ParseHistoryColumn(name)
	days := h.What == abi.HistoryDays
	switch met := random.IntN(2) == 0; {
	case !met && days:
		return -1
	case !met:
		return 0
	case days:
		return 90 * random.Float64()
	}
	return float64(1 + random.IntN(6))
}

// withColumn returns the frame with a value in a column, for all candidates or the
// last one.
func (w *world) withColumn(f *frame, column int, x float64, all bool) *frame {
	which := "the last candidate"
	if all {
		which = "all candidates"
	}
	g := f.because("%s of %s is %s", w.columns[column], which, formatNumber(x))
	cells := slices.Clone(f.columns[column])
	for i := range cells {
		if all || i == len(cells)-1 {
			cells[i] = x
		}
	}
	g.columns = slices.Clone(f.columns)
	g.columns[column] = cells
	g.huge = f.huge || x >= huge || x <= -huge
	return g
}

// anything draws a decision about which nothing is ordinary: some of the profile is
// unknown and some extreme, and so are some of the columns.
func (w *world) anything(random *rand.Rand, i, of int) *frame {
	f := w.frame(random, 1+random.IntN(of), of)
	f.what = fmt.Sprintf("random decision %d, about %s", i, f.what)
	f.seed = random.Uint64()
	f.now += random.Int64N(1e14) - 5e13 // a year and a half
	unlikely := random.IntN(3)          // a third of them have nothing extreme
	room := w.values.room
	for k, in := range w.manifest.Profile {
		slot := w.slots[k]
		switch {
		case random.IntN(4) == 0:
			f.profile[slot] = profilestore.Unknown()
		case unlikely > 0 && random.IntN(8) == 0:
			list := w.values.extremes(in.Type, 100)
			v := list[random.IntN(len(list))]
			f.profile[slot], f.huge = v.value, f.huge || v.huge
		}
		if room -= textLength(f.profile[slot]); room < 0 {
			f.profile[slot] = profilestore.Unknown()
		}
	}
	for k, cells := range f.columns {
		if unlikely > 0 && random.IntN(4) == 0 {
			list := columnExtremes(w.columns[k])
			x := list[random.IntN(len(list))]
			cells[random.IntN(len(cells))] = x
			f.huge = f.huge || x >= huge || x <= -huge
		}
	}
	return f
}
