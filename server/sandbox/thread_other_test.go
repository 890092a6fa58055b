//go:build !linux

package sandbox_test

import "runtime"

func threadID() int { return 0 }

func yieldThread() { runtime.Gosched() }
