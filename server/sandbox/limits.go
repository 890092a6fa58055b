package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// CompilerLimits bound a compiler process. A zero field has its default.
//
// They are set so that what compilers of the languages that we know make passes
// with room to spare, and that what does not pass is stopped before it hurts: a Go
// strategy of 2.3 MB takes 1 s and 120 MB.
type CompilerLimits struct {
	// CPU is the processor time that it may use; default 20 s. It is rounded up to
	// whole seconds.
	CPU time.Duration `json:"cpu"`
	// Data is the memory that it may have, in bytes: heap, stacks and all else
	// that is private and can be written. Default 512 MiB, at least 128 MiB: a
	// program in Go begins with 90.
	Data int64 `json:"data"`
	// File is how long a file may be that it writes, in bytes: the compiled code.
	// Default 128 MiB.
	File int64 `json:"file"`
	// Wall is the time that it may take; default 1 minute. It is for what waits
	// and does not compute.
	Wall time.Duration `json:"-"`
}

// Defaults of CompilerLimits.
const (
	defaultCPU  = 20 * time.Second
	defaultData = 512 << 20
	leastData   = 128 << 20
	defaultFile = 128 << 20
	defaultWall = time.Minute
)

// withDefaults fills in what is zero.
func (l CompilerLimits) withDefaults() CompilerLimits {
	l.CPU = cmp.Or(l.CPU, defaultCPU)
	l.CPU = (l.CPU + time.Second - 1).Truncate(time.Second)
	l.Data = cmp.Or(l.Data, defaultData)
	l.File = cmp.Or(l.File, defaultFile)
	l.Wall = cmp.Or(l.Wall, defaultWall)
	return l
}

func (l CompilerLimits) validate() error {
	if l.CPU < 0 || l.Data < 0 || l.File < 0 || l.Wall < 0 {
		return errors.New("sandbox: a limit of the compiler is negative: leave it 0 for its default")
	}
	if l.Data > 0 && l.Data < leastData {
		return fmt.Errorf("sandbox: the compiler can't work with %d bytes: allow it %d, or leave Data 0 for its default", l.Data, leastData)
	}
	return nil
}

// maxDescriptors is how many files a compiler process may have open: its standard
// three, what Go's runtime needs, and the one that it writes.
const maxDescriptors = 32
