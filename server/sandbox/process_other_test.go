//go:build !linux

package sandbox_test

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

// residentMemory measures nothing here.
func residentMemory(*testing.T, bool) int64 { return 0 }

func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	return err == nil && p.Signal(syscall.Signal(0)) == nil
}

func mount(string, string) (func(testing.TB), error) { return nil, errors.ErrUnsupported }
