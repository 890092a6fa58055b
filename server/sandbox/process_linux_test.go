package sandbox_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
)

// residentMemory returns how many bytes of memory this process has: now, and counts
// from now on if it begins; else the most that it had since.
func residentMemory(t *testing.T, begin bool) int64 {
	t.Helper()
	if begin {
		debug.FreeOSMemory()
		if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	var kilobytes int64
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
				t.Fatal(err)
			}
		}
	}
	if kilobytes == 0 {
		t.Fatalf("no VmHWM in\n%s", b)
	}
	return kilobytes << 10
}

// alive reports whether a process runs. One that nobody has waited for does not.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := bytes.Cut(b, []byte(") "))
	return err == nil && !bytes.HasPrefix(state, []byte("Z"))
}

// A compiler process does not outlive a server that is killed.
func TestCompilerEndsWithTheServer(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	c := child(t, "server", file)
	server := exec.CommandContext(context.Background(), c[0], c[1:]...)
	server.Env = append(os.Environ(), "TMPDIR="+t.TempDir()) // it will leave its folder
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	pids := waitForPIDs(t, file)
	if err := server.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = server.Wait() // it was killed
	waitUntilDead(t, pids[:1])
	// The kernel looks after the process alone; what that had started is not ours to
	// bring down in a server that is no more.
	if p, err := os.FindProcess(pids[1]); err == nil {
		_ = p.Kill()
	}
}

// mount makes a folder a file system in memory, where that is allowed.
func mount(dir, options string) (unmount func(testing.TB), err error) {
	if err := syscall.Mount("none", dir, "tmpfs", readOnly(options), strings.TrimSuffix(options, ",ro")); err != nil {
		return nil, err
	}
	return func(t testing.TB) {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}, nil
}

func readOnly(options string) uintptr {
	if strings.HasSuffix(options, ",ro") {
		return syscall.MS_RDONLY
	}
	return 0
}
