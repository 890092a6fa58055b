package profilestore

import "time"

// Empty reports whether there is no interaction at all.
func (h History) Empty() bool { return h.members == [MaxGroup]*history{} }

// TimesOfAny appends the times of the interactions in a window that any of the filters
// selects, each once, the latest first, for a limit that must not be passed: an
// interaction that is known by its day has the latest time that it can have, where Times
// gives it the first. So a customer with more than 256 interactions within the window is
// limited for up to a day too long, never too short.
func (h History) TimesOfAny(filters []InteractionFilter, within time.Duration, dst []int64) []int64 {
	begin := h.begin(within)
	if len(filters) == 1 {
		w := h.walk(&filters[0])
		w.atEnd = true
		for {
			_, _, at, n, _, ok := w.next()
			if !ok || at <= begin {
				return dst
			}
			for range n {
				dst = append(dst, at)
			}
		}
	}
	var matchers [MaxGroup][]matcher
	for i, member := range h.members {
		for k := range filters {
			if m, ok := member.matcher(&filters[k]); ok {
				matchers[i] = append(matchers[i], m)
			}
		}
	}
	w := h.walk(&InteractionFilter{})
	w.atEnd = true
	for {
		member, sig, at, n, _, ok := w.next()
		if !ok || at <= begin {
			return dst
		}
		for k := range matchers[member] {
			if matchers[member][k].matches(sig) {
				for range n {
					dst = append(dst, at)
				}
				break
			}
		}
	}
}
