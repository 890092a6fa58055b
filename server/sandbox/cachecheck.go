package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"rapport/profilestore/durable"
)

// CheckCache says which entries of a cache of compiled modules are damaged, given the key
// that seals them. It changes nothing; a runtime compiles those modules again.
func CheckCache(dir string, key []byte) ([]durable.Damage, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c := &cache{dir: dir, key: key}
	var all []durable.Damage
	for _, e := range entries {
		if !entryName.MatchString(e.Name()) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if _, err := c.readEntry(path, e.Name()); err != nil {
			all = append(all, durable.Damage{Path: path, Problem: path + ": " + err.Error()})
		}
	}
	return all, nil
}
