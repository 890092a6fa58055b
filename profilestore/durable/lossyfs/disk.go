package lossyfs

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	pageSize   = 4096
	sectorSize = 512
)

// Disk is a file system in memory that knows what of it is durable. Its calls are those
// of a kernel; errors are of type [syscall.Errno]. It is safe for concurrent use.
type Disk struct {
	mu     sync.Mutex
	random *rand.Rand
	root   *Node
	last   uint64
	// pending are the changes of names that are not durable, in their order.
	pending []*nameChange
	dead    bool
	after   *Disk  // what was left when the power was cut
	wait    int    // so many changes from now the power is cut; 0: never
	fire    func() // is called then
	// waitSync is how many syncs from now changes are refused; 0: never.
	waitSync int
	frozen   bool // a sync waits
	thaw     sync.Cond
	counts   Counts
}

// Counts say what a power cut has done.
type Counts struct {
	Files, Torn, Lost  int // with content that was not durable; of those that lost a part; that lost all of it
	Names, NamesLost   int // changes that were not durable, and how many of them have not happened
	OutOfOrder, Orphan int // name changes lost before one that was kept; durable content whose name was lost
}

// Node is a file or a folder.
type Node struct {
	ID   uint64
	Mode uint32 // as in stat
	Time time.Time

	names, durableNames map[string]*Node // of a folder

	size, durableSize int64 // of a file
	sizes             []int64
	pages             map[int64]*page
	dirty             map[int64]bool
	links             int
}

// page is a stretch of a file. Its slices are never changed once they are here; nil are
// zeros.
type page struct{ now, durable []byte }

// nameChange is what happens to names in one step.
type nameChange struct {
	parts []namePart
}

// namePart says what a name in a folder stands for from now on: nil if for nothing.
type namePart struct {
	dir    *Node
	name   string
	node   *Node
	before *Node
}

// New returns an empty file system. What it loses follows from seed and from what it is
// asked.
func New(seed uint64) *Disk {
	d := &Disk{random: rand.New(rand.NewPCG(seed, 7))} //nolint:gosec // chance, not secrets
	d.thaw.L = &d.mu
	d.root = d.newNode(syscall.S_IFDIR | 0o755)
	return d
}

func (d *Disk) newNode(mode uint32) *Node {
	d.last++
	n := &Node{ID: d.last, Mode: mode, Time: time.Now()}
	if n.IsDir() {
		n.names, n.durableNames = make(map[string]*Node), make(map[string]*Node)
	} else {
		n.pages, n.dirty = make(map[int64]*page), make(map[int64]bool)
	}
	return n
}

// IsDir reports whether it is a folder.
func (n *Node) IsDir() bool { return n.Mode&syscall.S_IFMT == syscall.S_IFDIR }

// Root returns the folder of everything.
func (d *Disk) Root() *Node { return d.root }

// After has f called when the nth change from now is about to be made, and then cuts the
// power in the place of that change. f must not call the disk. With n = 0 there is no cut.
func (d *Disk) After(n int, f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wait, d.fire = n, f
}

// Freeze has f called when the nth sync of a file from now is about to be made. That one
// waits until Thaw, and fails: for whoever is killed before it, what was written and not
// synced stays. f must not call the disk. With n = 0 nothing is frozen.
func (d *Disk) Freeze(n int, f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waitSync, d.fire = n, f
}

// Thaw ends what Freeze has begun.
func (d *Disk) Thaw() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waitSync, d.frozen = 0, false
	d.thaw.Broadcast()
}

// change begins a change. Caller holds mu.
func (d *Disk) change() error {
	if !d.dead && d.wait > 0 {
		if d.wait--; d.wait == 0 {
			d.fire()
			d.end()
		}
	}
	if d.dead {
		return syscall.EIO
	}
	d.writeback()
	return nil
}

// Lookup finds a name in a folder.
func (d *Disk) Lookup(dir *Node, name string) (*Node, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch n := dir.names[name]; {
	case d.dead:
		return nil, syscall.EIO
	case !dir.IsDir():
		return nil, syscall.ENOTDIR
	case n == nil:
		return nil, syscall.ENOENT
	default:
		return n, nil
	}
}

// Entry is a name in a folder.
type Entry struct {
	Name string
	Node *Node
}

// List returns the names in a folder, in order.
func (d *Disk) List(dir *Node) ([]Entry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return nil, syscall.EIO
	}
	var out []Entry
	for _, name := range slices.Sorted(maps.Keys(dir.names)) {
		out = append(out, Entry{name, dir.names[name]})
	}
	return out, nil
}

// Size returns the size of a file, and how many names it has.
func (d *Disk) Size(n *Node) (size int64, links int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return n.size, n.links
}

// SetMode changes the permissions. They are durable at once: nothing depends on them.
func (d *Disk) SetMode(n *Node, permissions uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n.Mode = n.Mode&syscall.S_IFMT | permissions&0o7777
}

// Make makes a file or a folder, by mode. It is an error if the name is there.
func (d *Disk) Make(dir *Node, name string, mode uint32) (*Node, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.change(); err != nil {
		return nil, err
	}
	if dir.names[name] != nil {
		return nil, syscall.EEXIST
	}
	n := d.newNode(mode)
	d.rename(namePart{dir: dir, name: name, node: n})
	return n, nil
}

// Remove removes a name: of a folder, which must be empty, or else of a file.
func (d *Disk) Remove(dir *Node, name string, folder bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.change(); err != nil {
		return err
	}
	n := dir.names[name]
	switch {
	case n == nil:
		return syscall.ENOENT
	case folder && !n.IsDir():
		return syscall.ENOTDIR
	case !folder && n.IsDir():
		return syscall.EISDIR
	case len(n.names) > 0:
		return syscall.ENOTEMPTY
	}
	d.rename(namePart{dir: dir, name: name})
	return nil
}

// Rename gives a file or folder another name.
func (d *Disk) Rename(dir *Node, name string, toDir *Node, toName string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.change(); err != nil {
		return err
	}
	n, old := dir.names[name], toDir.names[toName]
	switch {
	case n == nil:
		return syscall.ENOENT
	case n == old:
		return nil
	case old != nil && old.IsDir() && !n.IsDir():
		return syscall.EISDIR
	case old != nil && !old.IsDir() && n.IsDir():
		return syscall.ENOTDIR
	case old != nil && len(old.names) > 0:
		return syscall.ENOTEMPTY
	}
	d.rename(namePart{dir: dir, name: name}, namePart{dir: toDir, name: toName, node: n})
	return nil
}

// rename makes a change of names. Caller holds mu.
func (d *Disk) rename(parts ...namePart) {
	for i := range parts {
		p := &parts[i]
		p.before = p.dir.names[p.name]
		if p.before != nil {
			p.before.links--
		}
		if p.node == nil {
			delete(p.dir.names, p.name)
		} else {
			p.dir.names[p.name] = p.node
			p.node.links++
		}
		p.dir.Time = time.Now()
	}
	d.pending = append(d.pending, &nameChange{parts})
}

// Read reads what is there now.
func (d *Disk) Read(n *Node, b []byte, offset int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return 0, syscall.EIO
	}
	b = b[:max(0, min(int64(len(b)), n.size-offset))]
	clear(b)
	for done := 0; done < len(b); {
		at := offset + int64(done)
		begin := int(at % pageSize)
		step := min(pageSize-begin, len(b)-done)
		if p := n.pages[at/pageSize]; p != nil && p.now != nil {
			copy(b[done:done+step], p.now[begin:])
		}
		done += step
	}
	return len(b), nil
}

// Write writes.
func (d *Disk) Write(n *Node, b []byte, offset int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.change(); err != nil {
		return err
	}
	for done := 0; done < len(b); {
		at := offset + int64(done)
		begin := int(at % pageSize)
		step := min(pageSize-begin, len(b)-done)
		n.put(at/pageSize, begin, b[done:done+step])
		done += step
	}
	if end := offset + int64(len(b)); end > n.size {
		n.resize(end)
	}
	n.Time = time.Now()
	return nil
}

// put changes a part of a page.
func (n *Node) put(number int64, begin int, b []byte) {
	p := n.pages[number]
	if p == nil {
		p = new(page)
		n.pages[number] = p
	}
	now := make([]byte, pageSize)
	copy(now, p.now)
	copy(now[begin:], b)
	p.now = now
	n.dirty[number] = true
}

func (n *Node) resize(size int64) {
	n.size = size
	n.sizes = append(n.sizes, size)
}

// Truncate changes the size of a file.
func (d *Disk) Truncate(n *Node, size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.change(); err != nil {
		return err
	}
	if size < n.size {
		if begin := int(size % pageSize); begin > 0 && n.pages[size/pageSize] != nil {
			n.put(size/pageSize, begin, make([]byte, pageSize-begin))
		}
		for number, p := range n.pages {
			if number*pageSize >= size && p.now != nil {
				p.now = nil
				n.dirty[number] = true
			}
		}
	}
	n.resize(size)
	n.Time = time.Now()
	return nil
}

// Sync makes a file durable, or the names in a folder.
func (d *Disk) Sync(n *Node) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.dead && !n.IsDir() && d.waitSync > 0 {
		if d.waitSync--; d.waitSync == 0 {
			d.fire()
			for d.frozen = true; d.frozen; {
				d.thaw.Wait()
			}
			return syscall.EIO
		}
	}
	if err := d.change(); err != nil {
		return err
	}
	if !n.IsDir() {
		n.sync()
		return nil
	}
	var keep []*nameChange
	for _, c := range d.pending {
		if c.touches(n) {
			keep = append(keep, c)
		}
	}
	d.commit(keep)
	return nil
}

func (n *Node) sync() {
	for number := range n.dirty {
		n.syncPage(number)
	}
	n.durableSize, n.sizes = n.size, nil
}

func (n *Node) syncPage(number int64) {
	p := n.pages[number]
	p.durable = p.now
	if p.now == nil {
		delete(n.pages, number)
	}
	delete(n.dirty, number)
}

func (c *nameChange) touches(dir *Node) bool {
	return slices.ContainsFunc(c.parts, func(p namePart) bool { return p.dir == dir })
}

// buildsOn reports whether c can't be without an earlier change.
func (c *nameChange) buildsOn(earlier *nameChange) bool {
	for _, p := range c.parts {
		for _, q := range earlier.parts {
			if p.dir == q.dir && p.name == q.name || p.node != nil && (p.node == q.node || p.node == q.before) || p.before != nil && p.before == q.node {
				return true
			}
		}
	}
	return false
}

// closure returns changes and those that they build on, in their order.
func (d *Disk) closure(keep []*nameChange) []*nameChange {
	in := make(map[*nameChange]bool)
	for _, c := range keep {
		in[c] = true
	}
	for i, c := range slices.Backward(d.pending) {
		if !in[c] {
			continue
		}
		for _, earlier := range d.pending[:i] {
			if c.buildsOn(earlier) {
				in[earlier] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(d.pending), func(c *nameChange) bool { return !in[c] })
}

// commit makes changes of names durable, and those that they build on.
func (d *Disk) commit(keep []*nameChange) {
	keep = d.closure(keep)
	for _, c := range keep {
		for _, p := range c.parts {
			if p.node == nil {
				delete(p.dir.durableNames, p.name)
			} else {
				p.dir.durableNames[p.name] = p.node
			}
		}
	}
	d.pending = slices.DeleteFunc(d.pending, func(c *nameChange) bool { return slices.Contains(keep, c) })
}

// writeback does now and then what a kernel does on its own: it writes something that
// nobody has asked it to.
func (d *Disk) writeback() {
	if len(d.pending) > 0 && d.random.IntN(32) == 0 {
		d.commit([]*nameChange{d.pending[d.random.IntN(len(d.pending))]})
	}
}
