// Package wasmgen writes WebAssembly modules for tests and benchmarks: by hand,
// from a [Module] in parts whose code is text (see [Parse]), and at random, from
// the bytes that a fuzzer gives (see [Generate]).
//
// It knows core WebAssembly 2.0, SIMD included, and nothing of the packages that it
// serves to test: its table of instructions is its own, so that a mistake in
// theirs shows. It does not validate: a module that it was told to write may be
// invalid. Only tests and benchmarks import it.
//
// # Types
//
// A value type is a letter, and several are a string:
//
//	i  i32      f  f32      v  v128      r  funcref
//	I  i64      F  f64                   e  externref
//
// The type of a function or block is "params:results", as "iI:f"; ":" has none of
// either.
package wasmgen
