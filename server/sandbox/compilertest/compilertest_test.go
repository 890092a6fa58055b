package compilertest_test

import (
	"context"
	"testing"

	"rapport/plugins"
	"rapport/server/sandbox"
	"rapport/server/sandbox/compilertest"
)

func TestMain(m *testing.M) { compilertest.Main(m.Run) }

// A package whose TestMain is Main can compile.
func TestCommandCompiles(t *testing.T) {
	command, err := compilertest.Command()
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	r, err := sandbox.New(ctx, sandbox.Options{Compiler: command})
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Compile(ctx, plugins.PVCL())
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Manifest().Name; got != "pvcl" {
		t.Errorf("compiled %s", got)
	}
	if err := r.Close(ctx); err != nil {
		t.Error(err)
	}
}
