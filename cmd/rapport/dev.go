package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"connectrpc.com/connect"

	"rapport/cmd/rapport/demo"
	"rapport/profilestore"
	"rapport/profilestore/reftable"
	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/catalog"
)

// devCmd runs a server that somebody new to Rapport can try things on.
type devCmd struct {
	Listen    string        `help:"Address to listen on: a loopback address." default:"${listen}" placeholder:"HOST:PORT" setting:""`
	Deadline  time.Duration `help:"The server's own limit for a decision." default:"${deadline}" placeholder:"TIME" setting:""`
	Customers int           `help:"How many synthetic customers to make." default:"10000" placeholder:"N"`
	Seed      uint64        `help:"Seed of the synthetic customers: the same seed makes the same ones." default:"1" placeholder:"N"`
}

// Help is shown by --help.
func (devCmd) Help() string {
	return `A telecom operator's schema and catalogue, synthetic customers and the strategies that ship with
Rapport, in a temporary data folder that is removed at the end; with --data the folder is kept, and used
again the next time. Ctrl-C ends it.

Examples:

	rapport dev
	rapport dev --listen 127.0.0.1:0 --customers 100000
	rapport dev --data DATA`
}

// maxDevCustomers keeps a slip of the finger from filling the disk.
const maxDevCustomers = 10_000_000

// devFolder is the data folder of a dev server.
type devFolder struct {
	dir  string
	keep bool // it was named, and stays
	used bool // it has been set up before
}

// Run sets up a data folder and serves until ctx is done.
func (cmd *devCmd) Run(ctx context.Context, a *app) error {
	if cmd.Customers < 1 || cmd.Customers > maxDevCustomers {
		return usagef("--customers %d is out of range: use 1 to %d", cmd.Customers, maxDevCustomers)
	}
	folder, err := cmd.folder(a)
	if err != nil {
		return err
	}
	err = cmd.serve(ctx, a, folder)
	if !folder.keep {
		err = errors.Join(err, os.RemoveAll(folder.dir))
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // it ended during the preparations
	}
	return err
}

// folder finds or makes the data folder. Only a flag names one to keep: a variable
// or file that does is meant for `rapport serve`.
func (cmd *devCmd) folder(a *app) (devFolder, error) {
	if a.target.dataFrom.rank != fromFlag {
		dir, err := os.MkdirTemp("", "rapport-dev-")
		return devFolder{dir: dir}, err
	}
	f := devFolder{dir: a.target.data, keep: true}
	schema, err := server.InstalledSchema(f.dir)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, server.ErrNoSchema) {
		return f, nil
	}
	if err != nil {
		return f, err
	}
	ours, problems := catalog.ReadSchema(demoSchemaFile, demo.Schema())
	if len(problems) > 0 {
		return f, fmt.Errorf("the demo's schema: %v", problems[0])
	}
	if schema.ID() != ours.ID() {
		return f, fmt.Errorf("%s has another schema than the demo's: name a new folder, or use `rapport serve --data %s`", f.dir, f.dir)
	}
	f.used = true
	return f, nil
}

const demoSchemaFile = "demo/schema.yaml"

// serve sets up the folder, prints the banner and serves.
func (cmd *devCmd) serve(ctx context.Context, a *app, folder devFolder) (err error) {
	c := server.Config{
		Data:     folder.dir,
		Listen:   cmd.Listen,
		Deadline: cmd.Deadline,
		Logger:   a.logger(),
		Version:  programVersion(),

		RevealPersonal: true, // these people do not exist
	}
	if err := a.strategies.apply(&c); err != nil {
		return err
	}
	if err := c.Validate(); err != nil {
		return err
	}
	listener, err := listen(ctx, cmd.Listen)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := listener.Close(); !errors.Is(closeErr, net.ErrClosed) {
			err = errors.Join(err, closeErr)
		}
	}()
	var loaded map[string]int64
	if !folder.used {
		if loaded, err = cmd.load(ctx, a, folder.dir); err != nil {
			return err
		}
	}
	s, err := server.Open(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	api := inProcess(s)
	if err := startDemo(ctx, api, loaded); err != nil {
		return err
	}
	if err := cmd.banner(ctx, a, api, folder, "http://"+listener.Addr().String()); err != nil {
		return err
	}
	return s.Serve(ctx, listener)
}

// load installs the schema, loads its reference tables and makes a snapshot of each
// source. It returns their numbers.
func (cmd *devCmd) load(ctx context.Context, a *app, dir string) (map[string]int64, error) {
	started := time.Now()
	if _, _, err := server.InstallSchema(dir, demoSchemaFile, demo.Schema()); err != nil {
		return nil, err
	}
	schema, err := server.InstalledSchema(dir)
	if err != nil {
		return nil, err
	}
	files, err := os.MkdirTemp("", "rapport-dev-files-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(files) }()
	// What is there when the schema's tables are first opened is in force.
	for _, f := range demo.Tables() {
		path := filepath.Join(files, f.Name)
		if err := os.WriteFile(path, f.Content, 0o600); err != nil {
			return nil, err
		}
		_, err := reftable.Load(ctx, reftable.LoadOptions{
			Dir: filepath.Join(dir, "tables"), Table: strings.TrimSuffix(f.Name, ".csv"), Path: path, Now: time.Now(),
		})
		if err != nil {
			return nil, err
		}
	}
	loaded := make(map[string]int64)
	for _, source := range schema.Sources() {
		path := filepath.Join(files, source.ID+".csv")
		err := writeFile(path, func(w io.Writer) error {
			return demo.WriteCustomers(contextWriter{ctx, w}, source.ID, cmd.Customers, cmd.Seed)
		})
		if err != nil {
			return nil, err
		}
		report, err := a.buildSnapshot(ctx, profilestore.LoadOptions{
			Dir: snapshotsOf(dir), Schema: schema, Source: source.ID, Path: path, AsOf: demo.AsOf().UnixMicro(),
		})
		if err != nil {
			return nil, err
		}
		loaded[source.ID] = report.Snapshot.Generation
	}
	writef(a.err, "made %s in %v\n", plural(cmd.Customers, "synthetic customer"), time.Since(started).Round(time.Millisecond))
	return loaded, nil
}

// startDemo activates what was loaded and publishes the demo catalogue, if it is
// not the one in use.
func startDemo(ctx context.Context, api *clients, loaded map[string]int64) error {
	for source, generation := range loaded {
		_, err := api.snapshots.ActivateSnapshot(ctx, connect.NewRequest(&rapportv1.ActivateSnapshotRequest{Source: source, Generation: generation}))
		if err != nil {
			return err
		}
	}
	request := &rapportv1.PublishCatalogRequest{}
	for _, f := range demo.Catalog() {
		request.Files = append(request.Files, &rapportv1.CatalogFile{Name: f.Name, Content: string(f.Content)})
	}
	_, err := api.catalogs.PublishCatalog(ctx, connect.NewRequest(request))
	return err
}

// banner says what runs and what to try. The lines to paste need a POSIX shell
// and curl, nothing else.
func (cmd *devCmd) banner(ctx context.Context, a *app, api *clients, folder devFolder, url string) error {
	got, err := api.catalogs.GetCatalog(ctx, connect.NewRequest(&rapportv1.GetCatalogRequest{}))
	if err != nil {
		return err
	}
	listed, err := api.snapshots.ListSnapshots(ctx, connect.NewRequest(&rapportv1.ListSnapshotsRequest{}))
	if err != nil {
		return err
	}
	var customers int64
	for _, s := range listed.Msg.GetSnapshots() {
		if s.GetState() == string(profilestore.SnapshotActive) {
			customers = max(customers, s.GetRows())
		}
	}
	fate := "removed at the end"
	if folder.keep {
		fate = "kept"
	}
	customer, touchpoint := demo.FeaturedCustomer()
	c := got.Msg.GetCatalog()
	var b strings.Builder
	fmt.Fprintf(&b, `Rapport runs, for development only: there is no access control, and it is on loopback.

  server     %s
  data       %s (%s)
  customers  %d synthetic
  catalogue  %s, %s, %s

What do we offer this customer, here and now?

  %s

Something happens to the customer; then ask again:

  %s

What is known of the customer, and a decision in a table:

  %s profile get %s%s
  %s decide %s %s%s

Ctrl-C ends it.
`,
		url, folder.dir, fate, customers,
		plural(len(c.GetOffers()), "offer"), plural(len(c.GetChannels()), "channel"), plural(len(c.GetTouchpoints()), "touchpoint"),
		curlLine(url, "DecisionService/Decide", fmt.Sprintf(`{"customer":%q,"touchpoint":%q}`, customer, touchpoint)),
		curlLine(url, "ProfileService/IngestEvents", demoEvent(customer, time.Now())),
		programName(), customer, serverFlag(url), programName(), customer, touchpoint, serverFlag(url))
	_, err = io.WriteString(a.out, b.String())
	return err
}

func curlLine(url, method, body string) string {
	return fmt.Sprintf("curl -s %s/rapport.v1.%s -H 'Content-Type: application/json' -d '%s'", url, method, body)
}

// demoEvent is an event that changes what the demo catalogue answers.
func demoEvent(customer string, t time.Time) string {
	return fmt.Sprintf(`{"events":[{"id":"dev-1","type":"complaint_opened","identity":%q,"time":%q}]}`, customer, t.UTC().Format(time.RFC3339))
}

// serverFlag is what a command needs to find a server that is not where it looks.
func serverFlag(url string) string {
	if url == "http://"+server.DefaultListen {
		return ""
	}
	return " --server " + url
}

// programName is how the person at the terminal starts this program: `go run`
// leaves no binary that could be named.
func programName() string {
	if strings.Contains(os.Args[0], "go-build") {
		return "go run ./cmd/rapport"
	}
	return "rapport"
}

// writeFile writes a new file.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// contextWriter fails when its context ends, so that whoever writes much stops.
type contextWriter struct {
	ctx context.Context // a writer has no other way to learn of it
	w   io.Writer
}

func (w contextWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.w.Write(p)
}
