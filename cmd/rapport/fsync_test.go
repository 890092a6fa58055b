package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestOneFsyncForManyEvents counts, with strace, how often a real server fsyncs
// its journal: once for a request of 500 events, and a few times for 500 requests
// of one event each that come at the same time.
func TestOneFsyncForManyEvents(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		if os.Getenv("RAPPORT_REQUIRE_TOOLS") != "" {
			t.Fatal(err)
		}
		t.Skip("strace is not installed")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "rapport") // this test's own binary, which under that name is the program
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, program); err != nil {
		t.Fatal(err)
	}
	data, trace := filepath.Join(dir, "DATA"), filepath.Join(dir, "trace")
	ctx := context.Background()
	if out, err := exec.CommandContext(ctx, program, "schema", "apply", "--data", data, "testdata/small/schema.yaml").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	cmd := exec.CommandContext(ctx, strace, "-f", "-y", "-e", "trace=fsync,fdatasync", "-o", trace, program, "serve", "--data", data, "--listen", "127.0.0.1:0", "--drain-delay", "0s")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	url := waitForURL(t, out.Name())
	defer func() {
		// strace itself blocks signals. Who runs under it stands in the lock.
		var holder struct{ PID int }
		if b, err := os.ReadFile(filepath.Join(data, "LOCK")); err != nil || json.Unmarshal(b, &holder) != nil {
			t.Errorf("no process id in LOCK: %q, %v", b, err)
		}
		if err := syscall.Kill(holder.PID, syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}()
	transport := &http.Transport{MaxIdleConnsPerHost: 500}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}

	count := func() int {
		b, err := os.ReadFile(trace)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Count(b, []byte(".journal>"))
	}
	before := count()
	if err := ingest(ctx, client, url, "batch", 500); err != nil {
		t.Fatal(err)
	}
	together := count() - before
	before = count()
	var wg sync.WaitGroup
	errs := make([]error, 500)
	for i := range errs {
		wg.Go(func() { errs[i] = ingest(ctx, client, url, fmt.Sprintf("single%d-", i), 1) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	singly := count() - before
	t.Logf("fsyncs of the journal: %d for a request of 500 events, %d for 500 requests at once", together, singly)
	if together != 1 {
		t.Errorf("a request of 500 events took %d fsyncs", together)
	}
	if singly < 1 || singly > 250 {
		t.Errorf("500 requests at once took %d fsyncs", singly)
	}
}

// waitForURL waits until a server has printed where it listens.
func waitForURL(t *testing.T, name string) string {
	t.Helper()
	for range 6000 {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if url := urlPattern.Find(b); url != nil {
			return string(url)
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Fatal("the server has not printed a URL")
	return ""
}

// ingest sends a request of n events of n customers.
func ingest(ctx context.Context, client *http.Client, url, id string, n int) error {
	events := make([]string, n)
	for i := range events {
		events[i] = fmt.Sprintf(`{"id":"%s%d","type":"data_session","identity":"%s%d","time":"2025-03-02T10:00:00Z","attributes":{"mb":1}}`, id, i, id, i)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/rapport.v1.ProfileService/IngestEvents", strings.NewReader(`{"events":[`+strings.Join(events, ",")+`]}`))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if want := fmt.Sprintf(`"accepted":%d`, n); !strings.Contains(string(b), want) {
		return fmt.Errorf("status %d: %.200s, want %s", res.StatusCode, b, want)
	}
	return nil
}
