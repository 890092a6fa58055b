package server

import (
	"context"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestBodies: large bodies never hold more tokens than there are, every one is
// read in the end, and small ones need none.
func TestBodies(t *testing.T) {
	b := newBodies()
	var most atomic.Int64
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			size := []int{100, bodyPart, bodyPart + 1, 1 << 20, 4 << 20}[i%5]
			length := int64(size)
			if i%2 == 0 {
				length = -1
			}
			c := &countedBody{ReadCloser: io.NopCloser(strings.NewReader(strings.Repeat("x", size))), ctx: context.Background(), bodies: b, length: length}
			n, err := io.Copy(io.Discard, c)
			if err != nil || n != int64(size) {
				t.Errorf("%d bytes of %d: %v", n, size, err)
			}
			if (c.parts > 0) != (size > bodyPart) && size != bodyPart+1 { // that one may be read in one piece
				t.Errorf("a body of %d bytes took %d tokens", size, c.parts)
			}
			held := int64(len(b.tokens))
			for old := most.Load(); held > old && !most.CompareAndSwap(old, held); old = most.Load() {
			}
			b.leave(c.parts)
		})
	}
	wg.Wait()
	if len(b.tokens) != 0 || most.Load() == 0 || most.Load() > bodyParts {
		t.Errorf("%d tokens are left over, at most %d were taken", len(b.tokens), most.Load())
	}
	// Who gives up gives back.
	if _, ok := b.enter(context.Background(), bodyParts*bodyPart); !ok {
		t.Fatal("no tokens")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, ok := b.enter(ctx, bodyPart); ok {
		t.Error("tokens that were not there were taken")
	}
	b.leave(bodyParts)
	if len(b.tokens) != 0 {
		t.Error("tokens were lost")
	}
}
