package rapport

import "rapport/sdk/abi"

// Level is how much a line of the log matters.
type Level int32

// The levels.
const (
	LevelDebug Level = abi.LevelDebug
	LevelInfo  Level = abi.LevelInfo
	LevelWarn  Level = abi.LevelWarn
	LevelError Level = abi.LevelError
)

// Log writes a line to the server's log, which names the strategy. The server
// keeps the first few lines of a call, and the beginning of each.
func Log(level Level, line string) { hostLog(level, line) }
