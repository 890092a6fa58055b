// Package plugins holds the strategies that ship with Rapport, as WebAssembly
// modules: the server has them without an upload. Their sources and READMEs are
// in the folders beside; dist has what was built of them.
//
// upsell is here as an example of a strategy in Go. It is built by those who want
// it, and by the tests of server/sandbox, and not committed.
//
// The package imports nothing of the server, which imports it.
package plugins

import _ "embed" // for go:embed

//go:generate go run ./generate

//go:embed dist/pvcl.wasm
var pvcl []byte

// PVCL returns the module of the standard arbitration, the default strategy. Do
// not modify.
func PVCL() []byte { return pvcl }

// Builtin returns the modules that ship with Rapport. Name and version are in
// their manifests. Do not modify.
func Builtin() [][]byte { return [][]byte{pvcl} }
