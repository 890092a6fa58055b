package crashtest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/badger"
	"rapport/profilestore/reftable"
	"rapport/server"
	"rapport/server/sandbox/compilertest"
)

// roleVariable says in the environment what a process that this test binary starts is
// to be, in JSON. It is the test if it is not set.
const roleVariable = "RAPPORT_CRASHTEST_ROLE"

// role is what a child process does.
type role struct {
	Do   string // serve, install, load, table
	Data string

	Compiler []string `json:",omitempty"` // serve
	// Late: an answer comes as long after the work is done as the work has taken, so a
	// strike often falls between the two.
	Late bool `json:",omitempty"`

	File   string `json:",omitempty"` // install, load, table
	Source string `json:",omitempty"` // load
	AsOf   int64  `json:",omitempty"` // load
	Table  string `json:",omitempty"` // table
}

func TestMain(m *testing.M) {
	if r := os.Getenv(roleVariable); r != "" {
		if err := play(r); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	compilertest.Main(m.Run)
}

func play(encoded string) error {
	var r role
	if err := json.Unmarshal([]byte(encoded), &r); err != nil {
		return err
	}
	ctx := context.Background()
	begun := time.Now()
	if r.Do != "serve" && r.Late {
		defer func() { dawdle(time.Since(begun)) }()
	}
	switch r.Do {
	case "serve":
		return r.serve(ctx)
	case "install":
		yaml, err := os.ReadFile(r.File)
		if err != nil {
			return err
		}
		_, _, err = server.InstallSchema(r.Data, "schema.yaml", yaml)
		return err
	case "load":
		return r.load(ctx)
	case "table":
		_, err := reftable.Load(ctx, reftable.LoadOptions{Dir: filepath.Join(r.Data, "tables"), Table: r.Table, Path: r.File, Now: time.Now()})
		return err
	}
	return fmt.Errorf("no role %q", r.Do)
}

// serve does what `rapport serve` does.
func (r role) serve(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	c := server.Config{
		Data: r.Data, Listen: "127.0.0.1:0", Deadline: time.Second, CacheEntries: 200, Compiler: r.Compiler,
		Logger: slog.New(slog.NewJSONHandler(os.Stderr, nil)),
	}
	if err := c.Validate(); err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return err
	}
	s, err := server.Open(ctx, c)
	if err != nil {
		return err
	}
	fmt.Printf("http://%s\n", l.Addr()) //nolint:forbidigo // whoever has started this process reads it
	if r.Late {
		l = lateListener{l}
	}
	if err := s.Serve(ctx, l); err != nil {
		return err
	}
	return s.Close()
}

// load does what `rapport load --no-activate` does, but that the ingest cut lies in the
// future: so what happened before AsOf is covered whenever it was logged, and past events
// that a test sends are pruned.
func (r role) load(ctx context.Context) error {
	schema, err := server.InstalledSchema(r.Data)
	if err != nil {
		return err
	}
	const cell = int64(profilestore.CellWidth / time.Microsecond)
	_, err = profilestore.Load(ctx, profilestore.LoadOptions{
		Dir: filepath.Join(r.Data, "snapshots"), Schema: schema, Engine: badger.Generations(slog.New(slog.DiscardHandler)),
		Source: r.Source, Path: r.File, AsOf: r.AsOf, IngestCut: (time.Now().Add(24*time.Hour).UnixMicro()/cell + 1) * cell,
	})
	return err
}
