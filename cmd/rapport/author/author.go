// Package author makes and builds the projects of strategy authors: one folder,
// one strategy, in one of four languages. It knows what a project of each language
// looks like, which toolchain builds it and with which flags, and how to get a
// toolchain that is missing.
//
// A project carries its SDK, so it builds without network. The SDKs and the
// templates are those of the folder sdk, embedded in the binary.
//
// It runs compilers and writes into projects; it runs no strategy: that is for
// server/sandbox. Only cmd/rapport imports it.
package author

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Names of files of a project.
const (
	ModuleFile = "strategy.wasm" // what a build makes
	CaseFolder = "cases"
)

// Language is a language that strategies are written in.
type Language struct {
	ID    string // as --lang has it
	Title string // for people

	// Source is where the strategy is, for people.
	Source string
	// Marks are file names, or patterns, of which a project of the language has one.
	Marks []string
	// Tools are what builds it.
	Tools []*Tool

	// files are what a new project has, by path: a path in rapport.Source, or, if it
	// begins with a line feed, the text itself. A folder stands for the files in it.
	files map[string]string
	// steps are the commands of a build.
	steps func(b *build) ([][]string, error)
	// environment is what they need besides.
	environment []string
}

// Languages returns all languages, in the order in which they are listed.
func Languages() []*Language { return []*Language{golang, assemblyScript, c, rust} }

// IDs returns what --lang may be.
func IDs() []string {
	ids := make([]string, 0, len(Languages()))
	for _, l := range Languages() {
		ids = append(ids, l.ID)
	}
	return ids
}

// ByID returns the language that --lang names.
func ByID(id string) (*Language, error) {
	if i := slices.IndexFunc(Languages(), func(l *Language) bool { return l.ID == id }); i >= 0 {
		return Languages()[i], nil
	}
	return nil, fmt.Errorf("there is no language %q: use %s", id, strings.Join(IDs(), ", "))
}

// ErrNoProject means that a folder is no project of any language.
var ErrNoProject = errors.New("no strategy project")
