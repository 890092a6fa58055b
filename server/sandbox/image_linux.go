//go:build linux && (amd64 || arm64)

package sandbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"github.com/tetratelabs/wazero/experimental"
	"golang.org/x/sys/unix"
)

// space is the linear memory of an instance: reserved addresses, of which the
// first part can be used. It never moves, so what wazero keeps of it (where it
// begins and how long it is, read again only after memory.grow) stays true when
// an image is mapped over it.
type space struct {
	all  []byte // as long as the memory may ever become; nil after Free
	used bool   // some of it can be
	err  error  // why there are no addresses
}

// allocator has wazero ask for the memory of an instance here; in.space is then
// set. wazero panics if a memory can't be had, so without addresses it is given
// Go's, and the space has the error.
func (p *pagemap) allocator(in *instance) experimental.MemoryAllocator {
	return experimental.MemoryAllocatorFunc(func(_, maximum uint64) experimental.LinearMemory {
		in.space = reserve(max(maximum, wasmPage))
		return in.space
	})
}

// reserve returns a space without memory.
func reserve(size uint64) *space {
	all, err := unix.Mmap(-1, 0, int(size), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return &space{err: fmt.Errorf("sandbox: reserve %d bytes of addresses: %w", size, err)}
	}
	return &space{all: all}
}

// Reallocate makes the first size bytes usable; they are zero at first. It
// returns nil if it can't, but not when it is first called.
func (s *space) Reallocate(size uint64) []byte {
	if s.err == nil && size <= uint64(len(s.all)) {
		err := unix.Mprotect(s.all[:size], unix.PROT_READ|unix.PROT_WRITE)
		if err == nil {
			s.used = true
			return s.all[:size:size]
		}
		if !s.used {
			s.err = fmt.Errorf("sandbox: %d bytes of memory: %w", size, err)
		}
	}
	if s.used {
		return nil
	}
	return make([]byte, size)
}

// Free gives the addresses back. It may be called again.
func (s *space) Free() {
	if s.all != nil {
		_ = unix.Munmap(s.all)
		s.all = nil
	}
}

// sharedImage is an image in memory that has a file descriptor, which nobody can
// write to any more. Instances map it privately: they read the same pages until
// they write, and then have their own copy of the page.
type sharedImage struct {
	fd      int
	view    []byte // all of it, to read
	pagemap *pagemap
}

// shareImage makes a shared image of bytes. All of them are written, zeros too:
// a hole for which there is no memory later would end the process with a SIGBUS.
func shareImage(b []byte, p *pagemap) (*sharedImage, error) {
	const sealable = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("rapport-image", sealable|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("rapport-image", sealable)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	g := &sharedImage{fd: fd, pagemap: p}
	if err := g.fill(b); err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

// sealTries is how often an image is tried to be sealed again.
const sealTries = 20

func (g *sharedImage) fill(b []byte) (err error) {
	for at := 0; at < len(b); {
		n, err := unix.Pwrite(g.fd, b[at:], int64(at))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("write: %w", err)
		}
		at += max(n, 0)
	}
	const seals = unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL
	// While the kernel moves or reclaims pages of the file it holds them, and says EBUSY after
	// a sixth of a second.
	_, err = unix.FcntlInt(uintptr(g.fd), unix.F_ADD_SEALS, seals)
	for try := 0; errors.Is(err, unix.EBUSY) && try < sealTries; try++ {
		_, err = unix.FcntlInt(uintptr(g.fd), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	// Private, because some kernels refuse a shared mapping of a sealed file even
	// to read. What is not written is shared all the same.
	if g.view, err = unix.Mmap(g.fd, 0, len(b), unix.PROT_READ, unix.MAP_PRIVATE); err != nil {
		return fmt.Errorf("map: %w", err)
	}
	return nil
}

func (g *sharedImage) close() {
	if g.view != nil {
		_ = unix.Munmap(g.view)
		g.view = nil
	}
	_ = unix.Close(g.fd)
}

// mapOver maps the image over the beginning of a memory.
func (g *sharedImage) mapOver(memory []byte) error {
	_, err := unix.MmapPtr(g.fd, 0, unsafe.Pointer(unsafe.SliceData(memory)), uintptr(len(memory)), //nolint:gosec // addresses that are ours
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED)
	if err != nil {
		return fmt.Errorf("sandbox: map an image of %d bytes: %w", len(memory), err)
	}
	return nil
}

// attach maps the image over the memory of an instance, which is as long.
func (g *sharedImage) attach(image *image, s *space, how Restore) (restorer, error) {
	memory := s.all[:image.length]
	if err := g.mapOver(memory); err != nil {
		return nil, err
	}
	if how == RestoreMadvise {
		return &dropping{image: image, memory: memory}, nil
	}
	return &pages{image: image, memory: memory, pagemap: g.pagemap, faults: new(faultCounter)}, nil
}

// pages copies back the pages of a memory that are private: those that the host
// or a call has written since the image was mapped. The system says which they
// are, in the pagemap, but to ask takes longer than to copy. So the pages that
// are private stay so, and are copied after each call whether it wrote them or
// not; and the pagemap is only read again if the thread had a page fault during
// the call, because a page can't become private without one. Calls of the same
// kind write the same pages, so after the first few there is none.
//
// What this rests on, each checked by a probe when the runtime starts, or by
// the tests, which compare all bytes after each restore:
//
//   - The first write to a page of a private mapping is a fault of the thread
//     that writes, whether in the guest or in the host. It counts as a major one
//     if the system had to wait or to try again, so both are looked at.
//   - Between begin and end nothing but the goroutine of the call writes, and it
//     is locked to its thread.
//   - A page that is private stays so until this type drops it: swapping, moving,
//     or a fork may change where it is, not whose it is.
//
// A rare call that writes a lot would make all later restores long. So of a
// memory with more than keptPrivate bytes of private pages every sampleEvery-th
// restore looks how many of them differ; if less than a quarter does, the system
// is told to forget them all, as [dropping] does each time. To fault a page in
// again takes 2 to 3 µs and to copy one 0.1 to 0.6, so to drop them whenever there
// are many would make calls that often write a lot slower: by three to five times
// if each does, to 400 pages. With the sample none is more than about twice as slow
// as with the better of the two; RATIONALE.md has the figures.
type pages struct {
	image   *image
	memory  []byte // as long as the image
	pagemap *pagemap
	faults  *faultCounter

	runs     []run // the private pages, in order
	private  int   // their bytes
	stale    bool  // there may be more of them
	open     bool  // between begin and end
	restores uint
}

// run is bytes from to below to of a memory, whole pages.
type run struct{ from, to int }

const (
	keptPrivate = 128 << 10
	sampleEvery = 8
)

func (p *pages) begin() {
	runtime.LockOSThread()
	p.open = true
	p.faults.begin()
}

func (p *pages) end() time.Duration {
	if p.faults.moved() {
		p.stale = true
	}
	p.open = false
	runtime.UnlockOSThread()
	return p.faults.ran()
}

// settle brings the private pages up to date.
func (p *pages) settle() {
	if p.open { // the host panicked in between
		p.end()
		p.stale = true
	}
	if !p.stale {
		return
	}
	before := p.private
	runs, err := p.pagemap.private(p.memory, p.runs[:0])
	if err != nil {
		runs = append(runs[:0], run{0, len(p.memory)})
	}
	p.runs, p.private, p.stale = runs, 0, err != nil
	for _, r := range runs {
		p.private += r.to - r.from
	}
	p.image.counts.rescans.Add(1)
	p.image.counts.private.Add(int64(p.private - before))
}

func (p *pages) intact(from, size uint32) bool {
	p.settle()
	for _, r := range p.runs {
		a, b := max(r.from, int(from)), min(r.to, int(from)+int(size))
		if a < b && !bytes.Equal(p.memory[a:b], p.image.bytes[a:b]) {
			return false
		}
	}
	return true
}

// cost counts reading the pagemap as copying 64 bytes a page, which takes as long.
func (p *pages) cost() int {
	if p.stale || p.open {
		return p.private + len(p.memory)/64
	}
	return p.private
}

func (p *pages) restore() {
	p.settle()
	p.restores++
	if p.private > keptPrivate && p.restores%sampleEvery == 0 && p.mostlyUnused() && p.drop() {
		return
	}
	for _, r := range p.runs {
		copy(p.memory[r.from:r.to], p.image.bytes[r.from:r.to])
	}
	p.image.counts.paged.Add(1)
}

// mostlyUnused reports whether of the private pages less than a quarter differ
// from the image.
func (p *pages) mostlyUnused() bool {
	size, used := p.pagemap.pageSize, 0
	for _, r := range p.runs {
		for at := r.from; at < r.to; at += size {
			if !bytes.Equal(p.memory[at:at+size], p.image.bytes[at:at+size]) {
				used += size
			}
		}
	}
	return used < p.private/4
}

// drop has the system forget the private pages.
func (p *pages) drop() bool {
	if unix.Madvise(p.memory, unix.MADV_DONTNEED) != nil {
		return false
	}
	p.image.counts.private.Add(-int64(p.private))
	p.image.counts.dropped.Add(1)
	p.runs, p.private = p.runs[:0], 0
	return true
}

func (p *pages) close() {
	p.image.counts.private.Add(-int64(p.private))
	p.runs, p.private, p.memory = nil, 0, nil
}

// dropping has the system forget what was written to a memory: it shows the image
// again. It needs to know nothing of calls, and costs a page fault for each page
// that the next one writes.
type dropping struct {
	image  *image
	memory []byte
}

func (d *dropping) begin()             {}
func (d *dropping) end() time.Duration { return 0 }
func (d *dropping) close()             { d.memory = nil }

// cost says that it is long enough to be left to a keeper.
func (d *dropping) cost() int { return len(d.memory) }

func (d *dropping) intact(from, size uint32) bool {
	return bytes.Equal(d.memory[from:][:size], d.image.bytes[from:][:size])
}

func (d *dropping) restore() {
	if unix.Madvise(d.memory, unix.MADV_DONTNEED) != nil {
		copy(d.memory, d.image.bytes)
	}
	d.image.counts.dropped.Add(1)
}

// faultCounter tells whether a thread had page faults. The goroutine is locked to
// it from begin until moved.
type faultCounter struct {
	usage  unix.Rusage
	before int64
	since  time.Duration // processor time of the thread at begin
}

func (f *faultCounter) begin() {
	f.before = f.count()
	f.since = f.used()
}

// ran returns the processor time that the thread has used from begin to moved.
func (f *faultCounter) ran() time.Duration { return f.used() - f.since }

func (f *faultCounter) used() time.Duration {
	return time.Duration(f.usage.Utime.Nano() + f.usage.Stime.Nano())
}

func (f *faultCounter) moved() bool {
	now := f.count()
	return now < 0 || now != f.before
}

// count returns the page faults of the thread until now; -1 if it can't be known.
func (f *faultCounter) count() int64 {
	if unix.Getrusage(unix.RUSAGE_THREAD, &f.usage) != nil {
		return -1
	}
	return f.usage.Minflt + f.usage.Majflt
}

// pagemap is the system's account of this process's pages. It is safe for
// concurrent use.
type pagemap struct {
	fd       int
	pageSize int
}

// Bits of an entry, from the kernel's documentation of pagemap.
const (
	pagePresent = 1 << 63
	pageSwapped = 1 << 62
	pageOfFile  = 1 << 61 // of a file, or anonymous and shared
	entrySize   = 8
)

// openPagemap opens a pagemap, which is at /proc/self/pagemap, and tries all
// that [pages] needs: not every system that calls itself Linux has it.
func openPagemap(path string) (*pagemap, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	p := &pagemap{fd: fd, pageSize: os.Getpagesize()}
	if err := p.probe(); err != nil {
		p.close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

func (p *pagemap) close() { _ = unix.Close(p.fd) }

// probe writes to one page of a shared image, reads another, and wants to see
// exactly that.
func (p *pagemap) probe() error {
	want := bytes.Repeat([]byte{1}, 4*p.pageSize)
	g, err := shareImage(want, p)
	if err != nil {
		return err
	}
	defer g.close()
	s := reserve(uint64(len(want)))
	defer s.Free()
	if s.err != nil {
		return s.err
	}
	if err := g.mapOver(s.all); err != nil {
		return err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	faults := new(faultCounter)
	faults.begin()
	read := s.all[0] + s.all[2*p.pageSize]
	s.all[p.pageSize] = 2 * read
	moved := faults.moved()
	runs, err := p.private(s.all, nil)
	switch {
	case err != nil:
		return err
	case !moved:
		return errors.New("page faults of a thread are not counted")
	case len(runs) != 1 || runs[0] != run{p.pageSize, 2 * p.pageSize}:
		return fmt.Errorf("it does not show which page is private, but %v", runs)
	case !bytes.Equal(g.view, want):
		return errors.New("a private write reached the file")
	}
	return nil
}

// private appends the private pages of a memory to runs.
func (p *pagemap) private(memory []byte, runs []run) ([]run, error) {
	var entries [512 * entrySize]byte
	first := int64(uintptr(unsafe.Pointer(unsafe.SliceData(memory)))) / int64(p.pageSize) //nolint:gosec // to number the pages
	pages := len(memory) / p.pageSize
	for page := 0; page < pages; {
		b := entries[:min(len(entries), (pages-page)*entrySize)]
		n, err := unix.Pread(p.fd, b, (first+int64(page))*entrySize)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return runs, err
		}
		if n < entrySize {
			return runs, errors.New("it is too short")
		}
		for b = b[:n-n%entrySize]; len(b) > 0; b = b[entrySize:] {
			e := binary.NativeEndian.Uint64(b)
			if e&(pagePresent|pageSwapped) != 0 && e&pageOfFile == 0 {
				runs = addPage(runs, page*p.pageSize, p.pageSize)
			}
			page++
		}
	}
	return runs, nil
}

// addPage appends a page, which is behind all others.
func addPage(runs []run, at, size int) []run {
	if n := len(runs); n > 0 && runs[n-1].to == at {
		runs[n-1].to = at + size
		return runs
	}
	return append(runs, run{at, at + size})
}
