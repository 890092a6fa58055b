package wasm

// Limits bound what a module may have, so that reading, compiling and
// instantiating it are bounded. A limit of 0 allows none of a thing.
type Limits struct {
	ModuleBytes int // of the whole binary

	Types, Imports, Functions, Exports, Globals, Tables int // entries
	Params, Results                                     int // of a function type

	TableEntries uint32 // with which all tables together begin
	Elements     int    // segments
	ElementItems int    // in all segments together
	DataSegments int
	MemoryPages  uint32 // with which a memory begins, of 64 KiB; a greater maximum is allowed, as growing can fail

	BodyBytes    int // of a function
	Locals       int // of a function, with its parameters
	Nesting      int // of blocks in a function
	BranchLabels int // of all br_table in a function together

	NameBytes int // of an import's or export's name, or a custom section's
}

// DefaultLimits returns limits that let the modules of compilers through, with
// room: a Go program of 2.7 MB has 31 thousand data segments, 6 thousand table
// entries, bodies of 29 KB and a br_table of 900.
func DefaultLimits() Limits {
	return Limits{
		ModuleBytes: 16 << 20,
		Types:       10_000, Imports: 1_000, Functions: 50_000, Exports: 1_000, Globals: 10_000, Tables: 16,
		Params: 256, Results: 256,
		TableEntries: 65_536, Elements: 10_000, ElementItems: 100_000, DataSegments: 100_000,
		MemoryPages: 512,
		BodyBytes:   128 << 10, Locals: 4_096, Nesting: 2_048, BranchLabels: 16_384,
		NameBytes: 1_024,
	}
}
