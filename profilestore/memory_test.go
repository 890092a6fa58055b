package profilestore_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

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

// memoryEngine keeps delta records in memory too. It outlives Close, as a disk does.
type memoryEngine struct {
	memoryGenerations
	mu      sync.Mutex
	records map[string][]byte
}

func newMemoryEngine() *memoryEngine {
	return &memoryEngine{memoryGenerations: make(memoryGenerations), records: make(map[string][]byte)}
}

func (m *memoryEngine) Get(_ context.Context, key, dst []byte) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	record, ok := m.records[string(key)]
	return append(dst, record...), ok, nil
}

func (m *memoryEngine) Apply(_ context.Context, ops []profilestore.Op) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, op := range ops {
		if record := op.Change(m.records[string(op.Key)]); record != nil {
			m.records[string(op.Key)] = slices.Clone(record)
		}
	}
	return nil
}

func (m *memoryEngine) Barrier(context.Context) error { return nil }

func (m *memoryEngine) Close() error { return nil }
