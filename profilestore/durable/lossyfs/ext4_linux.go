package lossyfs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Ext4 is a real ext4 file system whose disk is a [Disk]: of what the kernel has sent to
// the disk and not flushed, a power cut may lose any sectors, and what it has not sent is
// lost anyway.
type Ext4 struct {
	disk *Disk
	dir  string // where it is mounted
	raw  *Mounted
}

const (
	imageName = "image"
	imageSize = 512 << 20
)

// NewExt4 makes a disk with an empty ext4 file system. It needs mkfs.ext4.
func NewExt4(ctx context.Context, seed uint64) (*Disk, error) {
	temporary, err := os.MkdirTemp("", "rapport-ext4-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temporary) //nolint:errcheck // temporary
	path := filepath.Join(temporary, imageName)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(path, imageSize); err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-E", "lazy_itable_init=1", path).CombinedOutput(); err != nil { //nolint:gosec // a path just made
		return nil, fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	d := New(seed)
	n, err := d.Make(d.root, imageName, syscall.S_IFREG|0o600)
	if err != nil {
		return nil, err
	}
	if err := d.fill(n, path); err != nil {
		return nil, err
	}
	if err := d.Sync(n); err != nil {
		return nil, err
	}
	return d, d.Sync(d.root)
}

// fill copies a file, of which zeros take no memory.
func (d *Disk) fill(n *Node, path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := d.Truncate(n, int64(len(b))); err != nil {
		return err
	}
	zeros := string(make([]byte, pageSize))
	for at := 0; at < len(b); at += pageSize {
		if p := b[at:min(at+pageSize, len(b))]; string(p) != zeros[:len(p)] {
			if err := d.Write(n, p, int64(at)); err != nil {
				return err
			}
		}
	}
	return nil
}

// MountExt4 mounts the ext4 file system of a disk under an empty folder, which replays
// its journal if the power was cut. It needs root, /dev/fuse and a loop device.
func MountExt4(ctx context.Context, d *Disk, dir string) (_ *Ext4, err error) {
	below, err := os.MkdirTemp("", "rapport-ext4-")
	if err != nil {
		return nil, err
	}
	raw, err := Mount(d, below)
	if err != nil {
		return nil, err
	}
	e := &Ext4{disk: d, dir: dir, raw: raw}
	if out, err := exec.CommandContext(ctx, "mount", "-t", "ext4", "-o", "loop", filepath.Join(below, imageName), dir).CombinedOutput(); err != nil { //nolint:gosec // a path just made
		return nil, fmt.Errorf("mount -o loop: %w: %s", err, out)
	}
	return e, nil
}

// Unmount takes it away, also from processes that still use it.
func (e *Ext4) Unmount() error {
	if err := syscall.Unmount(e.dir, syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", e.dir, err)
	}
	if err := e.raw.Unmount(); err != nil {
		return err
	}
	return os.Remove(e.raw.dir)
}
