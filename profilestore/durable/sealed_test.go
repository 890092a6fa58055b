package durable_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"rapport/profilestore/durable"
)

// Whatever single bit, length or file is lost of a sealed file and its copy, what is read
// is what was written, and it is said that something is wrong.
func TestSealedGetsOverAnyDamage(t *testing.T) {
	for _, content := range []string{"", "3\n", `{"active":3}` + "\n", "\x00\x00\x00"} {
		name := filepath.Join(t.TempDir(), "file")
		if err := durable.WriteSealed(name, []byte(content)); err != nil {
			t.Fatal(err)
		}
		whole, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		try := func(what string, damaged []byte) {
			t.Helper()
			for _, path := range []string{name, name + durable.CopySuffix} {
				if damaged == nil {
					err = os.Remove(path)
				} else {
					err = os.WriteFile(path, damaged, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
				if got, err := durable.ReadSealed(name); err != nil || string(got) != content {
					t.Fatalf("%q, %s of %s: read %q, %v", content, what, filepath.Base(path), got, err)
				}
				if err := durable.CheckSealed(name); err == nil {
					t.Fatalf("%q, %s of %s is not said", content, what, filepath.Base(path))
				}
				if what == "loss" || what == "zeros" { // it syncs, which takes long
					if err := durable.MendSealed(name, filepath.Join(filepath.Dir(name), "aside")); err != nil {
						t.Fatal(err)
					}
				} else if err := os.WriteFile(path, whole, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := durable.CheckSealed(name); err != nil {
					t.Fatalf("after mending: %v", err)
				}
			}
		}
		for bit := range 8 * len(whole) {
			b := bytes.Clone(whole)
			b[bit/8] ^= 1 << (bit % 8)
			try("a flipped bit", b)
		}
		for n := range whole {
			try("a cut", whole[:n:n])
		}
		try("zeros", make([]byte, len(whole)))
		try("loss", nil)
	}
}

func TestSealedSaysWhenNothingIsLeft(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if _, err := durable.ReadSealed(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of no file: %v", err)
	}
	if err := durable.CheckSealed(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of no file: %v", err)
	}
	// A file of before seals is as good as ever.
	if err := os.WriteFile(name, []byte("3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := durable.ReadSealed(name); err != nil || string(got) != "3\n" {
		t.Errorf("of a file without seal: %q, %v", got, err)
	}
	if err := durable.CheckSealed(name); err != nil {
		t.Errorf("of a file without seal: %v", err)
	}
	if err := durable.WriteSealed(name, []byte("4\n")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{name, name + durable.CopySuffix} {
		if err := os.WriteFile(path, []byte("5\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := durable.ReadSealed(name); !errors.Is(err, durable.ErrDamaged) {
		t.Errorf("of two damaged files: %v", err)
	}
	if err := durable.MendSealed(name, t.TempDir()); !errors.Is(err, durable.ErrDamaged) {
		t.Errorf("mending two damaged files: %v", err)
	}
}
