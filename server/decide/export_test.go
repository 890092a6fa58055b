package decide

// Tie is the hash that orders equal scores.
func Tie(seed uint64, offer int) uint64 { return mix(seed, uint64(offer)) }

// InControlGroup reports whether a customer is in the control group of a salt.
func InControlGroup(customer uint64, salt string, share float64) bool {
	return inControlGroup(customer, saltHash(salt), share)
}
