package main

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	rapportv1 "rapport/server/api/rapport/v1"
)

type snapshotVerifyCmd struct {
	Source     string `arg:"" optional:"" help:"Only snapshots of this source."`
	Generation int64  `arg:"" optional:"" help:"Only the one of this number."`
}

// Help is shown by --help.
func (snapshotVerifyCmd) Help() string {
	return `Every byte of a snapshot's files is read and compared with what was sealed when it was loaded. Activating
does the same; this finds out beforehand, and whether a rollback could be made. The exit code is 1 if a
snapshot is damaged. What to do then: rapport doctor --data DATA, or load the file again.

Examples:

	rapport snapshot verify
	rapport snapshot verify bi
	rapport snapshot verify bi 3 --data DATA`
}

// verifiedSnapshot is what came of one.
type verifiedSnapshot struct {
	Source     string `json:"source"`
	Generation int64  `json:"generation"`
	State      string `json:"state"`
	Bytes      int64  `json:"bytes"`
	Problem    string `json:"problem,omitempty"`
}

// Run verifies the snapshots, one after another.
func (cmd *snapshotVerifyCmd) Run(ctx context.Context, a *app) error {
	return a.call(ctx, func(c *clients) error {
		list, err := c.snapshots.ListSnapshots(ctx, connect.NewRequest(&rapportv1.ListSnapshotsRequest{Source: cmd.Source}))
		if err != nil {
			return err
		}
		var all []verifiedSnapshot
		damaged := 0
		for _, s := range list.Msg.GetSnapshots() {
			if cmd.Generation != 0 && s.GetGeneration() != cmd.Generation {
				continue
			}
			v := verifiedSnapshot{Source: s.GetSource(), Generation: s.GetGeneration(), State: s.GetState(), Bytes: s.GetBytes()}
			_, err := c.snapshots.VerifySnapshot(ctx, connect.NewRequest(&rapportv1.VerifySnapshotRequest{Source: v.Source, Generation: v.Generation}))
			if connect.CodeOf(err) == connect.CodeDataLoss {
				var e *connect.Error
				errors.As(err, &e)
				v.Problem = e.Message()
				damaged++
			} else if err != nil {
				return err
			}
			all = append(all, v)
		}
		if len(all) == 0 && cmd.Generation != 0 { // it says which there are
			_, err := c.snapshots.VerifySnapshot(ctx, connect.NewRequest(&rapportv1.VerifySnapshotRequest{Source: cmd.Source, Generation: cmd.Generation}))
			return err
		}
		if err := printVerifiedSnapshots(a, all); err != nil {
			return err
		}
		if damaged > 0 {
			return errReported
		}
		return nil
	})
}

func printVerifiedSnapshots(a *app, all []verifiedSnapshot) error {
	if a.json {
		return a.printJSON(all)
	}
	if len(all) == 0 {
		writef(a.err, "no snapshots yet: make one with `rapport load`\n")
		return nil
	}
	t := newTable("SOURCE", ">GENERATION", "STATE", ">SIZE", "RESULT")
	for _, v := range all {
		result := "as it was sealed"
		if v.Problem != "" {
			result = v.Problem
		}
		t.add(v.Source, v.Generation, v.State, formatBytes(v.Bytes), result)
	}
	return t.write(a.out)
}

type snapshotRemoveCmd struct {
	Source     string `arg:"" help:"The source."`
	Generation int64  `arg:"" help:"The number of the snapshot, as listed."`
	Last       bool   `help:"Also if it is the one that a rollback would go to."`
}

// Help is shown by --help.
func (snapshotRemoveCmd) Help() string {
	return `Loads remove what is too old by themselves; this is for a snapshot that is damaged or was a mistake. The
active one can't be removed: activate another first. The audit log has who removed what.

Examples:

	rapport snapshot remove bi 2
	rapport snapshot remove bi 2 --last --data DATA`
}

// Run removes a snapshot.
func (cmd *snapshotRemoveCmd) Run(ctx context.Context, a *app) error {
	return a.call(ctx, func(c *clients) error {
		r, err := c.snapshots.RemoveSnapshot(ctx, connect.NewRequest(&rapportv1.RemoveSnapshotRequest{Source: cmd.Source, Generation: cmd.Generation, Last: cmd.Last}))
		if err != nil {
			return err
		}
		if a.json {
			return a.printMessage(r.Msg)
		}
		s := r.Msg.GetRemoved()
		writef(a.out, "source %s: snapshot %d is removed (%s, %s)\n", s.GetSource(), s.GetGeneration(), plural(s.GetRows(), "customer"), formatBytes(s.GetBytes()))
		return nil
	})
}
