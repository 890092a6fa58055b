package main

import (
	"context"
	"fmt"
	"time"

	"rapport/server"
	"rapport/server/backup"
)

// backupCmd copies data folders to a folder of backups, and looks after that.
type backupCmd struct {
	Make   backupMakeCmd   `cmd:"" default:"withargs" help:"Make a backup (what rapport backup does)."`
	List   backupListCmd   `cmd:"" help:"List the backups of a folder."`
	Verify backupVerifyCmd `cmd:"" help:"Read backups, and say which can be restored."`
	Prune  backupPruneCmd  `cmd:"" help:"Remove old backups."`
}

// Help is shown by --help.
func (backupCmd) Help() string {
	return `A backup is a copy of a data folder, which a server may have open: it reads files and waits for nobody. What was
acknowledged before it began is in it. It copies what has changed since the last one to the same folder, and
each can be restored by itself, with ` + "`rapport restore`" + `.

A backup holds the keys of the server and the personal data of its customers: keep the folder as safe as the
data folder. Only its owner can read it. Rapport does not encrypt it or send it elsewhere: have restic, rclone
or another tool copy the folder, at any time but while a backup is being made or pruned.

Examples:

	rapport backup --data DATA --to /mnt/backups
	rapport backup list /mnt/backups
	rapport backup verify /mnt/backups
	rapport backup prune /mnt/backups --keep-for 30d
	rapport restore --from /mnt/backups --data NEWDATA`
}

type backupMakeCmd struct {
	To      string `required:"" help:"The folder of backups, on another disk; it is made if it does not exist." placeholder:"FOLDER"`
	ReadAll bool   `help:"Read every file, also those that seem not to have changed."`
	MaxRate int64  `help:"Read at most so many megabytes a second; 0: as fast as it goes." default:"0" placeholder:"MB"`
}

// Help is shown by --help.
func (backupMakeCmd) Help() string {
	return `A server may have the data folder open. Everything is copied but what follows from the rest: the delta records,
which a restored server derives from its journal when it first starts, and compiled strategies. What is in the
folder of backups already is not copied again, and a file that has not changed on the disk is not even read.

While a backup is made, old snapshots, files of the decision log and the like are not removed; they go later. A
second backup of the same data folder is refused.

If it is killed, or the disk is full, there is no new backup, the earlier ones are as they were, and what was
copied is not copied again. The exit code is 1 also if the backup was made and something in the data folder is
damaged: it is copied as it is, and the earlier backups have it as it was.

A line of cron, for every night:

	15 3 * * *  rapport backup --data DATA --to FOLDER && rapport backup prune FOLDER --keep-for 30d

Examples:

	rapport backup --data DATA --to /mnt/backups
	rapport backup --data DATA --to /mnt/backups --max-rate 50 --json`
}

// madeBackup is a backup as JSON has it.
type madeBackup struct {
	ID          string    `json:"id"`
	AsOf        time.Time `json:"asOf"`
	Ended       time.Time `json:"ended"`
	Seconds     float64   `json:"seconds"`
	Files       int       `json:"files"`
	Bytes       int64     `json:"bytes"`
	CopiedBytes int64     `json:"copiedBytes"`
	Entries     uint64    `json:"journalEntries"` // the number of the last one
	Version     string    `json:"version"`
	Data        string    `json:"data"`
	Problems    []string  `json:"problems"`
}

func describeBackup(m *backup.Manifest) madeBackup {
	return madeBackup{
		ID: m.ID, AsOf: m.AsOf, Ended: m.Ended, Seconds: m.Ended.Sub(m.Began).Seconds(), Files: len(m.Files), Bytes: m.Bytes(),
		CopiedBytes: m.Copied.Bytes, Entries: max(m.Next, 1) - 1, Version: m.Version, Data: m.Data, Problems: append([]string{}, m.Problems...),
	}
}

// Run makes a backup.
func (cmd *backupMakeCmd) Run(ctx context.Context, a *app) error {
	data, err := a.target.folder("a backup is one of a data folder")
	if err != nil {
		return err
	}
	if cmd.MaxRate < 0 {
		return usagef("--max-rate is 0 or more")
	}
	if err := checkDataFolder(data); err != nil {
		return err
	}
	if err := server.CheckFolder(data); err != nil {
		return err
	}
	bar := a.progress("reading", -1)
	defer func() { bar.end() }()
	m, err := backup.Take(ctx, backup.Options{
		Data: data, To: cmd.To, Version: programVersion(), ReadAll: cmd.ReadAll, MaxRate: cmd.MaxRate * 1e6, Progress: bar.at,
	})
	bar.end()
	if err != nil {
		return err
	}
	if backup.SameDisk(data, cmd.To) {
		writef(a.err, "note: %s is on the same disk as the data folder: if that disk is lost, both are\n", cmd.To)
	}
	if a.json {
		err = a.printJSON(describeBackup(m))
	} else {
		_, err = fmt.Fprintf(a.out, "backup %s: %s, %s, %s copied\n", m.ID, plural(len(m.Files), "file"), formatBytes(m.Bytes()), formatBytes(m.Copied.Bytes))
	}
	for _, p := range m.Problems {
		writef(a.err, "damaged, and copied as it is: %s\n", printable(p))
	}
	if err == nil && len(m.Problems) > 0 {
		err = errReported
	}
	return err
}

type backupListCmd struct {
	Folder string `arg:"" help:"The folder of backups."`
}

// Help is shown by --help.
func (backupListCmd) Help() string {
	return `AS OF is the time before which everything that was acknowledged is in the backup; COPIED what was not in the
folder already. Only backups that were completed are there. With --json the list has lastSuccessful, the time of the
newest without problems, for monitoring.

Examples:

	rapport backup list /mnt/backups
	rapport backup list /mnt/backups --json`
}

// Run lists the backups.
func (cmd *backupListCmd) Run(a *app) error {
	list, err := backup.List(cmd.Folder)
	if err != nil {
		return err
	}
	if a.json {
		return cmd.printJSON(a, list)
	}
	if len(list) == 0 {
		writef(a.err, "no backups yet: make one with `rapport backup --data DATA --to %s`\n", cmd.Folder)
		return nil
	}
	t := newTable("BACKUP", "AS OF", ">FILES", ">SIZE", ">COPIED", ">JOURNAL", "STATE")
	for _, b := range list {
		if b.Err != nil {
			t.add(b.ID, none, none, none, none, none, b.Err)
			continue
		}
		m, state := b.Manifest, "complete"
		if len(m.Problems) > 0 {
			state = "complete; the data folder was damaged"
		}
		t.add(m.ID, m.AsOf.Format(time.RFC3339), len(m.Files), formatBytes(m.Bytes()), formatBytes(m.Copied.Bytes), describeBackup(m).Entries, state)
	}
	return t.write(a.out)
}

func (cmd *backupListCmd) printJSON(a *app, list []backup.Listed) error {
	type unreadable struct {
		ID    string `json:"id"`
		Error string `json:"error"`
	}
	out := struct {
		Backups        []madeBackup `json:"backups"`
		Unreadable     []unreadable `json:"unreadable"`
		LastSuccessful *time.Time   `json:"lastSuccessful"`
	}{Backups: []madeBackup{}, Unreadable: []unreadable{}}
	for _, b := range list {
		if b.Err != nil {
			out.Unreadable = append(out.Unreadable, unreadable{b.ID, b.Err.Error()})
			continue
		}
		out.Backups = append(out.Backups, describeBackup(b.Manifest))
		if len(b.Manifest.Problems) == 0 {
			out.LastSuccessful = &b.Manifest.AsOf
		}
	}
	return a.printJSON(out)
}

type backupVerifyCmd struct {
	Folder  string `arg:"" help:"The folder of backups."`
	Backup  string `help:"Only this one." placeholder:"ID"`
	Quick   bool   `help:"Only look whether everything is there, and do not read it."`
	Discard bool   `help:"Remove what is damaged: the next backup copies it again, as far as the data folder still has it."`
}

// Help is shown by --help.
func (backupVerifyCmd) Help() string {
	return `Everything is read and compared with its hash. The exit code is 1 if a backup can't be restored; what is
damaged in it is named.

Examples:

	rapport backup verify /mnt/backups
	rapport backup verify /mnt/backups --quick
	rapport backup verify /mnt/backups --backup 20260301T031500Z --json`
}

// Run verifies.
func (cmd *backupVerifyCmd) Run(ctx context.Context, a *app) error {
	var bar *progress
	v, err := backup.Verify(ctx, backup.VerifyOptions{
		Folder: cmd.Folder, ID: cmd.Backup, Quick: cmd.Quick, Discard: cmd.Discard,
		Progress: func(n, total int64) {
			if bar == nil {
				p := a.progress("verifying", total)
				bar = &p
			}
			bar.at(n)
		},
	})
	if bar != nil {
		bar.end()
	}
	if err != nil {
		return err
	}
	if a.json {
		err = cmd.printJSON(a, v)
	} else {
		err = cmd.print(a, v)
	}
	if err == nil && v.Damaged() > 0 {
		err = errReported
	}
	return err
}

func (cmd *backupVerifyCmd) print(a *app, v *backup.Verification) error {
	for _, b := range v.Backups {
		for _, d := range b.Damage {
			writef(a.out, "backup %s: %s\n", b.ID, printable(d.Error()))
		}
		if more := b.Files - len(b.Damage); more > 0 {
			writef(a.out, "backup %s: and %s more\n", b.ID, plural(more, "file"))
		}
	}
	_, err := fmt.Fprintf(a.out, "%s verified, %s in %s: %d can be restored, %d can't\n",
		plural(len(v.Backups), "backup"), formatBytes(v.Objects.Bytes), plural(v.Objects.Pieces, "piece"), len(v.Backups)-v.Damaged(), v.Damaged())
	if v.Discarded > 0 {
		writef(a.out, "%s removed; make a backup to have what is still there copied again\n", plural(v.Discarded, "damaged piece"))
	}
	return err
}

func (cmd *backupVerifyCmd) printJSON(a *app, v *backup.Verification) error {
	type verified struct {
		ID     string   `json:"id"`
		Good   bool     `json:"good"`
		Damage []string `json:"damage"`
	}
	out := struct {
		Backups     []verified `json:"backups"`
		Bytes       int64      `json:"bytes"`
		UnusedBytes int64      `json:"unusedBytes"`
		Discarded   int        `json:"discarded"`
	}{[]verified{}, v.Objects.Bytes, v.Unused.Bytes, v.Discarded}
	for _, b := range v.Backups {
		x := verified{ID: b.ID, Good: len(b.Damage) == 0, Damage: []string{}}
		for _, d := range b.Damage {
			x.Damage = append(x.Damage, d.Error())
		}
		out.Backups = append(out.Backups, x)
	}
	return a.printJSON(out)
}

type backupPruneCmd struct {
	Folder  string `arg:"" help:"The folder of backups."`
	Keep    int    `help:"Keep so many of the newest." placeholder:"N"`
	KeepFor string `help:"Keep those that are not older than this, as in 30d or 12h." placeholder:"TIME"`
	DryRun  bool   `help:"Only say what would be removed."`
}

// Help is shown by --help.
func (backupPruneCmd) Help() string {
	return `A backup stays if one of the flags says so; the newest of an undamaged data folder always stays. What no other
backup needs is removed with the rest, also what backups that were killed have left.

After somebody was erased, remove the backups of before: then nothing of the person is left in the folder.
A backup that is restored meanwhile does not bring the person back.

Examples:

	rapport backup prune /mnt/backups --keep 7
	rapport backup prune /mnt/backups --keep-for 30d --dry-run
	rapport backup prune /mnt/backups --keep 3 --keep-for 14d`
}

// Run prunes.
func (cmd *backupPruneCmd) Run(a *app) error {
	o := backup.PruneOptions{Folder: cmd.Folder, Keep: cmd.Keep, DryRun: cmd.DryRun}
	if cmd.Keep < 0 || cmd.Keep == 0 && cmd.KeepFor == "" {
		return usagef("give --keep N or --keep-for TIME, or both")
	}
	if cmd.KeepFor != "" {
		var err error
		if o.KeepFor, err = parseSpan(cmd.KeepFor); err != nil || o.KeepFor <= 0 {
			return usagef("--keep-for: %q is not a span of time: write it as in 30d or 12h", cmd.KeepFor)
		}
	}
	p, err := backup.Prune(o)
	if err != nil {
		return err
	}
	if a.json {
		ids := func(list []backup.Listed) []string {
			out := []string{}
			for _, b := range list {
				out = append(out, b.ID)
			}
			return out
		}
		return a.printJSON(struct {
			Removed    []string `json:"removed"`
			Kept       []string `json:"kept"`
			FreedBytes int64    `json:"freedBytes"`
			DryRun     bool     `json:"dryRun"`
		}{ids(p.Removed), ids(p.Kept), p.Freed.Bytes, cmd.DryRun})
	}
	would := ""
	if cmd.DryRun {
		would = "would be "
	}
	for _, b := range p.Removed {
		writef(a.out, "%sremoved: backup %s of %s\n", would, b.ID, b.Manifest.AsOf.Format(time.RFC3339))
	}
	_, err = fmt.Fprintf(a.out, "%s %sremoved, %s kept, %s %sfreed\n", plural(len(p.Removed), "backup"), would, plural(len(p.Kept), "backup"), formatBytes(p.Freed.Bytes), would)
	return err
}
