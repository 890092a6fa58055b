package crashtest_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a child process that plays a role.
type process struct {
	cmd    *exec.Cmd
	stdout *bufio.Reader
	stderr lockedBuffer
	done   chan struct{} // closed when it has ended
	err    error         // then: how
}

// lockedBuffer is written by one goroutine while another looks at it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func start(r role) (*process, error) {
	encoded, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.CommandContext(context.Background(), os.Args[0]), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), roleVariable+"="+string(encoded), "GORACE=atexit_sleep_ms=10")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that all of its children can be stopped
	p.cmd.Stderr = &p.stderr
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout = in
	err = p.cmd.Start()
	_ = in.Close() // the child has its own
	if err != nil {
		_ = out.Close()
		return nil, err
	}
	p.stdout = bufio.NewReader(out)
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// run plays a role to its end.
func run(r role) error {
	p, err := start(r)
	if err != nil {
		return err
	}
	return p.wait()
}

// wait returns when the process has ended, with an error if it has not ended well.
func (p *process) wait() error {
	<-p.done
	if p.err != nil {
		return fmt.Errorf("%w: %s", p.err, p.stderr.String())
	}
	return nil
}

// url waits until a server listens. It returns an error if the process ends before.
func (p *process) url() (string, error) {
	line, err := p.stdout.ReadString('\n')
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("the server ended before it listened")
		}
		<-p.done
		return "", fmt.Errorf("%w: %w: %s", err, p.err, p.stderr.String())
	}
	return strings.TrimSpace(line), nil
}

// signal sends a signal to the process and its children.
func (p *process) signal(s syscall.Signal) {
	_ = syscall.Kill(-p.cmd.Process.Pid, s) // it may have ended
}

// kill kills the process and waits until it is gone.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// ending says how the process has ended by itself, nothing if it has not.
func (p *process) ending() string {
	select {
	case <-p.done:
		return fmt.Sprintf("; the server has ended: %v", p.err)
	case <-time.After(time.Second):
		return ""
	}
}

// complaints returns the lines of the log that a clean run has none of.
func (p *process) complaints() []string {
	var out []string
	for line := range strings.Lines(p.stderr.String()) {
		var entry struct{ Level string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Level == "ERROR" {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}
