package journal_test

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"rapport/profilestore/journal"
)

const sector = 512

var errPowerCut = errors.New("the power was cut")

// disk is a file system that knows what a power cut leaves. The files in dir are what processes see (the page cache);
// beside them it keeps what is on the platter. A sync moves the dirty sectors there. A sync that fails moves some of
// them, and the others are clean all the same, as on Linux: a later sync reports success and does not write them.
// A power cut leaves the platter and any of the dirty sectors, in any order.
type disk struct {
	random *rand.Rand
	dir    string

	mu    sync.Mutex
	files map[string]*platter // by name
	armed int                 // this many syncs from now the fault comes; negative: never
	cut   bool                // the fault is a power cut, else a failed sync
	image map[string][]byte   // what a power cut left
	gone  map[string]*platter // removed, and there again after a power cut before the next SyncDir

	removed uint64 // records before this number may have been removed
}

type platter struct {
	data  []byte
	dirty map[int64]bool // sectors
	named bool           // the directory entry is durable
}

type diskFile struct {
	*os.File
	d *disk
	p *platter
}

// newDisk makes a disk in dir whose files are all durable.
func newDisk(random *rand.Rand, dir string, image map[string][]byte) (*disk, error) {
	d := &disk{random: random, dir: dir, files: map[string]*platter{}, armed: -1}
	for name, data := range image {
		d.files[name] = &platter{data: data, dirty: map[int64]bool{}, named: true}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// fault says what happens at a sync, and whether the sync does its work. Caller holds mu.
func (d *disk) fault() error {
	d.armed--
	switch {
	case d.image != nil:
		return errPowerCut
	case d.armed != -1:
		return nil
	case d.cut:
		d.image = d.powerCut()
		return errPowerCut
	}
	return syscall.EIO
}

// powerCut returns what a power cut may leave now.
func (d *disk) powerCut() map[string][]byte {
	image := map[string][]byte{}
	for name, p := range d.gone {
		if d.random.IntN(2) == 0 {
			image[name] = p.data
		}
	}
	for name, p := range d.files {
		if !p.named && d.random.IntN(2) == 0 {
			continue
		}
		seen, err := os.ReadFile(filepath.Join(d.dir, name))
		if err != nil {
			panic(err) // the test's own file
		}
		left := p.write(seen, d.random.IntN(3), d.random)
		if d.random.IntN(3) == 0 && len(left) < len(seen) { // the size got through, the data did not
			left = append(left, make([]byte, d.random.IntN(len(seen)-len(left)+1))...)
		}
		image[name] = left
	}
	return image
}

// write returns the platter after some of the dirty sectors have been written: none, any, or all.
func (p *platter) write(seen []byte, which int, random *rand.Rand) []byte {
	data := slices.Clone(p.data)
	for s := range p.dirty {
		if which == 0 || which == 1 && random.IntN(2) == 0 {
			continue
		}
		from, to := s*sector, min((s+1)*sector, int64(len(seen)))
		if from >= to {
			continue
		}
		if grow := to - int64(len(data)); grow > 0 {
			data = append(data, make([]byte, grow)...)
		}
		copy(data[from:to], seen[from:to])
	}
	return data
}

func (d *disk) Create(path string) (journal.File, error) { return d.open(path, os.O_CREATE|os.O_EXCL) }
func (d *disk) Open(path string) (journal.File, error)   { return d.open(path, 0) }

func (d *disk) open(path string, flag int) (journal.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|flag, 0o600)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	name := filepath.Base(path)
	if d.files[name] == nil {
		d.files[name] = &platter{dirty: map[int64]bool{}}
	}
	return &diskFile{f, d, d.files[name]}, nil
}

func (d *disk) Remove(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := filepath.Base(path)
	if d.gone == nil {
		d.gone = map[string]*platter{}
	}
	d.gone[name] = d.files[name]
	delete(d.files, name)
	return os.Remove(path)
}

func (d *disk) SyncDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fault(); err != nil {
		return err
	}
	for _, p := range d.files {
		p.named = p.named || dir == d.dir
	}
	clear(d.gone)
	return nil
}

func (f *diskFile) WriteAt(b []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	for s := off / sector; s*sector < off+int64(len(b)); s++ {
		f.p.dirty[s] = true
	}
	return f.File.WriteAt(b, off)
}

func (f *diskFile) Truncate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	for s := range f.p.dirty {
		if s*sector >= size {
			delete(f.p.dirty, s)
		}
	}
	f.p.dirty[size/sector] = true // what is behind it in its sector becomes zero
	return f.File.Truncate(size)
}

func (f *diskFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	err := f.d.fault()
	if errors.Is(err, errPowerCut) {
		return err
	}
	seen, rerr := os.ReadFile(f.Name())
	if rerr != nil {
		return rerr
	}
	which := 2
	if err != nil {
		which = f.d.random.IntN(2)
	}
	f.p.data = f.p.write(seen, which, f.d.random)
	if err == nil && len(f.p.data) > len(seen) {
		f.p.data = f.p.data[:len(seen)]
	}
	clear(f.p.dirty)
	return err
}

// Whatever fails and whenever the power is cut: what was acknowledged, and what a reopened journal has once shown, stays;
// a call is there as a whole or not at all; nothing else ever appears; and Open never takes a power cut for damage, nor
// one between the removals of segments for a missing one.
func TestPowerCut(t *testing.T) {
	runs, err := strconv.ParseUint(cmp.Or(os.Getenv("RAPPORT_JOURNAL_POWERCUTS"), "40"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	removed := 0
	for seed := range runs {
		if runPowerCut(t, seed) {
			removed++
		}
	}
	t.Logf("of %d journals %d had lost segments to RemoveBefore at their end", runs, removed)
}

func runPowerCut(t *testing.T, seed uint64) (removed bool) {
	random := rand.New(rand.NewPCG(seed, 5))
	d, err := newDisk(random, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var sure, maybe []string // what must be there, and what the last call may have added
	for range 12 {
		d.armed, d.cut = random.IntN(14), random.IntN(2) == 0
		sure, maybe = runUntilFault(t, seed, d, sure, maybe)
		if d.image != nil || random.IntN(3) == 0 { // a power cut also after a failed sync, in another process or the same
			if d.image == nil {
				d.image = d.powerCut()
			}
			removed := d.removed
			if d, err = newDisk(random, t.TempDir(), d.image); err != nil {
				t.Fatal(err)
			}
			d.removed = removed
		}
	}
	d.armed = -1
	j := openAfterCrash(t, seed, d, sure, maybe)
	mustClose(t, j)
	return j.First() > 1
}

// openAfterCrash opens the journal and checks what is in it; it returns nil if a fault came in between.
func openAfterCrash(t *testing.T, seed uint64, d *disk, sure, maybe []string) *journal.Journal {
	t.Helper()
	j, err := journal.Open(d.dir, journal.Options{FS: d, SegmentBytes: 6000, CheckFrom: d.random.Uint64N(uint64(len(sure)) + 2), First: d.removed})
	if errors.Is(err, errPowerCut) || errors.Is(err, syscall.EIO) {
		return nil
	}
	if err != nil {
		t.Fatalf("seed %d: Open: %v", seed, err)
	}
	got := mustReplay(t, j, j.First())
	kept := sure[j.First()-1:]
	if !slices.Equal(got, kept) && !slices.Equal(got, append(slices.Clone(kept), maybe...)) {
		t.Fatalf("seed %d: %d records there from %d, %d were acknowledged, %d in doubt, recovery %+v", seed, len(got), j.First(), len(sure), len(maybe), j.Recovery())
	}
	return j
}

func runUntilFault(t *testing.T, seed uint64, d *disk, sure, maybe []string) (nowSure, nowMaybe []string) {
	j := openAfterCrash(t, seed, d, sure, maybe)
	if j == nil {
		return sure, maybe
	}
	sure, maybe = append(slices.Clone(sure[:j.First()-1]), mustReplay(t, j, j.First())...), nil
	for n := range 30 {
		call := make([]string, d.random.IntN(5)+1)
		for i := range call {
			call[i] = fmt.Sprint(len(sure), n, i) + strings.Repeat("z", d.random.IntN(700))
		}
		if _, err := j.Append(t.Context(), entries(call...)...); err != nil {
			maybe = call
			break
		}
		sure = append(sure, call...)
		if d.random.IntN(15) == 0 {
			d.removed = max(d.removed, 1+d.random.Uint64N(uint64(len(sure))))
			if _, err := j.RemoveBefore(d.removed); err != nil {
				break
			}
		}
		if d.random.IntN(10) == 0 {
			break
		}
	}
	_ = j.Close() // after a fault it writes nothing
	return sure, maybe
}
