// Command tricky is a strategy that does what strategies should not, or need not
// be able to. The tests of server/sandbox build it; the parameter mode says what
// it does. Its scores are what it sees.
package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"time"

	rapport "rapport/sdk"
)

var (
	segment = rapport.Text("general.customer_type")
	joined  = rapport.Time("general.customer_since")
	mode    = rapport.Parameter("mode", 0, 0, 100)
	odd     = rapport.Reason("ODD")
)

// What a call would leave to the next if it could.
var (
	calls    int
	seen     = map[string]int{"nobody": 1}
	kept     []string
	pointers []*string
)

func init() {
	rapport.Name("tricky", "0.1", "Does what strategies should not.")
	rapport.Rank(rank)
}

func rank(d *rapport.Decision) {
	score := 0.0
	switch int(mode.Of(d)) {
	case 0: // remembers
		who := segment.Or(d, "nobody")
		calls++
		seen[who]++
		kept = append(kept, who)
		pointers = append(pointers, &who)
		score = float64(calls + 10*seen[who] + 100*len(seen) + 1000*len(kept) + 10000*len(pointers))
	case 1: // panics
		var none []int
		_ = none[d.Len()]
	case 2:
		panic(fmt.Sprintf("no offers for %s", segment.Or(d, "nobody")))
	case 3, 15: // allocates 64 KB, or 2 MB, a little at a time
		n := 64
		if mode.Of(d) == 15 {
			n = 2048
		}
		var list [][]byte
		for range n {
			list = append(list, make([]byte, 1024))
		}
		score = float64(len(list))
	case 4: // allocates more than it may without growing
		score = float64(len(make([]byte, 12<<20)))
	case 5: // allocates more than there is
		score = float64(len(make([]byte, 60<<20)))
	case 6: // draws, both from the decision and from Go's own generator
		score = d.Rand().Float64() + float64(rand.IntN(1<<30))
	case 7: // asks for the time, and sleeps
		begin := time.Now()
		time.Sleep(time.Hour)
		score = float64(begin.UnixMicro()) + time.Since(begin).Seconds()/7200
	case 8: // looks around
		if _, err := os.ReadDir("/"); err == nil {
			score++
		}
		if _, err := os.ReadFile("/etc/passwd"); err == nil {
			score++
		}
		score += float64(len(os.Args) + len(os.Environ()))
	case 9: // talks
		fmt.Println("to standard output")
		println("to standard error")
		rapport.Log(rapport.LevelWarn, "to the log")
	case 10: // has the garbage collector run
		runtime.GC()
		score = joined.Or(d, time.Unix(0, 0)).Sub(d.Now()).Hours()
	case 11: // starts goroutines
		c := make(chan int)
		for i := range 10 {
			go func() { c <- i }()
		}
		var got []int
		for range 10 {
			got = append(got, <-c)
		}
		slices.Sort(got)
		score = float64(got[9])
	case 12: // waits for ever
		select {}
	case 13: // ends
		os.Exit(0)
	case 14: // recurses for ever
		score = deep(d.Len())
	case 16, 17, 18, 19, 20, 21:
		score = allocate(d, int(mode.Of(d)))
	case 22: // remembers, by all means
		score = remember(d)
	}
	for c := range d.Candidates() {
		c.Score(score)
		c.Because(odd)
	}
}

func deep(n int) float64 {
	var big [64]float64
	big[n%64] = deep(n+1) + 1
	return big[(n+1)%64]
}

func main() {}
