package sandbox

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// What a compiler process reads and writes. Its standard input is a task: the
// length of its head in 4 bytes, the head as JSON, the module. Its standard output
// is the greeting, once it has limited itself, and an answer as JSON. It leaves the
// files moduleFile and codeFile in its folder.

// compilerGreeting is the first line that a compiler process writes.
const compilerGreeting = "rapport compiler 1\n"

// Files that a compiler process makes.
const (
	moduleFile = "module.wasm" // the prepared module
	codeFile   = "code"        // what wazero made of it
)

// task is what a compiler process is to do.
type task struct {
	Size   int            `json:"size"` // of the module
	Policy policy         `json:"policy"`
	Limits CompilerLimits `json:"limits"`
}

// answer is what came of a task; one of its fields is set.
type answer struct {
	Result  *result  `json:"result,omitempty"`
	Refused *refusal `json:"refused,omitempty"` // the module is at fault
	Failed  string   `json:"failed,omitempty"`  // the machine is: its disk, say
}

// refusal is an InvalidError on its way between processes.
type refusal struct {
	Reason  Reason `json:"reason"`
	Message string `json:"message"`
}

// result describes the files that were made.
type result struct {
	Wasm fileSum `json:"wasm"`
	Code fileSum `json:"code"`
	// Folder and Name are where wazero looks for the code in a folder that it is
	// given. They say for which version and processor the code is.
	Folder string `json:"folder"`
	Name   string `json:"name"`
	Facts  facts  `json:"facts"`
}

// fileSum is how a file is known again.
type fileSum struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

func sumOf(b []byte) fileSum {
	sum := sha256.Sum256(b)
	return fileSum{int64(len(b)), hex.EncodeToString(sum[:])}
}

// maxHead bounds the head of a task.
const maxHead = 1 << 16

func (t task) write(w io.Writer) error {
	head, err := json.Marshal(t)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(len(head))), head...))
	return err
}

// readTask reads the head of a task, and not a byte more.
func readTask(r io.Reader) (t task, err error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return t, fmt.Errorf("no task on the standard input: %w", err)
	}
	head := make([]byte, min(binary.LittleEndian.Uint32(length[:]), maxHead))
	if _, err := io.ReadFull(r, head); err != nil {
		return t, fmt.Errorf("task: %w", err)
	}
	if err := json.Unmarshal(head, &t); err != nil {
		return t, fmt.Errorf("task: %w", err)
	}
	if t.Size < 0 || t.Size > MaxModuleSize {
		return t, fmt.Errorf("task: a module of %d bytes", t.Size)
	}
	return t, nil
}

// CompilerMain is the whole of a compiler process: it limits itself, reads a module
// from stdin, checks and compiles it, leaves the files in its working directory and
// writes to stdout what came of it. It returns the exit code.
//
// Only a [Runtime] starts such a process; see [Options.Compiler].
func CompilerMain(stdin io.Reader, stdout, stderr io.Writer) int {
	t, err := readTask(stdin)
	if err == nil {
		err = limitProcess(t.Limits)
	}
	if err == nil {
		_, err = io.WriteString(stdout, compilerGreeting)
	}
	if err == nil {
		err = json.NewEncoder(stdout).Encode(perform(t, stdin))
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "compiler: %v\n", err)
		return 1
	}
	return 0
}

// perform does a task in the working directory.
func perform(t task, module io.Reader) answer {
	wasm := make([]byte, t.Size)
	if _, err := io.ReadFull(module, wasm); err != nil {
		return answer{Failed: fmt.Sprintf("the module: %v", err)}
	}
	r, err := compileHere(context.Background(), t.Policy, wasm)
	if err == nil {
		return answer{Result: r}
	}
	if bad := new(InvalidError); errors.As(err, &bad) {
		return answer{Refused: &refusal{bad.Reason, strings.ToValidUTF8(bad.Message, "\uFFFD")}}
	}
	return answer{Failed: err.Error()}
}

// compileHere prepares a module, validates the original, and compiles what was
// prepared. The original is validated because rewriting could make an invalid
// module valid.
//
// That wazero should panic is not expected, but its input is not to be trusted.
func compileHere(ctx context.Context, p policy, wasm []byte) (r *result, err error) {
	defer func() {
		if v := recover(); v != nil {
			r, err = nil, compilerPanic(v)
		}
	}()
	ready, err := prepare(wasm, p)
	if err != nil {
		return nil, err
	}
	if err := validate(ctx, p, ready.original); err != nil {
		return nil, err
	}
	if err := os.WriteFile(moduleFile, ready.wasm, 0o600); err != nil {
		return nil, writeError(err)
	}
	r = &result{Wasm: sumOf(ready.wasm), Facts: ready.facts}
	return r, r.compile(ctx, p, ready.wasm)
}

// validate has wazero's interpreter take a module, which is cheaper than to compile
// it.
func validate(ctx context.Context, p policy, wasm []byte) error {
	w := wazero.NewRuntimeWithConfig(ctx, p.configure(wazero.NewRuntimeConfigInterpreter()))
	if _, err := w.CompileModule(ctx, wasm); err != nil {
		return compileError(err)
	}
	return w.Close(ctx)
}

// compile fills in r what becomes of a prepared module.
func (r *result) compile(ctx context.Context, p policy, wasm []byte) error {
	const dir = "cache"
	w, err := newWasmRuntime(ctx, p, dir)
	if err != nil {
		return writeError(err)
	}
	if _, err := w.CompileModule(ctx, wasm); err != nil {
		return compileError(err)
	}
	name, err := w.compiledFile()
	if err != nil {
		return err
	}
	r.Folder, r.Name = filepath.Split(name)
	r.Folder = filepath.Clean(r.Folder)
	if err := os.Rename(filepath.Join(dir, name), codeFile); err != nil {
		return err
	}
	if r.Code, err = sumFile(codeFile); err != nil {
		return err
	}
	return errors.Join(w.close(ctx), os.RemoveAll(dir))
}

func sumFile(name string) (fileSum, error) {
	f, err := os.Open(name)
	if err != nil {
		return fileSum{}, err
	}
	h := sha256.New()
	n, err := io.Copy(h, f)
	return fileSum{n, hex.EncodeToString(h.Sum(nil))}, errors.Join(err, f.Close())
}

// configure sets what is the same wherever a module is read, validated or compiled.
func (p policy) configure(c wazero.RuntimeConfig) wazero.RuntimeConfig {
	return c.WithCoreFeatures(api.CoreFeaturesV2).
		WithMemoryLimitPages(min(p.MemoryPages, 65536)).
		WithDebugInfoEnabled(false)
}

// compileError says whose fault it is that wazero does not take a module.
func compileError(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	var errno syscall.Errno
	switch {
	case noMemory(err):
		return invalid(ReasonCompileMemory, "%s: %w", tooMuchMemory, err)
	case errors.As(err, &path), errors.As(err, &link), errors.As(err, &errno):
		return writeError(err)
	}
	return invalid(ReasonMalformed, "%w", err)
}

// writeError says whose fault it is that a file can't be written.
func writeError(err error) error {
	if errors.Is(err, syscall.EFBIG) {
		return invalid(ReasonCompileSize, "its compiled code is longer than the compiler may write: make the module smaller: %w", err)
	}
	return err
}

// compilerPanic turns a panic of the compiler into an error.
func compilerPanic(v any) error {
	if err, ok := v.(error); ok && noMemory(err) {
		return compileError(err)
	}
	return invalid(ReasonMalformed, "the compiler failed: %v", v)
}

// compilerFlag is the only argument of a compiler process. It looks like a flag, so
// that a program which does not know it, a test binary above all, refuses it
// instead of going about its own business.
const compilerFlag = "-compile-strategy"

// CompilerCommand returns the command that makes this program compile a strategy,
// for [Options.Compiler]. The program's main function must begin with:
//
//	if sandbox.IsCompiler() {
//		os.Exit(sandbox.CompilerMain(os.Stdin, os.Stdout, os.Stderr))
//	}
func CompilerCommand() ([]string, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("sandbox: strategies are compiled by this program, started again, and where it is can't be told: is /proc mounted? %w", err)
	}
	if runtime.GOOS == "linux" {
		program = "/proc/self/exe" // what runs, even if another version has taken its place
	}
	return []string{program, compilerFlag}, nil
}

// IsCompiler reports whether this process was started by the command that
// [CompilerCommand] returns.
func IsCompiler() bool { return len(os.Args) == 2 && os.Args[1] == compilerFlag }
