package profilestore

// At returns the history as a reading at another moment has it, as far as it is known
// now: of a later moment, what it is if nothing happens until then.
func (h History) At(now int64) History {
	h.now = now
	return h
}
