package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/badger"
	"rapport/server"
	"rapport/server/backup"
)

// restoreCmd makes a data folder of a backup.
type restoreCmd struct {
	From     string   `required:"" help:"The folder of backups." placeholder:"FOLDER"`
	Backup   string   `help:"The backup, by its id; the newest if neither this nor --at is given." placeholder:"ID"`
	At       string   `help:"The newest that had ended by then: a time, or a span before now such as 1h or 7d." placeholder:"T"`
	Erasures []string `help:"A data folder, or folder of backups, that may know of erasures which FOLDER does not." placeholder:"DIR"`
	Check    bool     `help:"Open the restored folder without a server, and verify its snapshots."`
}

// Help is shown by --help.
func (restoreCmd) Help() string {
	return `The data folder is made, or must be empty; nothing is ever written over. Everything is compared with its hash
while it is copied: what is damaged is named and not restored. Until all is there no server opens the folder; if
the command was interrupted, give it again. The files belong to who gives the command: be the user who runs the server.

Whoever was erased stays erased, also in a backup of before: the folder of backups knows of all erasures up to its
newest backup. If the data folder that was lost, or another copy of it, can still be read, name it with --erasures,
for those that came after.

The first start derives the delta records from the journal: some 15 s of processor time for a million events. The
audit log says what was restored from where.

A restored server is the old one: it has the same keys and the same journal. Tokens of both are good at both, and
what happens after the backup differs. Do not let two take events and decisions for the same customers.

Examples:

	rapport restore --from /mnt/backups --data NEWDATA
	rapport restore --from /mnt/backups --data NEWDATA --check
	rapport restore --from /mnt/backups --at 2026-03-01T00:00:00Z --data NEWDATA --erasures DATA
	rapport restore --from /mnt/backups --backup 20260301T031500Z --data NEWDATA`
}

// Run restores.
func (cmd *restoreCmd) Run(ctx context.Context, a *app) error {
	data, err := a.target.folder("a backup is restored to a new data folder")
	if err != nil {
		return err
	}
	if cmd.Backup != "" && cmd.At != "" {
		return usagef("--backup and --at exclude each other")
	}
	o := backup.RestoreOptions{Folder: cmd.From, ID: cmd.Backup, Data: data, Erasures: cmd.Erasures}
	at, err := parseSince(cmd.At, time.Now())
	if err != nil {
		return usagef("--at: %v", err)
	}
	if at != nil {
		o.At = at.AsTime()
	}
	from, err := filepath.Abs(cmd.From)
	if err != nil {
		return err
	}
	o.Note = func(dir string, m *backup.Manifest) error { return server.NoteRestored(dir, m.ID, from, m.AsOf) }
	var bar *progress
	o.Progress = func(n, total int64) {
		if bar == nil {
			p := a.progress("restoring", total)
			bar = &p
		}
		bar.at(n)
	}
	begun := time.Now()
	m, err := backup.Restore(ctx, o)
	if bar != nil {
		bar.end()
	}
	if err != nil {
		return err
	}
	took := time.Since(begun)
	var checked *restoredCheck
	if cmd.Check {
		if checked, err = a.checkRestored(ctx, data); err != nil {
			return fmt.Errorf("backup %s was restored to %s, but: %w", m.ID, data, err)
		}
	}
	if a.json {
		return a.printJSON(struct {
			Backup  madeBackup     `json:"backup"`
			Data    string         `json:"data"`
			Seconds float64        `json:"seconds"`
			Check   *restoredCheck `json:"check"`
		}{describeBackup(m), data, took.Seconds(), checked})
	}
	_, err = fmt.Fprintf(a.out, "backup %s is restored in %s: %s, %s; it has everything up to %s\n", m.ID, data,
		plural(len(m.Files), "file"), formatBytes(m.Bytes()), m.AsOf.Format(time.RFC3339))
	for _, p := range m.Problems {
		writef(a.err, "the data folder was damaged when it was backed up: %s\n", printable(p))
	}
	if checked != nil {
		writef(a.out, "checked: it opens (%s in the journal, %.1f s); %s\n",
			plural(describeBackup(m).Entries, "entry"), checked.OpenSeconds, snapshotsLine(len(checked.Snapshots)))
		for _, p := range checked.NotReady {
			writef(a.out, "a server on it is not ready: %s\n", printable(p))
		}
	}
	return err
}

// snapshotsLine says how many snapshots were verified.
func snapshotsLine(n int) string {
	if n == 0 {
		return "no snapshot is active"
	}
	return plural(n, "active snapshot") + " verified"
}

// restoredCheck is what was found of a restored folder.
type restoredCheck struct {
	OpenSeconds float64  `json:"openSeconds"`
	Snapshots   []string `json:"snapshots"` // that are active and as they were sealed
	NotReady    []string `json:"notReady"`  // what would keep a server from being ready
}

// checkRestored opens a restored folder, which derives the delta records, and verifies the
// snapshots that are active.
func (a *app) checkRestored(ctx context.Context, data string) (check *restoredCheck, err error) {
	check = &restoredCheck{Snapshots: []string{}, NotReady: []string{}}
	config := server.Config{Data: data, Logger: a.logger(), Version: programVersion()}
	if err := a.strategies.apply(&config); err != nil {
		return nil, err
	}
	begun := time.Now()
	s, err := server.Open(ctx, config)
	if err != nil {
		return nil, err
	}
	check.OpenSeconds = time.Since(begun).Seconds()
	check.NotReady, err = notReady(ctx, s)
	if err = errors.Join(err, s.Close()); err != nil {
		return nil, err
	}
	schema, err := server.InstalledSchema(data)
	if err != nil {
		return nil, err
	}
	snapshots, err := profilestore.OpenSnapshots(filepath.Join(data, "snapshots"), schema, badger.Generations(a.logger()), slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, snapshots.Close()) }()
	for _, source := range schema.Sources() {
		active, _, err := snapshots.Pointers(source.ID)
		if err != nil {
			return nil, err
		}
		if active == 0 {
			continue
		}
		if _, _, err := snapshots.Activate(ctx, source.ID, active); err != nil { // reads all of it
			return nil, err
		}
		check.Snapshots = append(check.Snapshots, fmt.Sprintf("%s/%d", source.ID, active))
	}
	return check, nil
}

// notReady returns what keeps a server from being ready.
func notReady(ctx context.Context, s *server.Server) ([]string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://in.process/readyz", http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := handlerTransport{s.Handler()}.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil || response.StatusCode == http.StatusOK {
		return []string{}, err
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")[1:], nil // after "not ready"
}
