package profilestore

import (
	"hash/maphash"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// shards is how many parts the cache and the writers are divided into. A
// customer belongs to one.
const shards = 64

// hotCache keeps the views of the nodes read last (see nodeKey), in shards.
//
// Readers fill it and the shard's single writer writes through, so two things
// must not happen: a reader puts back a view that it read before a write, or
// finds one of another choice of snapshots. The first is prevented by a count of
// writes: a reader notes it before it reads the engine and its view is kept only
// if no write has come between. The second by the epoch in the view.
type hotCache struct {
	seed   maphash.Seed
	shards [shards]cacheShard
}

type cacheShard struct {
	mu     sync.Mutex
	lru    *simplelru.LRU[string, *View] // nil: caching is off
	writes uint64
	_      [64]byte // shards are on cache lines of their own
}

// newHotCache returns a cache of about so many views; none if entries is 0.
func newHotCache(entries int) (*hotCache, error) {
	c := &hotCache{seed: maphash.MakeSeed()}
	if entries <= 0 {
		return c, nil
	}
	for i := range c.shards {
		lru, err := simplelru.NewLRU[string, *View](max(1, entries/shards), nil)
		if err != nil {
			return nil, err
		}
		c.shards[i].lru = lru
	}
	return c, nil
}

// shardOf returns the shard of a node: that of its identity. It differs from run to run.
func (c *hotCache) shardOf(key string) int {
	return int(maphash.String(c.seed, identityOf(key)) % shards)
}

// get returns the view of an identity, nil if it is not there, and the count of
// writes to give to put.
func (c *cacheShard) get(identity string) (v *View, writes uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lru != nil {
		v, _ = c.lru.Get(identity)
	}
	return v, c.writes
}

// put keeps a view unless something was written since writes was read.
func (c *cacheShard) put(identity string, v *View, writes uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lru != nil && c.writes == writes {
		c.lru.Add(identity, v)
	}
}

// wrote records that the delta records of nodes have changed. Those that are in the
// cache go on in it with their new record, except where the ties have changed: then
// the rows that belong to it may be others.
func (c *cacheShard) wrote(keys []string, deltas []*delta) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes++
	if c.lru == nil {
		return
	}
	for i, key := range keys {
		old, ok := c.lru.Peek(key)
		switch {
		case !ok:
		case old.group.epoch() != deltas[i].customer().epoch():
			c.lru.Remove(key)
		default:
			v := *old
			v.members = []member{{key: key, rows: old.members[0].rows, delta: deltas[i]}}
			c.lru.Add(key, &v)
		}
	}
}
