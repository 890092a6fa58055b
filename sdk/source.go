//go:build !wasip1

package rapport

import (
	"embed"
	"io/fs"
)

//go:embed *.go abi/*.go rapporttest/*.go ABI.md c/rapport.h assemblyscript/assembly/*.ts assemblyscript/*.json rust/Cargo.toml rust/src template
var source embed.FS

// Source returns the files of the SDKs for all languages, and the templates of
// projects, for what makes projects that carry their SDK. The copy that a project
// carries does without this file.
func Source() fs.FS { return source }
