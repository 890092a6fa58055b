package server

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"rapport/profilestore/durable"
)

// cacheKeySize is the length of the key that seals the cache of compiled
// strategies, in bytes.
const cacheKeySize = 32

// cacheKey returns the key that seals the cache, from DATA/keys/cache.key. It is
// made when the server opens for the first time. Without the old one, strategies are
// compiled again, no more.
func (d *dataFolder) cacheKey() ([]byte, error) {
	name := d.path("keys", "cache.key")
	key, err := durable.ReadSealed(name)
	if errors.Is(err, os.ErrNotExist) {
		key = make([]byte, cacheKeySize)
		if _, err := rand.Read(key); err != nil {
			return nil, err
		}
		err = durable.WriteSealed(name, key)
	}
	if err != nil {
		return nil, fmt.Errorf("data folder: key of the cache: %w", err)
	}
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, fmt.Errorf("data folder: key of the cache: %w", err)
	case len(key) != cacheKeySize:
		return nil, fmt.Errorf("data folder: %s has %d bytes, not %d: remove it, a new one is made, and strategies are compiled again", name, len(key), cacheKeySize)
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("data folder: others may read or write %s (mode %o): remove it, a new one is made, and strategies are compiled again", name, info.Mode().Perm())
	}
	return key, nil
}
