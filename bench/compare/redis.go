package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/redis/go-redis/v9"

	"rapport/bench"
)

// inRedis is what a team builds first: profiles as JSON in Redis, over a socket of its own
// machine, decoded by encoding/json into a struct, the rules written in Go. Nothing is
// sandboxed, merged, capped or remembered.
type inRedis struct {
	contest *bench.Contest
	server  *exec.Cmd
	client  *redis.Client
	dir     string
	ids     []string
}

func newRedis(ctx context.Context, c *bench.Contest) (_ contender, err error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, &missingError{"redis-server is not installed"}
	}
	r := &inRedis{contest: c}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if r.dir, err = os.MkdirTemp("", "rapport-bench"); err != nil {
		return nil, err
	}
	socket := filepath.Join(r.dir, "socket")
	// No snapshots and no append-only file: nothing but answers.
	r.server = exec.CommandContext(ctx, program, "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no", "--dir", r.dir, "--loglevel", "warning") //nolint:gosec // a program of the machine
	if err := r.server.Start(); err != nil {
		return nil, err
	}
	r.client = redis.NewClient(&redis.Options{Network: "unix", Addr: socket, Protocol: 3})
	for begun := time.Now(); r.client.Ping(ctx).Err() != nil; {
		if time.Since(begun) > 10*time.Second {
			return nil, errors.New("redis-server does not answer")
		}
		<-time.After(10 * time.Millisecond)
	}
	pipe := r.client.Pipeline()
	for i := range c.Customers {
		b, err := json.Marshal(&c.Customers[i])
		if err != nil {
			return nil, err
		}
		r.ids = append(r.ids, "customer:"+c.Customers[i].ID)
		pipe.Set(ctx, r.ids[i], b, 0)
	}
	_, err = pipe.Exec(ctx)
	return r, err
}

// Decide answers for a customer.
func (r *inRedis) Decide(ctx context.Context, customer int) ([]string, error) {
	b, err := r.client.Get(ctx, r.ids[customer]).Bytes()
	if err != nil {
		return nil, err
	}
	return r.slate(b)
}

// slate decides from a profile.
func (r *inRedis) slate(b []byte) ([]string, error) {
	var x bench.ContestCustomer
	if err := json.Unmarshal(b, &x); err != nil {
		return nil, fmt.Errorf("a profile: %w", err)
	}
	var best bench.ContestBest
	for i := range r.contest.Offers {
		if o := &r.contest.Offers[i]; o.Eligible(&x) {
			best.Add(i, o.Score(&x))
		}
	}
	return best.IDs(r.contest), nil
}

// inRedisPiped is likewise, for batchPiped customers at a time, in one pipeline: no answer to a
// customer who waits, but what Redis does best.
type inRedisPiped struct{ *inRedis }

const batchPiped = 20

func newRedisPiped(ctx context.Context, c *bench.Contest) (contender, error) {
	r, err := newRedis(ctx, c)
	if err != nil {
		return nil, err
	}
	return inRedisPiped{r.(*inRedis)}, nil
}

// Batch is for how many customers DecideBatch decides.
func (inRedisPiped) Batch() int { return batchPiped }

// DecideBatch decides for a batch of customers.
func (r inRedisPiped) DecideBatch(ctx context.Context, first int) error {
	pipe := r.client.Pipeline()
	var answers [batchPiped]*redis.StringCmd
	for i := range answers {
		answers[i] = pipe.Get(ctx, r.ids[(first+i)%len(r.ids)])
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	for _, a := range answers {
		b, err := a.Bytes()
		if err != nil {
			return err
		}
		slate, err := r.slate(b)
		if err == nil && len(slate) == 0 {
			err = errors.New("an empty slate")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Close ends the server.
func (r *inRedis) Close() error {
	var errs []error
	if r.client != nil {
		errs = append(errs, r.client.Close())
	}
	if r.server != nil && r.server.Process != nil {
		errs = append(errs, r.server.Process.Signal(os.Interrupt))
		_ = r.server.Wait() // it says how it ended, which is as asked
	}
	if r.dir != "" {
		errs = append(errs, os.RemoveAll(r.dir))
	}
	return errors.Join(errs...)
}
