package reftable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"rapport/profilestore/durable"
)

// Check reads all versions of all tables in a folder and says which are damaged or missing.
// It changes nothing, and may run beside a server and loads. What it says of SETS.json is
// mended by durable.MendSealed.
func Check(dir string) ([]durable.Damage, error) {
	var all []durable.Damage
	add := func(path, problem string) { all = append(all, durable.Damage{Path: path, Problem: problem}) }
	sets := filepath.Join(dir, setsName)
	if err := durable.CheckSealed(sets); err != nil && !errors.Is(err, fs.ErrNotExist) {
		add(sets, err.Error())
	}
	var f setsFile
	if err := f.read(dir); err != nil && len(all) == 0 {
		add(sets, err.Error())
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, err
	}
	needed := make(map[string]map[int64]bool)
	for i := range f.Sets {
		for table, n := range f.Sets[i].Versions {
			if needed[table] == nil {
				needed[table] = make(map[int64]bool)
			}
			needed[table][n] = n > 0
		}
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		of := folder{root: dir, table: e.Name()}
		numbers, err := of.versions()
		if err != nil {
			return nil, err
		}
		for _, n := range numbers {
			needed[e.Name()] = with(needed[e.Name()], n)
		}
	}
	for table, numbers := range needed {
		of := folder{root: dir, table: table}
		for n, ok := range numbers {
			if !ok {
				continue
			}
			if _, err := openVersion(of, n); errors.Is(err, ErrDamaged) || errors.Is(err, ErrNotFound) {
				add(of.path(n), of.path(n)+": "+err.Error())
			} else if err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

func with(set map[int64]bool, n int64) map[int64]bool {
	if set == nil {
		set = make(map[int64]bool)
	}
	set[n] = true
	return set
}
