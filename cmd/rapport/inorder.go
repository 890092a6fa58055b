package main

import (
	"context"
	"io"
	"iter"
	"sync"
	"sync/atomic"
)

// inOrder does something to each item of a sequence, with at most so many under
// way at once, and hands the results to emit in the order of the items. The first
// error, of the sequence, of do or of emit, ends it; what came before has then
// been emitted, and nothing is under way any more. Only the sequence itself may
// outlive the call, if it is waiting for input that does not come.
func inOrder[T, R any](ctx context.Context, atOnce int, items iter.Seq2[T, error], do func(context.Context, T) (R, error), emit func(R) error) error {
	type outcome struct {
		result R
		err    error
	}
	type input struct {
		item T
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer cancel()

	inputs := make(chan input)
	go func() {
		defer close(inputs)
		for item, err := range items {
			select {
			case inputs <- input{item, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	var underWay []chan outcome // oldest first
	for ended := false; ; {
		var next chan input
		if len(underWay) < atOnce && !ended {
			next = inputs
		}
		var oldest chan outcome
		if len(underWay) > 0 {
			oldest = underWay[0]
		}
		if next == nil && oldest == nil {
			return nil
		}
		select {
		case in, ok := <-next:
			if !ok {
				ended = true
				continue
			}
			done := make(chan outcome, 1)
			underWay = append(underWay, done)
			if in.err != nil {
				done <- outcome{err: in.err}
				ended = true
				continue
			}
			workers.Go(func() {
				result, err := do(ctx, in.item)
				done <- outcome{result, err}
			})
		case o := <-oldest:
			underWay = underWay[1:]
			if o.err != nil {
				return o.err
			}
			if err := emit(o.result); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// countingReader counts what is read through it. The count may be watched from
// another goroutine.
type countingReader struct {
	r io.Reader
	n atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}
