// Package rapporttest runs a strategy in an ordinary Go test, without WebAssembly:
// it makes a decision up, has the strategy rank it, and checks the answer as the
// server does.
//
// The test belongs to the package of the strategy, or imports it, so that its
// declarations are made:
//
//	func TestSpender(t *testing.T) {
//		results, err := rapporttest.Rank(rapporttest.Decision{
//			Profile:    map[string]any{"value.arpu": 120.0},
//			Candidates: []rapporttest.Candidate{{Offer: map[string]any{"price": 99.0}, Propensity: 0.1}},
//		})
//		…
//	}
//
// It differs from the server in three ways: what a call leaves in variables is
// there in the next, a panic of the strategy is a panic of the test, and on
// machines that can fuse a multiplication with an addition the last bit of a
// score may differ (see package rapport).
package rapporttest

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	rapport "rapport/sdk"
	"rapport/sdk/abi"
)

// Decision is a decision to rank. Values are a float64 or int, a bool, a string, a
// time.Time or a []string, as the strategy declares them.
type Decision struct {
	Now  time.Time // the Unix epoch if zero
	Seed uint64

	// Profile is what is known of the customer, by field, and of the moment, by
	// context.NAME. A field that the strategy does not read is a mistake.
	Profile map[string]any
	// Parameters are what the scenario sets; others have their defaults.
	Parameters map[string]float64
	Candidates []Candidate
}

// Candidate is an offer in a channel. Attributes that the strategy does not read
// are ignored.
type Candidate struct {
	Offer, Channel map[string]any

	Propensity, Value float64
	Weight, Lever     float64 // 0 stands for 1

	// History is what came of the offer before, by the name of the column:
	// "times.rejected.30d": 2. What is not given never happened.
	History map[string]float64
}

// Result is what the strategy says of a candidate.
type Result struct {
	Score  float64
	Reason string // empty if it gives none
	Veto   bool
	Chance float64 // 0 if the strategy does not say
}

// declarations are one for a program, so one decision is made at a time.
var one sync.Mutex

// Manifest returns what the strategy of this program says about itself.
func Manifest() (*abi.Manifest, error) {
	b, err := rapport.Describe()
	if err != nil {
		return nil, err
	}
	m := new(abi.Manifest)
	return m, json.Unmarshal(b, m)
}

// Rank has the strategy of this program rank a decision. It may be called from
// several goroutines, and ranks for one after the other.
func Rank(d Decision) ([]Result, error) {
	one.Lock()
	defer one.Unlock()
	m, err := Manifest()
	if err != nil {
		return nil, err
	}
	static, err := staticBlock(m, &d)
	if err != nil {
		return nil, err
	}
	if status := rapport.Configure(static); status != abi.StatusOK {
		return nil, fmt.Errorf("rapporttest: the strategy refuses its configuration with status %d", status)
	}
	frame, err := callFrame(m, &d)
	if err != nil {
		return nil, err
	}
	input := slices.Clone(frame.Input())
	status, detail := rapport.Call(frame.Bytes())
	switch {
	case status != abi.StatusOK:
		return nil, fmt.Errorf("rapporttest: the strategy answers status %d", status)
	case int(detail) != len(d.Candidates):
		return nil, fmt.Errorf("rapporttest: the strategy ranked %d candidates of %d", detail, len(d.Candidates))
	case !slices.Equal(input, frame.Input()):
		return nil, fmt.Errorf("rapporttest: the strategy changed its input")
	}
	return results(m, &frame)
}

func results(m *abi.Manifest, f *abi.Frame) ([]Result, error) {
	list := make([]Result, f.Candidates)
	for i, score := range f.Score() {
		if math.IsNaN(score) || math.IsInf(score, 0) {
			return nil, fmt.Errorf("rapporttest: the score of candidate %d is %v, or was not given", i, score)
		}
		list[i].Score = score
		list[i].Veto = abi.Bit(f.Veto(), i)
		if m.Probability {
			if list[i].Chance = f.Chance()[i]; !(list[i].Chance >= 0 && list[i].Chance <= 1) {
				return nil, fmt.Errorf("rapporttest: the probability of candidate %d is %v", i, list[i].Chance)
			}
		}
		switch code := f.Reason()[i]; {
		case int(code) > len(m.Reasons):
			return nil, fmt.Errorf("rapporttest: the reason of candidate %d is %d; %d are declared", i, code, len(m.Reasons))
		case code > 0:
			list[i].Reason = m.Reasons[code-1]
		}
	}
	return list, nil
}

// staticBlock lays out parameters and attributes.
func staticBlock(m *abi.Manifest, d *Decision) ([]byte, error) {
	parameters := make([]float64, len(m.Parameters))
	unknown := maps.Clone(d.Parameters)
	for i, p := range m.Parameters {
		parameters[i] = p.Default
		if v, ok := d.Parameters[p.Name]; ok {
			if !(v >= p.Min && v <= p.Max) {
				return nil, fmt.Errorf("rapporttest: parameter %s is %g; it may be %g to %g", p.Name, v, p.Min, p.Max)
			}
			parameters[i] = v
		}
		delete(unknown, p.Name)
	}
	for name := range unknown {
		return nil, fmt.Errorf("rapporttest: the strategy has no parameter %s", name)
	}
	b := abi.NewStaticBuilder(len(d.Candidates), parameters, len(m.Offer), len(m.Channel))
	for row, c := range d.Candidates {
		for _, t := range []struct {
			what   string
			table  *abi.Table
			inputs []abi.Input
			values map[string]any
		}{{"offer", &b.Offer, m.Offer, c.Offer}, {"channel", &b.Channel, m.Channel, c.Channel}} {
			for i, in := range t.inputs {
				v, ok := t.values[in.Name]
				if !ok {
					continue
				}
				cell, text, err := encode(t.what+" attribute "+in.Name, in.Type, v)
				if err != nil {
					return nil, err
				}
				if in.Type == abi.Text.String() || in.Type == abi.Set.String() {
					cell = b.Text(text)
				}
				t.table.Set(i, row, cell)
			}
		}
	}
	return b.Build(0), nil
}

// callFrame lays out the rest.
func callFrame(m *abi.Manifest, d *Decision) (abi.Frame, error) {
	none := abi.Frame{}
	room := 0
	for _, v := range d.Profile {
		switch v := v.(type) {
		case string:
			room += len(v)
		case []string:
			for _, e := range v {
				room += len(e) + 1
			}
		}
	}
	head := abi.NewHead(len(m.Profile), room)
	head.Probability = m.Probability
	unknown := maps.Clone(d.Profile)
	for i, in := range m.Profile {
		v, ok := d.Profile[in.Name]
		if !ok {
			continue
		}
		delete(unknown, in.Name)
		cell, text, err := encode("profile field "+in.Name, in.Type, v)
		switch {
		case err != nil:
			return none, err
		case in.Type != abi.Text.String() && in.Type != abi.Set.String():
			head.Set(i, cell)
		case !head.SetText(i, text):
			return none, fmt.Errorf("rapporttest: no room for the text of %s", in.Name)
		}
	}
	for name := range unknown {
		return none, fmt.Errorf("rapporttest: the strategy does not read the profile field %s", name)
	}
	now := int64(0)
	if !d.Now.IsZero() {
		now = d.Now.UnixMicro()
	}
	l, b := head.Finish(len(d.Candidates), len(m.Candidate), now, d.Seed)
	f := l.View(abi.NewArena(l.Size))
	copy(f.Bytes(), b)
	for i, c := range d.Candidates {
		f.Index()[i] = uint32(i)
		for k, name := range m.Candidate {
			f.Column(k)[i] = c.column(name)
		}
	}
	f.ClearOutput()
	return f, nil
}

func (c *Candidate) column(name string) float64 {
	one := func(x float64) float64 {
		if x == 0 {
			return 1
		}
		return x
	}
	switch name {
	case abi.ColumnPropensity:
		return c.Propensity
	case abi.ColumnValue:
		return c.Value
	case abi.ColumnWeight:
		return one(c.Weight)
	case abi.ColumnLever:
		return one(c.Lever)
	}
	if x, ok := c.History[name]; ok {
		return x
	}
	if h, _ := abi.ParseHistoryColumn(name); h.What == abi.HistoryDays {
		return -1
	}
	return 0
}

// encode returns the cell of a value, or its text.
func encode(what, want string, v any) (cell uint64, text string, err error) {
	is := abi.Number
	switch v := v.(type) {
	case float64:
		cell = abi.NumberCell(v)
	case int:
		cell = abi.NumberCell(float64(v))
	case bool:
		is, cell = abi.Flag, abi.FlagCell(v)
	case string:
		is, text = abi.Text, v
	case time.Time:
		is, cell = abi.Time, abi.TimeCell(v.UnixMicro())
	case []string:
		sorted := slices.Clone(v)
		slices.Sort(sorted)
		is, text = abi.Set, strings.Join(slices.Compact(sorted), string(abi.SetSeparator))
	default:
		return 0, "", fmt.Errorf("rapporttest: %s is a %T: use a float64, int, bool, string, time.Time or []string", what, v)
	}
	if is.String() != want {
		return 0, "", fmt.Errorf("rapporttest: %s is a %s, and the strategy reads a %s", what, is, want)
	}
	return cell, text, nil
}
