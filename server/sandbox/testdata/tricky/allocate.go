package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	rapport "rapport/sdk"
)

// node is an object with pointers.
type node struct {
	left, right *node
	name        string
	more        [3]any
}

// allocate allocates in one of the ways that programs do, as much as the SDK says
// that a call may, and returns a number that depends on all of it. How much and
// in which sizes is drawn from the decision's seed.
func allocate(d *rapport.Decision, mode int) (sum float64) {
	random := rand.New(d.Rand())
	switch mode {
	case 16: // objects of all sizes, with pointers and without
		return sizes(random, 4<<20)
	case 17: // a deep stack
		return down(2000 + random.IntN(4000))
	case 18: // goroutines that wait for each other, with timers
		return concurrent(100)
	case 19: // panics that are recovered from, errors, deferred calls
		for i := range 200 {
			sum += recovered(i)
		}
	case 20: // slices and strings that grow
		var list []float64
		var text strings.Builder
		for i := range 20_000 + random.IntN(20_000) {
			list = append(list, float64(i))
			text.WriteString("abc"[i%3 : i%3+1])
		}
		slices.SortFunc(list, func(a, b float64) int { return int(b - a) })
		sum = list[0] + float64(text.Len())
	case 21: // maps that grow
		byNumber, byText := make(map[int]*node), make(map[string]float64)
		for i := range 2000 + random.IntN(2000) {
			byNumber[i*7] = &node{name: fmt.Sprint("node ", i)}
			byText[byNumber[i*7].name] = float64(i)
		}
		for i, n := range byNumber {
			sum += byText[n.name] + float64(i)
		}
	}
	return sum
}

// sizes allocates objects of random sizes, of room bytes together, and keeps them
// all.
func sizes(random *rand.Rand, room int) (sum float64) {
	var list *node
	var plain [][]byte
	var pointers [][]*node
	for room > 0 {
		// Small sizes are as frequent as large ones are heavy.
		size := 1 << random.IntN(15)
		size += random.IntN(size)
		switch random.IntN(3) {
		case 0:
			plain = append(plain, make([]byte, size))
		case 1:
			pointers = append(pointers, make([]*node, size/8))
		case 2:
			size = 128
			list = &node{left: list, name: fmt.Sprint(random.IntN(1000)), more: [3]any{size, "x", nil}}
		}
		room -= size + 40
		sum += float64(size)
	}
	for n := list; n != nil; n = n.left {
		sum += float64(len(n.name))
	}
	return sum + float64(len(plain)+len(pointers))
}

func down(n int) float64 {
	var frame [8]float64
	if n > 0 {
		frame[n%8] = down(n-1) + 1
	}
	return frame[n%8]
}

func concurrent(n int) (sum float64) {
	var mu sync.Mutex
	var wait sync.WaitGroup
	results := make(chan float64)
	done := make(chan struct{})
	for i := range n {
		wait.Go(func() {
			mu.Lock()
			sum += float64(i)
			mu.Unlock()
			select {
			case results <- float64(i):
			case <-time.After(time.Hour):
			}
		})
	}
	go func() {
		for r := range results {
			sum += r
		}
		close(done)
	}()
	wait.Wait()
	close(results)
	<-done
	return sum
}

var errOdd = errors.New("odd")

func recovered(i int) (sum float64) {
	defer func() {
		switch v := recover().(type) {
		case error:
			sum = float64(len(v.Error()))
		case string:
			sum = float64(len(v))
		}
	}()
	switch i % 3 {
	case 0:
		panic(fmt.Errorf("number %d: %w", i, errOdd))
	case 1:
		panic("a text of its own")
	}
	var none []int
	return float64(none[i])
}
