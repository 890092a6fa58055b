//go:build race

package wasm_test

// underRace says that the race detector is on. It makes compiling some ten times
// slower.
const underRace = true
