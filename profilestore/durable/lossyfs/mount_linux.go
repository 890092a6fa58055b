package lossyfs

import (
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Mounted is a disk under a folder.
type Mounted struct {
	disk   *Disk
	server *fuse.Server
	dir    string
}

// Mount puts a disk under an empty folder. It needs root and /dev/fuse. Whoever has
// mounted it must not map files of it into memory: that would wait for itself.
func Mount(d *Disk, dir string) (*Mounted, error) {
	k := &kernel{
		RawFileSystem: fuse.NewDefaultRawFileSystem(), disk: d,
		nodes: map[uint64]*Node{fuse.FUSE_ROOT_ID: d.root}, listings: make(map[uint64][]Entry),
	}
	s, err := fuse.NewServer(k, dir, &fuse.MountOptions{
		FsName: "lossyfs", Name: "lossyfs", DirectMountStrict: true, DisableXAttrs: true, DisableReadDirPlus: true, MaxBackground: 64,
	})
	if err != nil {
		return nil, fmt.Errorf("lossyfs: mount on %s: %w", dir, err)
	}
	go s.Serve()
	if err := s.WaitMount(); err != nil {
		return nil, fmt.Errorf("lossyfs: mount on %s: %w", dir, err)
	}
	return &Mounted{disk: d, server: s, dir: dir}, nil
}

// Unmount takes the disk away, also from processes that still use it.
func (m *Mounted) Unmount() error {
	if err := syscall.Unmount(m.dir, syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("lossyfs: unmount %s: %w", m.dir, err)
	}
	return nil
}

// kernel answers the kernel from a disk. It does not forget nodes: a disk does not live
// long.
type kernel struct {
	fuse.RawFileSystem
	disk *Disk

	mu       sync.Mutex
	nodes    map[uint64]*Node
	listings map[uint64][]Entry // of open folders
	last     uint64
}

func status(err error) fuse.Status {
	var errno syscall.Errno
	switch {
	case err == nil:
		return fuse.OK
	case errors.As(err, &errno):
		return fuse.Status(errno)
	}
	return fuse.EIO
}

// node returns the node of a number. That of the root is always 1.
func (k *kernel) node(id uint64) *Node {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.nodes[id]
}

func (k *kernel) attr(n *Node, out *fuse.Attr) {
	size, links := k.disk.Size(n)
	*out = fuse.Attr{Ino: n.ID, Size: uint64(size), Blocks: uint64(size+511) / 512, Mode: n.Mode, Nlink: uint32(links), Blksize: pageSize}
	if n.IsDir() {
		out.Nlink = 2
	}
	out.SetTimes(&n.Time, &n.Time, &n.Time)
}

func (k *kernel) entry(n *Node, out *fuse.EntryOut) {
	k.mu.Lock()
	id := n.ID + fuse.FUSE_ROOT_ID // not the number of the root, whatever the disk calls it
	k.nodes[id] = n
	k.mu.Unlock()
	out.NodeId, out.Generation = id, 1
	k.attr(n, &out.Attr)
	out.SetEntryTimeout(forEver)
	out.SetAttrTimeout(0)
}

const forEver = 1 << 62 // only the kernel changes anything

func (k *kernel) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	n, err := k.disk.Lookup(k.node(h.NodeId), name)
	if err == nil {
		k.entry(n, out)
	}
	return status(err)
}

func (k *kernel) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	k.attr(k.node(in.NodeId), &out.Attr)
	return fuse.OK
}

func (k *kernel) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	n := k.node(in.NodeId)
	if size, ok := in.GetSize(); ok {
		if err := k.disk.Truncate(n, int64(size)); err != nil {
			return status(err)
		}
	}
	if mode, ok := in.GetMode(); ok {
		k.disk.SetMode(n, mode)
	}
	k.attr(n, &out.Attr)
	return fuse.OK
}

func (k *kernel) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	n, err := k.disk.Make(k.node(in.NodeId), name, syscall.S_IFDIR|in.Mode&0o7777)
	if err == nil {
		k.entry(n, out)
	}
	return status(err)
}

func (k *kernel) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	n, err := k.disk.Make(k.node(in.NodeId), name, syscall.S_IFREG|in.Mode&0o7777)
	if err == nil {
		k.entry(n, &out.EntryOut)
		out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	}
	return status(err)
}

func (k *kernel) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return status(k.disk.Remove(k.node(h.NodeId), name, false))
}

func (k *kernel) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return status(k.disk.Remove(k.node(h.NodeId), name, true))
}

func (k *kernel) Rename(_ <-chan struct{}, in *fuse.RenameIn, name, toName string) fuse.Status {
	if in.Flags != 0 {
		return fuse.EINVAL
	}
	return status(k.disk.Rename(k.node(in.NodeId), name, k.node(in.Newdir), toName))
}

func (k *kernel) Open(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return fuse.OK
}

func (k *kernel) Read(_ <-chan struct{}, in *fuse.ReadIn, b []byte) (fuse.ReadResult, fuse.Status) {
	n, err := k.disk.Read(k.node(in.NodeId), b, int64(in.Offset))
	return fuse.ReadResultData(b[:n]), status(err)
}

func (k *kernel) Writev(<-chan struct{}, *fuse.WriteIn, [][]byte) (uint32, fuse.Status) {
	return 0, fuse.ENOSYS // so Write is called
}

func (k *kernel) Write(_ <-chan struct{}, in *fuse.WriteIn, b []byte) (uint32, fuse.Status) {
	if err := k.disk.Write(k.node(in.NodeId), b, int64(in.Offset)); err != nil {
		return 0, status(err)
	}
	return uint32(len(b)), fuse.OK
}

func (k *kernel) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

func (k *kernel) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return status(k.disk.Sync(k.node(in.NodeId)))
}

func (k *kernel) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return status(k.disk.Sync(k.node(in.NodeId)))
}

func (k *kernel) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	list, err := k.disk.List(k.node(in.NodeId))
	if err != nil {
		return status(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last++
	k.listings[k.last] = list
	out.Fh = k.last
	return fuse.OK
}

func (k *kernel) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	k.mu.Lock()
	if in.Offset == 0 { // it may have been rewound
		k.mu.Unlock()
		list, err := k.disk.List(k.node(in.NodeId))
		if err != nil {
			return status(err)
		}
		k.mu.Lock()
		k.listings[in.Fh] = list
	}
	list := k.listings[in.Fh]
	k.mu.Unlock()
	for i := in.Offset; i < uint64(len(list)); i++ {
		if !out.AddDirEntry(fuse.DirEntry{Name: list[i].Name, Mode: list[i].Node.Mode, Ino: list[i].Node.ID, Off: i + 1}) {
			break
		}
	}
	return fuse.OK
}

func (k *kernel) ReleaseDir(in *fuse.ReleaseIn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.listings, in.Fh)
}

func (k *kernel) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status { return fuse.OK }

func (k *kernel) Fallocate(<-chan struct{}, *fuse.FallocateIn) fuse.Status {
	return fuse.Status(syscall.EOPNOTSUPP)
}

// StatFs says that there is room enough.
func (k *kernel) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	const blocks = 64 << 30 / pageSize
	*out = fuse.StatfsOut{Blocks: blocks, Bfree: blocks / 2, Bavail: blocks / 2, Files: 1 << 20, Ffree: 1 << 20, Bsize: pageSize, Frsize: pageSize, NameLen: 255}
	return fuse.OK
}
