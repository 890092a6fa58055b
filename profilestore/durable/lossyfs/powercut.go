package lossyfs

import (
	"maps"
	"slices"
)

// PowerCut ends the disk: every call fails from now on. It returns what is left, as a
// disk on which everything is durable, and what was lost.
func (d *Disk) PowerCut() (*Disk, Counts) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.end()
	return d.after, d.counts
}

// end cuts the power, once. Caller holds mu.
func (d *Disk) end() {
	if d.dead {
		return
	}
	d.dead = true
	d.after = d.left()
}

// Left returns what would be left if the power were cut now, as PowerCut does, and the
// disk goes on. It may make durable what nobody has synced, as a kernel may.
func (d *Disk) Left() (*Disk, Counts) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counts = Counts{}
	return d.left(), d.counts
}

func (d *Disk) left() *Disk {
	after := New(d.random.Uint64())
	d.counts.Names = len(d.pending)
	d.keepNames()
	nodes := map[*Node]*Node{d.root: after.root}
	d.copyDir(after, d.root, nodes)
	return after
}

// keepNames makes some of the changes of names durable: none, all, those up to some
// moment, as in a journal, or any that can be without the others.
func (d *Disk) keepNames() {
	all := slices.Clone(d.pending)
	var keep []*nameChange
	switch n := len(all); d.random.IntN(4) {
	case 1:
		keep = all
	case 2:
		keep = all[:d.random.IntN(n+1)]
	case 3:
		for _, c := range all {
			if d.random.IntN(3) == 0 {
				keep = append(keep, c)
			}
		}
	}
	keep = d.closure(keep)
	d.commit(keep)
	d.counts.NamesLost = len(d.pending)
	lost := false
	for _, c := range all {
		if kept := slices.Contains(keep, c); !kept {
			lost = true
		} else if lost {
			d.counts.OutOfOrder++
		}
	}
	for _, c := range d.pending {
		for _, p := range c.parts {
			if p.node != nil && p.node.durableSize > 0 && p.before == nil {
				d.counts.Orphan++
			}
		}
	}
}

// copyDir copies a folder as it is after the cut.
func (d *Disk) copyDir(after *Disk, from *Node, nodes map[*Node]*Node) {
	to := nodes[from]
	for _, name := range slices.Sorted(maps.Keys(from.durableNames)) {
		n := from.durableNames[name]
		left := nodes[n]
		if left == nil {
			left = after.newNode(n.Mode)
			left.Time = n.Time
			nodes[n] = left
			if n.IsDir() {
				d.copyDir(after, n, nodes)
			} else {
				d.copyFile(left, n)
			}
		}
		left.links++
		to.names[name], to.durableNames[name] = left, left
	}
}

// copyFile copies a file as it is after the cut: of what was not durable nothing, all, or
// any sectors, and one of the sizes that it has had.
func (d *Disk) copyFile(to, from *Node) {
	how := d.random.IntN(3)
	size := from.durableSize
	switch {
	case how == 1:
		size = from.size
	case how == 2 && len(from.sizes) > 0 && d.random.IntN(2) == 0:
		size = from.sizes[d.random.IntN(len(from.sizes))]
	}
	if len(from.dirty) > 0 || len(from.sizes) > 0 {
		d.counts.Files++
		switch how {
		case 0:
			d.counts.Lost++
		case 2:
			d.counts.Torn++
		}
	}
	for _, number := range slices.Sorted(maps.Keys(from.pages)) {
		p := from.pages[number]
		left := p.durable
		if from.dirty[number] {
			left = d.tear(p, how)
		}
		end := size - number*pageSize
		if left == nil || end <= 0 {
			continue
		}
		if end < pageSize { // what is behind the end is zero when the file grows again
			left = append(slices.Clone(left[:end]), make([]byte, pageSize-end)...)
		}
		to.pages[number] = &page{now: left, durable: left}
	}
	to.size, to.durableSize = size, size
}

// tear returns a page that is not durable as it is after the cut.
func (d *Disk) tear(p *page, how int) []byte {
	switch how {
	case 0:
		return p.durable
	case 1:
		return p.now
	}
	out := make([]byte, pageSize)
	copy(out, p.durable)
	now := make([]byte, pageSize)
	copy(now, p.now)
	for at := 0; at < pageSize; at += sectorSize {
		if d.random.IntN(2) == 0 {
			copy(out[at:at+sectorSize], now[at:])
		}
	}
	return out
}
