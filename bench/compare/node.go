package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"rapport/bench"
)

// nodeBatch is how many customers a request to the process is about, so that the request
// costs next to nothing.
const nodeBatch = 20

// nodeRules is json-rules-engine on Node, in a process of its own: an engine with a rule for
// each offer, made once.
type nodeRules struct {
	contest *bench.Contest
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Scanner
}

func newNode(ctx context.Context, c *bench.Contest) (_ contender, err error) {
	program, err := exec.LookPath("node")
	if err != nil {
		return nil, &missingError{"node is not installed"}
	}
	if _, err := os.Stat("node_modules/json-rules-engine"); err != nil {
		return nil, &missingError{"json-rules-engine is not installed: run `npm ci` in bench/compare, and the command there"}
	}
	n := &nodeRules{contest: c, command: exec.CommandContext(ctx, program, "rules.mjs")} //nolint:gosec // a program of the machine
	n.command.Stderr = os.Stderr
	out, err := n.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if n.in, err = n.command.StdinPipe(); err != nil {
		return nil, err
	}
	if err := n.command.Start(); err != nil {
		return nil, err
	}
	n.out = bufio.NewScanner(out)
	n.out.Buffer(nil, 1<<20)
	if err := json.NewEncoder(n.in).Encode(map[string]any{"offers": c.Offers, "customers": c.Customers}); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// ask has the process decide for so many customers, and returns the last slate.
func (n *nodeRules) ask(first, count int) (slate []string, err error) {
	if _, err := fmt.Fprintf(n.in, "[%d,%d]\n", first, count); err != nil {
		return nil, err
	}
	if !n.out.Scan() {
		return nil, fmt.Errorf("node has ended: %w", n.out.Err())
	}
	return slate, json.Unmarshal(n.out.Bytes(), &slate)
}

// Decide answers for a customer.
func (n *nodeRules) Decide(_ context.Context, customer int) ([]string, error) {
	return n.ask(customer, 1)
}

// Batch is for how many customers DecideBatch decides.
func (*nodeRules) Batch() int { return nodeBatch }

// DecideBatch decides for a batch of customers.
func (n *nodeRules) DecideBatch(_ context.Context, first int) error {
	slate, err := n.ask(first, nodeBatch)
	if err == nil && len(slate) == 0 {
		err = errors.New("an empty slate")
	}
	return err
}

// Close ends the process.
func (n *nodeRules) Close() error { return errors.Join(n.in.Close(), n.command.Wait()) }
