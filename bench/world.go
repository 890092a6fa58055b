package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"connectrpc.com/connect"

	"rapport/profilestore"
	"rapport/profilestore/badger"
	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/api/rapport/v1/rapportv1connect"
)

// world is what a server under load works on: a data folder with customers, and a
// catalogue of so many candidates, of which a customer is eligible for some.
type world struct {
	dir        string // of the world, with the data folder in it
	customers  int
	candidates int
	percent    int // of the candidates that a customer is eligible for, about
	files      []string
}

// newWorld makes the folder, with two batch files of the same customers.
func newWorld(ctx context.Context, customers, candidates, percent int) (_ *world, err error) {
	w := &world{customers: customers, candidates: candidates, percent: percent}
	if w.dir, err = os.MkdirTemp("", "rapport-bench"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if _, _, err := server.InstallSchema(w.data(), "schema.yaml", []byte(sceneSchema)); err != nil {
		return nil, err
	}
	for i := range 2 {
		file := filepath.Join(w.dir, fmt.Sprintf("bi-%d.csv", i))
		if err := w.write(file, i); err != nil {
			return nil, err
		}
		w.files = append(w.files, file)
	}
	return w, w.load(ctx, 0)
}

func (w *world) close() error { return os.RemoveAll(w.dir) }

func (w *world) data() string { return filepath.Join(w.dir, "data") }

// write writes a batch file. No two customers are alike, and those of another day differ.
func (w *world) write(file string, day int) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out := bufio.NewWriterSize(f, 1<<20)
	header, _, _ := strings.Cut(sceneCSV, "\n")
	if _, err := io.WriteString(out, header+"\n"); err != nil {
		return err
	}
	for i := range w.customers {
		k := i + 7*day
		_, err := fmt.Fprintf(out, "%d,%d.%02d,%s,private,20%02d-0%d-01T00:00:00Z,%d.5,0.%04d,no,8,0\n",
			i, 30+k%20, k*37%100, []string{"yes", "no"}[k%2], 10+k%15, 1+k%9, 3000+k%2000, k*97%10_000)
		if err != nil {
			return err
		}
	}
	return out.Flush()
}

// load builds the snapshot of a file; activating it is for the server.
func (w *world) load(ctx context.Context, file int) error {
	schema, err := server.InstalledSchema(w.data())
	if err != nil {
		return err
	}
	_, err = profilestore.Load(ctx, profilestore.LoadOptions{
		Dir: filepath.Join(w.data(), "snapshots"), Schema: schema, Engine: badger.Generations(slog.New(slog.DiscardHandler)),
		Source: "bi", Path: w.files[file], AsOf: time.Now().Add(-24*time.Hour + time.Duration(file)*time.Hour).Truncate(time.Hour).UnixMicro(),
	})
	return err
}

// serve starts a server on the world, and puts catalogue and customers into service.
func (w *world) serve(ctx context.Context, s *Suite, c processConfig) (_ *process, err error) {
	c.Role, c.Data, c.Compiler = roleServer, w.data(), s.Compiler
	p, err := start(ctx, s.Self, c)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	t := newTransport(1, false)
	defer t.CloseIdleConnections()
	strategy, module, err := c.Fault.strategy()
	if err != nil {
		return nil, err
	}
	if module != nil {
		strategies := rapportv1connect.NewStrategyServiceClient(t.client(), p.URL)
		res, err := strategies.UploadStrategy(ctx, connect.NewRequest(&rapportv1.UploadStrategyRequest{Module: module}))
		if err != nil {
			return nil, err
		}
		_, err = strategies.ReleaseStrategy(ctx, connect.NewRequest(&rapportv1.ReleaseStrategyRequest{Name: strategy, Version: res.Msg.GetStrategy().GetVersion()}))
		if err != nil {
			return nil, err
		}
	}
	catalogs := rapportv1connect.NewCatalogServiceClient(t.client(), p.URL)
	_, err = catalogs.PublishCatalog(ctx, connect.NewRequest(&rapportv1.PublishCatalogRequest{
		Files: []*rapportv1.CatalogFile{{Name: "catalog.yaml", Content: sceneCatalog(strategy, w.candidates, w.percent)}},
	}))
	if err != nil {
		return nil, err
	}
	snapshots := rapportv1connect.NewSnapshotServiceClient(t.client(), p.URL)
	_, err = snapshots.ActivateSnapshot(ctx, connect.NewRequest(&rapportv1.ActivateSnapshotRequest{Source: "bi", Generation: 1}))
	return p, err
}
