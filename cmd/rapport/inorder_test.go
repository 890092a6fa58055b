package main

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func upTo(n int, then error) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for i := range n {
			if !yield(i, nil) {
				return
			}
		}
		if then != nil {
			yield(0, then)
		}
	}
}

func TestInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, atOnce = 50, 4
		var underWay, most atomic.Int32
		var got []int
		err := inOrder(t.Context(), atOnce, upTo(n, nil), func(_ context.Context, i int) (int, error) {
			most.Store(max(most.Load(), underWay.Add(1)))
			time.Sleep(time.Duration((i*7)%5) * time.Millisecond) //nolint:forbidigo // the work, of many lengths; time is synctest's
			underWay.Add(-1)
			return i * i, nil
		}, func(square int) error {
			got = append(got, square)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		want := make([]int, n)
		for i := range want {
			want[i] = i * i
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v", got)
		}
		if most.Load() != atOnce {
			t.Errorf("%d were under way at once, want %d", most.Load(), atOnce)
		}
	})
}

func TestInOrderEndsWithFirstError(t *testing.T) {
	broken := errors.New("broken")
	same := func(_ context.Context, i int) (int, error) { return i, nil }
	for _, test := range []struct {
		name  string
		items iter.Seq2[int, error]
		do    func(context.Context, int) (int, error)
		fails int // emit fails on this
		want  int // emitted before
	}{
		{"items", upTo(3, broken), same, -1, 3},
		{"do", upTo(100, nil), func(_ context.Context, i int) (int, error) {
			if i == 5 {
				return 0, broken
			}
			return i, nil
		}, -1, 5},
		{"emit", upTo(100, nil), same, 7, 7},
	} {
		t.Run(test.name, func(t *testing.T) {
			emitted := 0
			err := inOrder(t.Context(), 3, test.items, test.do, func(i int) error {
				if i == test.fails {
					return broken
				}
				emitted++
				return nil
			})
			if !errors.Is(err, broken) || emitted != test.want {
				t.Errorf("got %v after %d, want %v after %d", err, emitted, broken, test.want)
			}
		})
	}
}

// Input that does not come must not keep an interrupted command from ending.
func TestInOrderEndsWhileInputBlocks(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	stuck := make(chan struct{})
	defer close(stuck)
	items := func(yield func(int, error) bool) {
		if yield(1, nil) {
			<-stuck
		}
	}
	err := inOrder(ctx, 2, items, func(_ context.Context, i int) (int, error) { return i, nil }, func(int) error {
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}
