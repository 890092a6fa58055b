package rapport

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// Looking in the middle finds what looking through all finds.
func TestFindIsLikeLookingThroughAll(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 9))
	word := func(empty int) string {
		b := make([]byte, random.IntN(4)+1-empty*random.IntN(2))
		for i := range b {
			b[i] = []byte("ab:<\xc3\xbf")[random.IntN(6)] // bytes on both sides of the separator
		}
		return string(b)
	}
	found, missed, within := 0, 0, 0
	for range 20_000 {
		var elements []string
		for range random.IntN(60) {
			elements = append(elements, word(0))
		}
		slices.Sort(elements)
		elements = slices.Compact(elements)
		all := strings.Join(elements, ";")
		wanted := word(1)
		switch n := len(elements); {
		case n > 0 && random.IntN(3) == 0:
			wanted = elements[random.IntN(n)]
		case n > 1 && random.IntN(8) == 0: // none, but a part of the text
			wanted = elements[0] + ";" + elements[1]
			within++
		}
		want := slices.Contains(elements, wanted)
		if got := find(all, wanted); got != want {
			t.Fatalf("find(%q, %q) is %v", all, wanted, got)
		}
		if want {
			found++
		} else {
			missed++
		}
	}
	t.Logf("%d found, %d missed, of which %d go over a separator", found, missed, within)
	if found < 5000 || missed < 5000 || within < 100 {
		t.Error("not everything was tried")
	}
}
