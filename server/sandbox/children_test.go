package sandbox_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"rapport/server/sandbox"
	"rapport/server/sandbox/compilertest"
)

// Processes that this test binary becomes if it is started as one. Each stands for
// a compiler process that goes wrong, or tells how it was started. The first
// argument names it; a second one is a file to tell in.
const childFlag = "-child="

// child returns the command that makes this binary a child.
func child(t testing.TB, name, file string) []string {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{program, childFlag + name, file}
}

// asChild is for TestMain: it does not return in a child.
func asChild() {
	if len(os.Args) != 3 || !strings.HasPrefix(os.Args[1], childFlag) {
		return
	}
	name, file := strings.TrimPrefix(os.Args[1], childFlag), os.Args[2]
	status, err := children[name](file)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = max(status, 1)
	}
	os.Exit(status)
}

const greeting = "rapport compiler 1\n"

// children return the exit code.
var children = map[string]func(file string) (int, error){
	"silent":  func(string) (int, error) { return 0, nil },
	"mute":    func(string) (int, error) { return say(greeting) },
	"garbage": func(string) (int, error) { return say(greeting + "{\"result\":") },
	"empty":   func(string) (int, error) { return say(greeting + "{}") },
	"broken":  func(string) (int, error) { return say(greeting + `{"failed":"no space left"}`) },
	"panics": func(string) (int, error) {
		_, _ = say(greeting)
		panic("boom")
	},
	"faults": func(string) (int, error) {
		_, _ = say(greeting)
		if err := syscall.Kill(os.Getpid(), syscall.SIGBUS); err != nil {
			return 0, err
		}
		return wait() // for whichever thread takes it
	},
	"killed": func(string) (int, error) {
		_, _ = say(greeting)
		if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
			return 0, err
		}
		return wait()
	},
	"waits": func(string) (int, error) { return wait() },
	"hangs": hang,
	"hangs first": func(file string) (int, error) {
		if _, err := os.Stat(file); err == nil {
			return compileAsChild(), nil
		}
		return hang(file)
	},
	"floods": flood,
	"tells":  tell,
	"alone":  alone,
	"lies": func(string) (int, error) {
		status := compileAsChild()
		return status, os.WriteFile("code", []byte("something else"), 0o600)
	},
	"leaves": func(string) (int, error) {
		status := compileAsChild()
		return status, os.Remove("module.wasm")
	},
	"of another version": func(string) (int, error) {
		return say(greeting + `{"result":{"folder":"wazero-v0.1.0-amd64-linux","name":"` + strings.Repeat("0", 64) + `"}}`)
	},
	"with another name": func(string) (int, error) {
		var out strings.Builder
		status := sandbox.CompilerMain(os.Stdin, &out, os.Stderr)
		var a struct{ Result struct{ Name string } }
		if err := json.Unmarshal([]byte(strings.TrimPrefix(out.String(), greeting)), &a); err != nil {
			return 1, err
		}
		_, _ = say(strings.Replace(out.String(), a.Result.Name, strings.Repeat("0", 64), 1))
		return status, nil
	},
	"escapes": func(string) (int, error) {
		var out strings.Builder
		status := sandbox.CompilerMain(os.Stdin, &out, os.Stderr)
		var a struct{ Result struct{ Name string } }
		if err := json.Unmarshal([]byte(strings.TrimPrefix(out.String(), greeting)), &a); err != nil {
			return 1, err
		}
		_, _ = say(strings.Replace(out.String(), a.Result.Name, "../../escaped", 1))
		return status, nil
	},
	"server": serve,
}

func say(text string) (int, error) {
	_, err := os.Stdout.WriteString(text)
	return 0, err
}

func compileAsChild() int { return sandbox.CompilerMain(os.Stdin, os.Stdout, os.Stderr) }

// wait is for longer than any test takes.
func wait() (int, error) {
	<-time.After(time.Hour)
	return 1, nil
}

// hang never ends, and starts another process that does not. It writes the numbers
// of both into the file.
func hang(file string) (int, error) {
	_, _ = say(greeting)
	program, err := os.Executable()
	if err != nil {
		return 1, err
	}
	more := exec.CommandContext(context.Background(), program, childFlag+"waits", file)
	more.Stdout = os.Stdout
	if err := more.Start(); err != nil {
		return 1, err
	}
	pids := fmt.Sprintf("%d %d", os.Getpid(), more.Process.Pid)
	if err := os.WriteFile(file+".new", []byte(pids), 0o600); err != nil {
		return 1, err
	}
	if err := os.Rename(file+".new", file); err != nil {
		return 1, err
	}
	return 1, more.Wait()
}

// flood writes 64 MB to both outputs.
func flood(string) (int, error) {
	_, _ = say(greeting)
	text := strings.Repeat("flood ", 1<<14)
	for range 64 << 20 / len(text) {
		_, _ = os.Stdout.WriteString(text)
		_, _ = os.Stderr.WriteString(text)
	}
	return 3, nil
}

// told is what a child says of how it was started, and of what it has when it has
// compiled.
type told struct {
	Environment []string
	Args        []string
	Folder      string
	Mode        os.FileMode
	Descriptors []string
	Limits      map[string]syscall.Rlimit
}

func tell(file string) (int, error) {
	t := told{Environment: os.Environ(), Args: os.Args[1:], Limits: make(map[string]syscall.Rlimit)}
	var err error
	if t.Folder, err = os.Getwd(); err != nil {
		return 1, err
	}
	info, err := os.Stat(".")
	if err != nil {
		return 1, err
	}
	t.Mode = info.Mode().Perm()
	status := compileAsChild()
	names, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		return 1, err
	}
	for _, name := range names {
		if target, err := os.Readlink(name); err == nil {
			t.Descriptors = append(t.Descriptors, filepath.Base(name)+" "+target)
		}
	}
	for name, resource := range map[string]int{
		"cpu": syscall.RLIMIT_CPU, "data": syscall.RLIMIT_DATA, "core": syscall.RLIMIT_CORE,
		"file": syscall.RLIMIT_FSIZE, "descriptors": syscall.RLIMIT_NOFILE,
	} {
		var l syscall.Rlimit
		if err := syscall.Getrlimit(resource, &l); err != nil {
			return 1, err
		}
		t.Limits[name] = l
	}
	b, err := json.Marshal(t)
	if err != nil {
		return 1, err
	}
	return status, os.WriteFile(file, b, 0o600)
}

// alone compiles if no other child of its kind does.
func alone(file string) (int, error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 1, err
	}
	return compileAsChild(), os.Remove(f.Name())
}

// serve is a server whose compiler process hangs.
func serve(file string) (int, error) {
	program, err := os.Executable()
	if err != nil {
		return 1, err
	}
	ctx := context.Background()
	r, err := sandbox.New(ctx, sandbox.Options{Compiler: []string{program, childFlag + "hangs", file}})
	if err != nil {
		return 1, err
	}
	_, err = r.Compile(ctx, guest{}.bytes())
	return 1, err
}

// command returns the usual compiler.
func command(t testing.TB) []string {
	t.Helper()
	c, err := compilertest.Command()
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(c)
}

func readJSON(t testing.TB, file string, v any) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}
