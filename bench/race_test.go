//go:build race

package bench_test

// The race detector makes what compiles WebAssembly some 50 times slower.
const underRace = true
