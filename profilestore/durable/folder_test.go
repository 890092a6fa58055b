package durable_test

import (
	"os"
	"path/filepath"
	"testing"

	"rapport/profilestore/durable"
)

func TestMakeFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b", "c")
	for range 2 { // also if it is there
		if err := durable.MakeFolder(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		t.Fatal(info, err)
	}
	file := filepath.Join(dir, "file")
	if err := durable.WriteFile(file, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := durable.MakeFolder(file, 0o700); err == nil {
		t.Error("a file is there, and no error")
	}
}

func TestRemoveUnfinished(t *testing.T) {
	dir := t.TempDir()
	if err := durable.MakeFolder(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"x", "x.new", "sub/y.new", "sub/y"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := durable.RemoveUnfinished(dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"x": true, "x.new": false, "sub/y.new": false, "sub/y": true} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil != want {
			t.Errorf("%s is there: %v", name, err == nil)
		}
	}
}
