package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"rapport/profilestore/durable"
)

// Check reads the files of a ledger that nobody has open and says which are damaged, but
// not if one is missing. It changes nothing; Open sets those files aside and goes on with what can be read of
// them.
func Check(dir string) ([]durable.Damage, error) {
	seqs, err := listFiles(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	g := &log{l: &Ledger{dir: dir}}
	var all []durable.Damage
	add := func(path, problem string) {
		all = append(all, durable.Damage{Path: path, Problem: path + ": " + problem})
	}
	for i, seq := range seqs {
		path := g.path(seq)
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
		tail, damage := scan(b, seq, func([]byte) error { return nil })
		for _, d := range damage {
			add(path, fmt.Sprintf("%d bytes from byte %d on: %s", d.Bytes, d.Offset, d.Reason))
		}
		switch last := i == len(seqs)-1; {
		case last:
		case tail < int64(len(b)):
			add(path, fmt.Sprintf("%d bytes at its end are no records", int64(len(b))-tail))
		case tail == 0:
			add(path, "it is empty")
		}
	}
	aside, err := filepath.Glob(filepath.Join(dir, "*"+damagedSuffix))
	if err != nil {
		return nil, err
	}
	for _, path := range aside {
		add(path, "it was found damaged before, and set aside")
	}
	return all, nil
}

// Mend sets the damaged files of a ledger that nobody has open aside, and writes what can
// be read of them again.
func Mend(dir, aside string) error {
	l, err := Open(dir, Options{})
	if err != nil {
		return err
	}
	if err := l.Close(); err != nil {
		return err
	}
	// Also those that Open has nothing to set aside of: empty ones.
	found, err := Check(dir)
	for _, d := range found {
		path := d.Path
		if err := os.MkdirAll(aside, 0o700); err != nil {
			return err
		}
		if err := os.Rename(path, filepath.Join(aside, filepath.Base(path))); err != nil {
			return err
		}
	}
	return errors.Join(err, durable.SyncDir(dir))
}
