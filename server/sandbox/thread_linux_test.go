package sandbox_test

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// threadID names the thread that runs the goroutine.
func threadID() int { return unix.Gettid() }

// yieldThread lets others have the thread, and waits in a system call, after which
// the goroutine may go on in another one.
func yieldThread() {
	runtime.Gosched()
	r, w, err := os.Pipe()
	if err != nil {
		return
	}
	_ = w.Close()
	_, _ = r.Read(make([]byte, 1))
	_ = r.Close()
}
