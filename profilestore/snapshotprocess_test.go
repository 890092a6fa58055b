package profilestore_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"rapport/profilestore"
)

// TestSnapshotChild is not a test of its own: it is what other processes do.
func TestSnapshotChild(t *testing.T) {
	dir := os.Getenv("RAPPORT_TEST_SNAPSHOTS")
	if dir == "" {
		t.Skip("run by other tests")
	}
	switch os.Getenv("RAPPORT_TEST_DO") {
	case "load":
		mustLoad(t, dir, 2, nil)
	case "activate":
		activate(t, openSnapshots(t, dir, loadSchema(t)), 2, 1)
	case "hang": // in the middle of a load
		var file bytes.Buffer
		file.WriteString(loadHeader)
		for i := range 5000 {
			fmt.Fprintf(&file, "%d,1,1,1,Gold,\n", i)
		}
		_, err := loadFile(t, dir, file.String(), func(o *profilestore.LoadOptions) {
			o.Progress = func(rows, done, total int64) {
				if done > total*3/4 && done < total {
					_, _ = os.Stdout.WriteString("in the middle\n")
					select {}
				}
			}
		})
		t.Fatal("the load ended:", err)
	}
}

// inChild runs TestSnapshotChild in a process of its own.
func inChild(t *testing.T, dir, do string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSnapshotChild$")
	cmd.Env = append(os.Environ(), "RAPPORT_TEST_SNAPSHOTS="+dir, "RAPPORT_TEST_DO="+do)
	cmd.Stderr = os.Stderr
	return cmd
}

func TestSnapshotsOfOtherProcesses(t *testing.T) {
	dir := t.TempDir()
	s := openSnapshots(t, dir, loadSchema(t))
	mustLoad(t, dir, 1, nil)
	activate(t, s, 1, 0)
	if out, err := inChild(t, dir, "load").Output(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := generationsOf(t, s); got != "2 retained, 1 active" {
		t.Errorf("after another process loaded: %s", got)
	}
	if out, err := inChild(t, dir, "activate").Output(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := generationsOf(t, s); got != "2 active, 1 retained" {
		t.Errorf("after another process activated: %s", got)
	}
	activate(t, s, 2, 2)
	if v := currentBalance(t, s); v != profilestore.Number(2) {
		t.Errorf("balance %v, want 2", v)
	}
}

func TestKilledLoad(t *testing.T) {
	dir := t.TempDir()
	s := openSnapshots(t, dir, loadSchema(t))
	mustLoad(t, dir, 1, nil)
	activate(t, s, 1, 0)
	cmd := inChild(t, dir, "hang")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	// A second load is refused meanwhile, and says whom to wait for.
	_, err = loadFile(t, dir, loadHeader+"1,2,,,,\n", nil)
	if want := fmt.Sprintf("source bi: a load is running: process %d; wait for it, or end it", cmd.Process.Pid); !errors.Is(err, profilestore.ErrLoadRunning) || err.Error() != want {
		t.Errorf("a second load: %v, want %s", err, want)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if _, err := os.Stat(filepath.Join(dir, "bi", "gen-2.tmp")); err != nil {
		t.Errorf("the kill came too early or too late: %v", err)
	}
	if got := generationsOf(t, s); got != "1 active" {
		t.Errorf("after the load was killed: %s", got)
	}
	if _, _, err := s.Activate(t.Context(), "bi", 2); !errors.Is(err, profilestore.ErrSnapshotNotFound) {
		t.Errorf("activation of the killed load: %v", err)
	}
	if v := currentBalance(t, openSnapshots(t, dir, loadSchema(t))); v != profilestore.Number(1) {
		t.Errorf("balance %v, want 1", v)
	}
	info := mustLoad(t, dir, 2, nil)
	activate(t, s, info.Generation, 1)
	if left, _ := filepath.Glob(filepath.Join(dir, "bi", "*.tmp")); len(left) > 0 {
		t.Errorf("the next load left %q", left)
	}
}
