package wasm

// What fuel is charged for besides single instructions: see [Module.Meter].
const (
	// PriceLocals is how many locals of a function are set to zero, when it is
	// called, for one unit.
	PriceLocals = 8
	// PriceMoves is how many values, in slots of 8 bytes, are moved for one unit
	// where paths meet that have different ones, and for a call's parameters and
	// results, these twice. FreeMoves of them cost nothing: they are in registers.
	PriceMoves = 4
	FreeMoves  = 8
	// PriceBytes is how many bytes memory.fill, memory.copy and memory.init write
	// for one unit.
	PriceBytes = 8
	// PricePage is the price of a page of 64 KiB that memory.grow adds: the
	// operating system clears it when it is touched.
	PricePage = 8192
	// PriceMemory is the price of a load or store. From the nearest cache it takes
	// what others take, but code that does nothing else than miss the caches is what
	// a hostile module would be made of: with 1, following pointers through 1 MB
	// took 5 ns a unit, and through 16 MB 135.
	PriceMemory = 3
	// PriceItem is the price of an entry that table.fill, table.copy, table.init
	// and table.grow write.
	PriceItem = 2
)

// prices are in units of fuel. One is what most instructions take, a fraction of
// a nanosecond. Those that take many times as long cost more; what no machine
// code is made for costs nothing.
var prices = func() (table [ops]uint8) {
	for o := range table {
		table[o] = 1
	}
	set := func(price uint8, list ...Op) {
		for _, o := range list {
			table[o] = price
		}
	}
	set(0, opNop, opBlock, opElse, opEnd, opDrop, opUnreachable)
	for o := Op(0x28); o <= 0x3e; o++ { // loads and stores: see PriceMemory
		table[o] = PriceMemory
	}
	for o := Op(0x200); o <= 0x20b; o++ {
		table[o] = PriceMemory
	}
	for o := Op(0x254); o <= 0x25d; o++ {
		table[o] = PriceMemory
	}
	set(2, opBrTable)
	set(3, opCall)                                                                     // arguments, a frame, and the way back
	set(6, opCallIndirect)                                                             // and the table and type checks
	set(10, 0x6d, 0x6e, 0x6f, 0x70, 0x7f, 0x80, 0x81, 0x82)                            // integer division
	set(4, 0x94, 0xa2, 0x200+230, 0x200+242)                                           // float multiplication: of denormal numbers 30 ns
	set(8, 0x91, 0x95, 0x9f, 0xa3, 0x200+227, 0x200+231, 0x200+239, 0x200+243)         // float division, square root: the same
	set(2, 0x8d, 0x8e, 0x8f, 0x90, 0x9b, 0x9c, 0x9d, 0x9e)                             // rounding
	set(2, 0x200+204, 0x200+232, 0x200+233, 0x200+244, 0x200+245)                      // i64x2.shr_s, minima and maxima of vectors
	set(3, 0xa8, 0xa9, 0xaa, 0xab, 0xae, 0xaf, 0xb0, 0xb1)                             // conversions that can trap
	set(3, 0x100, 0x101, 0x102, 0x103, 0x104, 0x105, 0x106, 0x107)                     // saturating ones
	set(4, 0x200+98, 0x200+213, 0x200+248, 0x200+249, 0x200+251, 0x200+252, 0x200+253) // no single machine instruction
	set(20, opMemoryGrow, opMemoryInit, opMemoryCopy, opMemoryFill, OpTableInit, OpTableCopy, OpTableGrow, OpTableFill, OpElemDrop, OpDataDrop)
	set(10, opTableGet, OpTableSet, opTableSize, opRefFunc)
	return table
}()

// moves returns the price of moving so many values.
func moves(n int) uint32 { return uint32(max(0, n-FreeMoves)) / PriceMoves }

// Price returns the fuel that an instruction costs, without what is charged by
// length or for the locals of a function that is called.
func Price(o Op) uint32 { return uint32(prices[o]) }
