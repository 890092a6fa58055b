//go:build !wasip1

package rapport

// hostLog writes to the standard error of a test.
func hostLog(level Level, line string) { println("strategy log", int32(level), line) }
