package main

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	rapportv1 "rapport/server/api/rapport/v1"
)

// snapshotCmd manages the batch loads of each source.
type snapshotCmd struct {
	List     snapshotListCmd     `cmd:"" help:"List the snapshots of each source."`
	Activate snapshotActivateCmd `cmd:"" help:"Make a snapshot the current one of its source."`
	Rollback snapshotRollbackCmd `cmd:"" help:"Put back the snapshot that was current before."`
	Verify   snapshotVerifyCmd   `cmd:"" help:"Compare snapshots with what was sealed."`
	Remove   snapshotRemoveCmd   `cmd:"" help:"Remove a snapshot from the disk, for good."`
}

// Help is shown by --help.
func (snapshotCmd) Help() string {
	return `A snapshot is one batch load of one source; its number is its generation. One of each source is
active. To change it is to flip a pointer: other sources and what events have changed stay.`
}

type snapshotListCmd struct {
	Source string `arg:"" optional:"" help:"Only snapshots of this source."`
}

// Help is shown by --help.
func (snapshotListCmd) Help() string {
	return `A snapshot is stale if its as-of time is longer ago than max_age allows its source in the schema. It is
used all the same.

Examples:

	rapport snapshot list
	rapport snapshot list bi --json`
}

// Run lists the snapshots.
func (cmd *snapshotListCmd) Run(ctx context.Context, a *app) error {
	return a.call(ctx, func(c *clients) error {
		r, err := c.snapshots.ListSnapshots(ctx, connect.NewRequest(&rapportv1.ListSnapshotsRequest{Source: cmd.Source}))
		if err != nil {
			return err
		}
		if a.json {
			return a.printMessage(r.Msg)
		}
		if len(r.Msg.GetSnapshots()) == 0 {
			writef(a.err, "no snapshots yet: make one with `rapport load`\n")
			return nil
		}
		t := newTable("SOURCE", ">GENERATION", "STATE", "AS OF", ">CUSTOMERS", ">SIZE", "SEALED AT", "FROM")
		for _, s := range r.Msg.GetSnapshots() {
			state := s.GetState()
			if s.GetStale() {
				state += " (stale)"
			}
			t.add(s.GetSource(), s.GetGeneration(), state, formatTime(s.GetAsOf()), s.GetRows(), formatBytes(s.GetBytes()), formatTime(s.GetSealedAt()), s.GetOrigin())
		}
		return t.write(a.out)
	})
}

type snapshotActivateCmd struct {
	Source     string `arg:"" help:"The source."`
	Generation int64  `arg:"" help:"The number of the snapshot, as listed."`
}

// Help is shown by --help.
func (snapshotActivateCmd) Help() string {
	return `Examples:

	rapport snapshot activate bi 3`
}

// Run activates a snapshot.
func (cmd *snapshotActivateCmd) Run(ctx context.Context, a *app) error {
	return a.call(ctx, func(c *clients) error { return activate(ctx, a, c, cmd.Source, cmd.Generation) })
}

// activate makes a snapshot current and prints the response.
func activate(ctx context.Context, a *app, c *clients, source string, generation int64) error {
	r, err := c.snapshots.ActivateSnapshot(ctx, connect.NewRequest(&rapportv1.ActivateSnapshotRequest{Source: source, Generation: generation}))
	if err != nil {
		return err
	}
	if a.json {
		return a.printMessage(r.Msg)
	}
	return printActive(a, r.Msg.GetActive(), "before", r.Msg.GetPreviousGeneration())
}

type snapshotRollbackCmd struct {
	Source string `arg:"" help:"The source."`
}

// Help is shown by --help.
func (snapshotRollbackCmd) Help() string {
	return `Examples:

	rapport snapshot rollback bi`
}

// Run rolls a source back.
func (cmd *snapshotRollbackCmd) Run(ctx context.Context, a *app) error {
	return a.call(ctx, func(c *clients) error {
		r, err := c.snapshots.RollbackSnapshot(ctx, connect.NewRequest(&rapportv1.RollbackSnapshotRequest{Source: cmd.Source}))
		if err != nil {
			return err
		}
		if a.json {
			return a.printMessage(r.Msg)
		}
		return printActive(a, r.Msg.GetActive(), "rolled back from", r.Msg.GetPreviousGeneration())
	})
}

// printActive says which snapshot is current now.
func printActive(a *app, s *rapportv1.Snapshot, previously string, generation int64) error {
	other := ""
	if generation != 0 {
		other = fmt.Sprintf("; %s %d", previously, generation)
	}
	_, err := fmt.Fprintf(a.out, "source %s: snapshot %d is active (%s as of %s%s)\n",
		s.GetSource(), s.GetGeneration(), plural(s.GetRows(), "customer"), formatTime(s.GetAsOf()), other)
	return err
}
