//go:build race

package sandbox_test

// underRace says that the race detector is on. It makes copying an image 50 times
// slower, and compiling.
const underRace = true
