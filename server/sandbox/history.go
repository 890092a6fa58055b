package sandbox

import (
	"math"
	"time"

	"rapport/profilestore"
	"rapport/sdk/abi"
	"rapport/server/decide"
)

// HistoryColumns is what a decide.Ranking may have as its Profile besides: it says
// what columns of the history hold, in place of the history of the ranking. It is for
// made-up decisions, which give the columns and not what happened.
type HistoryColumns interface {
	// HistoryColumn fills in what a column, such as times.rejected.30d, holds for
	// candidates, which are given by their places in the scenario.
	HistoryColumn(column string, candidates []int32, cells []float64)
}

// fillHistory works out the columns of the customer's history, in memory of the instance.
// Candidates of one offer follow each other, so each offer is asked for once; a customer
// who has met nothing costs no more than the zeros.
func (s *Strategy) fillHistory(in *instance, r *decide.Ranking) {
	if s.histories == 0 {
		return
	}
	n := len(r.Candidates)
	if cap(in.history) < s.histories*n {
		in.history = make([]float64, s.histories*s.layout.Candidates)
	}
	in.history = in.history[:s.histories*n]
	given, _ := r.Profile.(HistoryColumns)
	k := 0
	for i := range s.columns {
		h := s.columns[i].history
		if h == nil {
			continue
		}
		column := in.history[k*n:][:n]
		k++
		if given != nil {
			given.HistoryColumn(h.String(), r.Candidates, column)
			continue
		}
		last := ""
		for c, candidate := range r.Candidates {
			if offer := s.offers[candidate]; c == 0 || offer != last {
				column[c], last = ask(r, h, offer), offer
			} else {
				column[c] = column[c-1]
			}
		}
	}
}

// column returns a column of a call; those of the history have been worked out.
func (s *Strategy) column(in *instance, r *decide.Ranking, i int) []float64 {
	if s.columns[i].of != nil {
		return s.columns[i].of(r)
	}
	k, n := 0, len(r.Candidates)
	for _, c := range s.columns[:i] {
		if c.of == nil {
			k++
		}
	}
	return in.history[k*n:][:n]
}

// HistoryCell returns what a column of the history, such as times.rejected.30d, holds for
// an offer in a ranking; false if there is no such column.
func HistoryCell(r *decide.Ranking, column, offer string) (cell float64, ok bool) {
	h, ok := abi.ParseHistoryColumn(column)
	if !ok {
		return 0, false
	}
	return ask(r, &h, offer), true
}

const day = 24 * time.Hour

// ask returns what a column of the history says of an offer.
func ask(r *decide.Ranking, h *abi.HistoryColumn, offer string) float64 {
	none := 0.0
	if h.What == abi.HistoryDays {
		none = -1
	}
	if r.History.Empty() {
		return none
	}
	f := profilestore.InteractionFilter{Type: profilestore.Outcomes, Outcome: h.Outcome, Offer: offer}
	if h.Outcome == abi.Contact {
		f = profilestore.InteractionFilter{Type: profilestore.Contacts, Offer: offer}
	}
	if h.What == abi.HistoryTimes {
		return float64(r.History.Count(f, time.Duration(h.Days)*day))
	}
	last, _, ok := r.History.Last(f)
	if !ok {
		return none
	}
	return math.Max(0, float64(r.Now-last)/float64(day.Microseconds()))
}
