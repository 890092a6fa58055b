package server

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// NoteRestored writes into the audit log of a data folder, which no server has open, that
// it was made of a backup: its id, the folder of backups, and up to when it has everything.
func NoteRestored(dir, id, folder string, asOf time.Time) (err error) {
	audit, err := openAudit(filepath.Join(dir, "audit"), slog.Default())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, audit.close()) }()
	return audit.append(auditRecord{
		Action: "restore", Subject: "data", Peer: localPeer, Agent: fmt.Sprintf("user %d", os.Getuid()),
		After: fmt.Sprintf("backup %s of %s in %s", id, asOf.UTC().Format(time.RFC3339), folder),
	})
}

// CheckFolder refuses a folder that is no data folder that this version can read.
func CheckFolder(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "FORMAT")); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	return checkFormat(dir)
}
