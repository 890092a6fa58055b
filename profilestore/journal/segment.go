package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// segment is one file of the journal: its records start at first; the bytes up to size are known to be durable.
type segment struct {
	path  string
	first uint64
	size  int64
}

// errUnmade: the file is the beginning of a segment whose header was never synced, so nothing is in it.
var errUnmade = errors.New("a segment file without header: it was just being made")

func (s *segment) corrupt(off int64, reason string) error {
	return &CorruptError{File: s.path, Offset: off, Reason: reason}
}

// explain turns a scanner's error into one for the outside.
func (s *segment) explain(err error) error {
	if f, ok := errors.AsType[*flaw](err); ok {
		return s.corrupt(f.off, f.reason)
	}
	return fmt.Errorf("journal: %s: %w", s.path, err)
}

// listSegments returns the segments in dir in order, with the sizes of their files.
func listSegments(dir string) ([]segment, error) {
	names, err := os.ReadDir(dir) // sorted, and the numbers in the names are padded
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	var segs []segment
	for _, n := range names {
		path := filepath.Join(dir, n.Name())
		first, other, err := parseName(n.Name())
		if other {
			continue
		}
		if err != nil {
			return nil, &CorruptError{File: path, Reason: fmt.Sprintf("its name should be %d digits and %s", nameDigits, nameSuffix)}
		}
		info, err := n.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue // it has just been removed
		}
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		segs = append(segs, segment{path: path, first: first, size: info.Size()})
	}
	return segs, nil
}

// readHeader reads and checks the header of s. It returns errUnmade for a file that never got one.
func readHeader(f io.ReaderAt, s *segment) (header, error) {
	b := make([]byte, headerSize)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return header{}, fmt.Errorf("journal: %s: read the header: %w", s.path, err)
	}
	h, ok := parseHeader(b)
	ok = ok && n == headerSize
	switch {
	case ok && h.version != formatVersion:
		return h, fmt.Errorf("journal: %s has format version %d, this program knows %d: use the program that wrote it, "+
			"or a newer one: %w", s.path, h.version, formatVersion, ErrVersion)
	case ok && h.first != s.first:
		return h, s.corrupt(0, fmt.Sprintf("its header says that its first record is %d, its name says %d", h.first, s.first))
	case ok:
		return h, nil
	case s.size <= headerSize: // nothing is written behind a header that is not synced
		return h, errUnmade
	}
	return h, s.corrupt(0, "its header does not match its checksum, or it is no journal segment")
}

// checkSeal checks that s ends with a seal and that next comes after it, without reading its records.
func checkSeal(f io.ReaderAt, sum *checksum, s *segment, next uint64) error {
	at := s.size - groupHeaderSize
	if at < headerSize {
		return s.corrupt(s.size, "the file ends before its seal")
	}
	b := make([]byte, groupHeaderSize)
	if _, err := f.ReadAt(b, at); err != nil {
		return fmt.Errorf("journal: %s: read the seal at byte %d: %w", s.path, at, err)
	}
	first, count, ok := sum.groupHeader(b)
	switch {
	case !ok || count != 0:
		return s.corrupt(at, "no seal at its end, though there is a segment after it: its last records are missing or damaged")
	case first != next:
		return s.corrupt(at, fmt.Sprintf("it ends before record %d, but the next segment starts with %d", first, next))
	}
	return nil
}

// writeHeader makes s with a header, and its name, durable. It closes file if it fails.
func writeHeader(fsys FS, file File, s segment, id uint64) error {
	h := header{version: formatVersion, first: s.first, id: id}
	if err := closeOn(writeAll(file, h.encode(), 0), file); err != nil {
		return fmt.Errorf("write the header of %s: %w", s.path, err)
	}
	if err := closeOn(file.Sync(), file); err != nil {
		return fmt.Errorf("sync the header of %s: %w", s.path, err)
	}
	if err := closeOn(fsys.SyncDir(filepath.Dir(s.path)), file); err != nil {
		return fmt.Errorf("sync the directory of %s: %w", s.path, err)
	}
	return nil
}

// closeOn closes file if err is not nil, and returns err.
func closeOn(err error, file File) error {
	if err != nil {
		err = errors.Join(err, file.Close())
	}
	return err
}
