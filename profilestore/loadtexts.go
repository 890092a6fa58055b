package profilestore

import (
	"maps"
	"slices"
	"sync/atomic"
)

const (
	// maxDictionary is how many texts a column's dictionary may hold: what a code
	// of two bytes can say.
	maxDictionary = 1 << 16
	// maxDictionaryBytes bounds what a dictionary takes of the heap, and of the
	// manifest, while its snapshot is open.
	maxDictionaryBytes = 1 << 20
)

// textColumn holds the texts of a column, until they are too many for a
// dictionary. A code is a place in texts.
type textColumn struct {
	codes   map[string]int64
	texts   []string
	bytes   int // of texts
	full    bool
	longest int // of all values
}

// intern returns the code of a text, or false if there are too many, here or where
// else the column is read.
func (c *textColumn) intern(text []byte, full *atomic.Bool) (int64, bool) {
	c.longest = max(c.longest, len(text))
	if c.full {
		return 0, false
	}
	if code, ok := c.codes[string(text)]; ok {
		return code, true
	}
	if full.Load() || len(c.texts) == maxDictionary || c.bytes+len(text) > maxDictionaryBytes {
		full.Store(true)
		c.full, c.codes = true, nil // what has a code keeps it
		return 0, false
	}
	if c.codes == nil {
		c.codes = make(map[string]int64)
	}
	code, s := int64(len(c.texts)), string(text)
	c.codes[s] = code
	c.texts = append(c.texts, s)
	c.bytes += len(s)
	return code, true
}

// textsOf returns the texts of column i, of r and the others, by owner.
func (r *loadRows) textsOf(i int) (all []*textColumn) {
	all = append(all, &r.columns[i].texts)
	for _, other := range r.others {
		all = append(all, &other.columns[i].texts)
	}
	return all
}

// dictionary returns the texts of column i, sorted, or false if they are too many
// for a dictionary.
//
// It gets one if that has at most half as many texts as there are values: a text
// that is there once costs more as code, entry and string header than in its row.
func (r *loadRows) dictionary(i int) (texts []string, ok bool) {
	all := make(map[string]bool)
	size := 0
	for _, c := range r.textsOf(i) {
		if c.full {
			return nil, false
		}
		for _, text := range c.texts {
			if !all[text] {
				all[text] = true
				size += len(text)
			}
		}
	}
	if len(all) == 0 || len(all) > maxDictionary || size > maxDictionaryBytes || int64(len(all)) > r.stats[i].present/2 {
		return nil, false
	}
	return slices.Sorted(maps.Keys(all)), true
}
