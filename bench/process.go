package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"rapport/server"
)

// processVariable has a processConfig for a process of the suite.
const processVariable = "RAPPORT_BENCH_PROCESS"

// processConfig says what a process is.
type processConfig struct {
	Role string `json:"role"` // a server, or an echo

	// Of a server.
	Data          string        `json:"data,omitempty"`
	Compiler      []string      `json:"compiler,omitempty"`
	MaxConcurrent int           `json:"maxConcurrent,omitempty"`
	Deadline      time.Duration `json:"deadline,omitempty"`
	Fault         Fault         `json:"fault"`

	// Of an echo.
	Answer []byte `json:"answer,omitempty"` // a DecideResponse
}

const (
	roleServer = "server"
	roleEcho   = "echo"
)

// echoMemory is how much an echo may have before it collects garbage.
const echoMemory = 256 << 20

// IsProcess reports whether this process was started by the suite, to be a server or an
// echo. The main function of a program that measures begins with it, and ends the process
// with ProcessMain's status if it is true.
func IsProcess() bool { return os.Getenv(processVariable) != "" }

// ProcessMain serves until in ends. It writes its URL to out, and for each line of in a
// line with its ProcessStats.
func ProcessMain(ctx context.Context, in io.Reader, out, problems io.Writer) (status int) {
	if err := processMain(ctx, in, out); err != nil {
		_, _ = fmt.Fprintf(problems, "bench process: %v\n", err)
		return 1
	}
	return 0
}

func processMain(ctx context.Context, in io.Reader, out io.Writer) error {
	var c processConfig
	if err := json.Unmarshal([]byte(os.Getenv(processVariable)), &c); err != nil {
		return fmt.Errorf("%s: %w", processVariable, err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	serving := make(chan error, 1)
	switch c.Role {
	case roleServer:
		s, err := c.open(ctx)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		go func() { serving <- errors.Join(s.Serve(ctx, l), s.Close()) }()
	case roleEcho:
		// A limit at its best: with next to nothing on its heap it would collect garbage far
		// more often than a server that has something to keep.
		debug.SetGCPercent(-1)
		debug.SetMemoryLimit(echoMemory)
		h := newEcho(c.Answer)
		context.AfterFunc(ctx, func() { _ = h.Close() })
		go func() { serving <- h.Serve(l) }()
	default:
		return fmt.Errorf("%s: unknown role %q", processVariable, c.Role)
	}
	if _, err := fmt.Fprintln(out, "http://"+l.Addr().String()); err != nil {
		return err
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		if err := json.NewEncoder(out).Encode(readProcessStats()); err != nil {
			return err
		}
	}
	cancel()
	if err := <-serving; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// open opens the server that is measured.
func (c *processConfig) open(ctx context.Context) (*server.Server, error) {
	config := server.Config{
		Data: c.Data, Compiler: c.Compiler, MaxConcurrent: c.MaxConcurrent, Deadline: c.Deadline,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	c.Fault.apply(&config)
	return server.Open(ctx, config)
}

// ProcessStats is what a process uses.
type ProcessStats struct {
	CPU         time.Duration `json:"cpu"`    // since it began
	Resident    int64         `json:"rss"`    // bytes
	Heap        int64         `json:"heap"`   // bytes in use
	Descriptors int           `json:"fds"`    // -1 where that is not known
	Goroutines  int           `json:"go"`     //
	Pause       time.Duration `json:"pause"`  // of all collections, since it began
	Cycles      int64         `json:"cycles"` // collections
}

func readProcessStats() ProcessStats {
	s := ProcessStats{Goroutines: runtime.NumGoroutine(), Descriptors: -1}
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) == nil {
		s.CPU = time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.Heap, s.Pause, s.Cycles = int64(m.HeapInuse), time.Duration(m.PauseTotalNs), int64(m.NumGC)
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		var size, resident int64
		if _, err := fmt.Sscan(string(b), &size, &resident); err == nil {
			s.Resident = resident * int64(os.Getpagesize())
		}
	}
	if entries, err := os.ReadDir("/proc/self/fd"); err == nil {
		s.Descriptors = len(entries)
	}
	return s
}

// process is a process of the suite.
type process struct {
	URL string

	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	asking  sync.Mutex
	errs    *tail
}

// start starts a process of the suite. self is a command whose program begins as IsProcess
// says.
func start(ctx context.Context, self []string, c processConfig) (*process, error) {
	config, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	p := &process{errs: &tail{}, command: exec.CommandContext(ctx, self[0], self[1:]...)} //nolint:gosec // the program itself
	p.command.Env = append(os.Environ(), processVariable+"="+string(config))
	p.command.Stderr = p.errs
	out, err := p.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if p.in, err = p.command.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	url, err := p.out.ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bench: the %s did not start: %w", c.Role, err), p.close())
	}
	p.URL = strings.TrimSpace(url)
	return p, nil
}

// stats asks the process what it uses. It may be called from several goroutines.
func (p *process) stats() (s ProcessStats, err error) {
	p.asking.Lock()
	defer p.asking.Unlock()
	if _, err := io.WriteString(p.in, "\n"); err != nil {
		return s, fmt.Errorf("bench: %w\n%s", err, p.errs)
	}
	b, err := p.out.ReadBytes('\n')
	if err != nil {
		return s, fmt.Errorf("bench: %w\n%s", err, p.errs)
	}
	return s, json.Unmarshal(b, &s)
}

// close ends the process and waits for it.
func (p *process) close() error {
	err := p.in.Close()
	if e := p.command.Wait(); e != nil {
		err = errors.Join(err, fmt.Errorf("bench: %w\n%s", e, p.errs))
	}
	return err
}

// tail keeps the last of what is written to it.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

const tailBytes = 4 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, b...)
	t.kept = t.kept[max(0, len(t.kept)-tailBytes):]
	return len(b), nil
}

// String returns what is kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.kept)
}
