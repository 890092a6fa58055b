package profilestore

import (
	"hash/maphash"
	"slices"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// shards is how many parts the cache is divided into. A
// customer belongs to one.
const shards = 64

// hotCache keeps the views of the nodes read last (see nodeKey), in shards.
//
// Readers fill it and the shard's single writer writes through, so three things
// must not happen: a reader puts back a view that it read before a write, finds one
// of another choice of snapshots, or sees in the engine what is not in the cache yet,
// and then the old one there. The first is prevented by a count of writes: a reader
// notes it before it reads the engine and its view is kept only if no write has come
// between. The second by the epoch in the view. The third by the list of what the
// writer is changing, see put.
type hotCache struct {
	seed   maphash.Seed
	shards [shards]cacheShard
}

type cacheShard struct {
	mu     sync.Mutex
	lru    *simplelru.LRU[string, *View] // nil: caching is off
	writes uint64
	// applying are the keys whose records the writer is changing in the engine.
	applying map[string]int
	_        [64]byte // shards are on cache lines of their own
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

// put keeps a view unless something was written since writes was read. While the
// record is being changed, the engine may have the new one already, and the cache the
// old one: then put keeps nothing, and returns what the cache has, if anything, because
// whoever reads next will find it, and must not go back behind this read.
func (c *cacheShard) put(key string, v *View, writes uint64) (instead *View) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch _, changing := c.applying[key]; {
	case c.lru == nil:
	case changing:
		instead, _ = c.lru.Peek(key)
	case c.writes == writes:
		c.lru.Add(key, v)
	}
	return instead
}

// shardWrite are the keys of a write, by their places, that are of one shard.
type shardWrite struct {
	*cacheShard
	places []int
}

// applies says that the records of keys are about to be changed in the engine, and
// returns the shards that they are of. Until wrote is called for a shard they are what
// they were in the cache, and new in the engine once that is done. set has all keys, and
// is not changed by anybody any more.
func (c *hotCache) applies(keys []string, set map[string]int) []shardWrite {
	var touched []shardWrite
	for i, key := range keys {
		shard := &c.shards[c.shardOf(key)]
		at := slices.IndexFunc(touched, func(w shardWrite) bool { return w.cacheShard == shard })
		if at < 0 {
			at = len(touched)
			touched = append(touched, shardWrite{cacheShard: shard})
			shard.mu.Lock()
			shard.applying = set
			shard.mu.Unlock()
		}
		touched[at].places = append(touched[at].places, i)
	}
	return touched
}

// wrote records that the delta records of nodes have changed. Those that are in the
// cache go on in it with their new record, except where the ties have changed: then
// the rows that belong to it may be others.
func (c *shardWrite) wrote(keys []string, deltas []*delta) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes++
	c.applying = nil
	if c.lru == nil {
		return
	}
	for _, i := range c.places {
		key := keys[i]
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
