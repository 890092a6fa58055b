package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"rapport/cmd/rapport/author"
	"rapport/profilestore/badger"
	"rapport/server/sandbox"
	"rapport/server/sandbox/abitest/faulty"
)

var update = flag.Bool("update", false, "rewrite what transcripts compare output with")

func TestMain(m *testing.M) {
	if badger.IsChecker() || sandbox.IsCompiler() { // of a server in the process of the tests
		main()
	}
	testscript.Main(m, map[string]func(){
		"rapport": main,
		"curl":    curlMain, // a newcomer's PATH may have none
	})
}

// TestScript runs the transcripts in testdata/script. Besides what testscript
// offers they have:
//
//	start NAME ARG…      run rapport in the background until it prints its URL, which becomes $NAME,
//	                     and $NAME_address without http://
//	signal NAME SIGNAL   send TERM, INT or KILL to it
//	finish NAME [CODE]   wait until it has ended with this exit code, 0 if not given
//	paste FILE N         run the Nth curl line of a file as a person would who pastes it
//	get URL              print what a GET answers, and its status
//	until URL STATUS     GET until the answer has this status
//	await PATTERN ARG…   run rapport until a line that it prints matches
//	append FILE TEXT     append a text to a file
//	flip FILE            change one bit in the middle of a file
//	replace FILE OLD NEW replace every occurrence in a file
//	thousand TEXT FILE   write a file of a thousand equal lines
//	faulty NAME FILE     write the strategy of package faulty that is called so
//	keep NAME PATTERN    keep what the first group of a pattern matches in the last output as $NAME
//	same FILE N          check that a file has N lines, all equal
//
// $NAME.out and $NAME.err are files with what a started command has printed. The
// folder small of testdata is in the work folder.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Setup:               setupScript,
		Condition: func(name string) (bool, error) {
			switch name {
			case "shared":
				return haveShared(t), nil
			case "race":
				return underRace, nil
			}
			if id, ok := strings.CutPrefix(name, "lang:"); ok {
				return haveToolchain(t, id)
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start": startCmd, "signal": signalCmd, "finish": finishCmd,
			"paste": pasteCmd, "get": getCmd, "until": untilCmd,
			"await": awaitCmd, "append": appendCmd, "flip": flipCmd, "replace": replaceCmd, "thousand": thousandCmd, "same": sameCmd,
			"faulty": faultyCmd, "nothing": nothingCmd, "keep": keepCmd, "steady": steadyCmd,
		},
	})
}

// haveToolchain reports whether strategies in a language can be built here; where the
// tools must be there, their absence is a failure.
func haveToolchain(t *testing.T, id string) (bool, error) {
	l, err := author.ByID(id)
	if err != nil {
		return false, err
	}
	for _, tool := range l.Tools {
		if _, _, err := tool.Find(t.Context(), assemblyScriptFolder); err != nil {
			if os.Getenv("RAPPORT_REQUIRE_TOOLS") != "" {
				t.Error(err)
			}
			return false, nil
		}
	}
	return true, nil
}

// assemblyScriptFolder is where the compiler of AssemblyScript is, if it is installed.
const assemblyScriptFolder = "../../sdk/assemblyscript"

// shared is the folder of real data beside the repository.
const shared = "../../../shared"

// haveShared reports whether the real data is there; where it must be, its
// absence is a failure.
func haveShared(t *testing.T) bool {
	_, err := os.Stat(filepath.Join(shared, "data"))
	if err != nil && strings.Contains(os.Getenv("RAPPORT_REQUIRE"), "shared") {
		t.Errorf("RAPPORT_REQUIRE asks for the shared data: %v", err)
	}
	return err == nil
}

func setupScript(e *testscript.Env) error {
	repository, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	e.Setenv("SHARED", filepath.Join(repository, "..", "shared"))
	e.Setenv("TELCO", filepath.Join(repository, "cmd", "rapport", "testdata", "telco-churn"))
	e.Setenv("ASSEMBLYSCRIPT", filepath.Join(repository, "sdk", "assemblyscript"))
	e.Setenv("PLUGINS", filepath.Join(repository, "plugins"))
	if program, err := exec.LookPath("rapport"); err == nil { // for a script that empties PATH
		e.Setenv("RAPPORT", program)
	}
	e.Setenv("GOCACHE", goCache()) // the scripts have no home
	e.Setenv("GOPROXY", "off")
	e.Setenv("GORACE", "atexit_sleep_ms=10") // or each of a thousand processes sleeps a second at its end
	e.Setenv("RAPPORT_DEADLINE", "10s")      // a test machine may be busy
	e.Values[processesKey{}] = make(processes)
	return os.CopyFS(filepath.Join(e.WorkDir, "small"), os.DirFS("testdata/small"))
}

// goCache is where Go keeps what it has built.
var goCache = sync.OnceValue(func() string {
	out, err := exec.CommandContext(context.Background(), "go", "env", "GOCACHE").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
})

// processes are what a script has started, by name.
type (
	processes    map[string]*process
	processesKey struct{}
)

type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// startupTimeout is generous: many tests may share two processors.
const startupTimeout = 2 * time.Minute

var urlPattern = regexp.MustCompile(`http://[0-9.]+:[0-9]+`)

// steadyCmd writes what a command has printed to a file, with names in place of what is
// another each time, to be compared.
func steadyCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: steady FILE")
	}
	text := ts.ReadFile("stdout")
	for _, x := range steadied {
		text = x.is.ReplaceAllString(text, x.as)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

var steadied = []struct {
	is *regexp.Regexp
	as string
}{
	{regexp.MustCompile(`\b01[0-9A-HJKMNP-TV-Z]{24}\b`), "ID"},
	{regexp.MustCompile(`\b20\d\d-\d\d-\d\dT[0-9:.]+Z`), "TIME"},
	{regexp.MustCompile(`\bin [0-9.]+(µs|ms|s)\b`), "in TOOK"},
	{regexp.MustCompile(`\bseed \d+`), "seed SEED"},
	{regexp.MustCompile(`\bschema [0-9a-f]{16}`), "schema SCHEMA"},
	{regexp.MustCompile(`\([0-9a-f]{12}\), fuel \d+ of \d+`), "(DIGEST), fuel N of M"},
}

// nothingCmd checks that no file matches a pattern.
func nothingCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: nothing PATTERN")
	}
	found, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(found) > 0 {
		ts.Fatalf("there are %v", found)
	}
}

func startCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME ARG…")
	}
	name := args[0]
	out, err := os.Create(ts.MkAbs(name + ".out"))
	ts.Check(err)
	stderr, err := os.Create(ts.MkAbs(name + ".err"))
	ts.Check(err)
	program, err := exec.LookPath("rapport") // testscript puts it there
	ts.Check(err)
	cmd := exec.CommandContext(context.Background(), program, args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = ts.MkAbs("."), out, stderr
	cmd.Env = scriptEnv(ts)
	ts.Check(cmd.Start())
	p := &process{cmd, make(chan struct{})}
	go func() {
		_ = cmd.Wait() // finish looks at the exit code
		_ = errors.Join(out.Close(), stderr.Close())
		close(p.done)
	}()
	ts.Defer(func() {
		_ = cmd.Process.Kill()
		<-p.done
	})
	started(ts)[name] = p
	limit := time.After(startupTimeout)
	for {
		if url := urlPattern.FindString(ts.ReadFile(name + ".out")); url != "" {
			ts.Setenv(name, url)
			ts.Setenv(name+"_address", strings.TrimPrefix(url, "http://"))
			return
		}
		select {
		case <-p.done:
			ts.Fatalf("%s has ended: %v\n%s", name, cmd.ProcessState, ts.ReadFile(name+".err"))
		case <-limit:
			ts.Fatalf("%s has not printed a URL after %v:\n%s", name, startupTimeout, ts.ReadFile(name+".err"))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// scriptEnv is the environment that the script's own commands get.
func scriptEnv(ts *testscript.TestScript) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "RAPPORT_") })
	for _, name := range []string{"HOME", "TMPDIR", "RAPPORT_DATA", "RAPPORT_DEADLINE"} {
		if v := ts.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

func started(ts *testscript.TestScript) processes {
	all, ok := ts.Value(processesKey{}).(processes)
	if !ok {
		ts.Fatalf("setup did not run")
	}
	return all
}

func find(ts *testscript.TestScript, name string) *process {
	p := started(ts)[name]
	if p == nil {
		ts.Fatalf("nothing was started as %s", name)
	}
	return p
}

func signalCmd(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: signal NAME TERM|INT|KILL")
	}
	number, ok := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL}[args[1]]
	if !ok {
		ts.Fatalf("no signal %s", args[1])
	}
	ts.Check(find(ts, args[0]).cmd.Process.Signal(number))
}

func finishCmd(ts *testscript.TestScript, _ bool, args []string) {
	want := "0"
	if len(args) == 2 {
		want = args[1]
	} else if len(args) != 1 {
		ts.Fatalf("usage: finish NAME [CODE]")
	}
	p := find(ts, args[0])
	select {
	case <-p.done:
	case <-time.After(startupTimeout):
		ts.Fatalf("%s has not ended after %v", args[0], startupTimeout)
	}
	if got := fmt.Sprint(p.cmd.ProcessState.ExitCode()); got != want {
		ts.Fatalf("%s ended with %s (%v), want %s:\n%s", args[0], got, p.cmd.ProcessState, want, ts.ReadFile(args[0]+".err"))
	}
	delete(started(ts), args[0])
}

func pasteCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: paste FILE N")
	}
	var lines []string
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "curl ") {
			lines = append(lines, line)
		}
	}
	n := 0
	if _, err := fmt.Sscan(args[1], &n); err != nil || n < 1 || n > len(lines) {
		ts.Fatalf("%s has %d curl lines", args[0], len(lines))
	}
	if _, err := exec.LookPath("sh"); err == nil {
		ts.Check(ts.Exec("sh", "-c", lines[n-1]))
		return
	}
	ts.Check(ts.Exec("curl", shellWords(lines[n-1])[1:]...))
}

// shellWords splits a line as a shell does that knows single quotes only.
func shellWords(line string) []string {
	var words []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}

func getCmd(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: get URL")
	}
	status, body, err := get(args[0])
	writef(ts.Stdout(), "%d\n%s\n", status, body)
	if bad := err != nil || status >= 400; bad != neg {
		ts.Fatalf("status %d, error %v", status, err)
	}
}

func get(url string) (status int, body []byte, err error) {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err = io.ReadAll(response.Body)
	return response.StatusCode, body, err
}

func untilCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: until URL STATUS")
	}
	for deadline := time.Now().Add(startupTimeout); ; <-time.After(10 * time.Millisecond) {
		status, _, err := get(args[0])
		if fmt.Sprint(status) == args[1] {
			return
		}
		if err != nil || time.Now().After(deadline) {
			ts.Fatalf("status %d, error %v", status, err)
		}
	}
}

func awaitCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: await PATTERN ARG…")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for deadline := time.Now().Add(startupTimeout); ; <-time.After(10 * time.Millisecond) {
		ts.Check(ts.Exec("rapport", args[1:]...))
		if pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%q has not been printed", args[0])
		}
	}
}

func appendCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: append FILE TEXT")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(ts.ReadFile(args[0])+args[1]), 0o600))
}

func flipCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: flip FILE")
	}
	b := []byte(ts.ReadFile(args[0]))
	b[len(b)/2] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}

func thousandCmd(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: thousand TEXT FILE")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(strings.Repeat(args[0]+"\n", 1000)), 0o600))
}

func faultyCmd(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: faulty NAME FILE")
	}
	fault, ok := faulty.Get(args[0])
	if !ok {
		ts.Fatalf("no strategy is called %q, only %q", args[0], faulty.Names())
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), fault.Wasm, 0o600))
}

func keepCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: keep NAME PATTERN")
	}
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	m := pattern.FindStringSubmatch(ts.ReadFile("stdout"))
	if len(m) != 2 {
		ts.Fatalf("%q does not match with one group", args[1])
	}
	ts.Setenv(args[0], m[1])
}

func sameCmd(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: same FILE N")
	}
	lines := strings.SplitAfter(strings.TrimSuffix(ts.ReadFile(args[0]), "\n")+"\n", "\n")
	lines = lines[:len(lines)-1]
	if got := fmt.Sprint(len(lines)); got != args[1] {
		ts.Fatalf("%s has %s lines, want %s", args[0], got, args[1])
	}
	for i, line := range lines {
		if line != lines[0] {
			ts.Fatalf("line %d of %s differs from the first:\n%s%s", i+1, args[0], lines[0], line)
		}
	}
}

func replaceCmd(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: replace FILE OLD NEW")
	}
	content := ts.ReadFile(args[0])
	if !strings.Contains(content, args[1]) {
		ts.Fatalf("%s does not contain %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.ReplaceAll(content, args[1], args[2])), 0o600))
}

// curlMain understands as much of curl as the lines that Rapport prints need.
func curlMain() {
	var url, body string
	header := make(http.Header)
	for args := os.Args[1:]; len(args) > 0; args = args[1:] {
		switch arg := args[0]; {
		case arg == "-s":
		case len(args) > 1 && arg == "-d":
			body, args = args[1], args[1:]
		case len(args) > 1 && arg == "-H":
			name, value, _ := strings.Cut(args[1], ":")
			header.Set(name, strings.TrimSpace(value))
			args = args[1:]
		default:
			url = arg
		}
	}
	code := func() int {
		request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, bytes.NewBufferString(body))
		if err != nil {
			writef(os.Stderr, "curl: %v\n", err)
			return 3
		}
		request.Header = header
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			writef(os.Stderr, "curl: %v\n", err)
			return 7
		}
		defer func() { _ = response.Body.Close() }()
		_, _ = io.Copy(os.Stdout, response.Body)
		return 0
	}()
	os.Exit(code)
}
