//go:build race

package profilestore_test

// The race detector makes what reads and merges some ten times slower.
const underRace = true
