//go:build race

package server_test

// raceDetector says that everything takes many times as long.
const raceDetector = true
