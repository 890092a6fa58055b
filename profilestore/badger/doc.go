// Package badger is the embedded [profilestore.Engine]: delta records in one
// Badger that is written all the time, and every generation in a Badger of its
// own that is written once.
//
// It knows keys and values and nothing of what they mean. It is the only package
// that imports Badger; the wiring in cmd and tests import it.
package badger
