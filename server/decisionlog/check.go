package decisionlog

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"rapport/profilestore/durable"
)

// Check reads all segments in a folder and says which are damaged or missing. It changes
// nothing, and may run beside a log. The end of a segment that was not ended in order is
// no damage: it was being written when the process ended.
func Check(ctx context.Context, dir string) ([]durable.Damage, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []durable.Damage
	last := uint32(0)
	for _, e := range entries {
		seq, _, ok := parseSegment(e.Name())
		if !ok {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		path := filepath.Join(dir, e.Name())
		if last != 0 && seq != last+1 {
			all = append(all, durable.Damage{Path: path, Problem: fmt.Sprintf("%s: a file of the number %d should come before it, and is missing", path, seq-1)})
		}
		last = seq
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		problem, err := checkSegment(path, seq, info.Size())
		if err != nil {
			return nil, err
		}
		if problem != "" {
			all = append(all, durable.Damage{Path: path, Problem: path + ": " + problem})
		}
	}
	return all, nil
}

func checkSegment(path string, seq uint32, size int64) (problem string, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // it has become too old
	}
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	c, err := scan(f, path, seq, size, nil)
	if err != nil {
		return "", err
	}
	for _, d := range c.damage {
		return fmt.Sprintf("%d bytes from byte %d on are %s", d.Bytes, d.Offset, d.What), nil
	}
	if c.sealed && c.tail > 0 {
		return fmt.Sprintf("%d bytes after its end", c.tail), nil
	}
	for i := range c.frames {
		frame := &c.frames[i]
		b := make([]byte, frame.packed)
		if _, err := f.ReadAt(b, frame.offset+headerBytes+int64(frame.hashes())); err != nil {
			return "", err
		}
		if crc32.Checksum(b, castagnoli) != frame.sum {
			return fmt.Sprintf("the block at byte %d is not what was written", frame.offset), nil
		}
	}
	return "", nil
}
