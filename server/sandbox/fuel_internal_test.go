package sandbox

import (
	"testing"
	"time"
)

func TestSlow(t *testing.T) {
	for _, c := range []struct {
		ran  time.Duration
		fuel int64
		want bool
	}{
		{0, 0, false}, // not known
		{slowLeast, 0, false},
		{slowLeast + 1, 0, true}, // so little fuel for a millisecond
		{8 * time.Millisecond, 1_000_000, false},
		{8*time.Millisecond + 1, 1_000_000, true},
		{200 * time.Millisecond, 1_500_000, true}, // pointers through 16 MB
		{2 * time.Millisecond, 1_500_000, false},
	} {
		if got := slow(c.ran, c.fuel); got != c.want {
			t.Errorf("%v for %d units: %v", c.ran, c.fuel, got)
		}
	}
}
