//go:build !linux || !(amd64 || arm64)

package sandbox

import (
	"errors"

	"github.com/tetratelabs/wazero/experimental"
)

// Elsewhere than on Linux every image is a copy: there is never a pagemap, and so
// never a space or a sharedImage.

type pagemap struct{}

func openPagemap(string) (*pagemap, error) { return nil, errors.ErrUnsupported }

func (*pagemap) close() {}

func (*pagemap) allocator(*instance) experimental.MemoryAllocator { return nil }

type space struct{ err error }

func (*space) Free() {}

type sharedImage struct{ view []byte }

func shareImage([]byte, *pagemap) (*sharedImage, error) { return nil, errors.ErrUnsupported }

func (*sharedImage) close() {}

func (*sharedImage) attach(*image, *space, Restore) (restorer, error) {
	return nil, errors.ErrUnsupported
}
