//go:build unix && !linux

package sandbox

import (
	"errors"
	"os"
	"syscall"
)

// processAttributes makes a process the head of its own group.
func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// limitProcess does nothing: elsewhere than on Linux the limits are not kept in a
// way that helps, and only the wall clock bounds a compiler process.
func limitProcess(CompilerLimits) error { return nil }

func cpuLimited(*os.ProcessState, CompilerLimits) bool { return false }

func noMemory(err error) bool { return errors.Is(err, syscall.ENOMEM) }
