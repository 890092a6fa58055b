package profilestore_test

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strings"

	"rapport/profilestore"
)

// memoryGenerations keeps generations in memory, by folder. Sealing renames a
// folder, which its name here has no part in.
type memoryGenerations map[string]*memoryGeneration

func memoryName(dir string) string { return strings.ReplaceAll(dir, ".tmp", "") }

type memoryGeneration struct{ rows map[string][]byte }

func (m memoryGenerations) BuildGeneration(dir string) (profilestore.GenerationWriter, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	g := &memoryGeneration{rows: make(map[string][]byte)}
	m[memoryName(dir)] = g
	return g, nil
}

func (m memoryGenerations) OpenGeneration(dir string) (profilestore.Generation, error) {
	if g, ok := m[memoryName(dir)]; ok {
		return g, nil
	}
	return nil, errors.New("no such generation")
}

func (g *memoryGeneration) Add(key, row []byte) error {
	g.rows[string(key)] = slices.Clone(row)
	return nil
}

func (g *memoryGeneration) Seal() error  { return nil }
func (g *memoryGeneration) Abort() error { return nil }
func (g *memoryGeneration) Close() error { return nil }

func (g *memoryGeneration) Get(key, dst []byte) ([]byte, bool, error) {
	row, ok := g.rows[string(key)]
	return append(dst, row...), ok, nil
}

func (g *memoryGeneration) Each(fn func(key, row []byte) error) error {
	for _, key := range slices.Sorted(maps.Keys(g.rows)) {
		if err := fn([]byte(key), g.rows[key]); err != nil {
			return err
		}
	}
	return nil
}
