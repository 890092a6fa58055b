package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"rapport/profilestore"
	"rapport/profilestore/durable"
	"rapport/server/catalog"
)

// ErrNoSchema means that a data folder has no profile schema yet.
var ErrNoSchema = errors.New("no profile schema is installed: install one with rapport schema apply FILE")

// InstallSchema installs a schema file in a data folder as ApplySchema does, with a
// default configuration. It returns the schema's id, and false if it was installed
// already.
func InstallSchema(dir, name string, yaml []byte) (id string, changed bool, err error) {
	r, err := ApplySchema(context.Background(), Config{Data: dir}, SchemaFile{Name: name, YAML: yaml})
	if err != nil {
		return "", false, err
	}
	return r.ID, r.ID != r.Before, nil
}

// SchemaFile is a schema to be installed, and what for.
type SchemaFile struct {
	Name string
	YAML []byte
	// Check says that nothing is to be installed.
	Check bool
	// AllowLoss lets a schema through under which something can no longer be read or
	// used that now is: see SchemaReport.Losses.
	AllowLoss bool
}

// SchemaReport is what came of a schema file.
type SchemaReport struct {
	ID      string // of the schema in the file
	Before  string // of the one that was installed; empty if there was none
	Changes []profilestore.SchemaChange
	// Losses are, in words, the values of retained snapshots that could not be read any
	// more, and the rules and strategies in service that could not be used.
	Losses []string
}

// SchemaLossError means that a schema was not installed because something would be
// lost.
type SchemaLossError struct{ Losses []string }

func (e *SchemaLossError) Error() string {
	return "the schema was not installed, because this would be lost:\n" + strings.Join(e.Losses, "\n")
}

// ApplySchema checks a schema file and installs it in the data folder of a
// configuration, which no server has open. A file with mistakes changes nothing, the
// error names each with file, line and column; nor does one under which something
// would be lost, unless that is allowed: then the error is a *SchemaLossError.
func ApplySchema(ctx context.Context, config Config, file SchemaFile) (report *SchemaReport, err error) {
	d, err := openDataFolder(config.Data)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	schema, problems := catalog.ReadSchema(file.Name, file.YAML)
	if len(problems) > 0 {
		return nil, problemsError(problems)
	}
	old, err := readInstalledSchema(d)
	if err != nil && !errors.Is(err, ErrNoSchema) {
		return nil, err
	}
	report = &SchemaReport{ID: schema.ID(), Changes: profilestore.CompareSchemas(old, schema)}
	if err := profilestore.SayJournalBegins(d.dir, report.Changes); err != nil {
		return nil, err
	}
	if old != nil {
		if report.Before = old.ID(); report.ID == report.Before {
			return report, nil
		}
		if report.Losses, err = schemaLosses(ctx, config.withDefaults(), d, old, schema); err != nil {
			return nil, err
		}
	}
	if file.Check {
		return report, nil
	}
	if len(report.Losses) > 0 && !file.AllowLoss {
		return nil, &SchemaLossError{report.Losses}
	}
	return report, d.installSchema(schema, report.Before)
}

// installSchema writes the schema, and that it was written.
func (d *dataFolder) installSchema(schema *profilestore.Schema, before string) (err error) {
	b, err := schema.MarshalJSON()
	if err != nil {
		return err
	}
	audit, err := openAudit(d.path("audit"), slog.Default())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, audit.close()) }()
	r := auditRecord{Action: "schema apply", Subject: "schema", Peer: localPeer, Agent: fmt.Sprintf("user %d", os.Getuid()), Before: before, After: schema.ID()}
	return audit.changeBy(r, func() error {
		return durable.WriteSealed(d.path("schema"), append(b, '\n'))
	})
}

// schemaLosses returns what would be lost in a folder that no server has open.
func schemaLosses(ctx context.Context, config Config, d *dataFolder, old, schema *profilestore.Schema) ([]string, error) {
	losses, err := profilestore.SchemaLosses(d.path("snapshots"), old, schema)
	if err != nil {
		return nil, err
	}
	said, err := journalLosses(d, old, schema)
	if err != nil {
		return nil, err
	}
	losses = append(losses, said...)
	store, err := catalog.OpenStore(d.path("catalog"))
	if err != nil {
		return nil, err
	}
	version, err := store.Current()
	if errors.Is(err, catalog.ErrVersionNotFound) {
		return losses, nil
	}
	if err != nil {
		return nil, err
	}
	// First without strategies: to compile those may take seconds.
	unfit := catalogLosses(version, old, schema, nil)
	if len(unfit) == 0 && mayMiss(old, schema) {
		unfit, err = strategyLosses(ctx, config, d, version, old, schema)
	}
	return append(losses, unfit...), err
}

// mayMiss reports whether a schema lacks a field of another, or has one of another type.
func mayMiss(old, schema *profilestore.Schema) bool {
	for _, f := range old.Fields() {
		slot, ok := schema.Lookup(f.Name)
		if !ok || schema.Fields()[slot].Type != f.Type {
			return true
		}
	}
	return false
}

// strategyLosses opens the strategies of the folder to see whether they fit.
func strategyLosses(ctx context.Context, config Config, d *dataFolder, version *catalog.Version, old, schema *profilestore.Schema) (losses []string, err error) {
	s := &Server{config: config, log: config.Logger, folder: d}
	if s.runtime, err = s.newSandbox(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.runtime.Close(context.WithoutCancel(ctx))) }()
	trusted, err := parseTrustedKeys(config.TrustedKeys)
	if err != nil {
		return nil, err
	}
	if s.strategies, err = openStrategies(ctx, d.path("strategies"), s.runtime, trusted, s.log); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.strategies.close(context.WithoutCancel(ctx))) }()
	return catalogLosses(version, old, schema, strategyFit{s.strategies, false}), nil
}

// catalogLosses returns what of the catalogue in service, and of its strategies if they
// are given, can be used under one schema and not under another.
func catalogLosses(version *catalog.Version, old, schema *profilestore.Schema, strategies catalog.StrategyChecker) []string {
	_, _, after := catalog.Compile(version.Files, schema, strategies)
	if len(after) == 0 {
		return nil
	}
	_, _, before := catalog.Compile(version.Files, old, strategies)
	var losses []string
	for _, p := range after {
		if !slices.Contains(before, p) {
			losses = append(losses, fmt.Sprintf("catalogue version %d: %s", version.Number, p))
		}
	}
	return losses
}

// InstalledSchema returns the schema of a data folder, which may be open in a
// server.
func InstalledSchema(dir string) (*profilestore.Schema, error) {
	if err := checkFormat(dir); err != nil {
		return nil, err
	}
	return readInstalledSchema(&dataFolder{dir: dir})
}

func readInstalledSchema(d *dataFolder) (*profilestore.Schema, error) {
	b, err := durable.ReadSealed(d.path("schema"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", d.dir, ErrNoSchema)
	}
	if err != nil {
		return nil, err
	}
	return profilestore.ParseSchema(b)
}

func problemsError(problems []catalog.Problem) error {
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = p.String()
	}
	return errors.New(strings.Join(lines, "\n"))
}
