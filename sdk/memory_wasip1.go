package rapport

import (
	"runtime"
	"runtime/debug"
	"unsafe"
)

// What a call finds ready.
const (
	// readyHeap is free memory, in bytes. Objects of many sizes leave gaps in what
	// the heap gives out: 6 MB are enough for 4 MB of them.
	readyHeap = 6 << 20
	// readyStack is how deep the stack may get, in bytes, before Go moves it.
	readyStack = 128 << 10
)

// How Go's heap is divided: objects of up to largeSize bytes come out of spans of
// pages, each of which holds objects of one size class, with pointers in them or
// without.
const (
	heapPage   = 8 << 10
	largeSize  = 32 << 10
	commonSize = 1 << 10 // most objects are not larger
)

// readyMemory turns garbage collection off and makes memory ready, so that calls
// need not grow it: an instance whose memory grew in a call is thrown away. It is
// the last thing before the image is taken.
//
// Free memory alone is not enough. Each size class has lists of its spans, which
// the runtime makes when the first span of the class is full and never frees; a
// call that allocated 3 MB in objects of 60 classes took 800 KB for lists. So the
// range that calls will use is claimed whole, to be in one piece, and then a span
// of every class is filled out of it. Which lists are in use changes with each
// collection and comes back with the second.
//
// What remains is for speed: a span of each common class is at hand, so that a
// small object costs a call the page that it is in and not the pages of the
// runtime's books (a call that fills a map dirties 11 pages of 4 KB and not 17,
// one that recovers from panics 30 and not 47), and the stack is deep. The stack
// comes after all collections, because they shrink it.
func readyMemory() {
	debug.SetGCPercent(-1)
	claim()
	runtime.GC()
	for _, pointers := range []bool{false, true} {
		fillSpans(pointers)
		runtime.GC()
		runtime.GC()
	}
	for size := range sizeClasses(commonSize) {
		allocate(size, false)
		allocate(size, true)
	}
	deepen(readyStack / stackStep)
}

//go:noinline
func claim() { runtime.KeepAlive(make([]byte, readyHeap)) }

// fillSpans fills a span of each size class, with all objects alive at once. The
// heap has nothing but whole pages free, so an object at the start of a page is
// the first of its span, and when there is a second such object the first span is
// full.
//
//go:noinline
func fillSpans(pointers bool) {
	var kept []unsafe.Pointer
	for size := range sizeClasses(largeSize) {
		for spans := 0; spans < 2; {
			object := allocate(size, pointers)
			kept = append(kept, object)
			if uintptr(object)&^pointersHeader%heapPage == 0 {
				spans++
			}
		}
	}
	runtime.KeepAlive(kept)
}

// sizeClasses yields the sizes of objects that the heap tells apart, up to most.
func sizeClasses(most int) func(yield func(size int) bool) {
	return func(yield func(size int) bool) {
		for size := 8; size <= most && yield(size); {
			// A slice grows to all of what its new object holds.
			size = cap(append([]byte(nil), make([]byte, size+1)...))
		}
	}
}

// pointersHeader is what the heap puts before larger objects with pointers, in
// bytes: a power of two.
const pointersHeader = 8

// allocate makes an object on the heap.
//
//go:noinline
func allocate(size int, pointers bool) unsafe.Pointer {
	if pointers {
		return unsafe.Pointer(unsafe.SliceData(make([]*byte, size/8))) //nolint:gosec // only its address is looked at
	}
	return unsafe.Pointer(unsafe.SliceData(make([]byte, size))) //nolint:gosec // as above
}

// stackStep is how much stack a call of deepen takes.
const stackStep = 16 << 10

// deepen makes the stack n steps deep.
//
//go:noinline
func deepen(n int) byte {
	var step [stackStep]byte
	if n > 0 {
		step[n] = deepen(n - 1)
	}
	return step[n/2]
}
