// Package demo is a telecom operator to try Rapport with: a profile schema with its
// reference tables, a catalogue of a dozen channels and some seventy offers, and as
// many made-up customers as are wanted. The names are nobody's, the numbers are plausible.
//
// The YAML files are embedded as they are written, with their comments: they are
// also the example that people copy from. The customers are drawn from a seed,
// the same bytes on every machine.
//
// Only cmd/rapport imports it.
package demo

import (
	"embed"
	"io/fs"
	"time"
)

//go:embed schema.yaml
var schema []byte

//go:embed catalog/*.yaml
var catalog embed.FS

// Schema returns the profile schema in YAML.
func Schema() []byte { return append([]byte(nil), schema...) }

// File is one file of a catalogue, or a reference table.
type File struct {
	Name    string // such as data.yaml
	Content []byte
}

// Catalog returns the files of the catalogue in YAML, by name.
func Catalog() []File { return files(catalog, "catalog") }

func files(from embed.FS, folder string) []File {
	entries, err := fs.ReadDir(from, folder)
	if err != nil {
		panic(err) // the folder is embedded
	}
	files := make([]File, len(entries))
	for i, e := range entries {
		content, err := from.ReadFile(folder + "/" + e.Name())
		if err != nil {
			panic(err)
		}
		files[i] = File{Name: e.Name(), Content: content}
	}
	return files
}

//go:embed tables/*.csv
var tables embed.FS

// Tables returns the reference tables of the schema, each a file of CSV named after
// its table, such as area.csv.
func Tables() []File { return files(tables, "tables") }

// AsOf is the moment that the customers' data describes, the as-of time of a
// snapshot of it: tenure counts back from here, and contracts end around it. It
// is fixed, so that the data is; years from now more contracts will have ended.
func AsOf() time.Time { return time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC) }

// FeaturedCustomer returns a customer and a touchpoint for whom a decision shows
// much at once: a service notice, care and several kinds of sales. The customer
// is in the data of every seed and size.
func FeaturedCustomer() (customer, touchpoint string) { return customerID(0), "web.home" }
