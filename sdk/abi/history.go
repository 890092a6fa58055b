package abi

import "strings"

// ContextGroup begins the name of a context field in a manifest's profile: context.role.
const ContextGroup = "context."

// Contact stands in the name of a history column for what was shown; the others are
// outcomes, such as rejected.
const Contact = "contact"

// What a history column says of a candidate's offer.
const (
	// HistoryTimes counts: times.rejected.30d, or times.contact for all that is
	// remembered.
	HistoryTimes = "times"
	// HistoryDays is how many days ago the last was, a fraction among them, −1 if there
	// was none: days_since.contact.
	HistoryDays = "days_since"
)

// HistoryColumn is a candidate column of the customer's interaction history with the
// candidate's offer, in whatever channel.
type HistoryColumn struct {
	What    string // HistoryTimes or HistoryDays
	Outcome string // or Contact
	Days    int    // how many it looks back; 0: as far as is remembered
}

// MaxHistoryDays is how far a history column may look back.
const MaxHistoryDays = 400

// String returns the name of the column.
func (h HistoryColumn) String() string {
	s := h.What + "." + h.Outcome
	if h.Days > 0 {
		s += "." + digits(h.Days) + "d"
	}
	return s
}

func digits(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return digits(n/10) + string(rune('0'+n%10))
}

// ParseHistoryColumn reads the name of a history column, or reports false.
func ParseHistoryColumn(name string) (h HistoryColumn, ok bool) {
	var rest, span string
	h.What, rest, ok = strings.Cut(name, ".")
	if !ok || h.What != HistoryTimes && h.What != HistoryDays {
		return HistoryColumn{}, false
	}
	h.Outcome, span, ok = strings.Cut(rest, ".")
	if !isOutcome(h.Outcome) {
		return HistoryColumn{}, false
	}
	if !ok {
		return h, true
	}
	number, isDays := strings.CutSuffix(span, "d")
	if h.What != HistoryTimes || !isDays || number == "" || len(number) > 3 || number[0] == '0' {
		return HistoryColumn{}, false
	}
	for _, c := range []byte(number) {
		if c < '0' || c > '9' {
			return HistoryColumn{}, false
		}
		h.Days = h.Days*10 + int(c-'0')
	}
	if h.Days > MaxHistoryDays {
		return HistoryColumn{}, false
	}
	return h, true
}

// isOutcome reports whether s can be the name of an outcome: a-z, 0-9 and _, a letter
// first, at most 64.
func isOutcome(s string) bool {
	if s == "" || len(s) > 64 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}
