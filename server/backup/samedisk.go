package backup

import (
	"os"
	"syscall"
)

// SameDisk reports whether two folders are on one file system, as far as that is known.
func SameDisk(a, b string) bool {
	device := func(dir string) (uint64, bool) {
		info, err := os.Stat(dir)
		if err != nil {
			return 0, false
		}
		s, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return 0, false
		}
		return uint64(s.Dev), true //nolint:unconvert // types differ between systems
	}
	x, ok := device(a)
	y, ok2 := device(b)
	return ok && ok2 && x == y
}
