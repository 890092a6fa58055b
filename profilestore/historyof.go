package profilestore

// HistoryOf returns the history, at a moment, of a customer with one identity to whom these
// interactions happened, in whatever order: for tests, and for those who ask what would be.
// The items of each are ascending, each once.
func HistoryOf(now int64, interactions ...Interaction) History {
	h := History{now: now}
	if len(interactions) == 0 {
		return h
	}
	m := (*history)(nil).clone()
	for i := range interactions {
		m.add(&interactions[i], historyLimits)
	}
	h.members[0] = m
	return h
}
