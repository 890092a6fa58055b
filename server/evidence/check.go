package evidence

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"

	"rapport/profilestore/durable"
)

// Check says whether the file of counts is damaged. It changes nothing; Open counts anew
// from the journal then.
func Check(file string) ([]durable.Damage, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c := &Counter{file: file, log: slog.Default(), totals: make(map[Key]uint64)}
	if err := c.decode(b); err != nil {
		return []durable.Damage{{Path: file, Problem: file + " " + err.Error()}}, nil //nolint:nilerr // it is what was found
	}
	return nil, nil
}
