package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tetratelabs/wazero"
)

// wasmRuntime is a runtime of wazero with its own compiler and a folder in which
// that looks for compiled code, and puts it. There is one for each module: see
// RATIONALE.md.
type wasmRuntime struct {
	wazero.Runtime
	cache wazero.CompilationCache
	dir   string

	temporary bool // the folder goes with the runtime
}

func newWasmRuntime(ctx context.Context, p policy, dir string) (*wasmRuntime, error) {
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return nil, err
	}
	config := p.configure(wazero.NewRuntimeConfig()).WithCompilationCache(cache)
	return &wasmRuntime{Runtime: wazero.NewRuntimeWithConfig(ctx, config), cache: cache, dir: dir}, nil
}

// compiledFile returns the name, below the folder, of the only file that the
// compiler has put there.
func (w *wasmRuntime) compiledFile() (string, error) {
	files, err := filepath.Glob(filepath.Join(w.dir, "*", "*"))
	if err != nil {
		return "", err
	}
	if len(files) != 1 {
		return "", fmt.Errorf("the compiler has left %d files of code, not one: it makes code for amd64 and arm64", len(files))
	}
	return filepath.Rel(w.dir, files[0])
}

// close frees what belongs to the runtime; its folder stays, unless it is temporary.
func (w *wasmRuntime) close(ctx context.Context) error {
	err := errors.Join(w.Close(ctx), w.cache.Close(ctx))
	if w.temporary {
		err = errors.Join(err, os.RemoveAll(w.dir))
	}
	return err
}

// emptyModule is the shortest module that there is.
const emptyModule = "\x00asm\x01\x00\x00\x00"

// compilerMark compiles nothing, in a folder that it makes and removes, and returns
// under which name the compiler of this process keeps that. The name tells versions
// of wazero and kinds of processor apart, as the names of all that it keeps do. It
// has the form FOLDER/NAME.
func compilerMark(ctx context.Context, p policy, dir string) (mark string, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	w, err := newWasmRuntime(ctx, p, dir)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, w.close(ctx)) }()
	if _, err := w.CompileModule(ctx, []byte(emptyModule)); err != nil {
		return "", err
	}
	return w.compiledFile()
}
