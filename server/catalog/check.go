package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"rapport/profilestore/durable"
)

// Check says which files of the versions in a folder are damaged or missing. It changes
// nothing. What ReadSealed gets over is mended by durable.MendSealed.
func Check(dir string) ([]durable.Damage, error) {
	s := &Store{dir: dir}
	numbers, err := s.numbers()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []durable.Damage
	add := func(path string, err error) { all = append(all, durable.Damage{Path: path, Problem: err.Error()}) }
	pointer := filepath.Join(dir, "CURRENT")
	switch err := durable.CheckSealed(pointer); {
	case err == nil:
	case !errors.Is(err, fs.ErrNotExist):
		add(pointer, err)
	case len(numbers) > 0:
		add(pointer, fmt.Errorf("%s is missing", pointer))
	}
	// One of which the file is gone and the copy there; numbers are given one after another.
	last := int64(1)
	if len(numbers) > 0 {
		last = numbers[len(numbers)-1] + 1
	}
	for n := int64(1); n <= last; n++ {
		path := s.file(n)
		err := durable.CheckSealed(path)
		if errors.Is(err, fs.ErrNotExist) {
			if n < last {
				add(path, fmt.Errorf("%s is missing", path))
			}
			continue
		}
		if err == nil {
			_, err = s.Get(n)
		}
		if err != nil {
			add(path, err)
		}
	}
	if v, err := s.current(); err == nil && !slices.Contains(numbers, v.Number) && v.Number > last {
		add(s.file(v.Number), fmt.Errorf("%s is missing", s.file(v.Number)))
	}
	return all, nil
}
