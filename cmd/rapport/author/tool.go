package author

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Tool is a program, or a part of one, that a toolchain needs.
type Tool struct {
	Name string
	// Get says how to get it, by operating system; "" is for all others.
	Get map[string]string

	// Names are of the program, in the order in which they are looked for.
	names []string
	// version is what to ask it for its version.
	version []string
	// also looks at what else it needs, and says what is wrong.
	also func(ctx context.Context, path string) error
	// inProject finds it in a project's folder, where it is not on the PATH.
	inProject func(dir string) (command []string, version string, ok bool)
}

// MissingError says that a tool is not there, or not fit, and how to get it.
type MissingError struct {
	Tool *Tool
	Why  error // nil: there is none
}

func (e *MissingError) Error() string {
	why := e.Tool.Name + " is not installed"
	if e.Why != nil {
		why = e.Tool.Name + ": " + e.Why.Error()
	}
	return fmt.Sprintf("%s: to get it, %s; `rapport doctor` lists what each language needs", why, e.Tool.HowToGet())
}

func (e *MissingError) Unwrap() error { return e.Why }

// HowToGet says how to get the tool on this operating system.
func (t *Tool) HowToGet() string {
	if how, ok := t.Get[runtime.GOOS]; ok {
		return how
	}
	return t.Get[""]
}

// InProjects reports whether each project has the tool in its own folder.
func (t *Tool) InProjects() bool { return t.inProject != nil }

// Find returns the command of the tool and the first line of its version. dir is
// the project's folder, if there is one. The error is a [*MissingError].
func (t *Tool) Find(ctx context.Context, dir string) (command []string, version string, err error) {
	if t.inProject != nil {
		command, version, ok := t.inProject(dir)
		if !ok {
			return nil, "", &MissingError{Tool: t}
		}
		return command, version, nil
	}
	for _, name := range t.names {
		path, lookErr := exec.LookPath(name)
		if lookErr != nil {
			continue
		}
		out, runErr := output(ctx, dir, append([]string{path}, t.version...))
		if runErr == nil && t.also != nil {
			runErr = t.also(ctx, path)
		}
		if runErr != nil {
			err = runErr
			continue
		}
		line, _, _ := bytes.Cut(bytes.TrimSpace(out), []byte("\n"))
		return []string{path}, string(line), nil
	}
	return nil, "", &MissingError{Tool: t, Why: err}
}

// patience is how long a tool may take to say its version.
const patience = 30 * time.Second

// output runs a command and returns what it says on stdout.
func output(ctx context.Context, dir string, command []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // tools on the PATH of who runs this
	cmd.Dir = dir
	out, err := cmd.Output()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		line, _, _ := strings.Cut(strings.TrimSpace(string(exit.Stderr)), "\n")
		err = fmt.Errorf("%s fails: %w: %s", filepath.Base(command[0]), err, line)
	}
	return out, err
}

// versioned returns a program's names with versions behind, newest first, as
// distributions name them.
func versioned(name string, newest, oldest int) []string {
	names := []string{name}
	for v := newest; v >= oldest; v-- {
		names = append(names, fmt.Sprintf("%s-%d", name, v))
	}
	return names
}

var goTool = &Tool{
	Name: "go", names: []string{"go"}, version: []string{"version"},
	Get: map[string]string{
		"darwin": "`brew install go`, or https://go.dev/dl",
		"":       "unpack https://go.dev/dl and put its bin folder on the PATH (distributions' packages may be older than " + goVersion + ")",
	},
}

var clangTool = &Tool{
	Name: "clang", names: versioned("clang", 21, 14), version: []string{"--version"},
	also: func(ctx context.Context, path string) error {
		out, err := output(ctx, "", []string{path, "--print-targets"})
		if err == nil && !bytes.Contains(out, []byte("wasm32")) {
			err = errors.New("this one does not build for wasm32")
		}
		return err
	},
	Get: llvm,
}

var wasmLDTool = &Tool{Name: "wasm-ld", names: versioned("wasm-ld", 21, 14), version: []string{"--version"}, Get: llvm}

var llvm = map[string]string{
	"darwin": "`brew install llvm lld`, and put $(brew --prefix llvm)/bin on the PATH",
	"":       "`apt install clang lld` on Debian and Ubuntu, `dnf install clang lld` on Fedora; version 14 or later",
}

var nodeTool = &Tool{
	Name: "node", names: []string{"node"}, version: []string{"-p", "'node ' + process.version"},
	Get: map[string]string{
		"darwin": "`brew install node`",
		"":       "https://nodejs.org, or `apt install nodejs npm` where that is version 20 or later",
	},
}

// ascTool is the compiler of AssemblyScript, which npm puts into each project.
var ascTool = &Tool{
	Name: "asc",
	Get:  map[string]string{"": "run `npm ci` in the project's folder: once, with network; builds need none then"},
	inProject: func(dir string) (command []string, version string, ok bool) {
		folder := filepath.Join("node_modules", "assemblyscript")
		text, err := os.ReadFile(filepath.Join(dir, folder, "package.json"))
		var about struct{ Version string }
		if err != nil || json.Unmarshal(text, &about) != nil {
			return nil, "", false
		}
		return []string{"node", filepath.Join(folder, "bin", "asc.js")}, "asc " + about.Version, true
	},
}

var rustcTool = &Tool{
	// Debian's may stand behind another in the path, that has the target not.
	Name: "rustc", names: []string{os.Getenv("RUSTC"), "rustc", "/usr/bin/rustc"}, version: []string{"--version"},
	also: func(ctx context.Context, path string) error {
		root, err := output(ctx, "", []string{path, "--print", "sysroot"})
		if err != nil {
			return err
		}
		lib := filepath.Join(strings.TrimSpace(string(root)), "lib", "rustlib")
		if _, err := os.Stat(filepath.Join(lib, "wasm32-unknown-unknown")); err != nil {
			return errors.New("this one does not have the target wasm32-unknown-unknown")
		}
		if _, err := exec.LookPath("rust-lld"); err == nil {
			return nil
		}
		if own, err := filepath.Glob(filepath.Join(lib, "*", "bin", "rust-lld")); err != nil || len(own) == 0 {
			return errors.New("this one has no linker: rust-lld is neither beside it nor in the path")
		}
		return nil
	},
	Get: map[string]string{
		"": "`apt install rustc libstd-rust-dev-wasm32` on Debian and Ubuntu; elsewhere https://rustup.rs and `rustup target add wasm32-unknown-unknown`",
	},
}
