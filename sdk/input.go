package rapport

import (
	"iter"
	"math"
	"time"

	"rapport/sdk/abi"
)

// NumberField is a profile field of type number or counter.
type NumberField struct{ place int }

// Number declares that the strategy reads a profile field of type number or
// counter, such as value.arpu; or a number of the request's context, such as
// context.minutes. So do the functions for other types.
func Number(name string) NumberField { return NumberField{declareField(name, abi.Number)} }

// Get returns the customer's value, or false if it is unknown.
func (f NumberField) Get(d *Decision) (value float64, known bool) {
	return math.Float64frombits(d.cells[f.place]), abi.Bit(d.presence, f.place)
}

// Or returns the customer's value, or the given one if it is unknown.
func (f NumberField) Or(d *Decision, unknown float64) float64 {
	if v, ok := f.Get(d); ok {
		return v
	}
	return unknown
}

// FlagField is a profile field of type flag.
type FlagField struct{ place int }

// Flag declares that the strategy reads a profile field of type flag.
func Flag(name string) FlagField { return FlagField{declareField(name, abi.Flag)} }

// Get returns the customer's value, or false twice if it is unknown.
func (f FlagField) Get(d *Decision) (value, known bool) {
	return d.cells[f.place] != 0, abi.Bit(d.presence, f.place)
}

// Or returns the customer's value, or the given one if it is unknown.
func (f FlagField) Or(d *Decision, unknown bool) bool {
	if v, ok := f.Get(d); ok {
		return v
	}
	return unknown
}

// TextField is a profile field of type text.
type TextField struct{ place int }

// Text declares that the strategy reads a profile field of type text.
func Text(name string) TextField { return TextField{declareField(name, abi.Text)} }

// Get returns the customer's value, or false if it is unknown. The text is valid
// until the ranking function returns.
func (f TextField) Get(d *Decision) (value string, known bool) {
	if !abi.Bit(d.presence, f.place) {
		return "", false
	}
	return abi.TextAt(d.strings, d.cells[f.place])
}

// Or returns the customer's value, or the given one if it is unknown.
func (f TextField) Or(d *Decision, unknown string) string {
	if v, ok := f.Get(d); ok {
		return v
	}
	return unknown
}

// TimeField is a profile field of type time.
type TimeField struct{ place int }

// Time declares that the strategy reads a profile field of type time.
func Time(name string) TimeField { return TimeField{declareField(name, abi.Time)} }

// Get returns the customer's value in UTC, or false if it is unknown.
func (f TimeField) Get(d *Decision) (value time.Time, known bool) {
	if !abi.Bit(d.presence, f.place) {
		return time.Time{}, false
	}
	return time.UnixMicro(int64(d.cells[f.place])).UTC(), true
}

// Or returns the customer's value, or the given one if it is unknown.
func (f TimeField) Or(d *Decision, unknown time.Time) time.Time {
	if v, ok := f.Get(d); ok {
		return v
	}
	return unknown
}

// SetField is a profile field of type set.
type SetField struct{ place int }

// Set declares that the strategy reads a profile field of type set, such as
// marketing.owned.
func Set(name string) SetField { return SetField{declareField(name, abi.Set)} }

// Known reports whether it is known what is in the customer's set; it may be empty.
func (f SetField) Known(d *Decision) bool { return abi.Bit(d.presence, f.place) }

// Has reports whether an element is in the customer's set; it is not in one that is
// unknown.
func (f SetField) Has(d *Decision, element string) bool {
	if !f.Known(d) {
		return false
	}
	all, _ := abi.TextAt(d.strings, d.cells[f.place])
	return find(all, element)
}

// find reports whether an element is among those of a set, which are in ascending order:
// it looks in the middle until little is left, and then through that.
func find(all, element string) bool {
	low, high := 0, len(all)
	for low+64 < high {
		at := low + (high-low)/2
		for at > low && all[at-1] != abi.SetSeparator {
			at--
		}
		end := endOfElement(all, at)
		switch middle := all[at:end]; {
		case middle == element:
			return true
		case middle > element:
			high = at
		default:
			low = end + 1
		}
	}
	for low < high {
		end := endOfElement(all, low)
		if all[low:end] == element {
			return true
		}
		low = end + 1
	}
	return false
}

// endOfElement returns where the element of a set ends that begins at a place.
func endOfElement(all string, at int) int {
	for at < len(all) && all[at] != abi.SetSeparator {
		at++
	}
	return at
}

// Len returns how many elements the customer's set has, 0 if it is unknown.
func (f SetField) Len(d *Decision) int {
	n := 0
	for range f.All(d) {
		n++
	}
	return n
}

// All returns the elements of the customer's set in ascending order. They are valid
// until the ranking function returns.
func (f SetField) All(d *Decision) iter.Seq[string] {
	return func(yield func(string) bool) {
		if !f.Known(d) {
			return
		}
		text, _ := abi.TextAt(d.strings, d.cells[f.place])
		for text != "" {
			e := text[:endOfElement(text, 0)]
			if !yield(e) {
				return
			}
			text = text[min(len(e)+1, len(text)):]
		}
	}
}

// attribute is a column of the static block: one cell for each candidate of the
// scenario. Configure fills it in.
type attribute struct {
	cells    []uint64
	presence []uint64
}

func (a *attribute) has(c Candidate) bool { return abi.Bit(a.presence, int(c.row)) }

// NumberAttribute is a number that offers or channels have.
type NumberAttribute struct{ column *attribute }

// OfferNumber declares that the strategy reads a number of the offers, such as
// price; value is always there.
func OfferNumber(name string) NumberAttribute {
	return NumberAttribute{declareOffer(name, abi.Number)}
}

// ChannelNumber declares that the strategy reads a number of the channels; cost
// is always there.
func ChannelNumber(name string) NumberAttribute {
	return NumberAttribute{declareChannel(name, abi.Number)}
}

// Get returns the number of the candidate's offer or channel, or false if it has
// none of that name.
func (a NumberAttribute) Get(c Candidate) (value float64, known bool) {
	return math.Float64frombits(a.column.cells[c.row]), a.column.has(c)
}

// Or returns the number, or the given one if there is none.
func (a NumberAttribute) Or(c Candidate, unknown float64) float64 {
	if a.column.has(c) {
		return math.Float64frombits(a.column.cells[c.row])
	}
	return unknown
}

// FlagAttribute is a flag that offers or channels have.
type FlagAttribute struct{ column *attribute }

// OfferFlag declares that the strategy reads a flag of the offers.
func OfferFlag(name string) FlagAttribute { return FlagAttribute{declareOffer(name, abi.Flag)} }

// ChannelFlag declares that the strategy reads a flag of the channels.
func ChannelFlag(name string) FlagAttribute { return FlagAttribute{declareChannel(name, abi.Flag)} }

// Get returns the flag of the candidate's offer or channel, or false twice if it
// has none of that name.
func (a FlagAttribute) Get(c Candidate) (value, known bool) {
	return a.column.cells[c.row] != 0, a.column.has(c)
}

// Or returns the flag, or the given one if there is none.
func (a FlagAttribute) Or(c Candidate, unknown bool) bool {
	if a.column.has(c) {
		return a.column.cells[c.row] != 0
	}
	return unknown
}

// TextAttribute is a text that offers or channels have.
type TextAttribute struct{ column *attribute }

// OfferText declares that the strategy reads a text of the offers.
func OfferText(name string) TextAttribute { return TextAttribute{declareOffer(name, abi.Text)} }

// ChannelText declares that the strategy reads a text of the channels.
func ChannelText(name string) TextAttribute { return TextAttribute{declareChannel(name, abi.Text)} }

// Get returns the text of the candidate's offer or channel, or false if it has
// none of that name.
func (a TextAttribute) Get(c Candidate) (value string, known bool) {
	if !a.column.has(c) {
		return "", false
	}
	return abi.TextAt(c.d.static.Strings, a.column.cells[c.row])
}

// Or returns the text, or the given one if there is none.
func (a TextAttribute) Or(c Candidate, unknown string) string {
	if v, ok := a.Get(c); ok {
		return v
	}
	return unknown
}

// Column is a number that every candidate has in this decision.
type Column struct{ place int }

// Propensity declares that the strategy reads the probability that the customer
// accepts.
func Propensity() Column { return declareColumn(abi.ColumnPropensity) }

// Value declares that the strategy reads what an acceptance is worth.
func Value() Column { return declareColumn(abi.ColumnValue) }

// Weight declares that the strategy reads the context weight of the offer's
// group in the scenario.
func Weight() Column { return declareColumn(abi.ColumnWeight) }

// Lever declares that the strategy reads the lift by the business, 1 for none.
func Lever() Column { return declareColumn(abi.ColumnLever) }

// Times declares that the strategy reads how often something came of the candidate's
// offer before, in whatever channel: an outcome such as rejected, or contact for each time
// that it was shown. It looks back so many days, at most 400; 0: as far as the server
// remembers.
func Times(outcome string, days int) Column {
	return declareHistory(abi.HistoryColumn{What: abi.HistoryTimes, Outcome: outcome, Days: days})
}

// DaysSince declares that the strategy reads how many days ago something last came of the
// candidate's offer, with fractions; −1 if it never did. See [Times].
func DaysSince(outcome string) Column {
	return declareHistory(abi.HistoryColumn{What: abi.HistoryDays, Outcome: outcome})
}

// Of returns the candidate's number.
func (k Column) Of(c Candidate) float64 { return c.d.columns[k.place][c.i] }

// Param is a number that a scenario may set.
type Param struct{ place int }

// Parameter declares a parameter, the value that it has where the scenario sets
// none, and the least and greatest value that it may have.
func Parameter(name string, standard, least, greatest float64) Param {
	return Param{declareParameter(abi.Parameter{Name: name, Default: standard, Min: least, Max: greatest})}
}

// Of returns the parameter's value.
func (p Param) Of(d *Decision) float64 { return d.static.Parameters[p.place] }
