package sandbox

import (
	"bytes"

	"github.com/tetratelabs/wazero/api"
)

// image is the memory with which every call of a strategy begins: what the
// module has in it after it was initialised and configured. It is the same for
// all instances of a strategy, so there is one.
type image struct {
	bytes []byte
}

// takeImage copies a memory.
func takeImage(m api.Memory) image {
	b, _ := m.Read(0, m.Size())
	return image{bytes.Clone(b)}
}

// matches reports whether a memory is as in the image.
func (g image) matches(m api.Memory) bool {
	b, _ := m.Read(0, m.Size())
	return bytes.Equal(b, g.bytes)
}

// grown reports whether a memory is larger than the image; it can't shrink.
func (g image) grown(m api.Memory) bool { return int(m.Size()) != len(g.bytes) }

// restore makes a memory that has not grown what it is in the image.
func (g image) restore(m api.Memory) { m.Write(0, g.bytes) }
