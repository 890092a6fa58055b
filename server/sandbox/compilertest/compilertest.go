// Package compilertest gives tests the compiler process that a sandbox needs. Only
// tests import it.
//
// The process is the test binary itself, started again; so TestMain must know when
// it is one:
//
//	func TestMain(m *testing.M) { compilertest.Main(m.Run) }
//
// Under the race detector a compiler is 50 times slower, and takes more memory than
// it may have. There the process is another program, built without.
package compilertest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"rapport/profilestore/badger"
	"rapport/server/sandbox"
)

// Main compiles a strategy if this process was started to do that. Else it calls
// run, removes what Command made, and ends the process with the status that run
// returns.
func Main(run func() int) {
	if badger.IsChecker() { // a server of a test opens a data folder that was not closed
		os.Exit(badger.CheckerMain(os.Stdin, os.Stdout))
	}
	if sandbox.IsCompiler() {
		os.Exit(sandbox.CompilerMain(os.Stdin, os.Stdout, os.Stderr))
	}
	status := run()
	if err := apart.remove(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = max(status, 1)
	}
	os.Exit(status)
}

// Command returns the command for sandbox.Options.Compiler. It is safe for
// concurrent use; the first call under the race detector takes seconds.
func Command() ([]string, error) {
	if !raceDetector {
		return sandbox.CompilerCommand()
	}
	return apart.command()
}

// apart is the program built without the race detector, once in a run of a package's
// tests.
var apart program

type program struct {
	mu   sync.Mutex
	dir  string
	path string
}

// self is this package, whose own tests are such a program.
const self = "rapport/server/sandbox/compilertest"

// command builds the program. It is a test binary too: in others wazero finds
// another version of itself, and keeps what it compiles apart.
func (p *program) command() ([]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	command, err := sandbox.CompilerCommand()
	if err != nil {
		return nil, err
	}
	if p.path == "" {
		if p.dir, err = os.MkdirTemp("", "rapport-compiler-"); err != nil {
			return nil, err
		}
		path := filepath.Join(p.dir, "compiler.test")
		build := exec.CommandContext(context.Background(), "go", "test", "-c", "-race=false", "-o", path, self) //nolint:gosec // the path is of a folder just made
		if text, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w\n%s", err, text)
		}
		p.path = path
	}
	return append([]string{p.path}, command[1:]...), nil
}

func (p *program) remove() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dir == "" {
		return nil
	}
	return os.RemoveAll(p.dir)
}
