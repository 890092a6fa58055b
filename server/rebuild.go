package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/journal"
)

// RebuildReport is what came of a rebuild.
type RebuildReport struct {
	Entries uint64 // of the journal that were read
	Base    uint64 // the position of the base that was begun with, 0 if the journal is whole
	Took    time.Duration
}

// Rebuild removes the delta records of a data folder that no server has open, and derives
// them anew from the journal, and from the base where the journal's beginning has been
// removed. Journal and base are read and checked before anything is removed; if they are
// damaged the error says so, and nothing has changed. An interrupted one goes on, or begins
// again, with the next start of a server. checked, if set, is called now and then with how
// many bytes of all have been checked; how far it is then goes to Config.OnReplay.
func Rebuild(ctx context.Context, config Config, checked func(done, total int64)) (*RebuildReport, error) {
	if err := prepareRebuild(ctx, config.Data, checked); err != nil {
		return nil, err
	}
	started := time.Now()
	s, err := Open(ctx, config)
	if err != nil {
		return nil, err
	}
	r := &RebuildReport{Entries: s.store.Stats().Replayed, Base: s.store.JournalStats().Base, Took: time.Since(started)}
	if s.store.JournalStats().First == 1 {
		r.Base = 0
	}
	return r, s.Close()
}

// prepareRebuild checks what records are derived from, and removes the records.
func prepareRebuild(ctx context.Context, data string, checked func(done, total int64)) (err error) {
	d, err := openDataFolder(data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if _, err := readInstalledSchema(d); err != nil {
		return err
	}
	v, err := profilestore.VerifyJournal(ctx, data, checked)
	if err != nil {
		return err
	}
	if len(v.Journal.Damages) > 0 || v.BaseError != nil || v.Missing {
		return fmt.Errorf("%s: the journal, or the base beside it, is damaged, and what is lost would be lost to the delta records, too; nothing was removed: see rapport journal verify --data %s", data, data)
	}
	return os.RemoveAll(d.path("deltas"))
}

// WriteBase writes a new base in a data folder that no server has open.
func WriteBase(ctx context.Context, config Config, progress func(records uint64)) (*profilestore.BaseInfo, error) {
	s, err := Open(ctx, config)
	if err != nil {
		return nil, err
	}
	b, err := s.store.WriteBase(ctx, profilestore.WriteBaseOptions{Progress: progress})
	return b, errors.Join(err, s.Close())
}

// journalLosses returns, in words, what the removed part of the journal has said to fields
// that will mean something else, or be gone, under another schema.
func journalLosses(d *dataFolder, before, after *profilestore.Schema) ([]string, error) {
	first, err := journal.Begins(filepath.Join(d.dir, "journal"))
	if err != nil || first == 1 {
		return nil, err
	}
	return profilestore.JournalLosses(d.dir, first, before, after)
}
