package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"rapport/plugins"
)

// syncBuffer is written by a command while a test reads it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// With --watch every change of a file is tested, also one that makes the case none, until
// Ctrl-C, which is how it ends.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	wasm, file := filepath.Join(dir, "pvcl.wasm"), filepath.Join(dir, "case.yaml")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(wasm, string(plugins.PVCL()))
	const good = "candidates: [{id: a, propensity: 0.5, value: 2}]\nexpect: {candidates: {a: {score: 1}}}\n"
	write(file, good)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, code := new(syncBuffer), make(chan int)
	go func() {
		code <- run(ctx, []string{"plugin", "test", wasm, "-i", file, "--watch"}, console{in: strings.NewReader(""), out: out, err: out}, noEnvironment)
	}()
	for i, step := range []struct{ text, want string }{
		{good, "1 case, all ok"},
		{strings.Replace(good, "score: 1", "score: 3", 1), "a: score 1; want 3"},
		{"candidates: [", "did not find expected"},
		{good + "# as before\n", "1 case, all ok"},
	} {
		before := len(out.String())
		if i > 0 {
			write(file, step.text)
		} else {
			before = 0
		}
		for deadline := time.Now().Add(time.Minute); ; {
			if said := out.String()[before:]; strings.Contains(said, step.want) && strings.Contains(said, "waiting for a change") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("step %d: %q is not said:\n%s", i, step.want, out)
			}
			select {
			case c := <-code:
				t.Fatalf("it has ended with %d:\n%s", c, out)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	cancel()
	if c := <-code; c != 0 {
		t.Errorf("exit code %d:\n%s", c, out)
	}
}
