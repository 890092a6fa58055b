package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// processAttributes makes a process the head of its own group, so that all of it
// can be killed and the terminal's signals do not reach it; and has it killed when
// the thread that starts it ends, which is when the server does, if the thread is
// locked until then.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// limitProcess bounds this process for as long as it lives, and closes what it has
// inherited. A lower bound that it has already stays.
func limitProcess(l CompilerLimits) error {
	if err := closeInherited(); err != nil {
		return err
	}
	exitAtCPULimit()
	seconds := uint64(l.CPU / time.Second)
	limits := []struct {
		name       string
		resource   int
		soft, hard uint64
	}{
		{"cpu time", syscall.RLIMIT_CPU, seconds, seconds + 1},
		{"core size", syscall.RLIMIT_CORE, 0, 0},
		{"file size", syscall.RLIMIT_FSIZE, uint64(l.File), uint64(l.File)},
		{"open files", syscall.RLIMIT_NOFILE, maxDescriptors, maxDescriptors},
		{"data", syscall.RLIMIT_DATA, uint64(l.Data), uint64(l.Data)},
	}
	for _, x := range limits {
		if x.resource == syscall.RLIMIT_DATA && raceDetector {
			continue // its shadow of the memory is larger than any limit
		}
		var now syscall.Rlimit
		if err := syscall.Getrlimit(x.resource, &now); err != nil {
			return fmt.Errorf("limit of %s: %w", x.name, err)
		}
		limit := syscall.Rlimit{Cur: min(x.soft, now.Max), Max: min(x.hard, now.Max)}
		if err := syscall.Setrlimit(x.resource, &limit); err != nil {
			return fmt.Errorf("limit of %s to %d: %w", x.name, limit.Cur, err)
		}
	}
	return nil
}

// closeInherited closes all descriptors but the standard three and those of Go's
// runtime. Go passes on none of its own, but what the server was started with goes
// through to every process that it starts.
func closeInherited() error {
	const folder = "/proc/self/fd"
	names, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("what this process has inherited: %w", err)
	}
	for _, n := range names {
		fd, err := strconv.Atoi(n.Name())
		if err != nil || fd <= 2 {
			continue
		}
		target, err := os.Readlink(filepath.Join(folder, n.Name()))
		if err != nil || strings.HasPrefix(target, "anon_inode:") {
			continue // it was for reading the folder, or it is the runtime's
		}
		if err := syscall.Close(fd); err != nil {
			return fmt.Errorf("descriptor %d, %s: %w", fd, target, err)
		}
	}
	return nil
}

// exitCPULimit is the exit code of a process that has used its processor time.
const exitCPULimit = 24

// exitAtCPULimit ends this process when the kernel says that its processor time is
// used up. One that does not listen is killed a second later.
func exitAtCPULimit() {
	spent := make(chan os.Signal, 1)
	signal.Notify(spent, syscall.SIGXCPU)
	go func() {
		<-spent
		os.Exit(exitCPULimit)
	}()
}

// cpuLimited reports whether a process ended because its processor time was used
// up. The kernel kills as others do, and by a clock that can be half a second ahead
// of the one that it shows.
func cpuLimited(state *os.ProcessState, l CompilerLimits) bool {
	killed := false
	if status, ok := state.Sys().(syscall.WaitStatus); ok {
		killed = status.Signaled() && status.Signal() == syscall.SIGKILL
	}
	return state.ExitCode() == exitCPULimit || killed && state.UserTime()+state.SystemTime() > l.CPU
}

// noMemory reports whether an error is that there was no memory to be had.
func noMemory(err error) bool { return errors.Is(err, syscall.ENOMEM) }
