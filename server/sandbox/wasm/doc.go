// Package wasm reads and rewrites WebAssembly binaries: it decides whether a
// module from someone we don't trust may be compiled at all, and puts into its
// code what keeps it in bounds when it runs.
//
// [Read] decodes and validates a module of core WebAssembly 2.0, SIMD included,
// within [Limits]. What it accepts is valid: the package has its own validator,
// of every instruction. [Module.Meter] returns the module with counters for fuel
// and call stack in its code, and with its mutable globals exported, so that a
// host can put them back.
//
// The package knows nothing of strategies: what a strategy may import, must
// export and must not contain is package sandbox's to say. It imports nothing but
// the standard library, runs nothing, and its work and memory are bounded by a
// small multiple of the module's size.
//
// The format and the rules are those of the WebAssembly core specification,
// release 2.0 (W3C, 2022); the validator is the algorithm of its appendix.
package wasm
