//go:build race

package sandbox

// raceDetector says that this program was built with the race detector.
const raceDetector = true
