// Command precompile fills a compilation cache: precompile FOLDER MODULE. Tests
// under the race detector run it, because wazero's compiler takes a minute there
// for what it does in a second here.
package main

import (
	"context"
	"fmt"
	"os"

	"rapport/server/sandbox"
)

func main() {
	if err := precompile(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func precompile(ctx context.Context, folder, file string) error {
	wasm, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	r, err := sandbox.New(ctx, sandbox.Options{CacheDir: folder})
	if err != nil {
		return err
	}
	if _, err := r.Compile(ctx, wasm); err != nil {
		return err
	}
	return r.Close(ctx)
}
