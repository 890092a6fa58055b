package sandbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero/api"
)

// image is what every call of a strategy begins with: the memory, and the mutable
// globals, of an instance that was initialised, described and configured. It is
// the same for all instances of a strategy, so there is one.
//
// A module is initialised twice when it is bound, and the two results must be
// equal: one that does not start the same every time can't be replayed. After
// that nothing of the guest runs to make an instance. All instances, those that
// replace others too, are cloned: wazero instantiates the module, and memory and
// globals are set from the image. That is a whole instance because there is
// nothing else that initialising can have changed: host functions keep nothing of
// a guest between calls, immutable globals and the segments that fill tables are
// the module's, and a module that can change a table, or drop a segment, is
// refused. For a Go guest of 1.8 MB it saves the runtime's start.
//
// How a memory is put back after a call is a [restorer]'s. There are three, which
// [Restore] lists; the same tests run over all of them.
type image struct {
	// bytes is the memory, and length how long it is. It is never written, and
	// valid until close.
	bytes  []byte
	length int
	// globals are the values of the module's mutable globals, in the order of
	// Module.globals.
	globals []uint64
	// shared is the same memory as a file that instances map; nil if they copy.
	shared *sharedImage
	counts restoreCounts
}

// restoreCounts count what restorers of one image do.
type restoreCounts struct {
	copied, paged, dropped atomic.Uint64 // restores by kind
	rescans                atomic.Uint64
	private                atomic.Int64 // bytes of all instances that are private now
}

// errDiffers says that a module does not start the same every time.
var errDiffers = errors.New("two instances differ before their first call, though all that they were told is the same")

// takeImage makes the image of an instance, and of another that must be equal.
// With a pagemap the image is a file to be mapped; without, a copy.
func takeImage(one, other *instance, p *pagemap) (*image, error) {
	a, b := one.bytes(), other.bytes()
	g := &image{length: len(a), globals: readGlobals(one.globals)}
	if one.arena != other.arena || !bytes.Equal(a, b) || !slices.Equal(g.globals, readGlobals(other.globals)) {
		return nil, invalid(ReasonImage, "%w", errDiffers)
	}
	if p == nil {
		g.bytes = bytes.Clone(a)
		return g, nil
	}
	shared, err := shareImage(a, p)
	if err != nil {
		return nil, fmt.Errorf("sandbox: the image of %d bytes: %w", len(a), err)
	}
	g.shared, g.bytes = shared, shared.view
	return g, nil
}

// digest returns the SHA-256 of the image in hexadecimal.
func (g *image) digest() string {
	h := sha256.New()
	h.Write(g.bytes[:g.length])
	for _, v := range g.globals {
		h.Write(binary.LittleEndian.AppendUint64(nil, v))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// close frees the image. No instance may be left.
func (g *image) close() {
	if g.shared != nil {
		g.shared.close()
	}
	g.bytes = nil
}

// grown reports whether a memory is larger than the image; it can't shrink.
func (g *image) grown(m api.Memory) bool { return int(m.Size()) != g.length }

// wasmPage is the unit in which memories grow.
const wasmPage = 1 << 16

// attach makes the memory of a new instance the image's, and returns what will
// put it back. The module's own initial data is overwritten. Globals are not set.
func (g *image) attach(in *instance, how Restore) (restorer, error) {
	missing := g.length - int(in.memory.Size())
	if missing < 0 || missing%wasmPage != 0 {
		return nil, fmt.Errorf("sandbox: a new memory has %d bytes, and the image %d", in.memory.Size(), g.length)
	}
	if _, ok := in.memory.Grow(uint32(missing / wasmPage)); !ok {
		return nil, fmt.Errorf("sandbox: a memory can't grow to the %d bytes of the image", g.length)
	}
	if g.shared != nil {
		return g.shared.attach(g, in.space, how)
	}
	in.memory.Write(0, g.bytes)
	return &copying{image: g, memory: in.memory}, nil
}

// restorer puts the memory of one instance back to its image. One goroutine at a
// time uses it.
type restorer interface {
	// begin is called before the host writes into the memory for a call, and end
	// when the guest has returned, by the same goroutine. Nothing else writes into
	// the memory, but restore. end returns how long the thread ran in between; 0 if
	// that is not known.
	begin()
	end() time.Duration
	// intact reports whether size bytes from an address are as in the image.
	intact(from, size uint32) bool
	// cost is about how many bytes restore would copy.
	cost() int
	// restore makes a memory that has not grown equal to the image.
	restore()
	// close forgets the memory, before it is freed.
	close()
}

// copying copies the whole image back. It needs nothing but memory, and its cost
// is the image's size whatever a call wrote.
type copying struct {
	image  *image
	memory api.Memory
}

func (c *copying) begin()             {}
func (c *copying) end() time.Duration { return 0 }
func (c *copying) close()             {}
func (c *copying) cost() int          { return c.image.length }

func (c *copying) intact(from, size uint32) bool {
	b, ok := c.memory.Read(from, size)
	return ok && bytes.Equal(b, c.image.bytes[from:][:size])
}

func (c *copying) restore() {
	c.memory.Write(0, c.image.bytes)
	c.image.counts.copied.Add(1)
}

func readGlobals(globals []api.MutableGlobal) []uint64 {
	values := make([]uint64, len(globals))
	for i, g := range globals {
		values[i] = g.Get()
	}
	return values
}
