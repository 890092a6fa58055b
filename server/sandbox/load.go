package sandbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tetratelabs/wazero"
)

// obtain returns what was made of a module, by its digest: from the cache, or by a
// compiler process. Of several calls at once for the same module one does the work.
func (r *Runtime) obtain(ctx context.Context, digest string, wasm []byte) (*entry, error) {
	key, err := r.cacheKey(digest)
	if err != nil {
		return nil, err
	}
	release, err := r.cache.claim(ctx, key)
	if err != nil {
		return nil, err
	}
	defer release()
	damaged := new(damagedError)
	switch e, err := r.cache.get(key); {
	case err == nil:
		r.cache.hits.Add(1)
		return e, nil
	case errors.Is(err, errMissing):
		r.cache.misses.Add(1)
	case errors.As(err, &damaged):
		r.cache.damaged.Add(1)
		r.log.Warn("a compiled strategy in the cache is not as it was left; it is compiled again", "entry", key, "error", err)
	default:
		return nil, err
	}
	return r.make(ctx, key, wasm)
}

// make has a compiler process make an entry of the cache.
func (r *Runtime) make(ctx context.Context, key string, wasm []byte) (_ *entry, err error) {
	work, err := r.cache.temporary("compile")
	if err != nil {
		return nil, err
	}
	defer func() {
		if removed := os.RemoveAll(work); err == nil {
			err = removed
		}
	}()
	made, err := r.compiler.run(ctx, work, r.policy, wasm)
	if err != nil {
		return nil, err
	}
	if err := r.fits(made); err != nil {
		return nil, err
	}
	return r.cache.put(key, work, made)
}

// fits checks that wazero in this process will look for the code where the compiler
// process had put it. Else it would compile by itself, here.
func (r *Runtime) fits(made *result) error {
	if made.Folder != filepath.Dir(r.mark) {
		return fmt.Errorf("sandbox: the compiler process makes code for %.100q, and this server runs %q: give it the program that runs here", made.Folder, filepath.Dir(r.mark))
	}
	if !entryName.MatchString(made.Name) {
		return fmt.Errorf("sandbox: the compiler process has made a file %.100q, which is no name for compiled code", made.Name)
	}
	return nil
}

// cacheKey returns the name of a module's entry: it depends on all that what is
// made of it depends on.
func (r *Runtime) cacheKey(digest string) (string, error) {
	program, err := programOf(r.compiler.command[0])
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(struct {
		Module      string
		Policy      policy
		Preparation int
		Program     string // that compiles
		Mark        string // version of wazero, operating system, processor
	}{digest, r.policy, preparation, program, r.mark})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// programOf tells the versions of a program apart: by size and time of change. A
// digest would take longer than to start it.
func programOf(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("%w's program: %w", ErrCompiler, err)
	}
	return fmt.Sprintf("%d bytes of %d", info.Size(), info.ModTime().UnixNano()), nil
}

// load has wazero read an entry. It gets a copy of what was checked, in a folder of
// its own: between the check and the reading nothing can change, and removing an
// entry from the cache does not matter. That wazero took the copy and did not
// compile is checked afterwards: then the file would be another, or not alone.
func (r *Runtime) load(ctx context.Context, e *entry) (w *wasmRuntime, compiled wazero.CompiledModule, err error) {
	dir, err := r.cache.temporary("load")
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		err = errors.Join(err, os.RemoveAll(dir))
		if err != nil && w != nil {
			err = errors.Join(err, w.close(ctx))
		}
	}()
	name := filepath.Join(e.result.Folder, e.result.Name)
	path := filepath.Join(dir, name)
	err = os.Mkdir(filepath.Dir(path), 0o700)
	if err == nil {
		err = os.WriteFile(path, e.code, 0o600)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("sandbox: cache folder: %w", err)
	}
	before, err := os.Lstat(path)
	if err != nil {
		return nil, nil, err
	}
	if w, err = newWasmRuntime(ctx, r.policy, dir); err != nil {
		return nil, nil, fmt.Errorf("sandbox: %w", err)
	}
	if err = addHost(ctx, w); err != nil {
		return w, nil, fmt.Errorf("sandbox: host functions: %w", err)
	}
	if compiled, err = w.CompileModule(ctx, e.wasm); err != nil {
		return w, nil, fmt.Errorf("sandbox: what the compiler process has made can't be loaded: %w", err)
	}
	after, err := os.Lstat(path)
	if err != nil {
		return w, nil, fmt.Errorf("sandbox: compiled code has disappeared while it was loaded: %w", err)
	}
	if only, err := w.compiledFile(); err != nil || only != name || !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) || before.Size() != after.Size() {
		return w, nil, errors.Join(errors.New("sandbox: the server has compiled a module by itself, though a compiler process had done so: this is a mistake in Rapport"), err)
	}
	return w, compiled, nil
}
