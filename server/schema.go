package server

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"rapport/profilestore"
	"rapport/profilestore/durable"
	"rapport/server/catalog"
)

// ErrNoSchema means that a data folder has no profile schema yet.
var ErrNoSchema = errors.New("no profile schema is installed: install one with rapport schema apply FILE")

// InitData makes a data folder, or checks that one is there that this version can
// read.
func InitData(dir string) error {
	d, err := openDataFolder(dir)
	if err != nil {
		return err
	}
	return d.close()
}

// InstallSchema checks a schema file and installs it in a data folder that no
// server has open. A file with mistakes, or one that the current catalogue does
// not fit, changes nothing; the error names each mistake with file, line and
// column. It returns the schema's id, and false if it was installed already.
func InstallSchema(dir, name string, yaml []byte) (id string, changed bool, err error) {
	d, err := openDataFolder(dir)
	if err != nil {
		return "", false, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	schema, problems := catalog.ReadSchema(name, yaml)
	if len(problems) > 0 {
		return "", false, problemsError(problems)
	}
	old, err := readInstalledSchema(d)
	switch {
	case errors.Is(err, ErrNoSchema):
	case err != nil:
		return "", false, err
	case old.ID() == schema.ID():
		return schema.ID(), false, nil
	}
	if err := checkCatalogFits(d, schema); err != nil {
		return "", false, err
	}
	b, err := schema.MarshalJSON()
	if err != nil {
		return "", false, err
	}
	audit, err := openAudit(d.path("audit"), slog.Default())
	if err != nil {
		return "", false, err
	}
	defer func() { err = errors.Join(err, audit.close()) }()
	r := auditRecord{Action: "schema apply", Subject: "schema", Peer: localPeer, Agent: fmt.Sprintf("user %d", os.Getuid()), After: schema.ID()}
	if old != nil {
		r.Before = old.ID()
	}
	return schema.ID(), true, audit.changeBy(r, func() error {
		return durable.WriteFile(d.path("schema"), append(b, '\n'))
	})
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
	b, err := os.ReadFile(d.path("schema"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", d.dir, ErrNoSchema)
	}
	if err != nil {
		return nil, err
	}
	return profilestore.ParseSchema(b)
}

// checkCatalogFits refuses a schema under which the current catalogue would not
// compile.
func checkCatalogFits(d *dataFolder, schema *profilestore.Schema) error {
	store, err := catalog.OpenStore(d.path("catalog"))
	if err != nil {
		return err
	}
	version, err := store.Current()
	if errors.Is(err, catalog.ErrVersionNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, _, problems := catalog.Compile(version.Files, schema, nil); len(problems) > 0 {
		return fmt.Errorf("catalogue version %d does not fit this schema: publish one that does first, or keep the fields that it reads:\n%w", version.Number, problemsError(problems))
	}
	return nil
}

func problemsError(problems []catalog.Problem) error {
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = p.String()
	}
	return errors.New(strings.Join(lines, "\n"))
}
