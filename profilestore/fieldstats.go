package profilestore

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"rapport/profilestore/durable"
)

const (
	// statsFile is beside the manifest of a snapshot. It is no part of what is sealed:
	// a snapshot without it, or with a damaged one, can be used as any other.
	statsFile   = "FIELDS.json"
	statsFormat = 1

	// MinCrowd is how many customers must have a value in common before it is shown
	// as one of the most frequent. A value that few have, such as a name or a number,
	// says who they are.
	MinCrowd = 20

	// maxTop is how many of the most frequent values are kept.
	maxTop = 10
	// maxTopBytes is how much of one is.
	maxTopBytes = 120
)

// ErrNoFieldStats is in the error of a call for the distributions of a snapshot that
// has none: it was loaded by an earlier version, or their file is damaged.
var ErrNoFieldStats = errors.New("the snapshot has no distributions")

// SnapshotStats says how the values of each field are distributed in a snapshot.
// It is computed while the snapshot is built.
type SnapshotStats struct {
	Rows int64 `json:"rows"`
	// Sampled is how many rows quantiles were computed from, and of texts, sets and hops
	// that have no dictionary all but the number of values: all, or some 4,000 to 8,000
	// chosen by a hash of the customer. Everything else is exact.
	Sampled int64                 `json:"sampled"`
	Fields  map[string]FieldStats `json:"fields"`
}

// FieldStats says how the values of one field are distributed.
type FieldStats struct {
	Values int64 `json:"values"` // rows that have one
	// Numbers are those of a number, counter, max or min; of the sum of the hops of a
	// windowed counter; of the number of elements of a set. Nil where there is no value.
	Numbers *NumberStats `json:"numbers,omitempty"`
	True    int64        `json:"true,omitempty"`  // rows whose flag is true
	Times   *TimeStats   `json:"times,omitempty"` // of a time
	Texts   *TextStats   `json:"texts,omitempty"` // of a text; of the elements of a set
}

// NumberStats describe numbers.
type NumberStats struct {
	Min       float64    `json:"min"`
	Max       float64    `json:"max"`
	Mean      float64    `json:"mean"`
	Quantiles []Quantile `json:"quantiles"` // of StatsQuantiles
}

// Quantile is the least value that at least a share of all values do not exceed.
type Quantile struct {
	Share float64 `json:"share"`
	Value float64 `json:"value"`
}

// statsQuantiles are the shares whose quantiles are computed.
var statsQuantiles = []float64{0.05, 0.25, 0.5, 0.75, 0.95, 0.99}

// TimeStats are the first and last of times, microseconds since the Unix epoch.
type TimeStats struct {
	First int64 `json:"first"`
	Last  int64 `json:"last"`
}

// TextStats describe texts.
type TextStats struct {
	// Distinct is how many there are; of a text without dictionary in a snapshot that
	// was sampled it is an estimate, within about 2%, and of a set it is 0 then.
	Distinct int64 `json:"distinct"`
	Estimate bool  `json:"estimate,omitempty"`
	// Top are the most frequent that at least MinCrowd customers have, the most
	// frequent first.
	Top []TextCount `json:"top,omitempty"`
}

// TextCount is a text and how many customers have it; an estimate where the snapshot
// was sampled and the field has no dictionary.
type TextCount struct {
	Text  string `json:"text"`
	Count int64  `json:"count"`
}

// statsContent is the content of statsFile.
type statsContent struct {
	Format  int             `json:"format"`
	Content string          `json:"content_hash"` // of the snapshot that it is about
	SHA256  string          `json:"sha256"`       // of Stats
	Stats   json.RawMessage `json:"stats"`
}

func (s *SnapshotStats) write(dir, contentHash string) error {
	stats, err := json.Marshal(s)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(stats)
	b, err := json.Marshal(statsContent{Format: statsFormat, Content: contentHash, SHA256: hex.EncodeToString(sum[:]), Stats: stats})
	if err != nil {
		return err
	}
	b = append(b, '\n')
	path := filepath.Join(dir, statsFile)
	return errors.Join(durable.WriteFile(path+durable.CopySuffix, b), durable.WriteFile(path, b))
}

// readStats reads the distributions of a snapshot, or returns ErrNoFieldStats.
func (m *manifest) readStats(dir string) (*SnapshotStats, error) {
	path := filepath.Join(dir, statsFile)
	b, err := os.ReadFile(path)
	if copied, copyErr := os.ReadFile(path + durable.CopySuffix); copyErr == nil {
		if stats, damage := m.parseStats(path, b); err == nil && damage == nil {
			return stats, nil
		}
		b, err = copied, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: it was loaded by an earlier version of Rapport; load the file again to have them", ErrNoFieldStats)
	}
	if err != nil {
		return nil, err
	}
	return m.parseStats(path, b)
}

// parseStats reads the content of a file of distributions.
func (m *manifest) parseStats(path string, b []byte) (*SnapshotStats, error) {
	var c statsContent
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrNoFieldStats, path, err)
	}
	if c.Format != statsFormat {
		return nil, fmt.Errorf("%w: %s has format %d, this version of rapport knows %d", ErrNoFieldStats, path, c.Format, statsFormat)
	}
	if sum := sha256.Sum256(c.Stats); c.Content != m.ContentHash || c.SHA256 != hex.EncodeToString(sum[:]) {
		return nil, fmt.Errorf("%w: %s is not as it was written; load the file again to have it repaired", ErrNoFieldStats, path)
	}
	stats := new(SnapshotStats)
	if err := json.Unmarshal(c.Stats, stats); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrNoFieldStats, path, err)
	}
	return stats, nil
}

// Stats returns the distributions of a snapshot. The error is ErrNoFieldStats if it
// has none, else that of Activate.
func (s *Snapshots) Stats(source string, generation int64) (*SnapshotStats, error) {
	if err := s.checkSource(source); err != nil {
		return nil, err
	}
	folder := s.folder(source)
	m, err := folder.manifest(generation)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: source %s, number %d", ErrSnapshotNotFound, source, generation)
	}
	if err != nil {
		return nil, err
	}
	return m.readStats(folder.generation(generation))
}
