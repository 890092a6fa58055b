package durable

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrDamaged is in the error of a read of a file that is not as it was written.
var ErrDamaged = errors.New("is not as it was written: a disk or a person has changed it")

// CopySuffix is the suffix of the second copy of a file that WriteSealed has written.
const CopySuffix = ".copy"

// seal is the last line of what was sealed: the CRC-32C of all before it.
const (
	sealFormat = "crc32c %08x\n"
	sealSize   = len("crc32c 01234567\n")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Seal returns content and its seal, a last line with its checksum.
func Seal(content []byte) []byte {
	sealed := make([]byte, 0, len(content)+sealSize)
	return fmt.Appendf(append(sealed, content...), sealFormat, crc32.Checksum(content, castagnoli))
}

// Unseal returns the content before the seal. It reports false if there is no seal that
// fits: the file is damaged, or of a time when its kind had none.
func Unseal(sealed []byte) (content []byte, ok bool) {
	n := len(sealed) - sealSize
	if n < 0 {
		return nil, false
	}
	content = sealed[:n:n]
	return content, bytes.Equal(sealed[n:], fmt.Appendf(nil, sealFormat, crc32.Checksum(content, castagnoli)))
}

// WriteSealed replaces a small file that must not be lost, as WriteFile does: its content
// with a seal, and beside it a copy of the same, by which ReadSealed gets over damage of
// one of the two.
func WriteSealed(name string, content []byte) error {
	sealed := Seal(content)
	if err := WriteFile(name+CopySuffix, sealed); err != nil {
		return err
	}
	return WriteFile(name, sealed)
}

// ReadSealed returns the content of a file that WriteSealed has written: of its copy if
// the file itself is damaged or missing. A file without seal and copy is returned as it
// is: a version of Rapport before seals has written it. Without either the error is
// fs.ErrNotExist, and if there is nothing to be trusted ErrDamaged. Nothing is written: see
// CheckSealed and MendSealed.
func ReadSealed(name string) ([]byte, error) {
	b, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if content, ok := Unseal(b); ok && err == nil {
		return content, nil
	}
	copied, copyErr := os.ReadFile(name + CopySuffix)
	if content, ok := Unseal(copied); ok && copyErr == nil {
		return content, nil
	}
	switch {
	case copyErr == nil || !errors.Is(copyErr, fs.ErrNotExist): // it was sealed, and neither is whole
		if err == nil {
			err = fmt.Errorf("%s %w, and so is its copy", name, ErrDamaged)
		}
		return nil, err
	case err != nil:
		return nil, err
	case looksSealed(b):
		return nil, fmt.Errorf("%s %w, and its copy is missing", name, ErrDamaged)
	}
	return b, nil
}

// looksSealed reports whether a file without a seal that fits has something like one.
func looksSealed(b []byte) bool {
	end := b[max(0, len(b)-sealSize):]
	return bytes.Contains(end, []byte("crc32c")) || len(b) > 0 && len(bytes.Trim(b, "\x00")) == 0
}

// CheckSealed says what is wrong with a file that WriteSealed has written, or with its
// copy, also if ReadSealed gets over it. A file of before seals is not wrong. If there is
// neither file nor copy the error is fs.ErrNotExist.
func CheckSealed(name string) error {
	b, err := os.ReadFile(name)
	copied, copyErr := os.ReadFile(name + CopySuffix)
	_, whole := Unseal(b)
	_, wholeCopy := Unseal(copied)
	switch {
	case err == nil && copyErr == nil && whole && wholeCopy:
		return nil
	case errors.Is(err, fs.ErrNotExist) && errors.Is(copyErr, fs.ErrNotExist):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is missing", name)
	case err != nil:
		return err
	case !whole && errors.Is(copyErr, fs.ErrNotExist):
		if looksSealed(b) {
			return fmt.Errorf("%s %w", name, ErrDamaged)
		}
		return nil
	case !whole:
		return fmt.Errorf("%s %w", name, ErrDamaged)
	case errors.Is(copyErr, fs.ErrNotExist):
		return fmt.Errorf("%s is missing", name+CopySuffix)
	case copyErr != nil:
		return copyErr
	}
	return fmt.Errorf("%s %w", name+CopySuffix, ErrDamaged)
}

// RemoveSealed removes a file and its copy, the copy first: nobody takes it for the file.
func RemoveSealed(name string) error {
	for _, path := range []string{name + CopySuffix, name} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// MendSealed writes a file and its copy anew from the one that is whole, after moving what
// is there into a folder, which is made. The error is that of ReadSealed if neither is.
func MendSealed(name, aside string) error {
	content, err := ReadSealed(name)
	if err != nil {
		return err
	}
	for _, path := range []string{name, name + CopySuffix} {
		b, err := os.ReadFile(path)
		if _, whole := Unseal(b); whole || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := os.MkdirAll(aside, 0o700); err != nil {
			return err
		}
		// A copy, so that the file is never gone.
		if err := WriteFile(filepath.Join(aside, filepath.Base(path)), b); err != nil {
			return err
		}
	}
	return WriteSealed(name, content)
}
