package backup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"rapport/profilestore/durable"
)

// Who was erased must stay so, whatever is restored. A backup of before an erasure has the
// person's data, so the newest list of those who were erased is kept at the top of the
// folder of backups, in the shape of a data folder that has nothing but erasures and keys,
// and every restore adds it to what it restores. The list only grows.

// mergeErasures adds those who were erased in one data folder to another.
func mergeErasures(merge func(into, from string) error, into, from string) error {
	if _, err := os.Stat(filepath.Join(from, "erasures")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if merge == nil {
		merge = takeLonger
	}
	if err := merge(into, from); err != nil {
		return fmt.Errorf("who was erased in %s can't be added to %s: %w", from, into, err)
	}
	return nil
}

// takeLonger takes over the files of erasures and of keys that are longer in another data
// folder, or are only there. The files are only ever added to, so of two with one beginning the
// longer has all.
func takeLonger(into, from string) error {
	for _, sub := range []string{"keys", "erasures"} {
		entries, err := os.ReadDir(filepath.Join(from, sub))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(into, sub), 0o700); err != nil {
			return err
		}
		for _, e := range entries {
			if !e.Type().IsRegular() || isLeftOut(sub+"/"+e.Name()) {
				continue
			}
			b, err := os.ReadFile(filepath.Join(from, sub, e.Name()))
			if err != nil {
				return err
			}
			name := filepath.Join(into, sub, e.Name())
			if info, err := os.Stat(name); err == nil && info.Size() >= int64(len(b)) {
				continue
			}
			if err := durable.WriteFile(name, b); err != nil {
				return err
			}
		}
	}
	return nil
}
