//go:build race

package main

// The race detector makes what compiles WebAssembly some 50 times slower.
const underRace = true
