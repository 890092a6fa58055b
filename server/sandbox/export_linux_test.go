//go:build amd64 || arm64

package sandbox

// ReserveTooMuch asks for more addresses than there are, and returns the memory
// that wazero is given all the same, what it gets when it grows, and the error.
func ReserveTooMuch() (memory, grown []byte, err error) {
	s := reserve(1 << 60)
	defer s.Free()
	return s.Reallocate(wasmPage), s.Reallocate(2 * wasmPage), s.err
}

// GrowTooMuch grows a memory to its maximum and over it.
func GrowTooMuch() (first, grown, over []byte, err error) {
	s := reserve(2 * wasmPage)
	defer s.Free()
	return s.Reallocate(wasmPage), s.Reallocate(2 * wasmPage), s.Reallocate(3 * wasmPage), s.err
}
