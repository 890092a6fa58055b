package decide

// Tie is the hash that orders equal scores.
func Tie(seed uint64, offer int) uint64 { return mix(seed, uint64(offer)) }
