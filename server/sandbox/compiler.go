package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// compiler checks and compiles modules, each in a process of its own.
//
// A module can make the compiler take any time and memory (a 29-byte one took 20 s
// and 8 GB), and the compiler can't be stopped from outside, so it runs where the
// operating system can stop it. The process limits itself before it reads a byte of
// the module; see [CompilerLimits]. It gets nothing from the server but the module:
// no descriptors, no environment, a folder of its own. It ends with the server, or
// when the caller's context does. Its start costs 10 ms.
//
// The limits are what it is for. It is no wall around a compiler that was taken
// over: what that would write, the server would run.
type compiler struct {
	command []string
	limits  CompilerLimits
	slots   chan struct{}

	runs, refused, crashed, failed atomic.Uint64
	byCPU, byWall, byMemory        atomic.Uint64
}

// compilerVariable is in the environment of a compiler process, which must not
// start another one.
const compilerVariable = "RAPPORT_COMPILER_PROCESS"

// ErrCompiler means that modules can't be compiled, whatever they are: the process
// that does it can't be started, or fails.
var ErrCompiler = errors.New("sandbox: the compiler process")

// tooMuchMemory and the like begin messages.
const (
	tooMuchMemory = "compiling it takes more memory than the compiler may have"
	tooMuchTime   = "compiling it takes more time than the compiler may have"
)

// waitDelay is how long a process that is dead may keep the server waiting because
// somebody holds its output open.
const waitDelay = time.Second

// How much is kept of what a compiler process writes.
const (
	maxAnswer   = 4 << 20
	maxComplain = 8 << 10
)

func newCompiler(command []string, limits CompilerLimits, atOnce int) (*compiler, error) {
	switch {
	case len(command) == 0:
		return nil, errors.New("sandbox: no command for compiling is given: modules are compiled in a process apart; set Options.Compiler, as to CompilerCommand()")
	case !filepath.IsAbs(command[0]):
		return nil, fmt.Errorf("sandbox: the compiler's command %q does not begin with an absolute path", command)
	case os.Getenv(compilerVariable) != "":
		return nil, errors.New("sandbox: this process was started to compile a strategy and must not start others: its main function has to begin as CompilerCommand says")
	}
	if err := limits.validate(); err != nil {
		return nil, err
	}
	return &compiler{command: command, limits: limits.withDefaults(), slots: make(chan struct{}, max(1, atOnce))}, nil
}

// environment is all that a compiler process has of one. It leaves the other
// processors to decisions: a second one would make it no faster. As their number is
// given, Go's runtime need not keep a file open to learn it.
func (c *compiler) environment() []string {
	return []string{
		compilerVariable + "=1",
		"GOMAXPROCS=1",
		"GODEBUG=containermaxprocs=0",
		fmt.Sprintf("GOMEMLIMIT=%d", c.limits.Data/4*3),
		"GOGC=200",
		"GOTRACEBACK=none",
	}
}

// run compiles a module in a folder, which becomes the process's own. Its error is
// an [*InvalidError] if the module is at fault.
func (c *compiler) run(ctx context.Context, dir string, p policy, wasm []byte) (*result, error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("sandbox: while other modules were compiled: %w", context.Cause(ctx))
	}
	head := new(bytes.Buffer)
	if err := (task{len(wasm), p, c.limits}).write(head); err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, c.limits.Wall)
	defer cancel()
	out, complaint := &boundedBuffer{most: maxAnswer}, &boundedBuffer{most: maxComplain}
	cmd := exec.CommandContext(limited, c.command[0], c.command[1:]...) //nolint:gosec // the command is the operator's
	cmd.Dir, cmd.Env = dir, c.environment()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = io.MultiReader(head, bytes.NewReader(wasm)), out, complaint
	cmd.SysProcAttr, cmd.WaitDelay = processAttributes(), waitDelay
	cmd.Cancel = func() error { return killGroup(cmd.Process.Pid) }

	runtime.LockOSThread() // see processAttributes
	err := cmd.Run()
	runtime.UnlockOSThread()
	if cmd.Process != nil {
		c.runs.Add(1)
	}
	return c.verdict(ctx, limited, ending{cmd.ProcessState, err, out.String(), complaint.String()})
}

// killGroup kills a process and those that it started.
func killGroup(pid int) error {
	if err := syscall.Kill(-pid, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return os.ErrProcessDone
}

// ending is how a compiler process ended.
type ending struct {
	state     *os.ProcessState // nil if it never began
	err       error
	out       string // its standard output, and
	complaint string // its standard error
}

// verdict says what came of a process, and whose fault it is. It counts.
func (c *compiler) verdict(ctx, limited context.Context, e ending) (*result, error) {
	said, greeted := strings.CutPrefix(e.out, compilerGreeting)
	switch {
	case e.err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("sandbox: compiling was given up: %w", context.Cause(ctx))
	case e.state == nil:
		c.failed.Add(1)
		return nil, fmt.Errorf("%w can't be started; its command is %q, and this server must be allowed to execute it: %w", ErrCompiler, c.command, e.err)
	case e.err != nil && limited.Err() != nil:
		c.byWall.Add(1)
		return nil, invalid(ReasonCompileTime, "%s: it was stopped after %v: make the module smaller; if the machine was busy, try again", tooMuchTime, c.limits.Wall)
	case !greeted:
		c.failed.Add(1)
		return nil, fmt.Errorf("%w %q is no compiler of strategies: it ended with %v, and said %q", ErrCompiler, c.command, e.state, clip(firstLine(e.complaint), maxFaultMessage))
	case !e.state.Success():
		return nil, c.died(e)
	case e.err != nil:
		c.failed.Add(1)
		return nil, fmt.Errorf("%w: %w", ErrCompiler, e.err)
	}
	var a answer
	if err := json.Unmarshal([]byte(said), &a); err != nil {
		c.failed.Add(1)
		return nil, fmt.Errorf("%w has given an answer that can't be read: %w", ErrCompiler, err)
	}
	switch {
	case a.Refused != nil:
		if a.Refused.Reason == ReasonCompileMemory {
			c.byMemory.Add(1)
		} else {
			c.refused.Add(1)
		}
		return nil, &InvalidError{Reason: a.Refused.Reason, Message: a.Refused.Message}
	case a.Result == nil:
		c.failed.Add(1)
		return nil, fmt.Errorf("%w: %s", ErrCompiler, a.Failed)
	}
	return a.Result, nil
}

// died says why a process did not end by itself, after it had begun to work on a
// module.
func (c *compiler) died(e ending) error {
	status, ok := e.state.Sys().(syscall.WaitStatus)
	switch {
	case cpuLimited(e.state, c.limits):
		c.byCPU.Add(1)
		return invalid(ReasonCompileTime, "%s: %v of processor time: make the module smaller, or its longest function", tooMuchTime, c.limits.CPU)
	case ok && status.Signaled() && status.Signal() == syscall.SIGKILL:
		c.byMemory.Add(1)
		return invalid(ReasonCompileMemory, "%s: the operating system killed it, as when memory runs out", tooMuchMemory)
	case outOfMemory(e.complaint):
		c.byMemory.Add(1)
		return invalid(ReasonCompileMemory, "%s, which is %d MiB: make the module smaller, or its longest function", tooMuchMemory, c.limits.Data>>20)
	}
	c.crashed.Add(1)
	what := firstLine(e.complaint)
	if what == "" {
		what = e.state.String()
	}
	return invalid(ReasonMalformed, "the compiler failed: %s", clip(what, maxFaultMessage))
}

// outOfMemory reports whether Go's runtime gave up for lack of memory.
func outOfMemory(complaint string) bool {
	for line := range strings.Lines(complaint) {
		if !strings.HasPrefix(line, "fatal error: ") && !strings.HasPrefix(line, "runtime: ") {
			continue
		}
		for _, sign := range []string{"out of memory", "cannot allocate memory", "failed to create new OS thread"} {
			if strings.Contains(line, sign) {
				return true
			}
		}
	}
	return false
}

// firstLine returns the first line of a text that is not empty.
func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// boundedBuffer keeps the beginning of what is written to it.
type boundedBuffer struct {
	kept bytes.Buffer // not embedded: its ReadFrom has no bound
	most int
}

// Write takes everything and keeps what there is room for.
func (b *boundedBuffer) Write(p []byte) (int, error) {
	b.kept.Write(p[:min(len(p), b.most-b.kept.Len())])
	return len(p), nil
}

func (b *boundedBuffer) String() string { return b.kept.String() }
