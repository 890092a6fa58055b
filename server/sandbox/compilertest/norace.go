//go:build !race

package compilertest

const raceDetector = false
