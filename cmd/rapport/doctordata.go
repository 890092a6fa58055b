package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"rapport/server"
	"rapport/server/fsck"
	"rapport/server/sandbox"
)

// checkData checks a data folder, and repairs it if that is asked for.
func (cmd *doctorCmd) checkData(ctx context.Context, a *app) (err error) {
	data, err := a.target.folder("--repair is for a data folder")
	if err != nil {
		return err
	}
	switch {
	case cmd.Lang != "":
		return usagef("--lang is about this machine, and --data about a data folder: give one of them")
	case cmd.AcceptLoss && !cmd.Repair:
		return usagef("--accept-loss says what --repair may do: give both")
	}
	if _, err := os.Stat(data); err != nil {
		return fmt.Errorf("doctor: %w", err)
	}
	o := fsck.Options{AcceptLoss: cmd.AcceptLoss}
	if o.Checker, err = sandbox.CompilerCommand(); err != nil {
		return err
	}
	release, err := server.HoldFolder(data)
	locked, isLocked := errors.AsType[*server.LockedError](err)
	switch {
	case isLocked && cmd.Repair:
		return err
	case isLocked:
		o.Running = true
		release = func() error { return nil }
		writef(a.err, "%s is open in process %d: only files that never change are checked\n", data, locked.PID)
	case err != nil:
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	progress, read := a.progress("reading", -1), int64(0)
	o.Progress = func(bytes int64) {
		read += bytes
		progress.at(read)
	}
	report, err := fsck.Check(ctx, data, o)
	progress.end()
	if err == nil && cmd.Repair {
		err = report.Repair(ctx)
	}
	if err != nil {
		return err
	}
	if a.json {
		err = a.printJSON(report)
	} else {
		printReport(a, report, cmd.Repair)
	}
	if err == nil && report.Left() > 0 {
		err = errReported
	}
	return err
}

// printReport prints what was found for people.
func printReport(a *app, r *fsck.Report, repaired bool) {
	if len(r.Findings) == 0 {
		writef(a.out, "%s: nothing is wrong\n", printable(r.Dir))
		return
	}
	repairable := false
	for i := range r.Findings {
		f := &r.Findings[i]
		writef(a.out, "%s\n  wrong:    %s\n", printable(f.Path), printable(f.Problem))
		switch {
		case f.Done:
			writef(a.out, "  repaired: %s\n", f.Repair)
		case f.Failed != "":
			writef(a.out, "  failed:   %s: %s\n", f.Repair, printable(f.Failed))
		case f.Repair != "":
			repairable = true
			writef(a.out, "  repair:   %s\n", f.Repair)
		}
		if f.Lost != "" {
			writef(a.out, "  lost:     %s\n", f.Lost)
		}
		if f.Do != "" {
			writef(a.out, "  to do:    %s\n", f.Do)
		}
	}
	switch left := r.Left(); {
	case left == 0:
		writef(a.out, "\n%s: all is repaired", printable(r.Dir))
	case repaired:
		writef(a.out, "\n%s: %s left", printable(r.Dir), plural(left, "thing"))
	default:
		writef(a.out, "\n%s: %s wrong", printable(r.Dir), plural(left, "thing"))
	}
	if r.Aside != "" {
		writef(a.out, "; what was damaged is in %s", r.Aside)
	}
	if repairable {
		writef(a.out, "; to repair what can be repaired: rapport doctor --data %s --repair", printable(r.Dir))
	}
	writef(a.out, "\n")
}
