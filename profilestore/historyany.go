package profilestore

import "time"

// Empty reports whether there is no interaction at all.
func (h History) Empty() bool { return h.members == [MaxGroup]*history{} }

// TimesOfAny appends the times of the interactions in a window that any of the filters
// selects, each once, as Times does.
func (h History) TimesOfAny(filters []InteractionFilter, within time.Duration, dst []int64) []int64 {
	if len(filters) == 1 {
		return h.Times(filters[0], within, dst)
	}
	var matchers [MaxGroup][]matcher
	for i, member := range h.members {
		for k := range filters {
			if m, ok := member.matcher(&filters[k]); ok {
				matchers[i] = append(matchers[i], m)
			}
		}
	}
	begin := h.begin(within)
	w := h.walk(&InteractionFilter{})
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
