package journal_test

import (
	"context"
	"fmt"
	"os"

	"rapport/profilestore/journal"
)

func Example() {
	dir, err := os.MkdirTemp("", "journal")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()

	ctx := context.Background()
	j, err := journal.Open(dir, journal.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	first, err := j.Append(ctx, &journal.Entry{Payload: []byte("order")}, &journal.Entry{Payload: []byte("call")})
	fmt.Println("durable from", first, err)
	fmt.Println("closed", j.Close())

	j, err = journal.Open(dir, journal.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = j.Close() }()
	err = j.Replay(ctx, 2, func(seq uint64, payload []byte) error {
		fmt.Println(seq, string(payload))
		return nil
	})
	fmt.Println("next is", j.Next(), err)
	// Output:
	// durable from 1 <nil>
	// closed <nil>
	// 2 call
	// next is 3 <nil>
}
