package crashtest_test

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"rapport/profilestore/durable/lossyfs"
)

var cuts = flag.Int("cuts", 0, "how often TestPowerCut and TestLossyDisk cut the power; 0: they are skipped")

// needsPowerCut skips a test where the power can't be cut, or fails it if RAPPORT_REQUIRE
// has powercut.
func needsPowerCut(t *testing.T, programs ...string) {
	t.Helper()
	if *cuts == 0 {
		t.Skip("powercut: takes -cuts 5, say, and root")
	}
	var missing error
	if os.Geteuid() != 0 {
		missing = errors.New("it needs root, to mount file systems")
	}
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			missing = err
		}
	}
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		missing = err
	} else {
		_ = f.Close() // was only tried
	}
	switch {
	case missing != nil && strings.Contains(os.Getenv("RAPPORT_REQUIRE"), "powercut"):
		t.Fatalf("RAPPORT_REQUIRE asks for powercut: %v", missing)
	case missing != nil:
		t.Skipf("powercut: %v", missing)
	}
}

// Nothing that was acknowledged is lost or counts twice when the power fails under an
// ext4 file system, and the server starts again on what is left.
func TestPowerCut(t *testing.T) {
	needsPowerCut(t, "mkfs.ext4", "mount")
	breakServers(t, *cuts, 2, func(t *testing.T, seed uint64, count *tally) (disk, error) {
		d, err := lossyfs.NewExt4(t.Context(), seed)
		if err != nil {
			return nil, err
		}
		l := &lossy{t: t, tally: count, chance: rand.New(rand.NewPCG(seed, 11)), mount: func(d *lossyfs.Disk, dir string) (unmounter, error) {
			return lossyfs.MountExt4(context.Background(), d, dir)
		}}
		return l, l.use(d)
	})
}

// … nor on a file system that keeps no more than POSIX promises, and loses what was not
// synced in any order. There the power fails just before a change of the file system that
// the seed has chosen.
func TestLossyDisk(t *testing.T) {
	needsPowerCut(t)
	breakServers(t, *cuts, 2, func(t *testing.T, seed uint64, count *tally) (disk, error) {
		l := &lossy{t: t, tally: count, chance: rand.New(rand.NewPCG(seed, 11)), exact: true, mount: func(d *lossyfs.Disk, dir string) (unmounter, error) { return lossyfs.Mount(d, dir) }}
		return l, l.use(lossyfs.New(seed))
	})
}

type unmounter interface{ Unmount() error }

// lossy is a disk on which a cut loses what was not synced.
type lossy struct {
	t     *testing.T
	tally *tally
	mount func(*lossyfs.Disk, string) (unmounter, error)
	exact bool // strikes come between two changes of the file system

	path    string
	disk    *lossyfs.Disk
	after   *lossyfs.Disk // a cut
	lost    lossyfs.Counts
	mounted unmounter
	once    *sync.Once // unmounts
	chance  *rand.Rand
	gentle  bool // the next cut kills the server, and the machine goes on
	stayed  bool // the last one did
}

// Every so often the power stays: what a server has written and not synced is there when
// it starts again, and is lost by a later cut if it relies on that.
const gentleEvery = 3

// use mounts a disk.
func (l *lossy) use(d *lossyfs.Disk) (err error) {
	l.disk, l.path = d, l.t.TempDir()
	if l.mounted, err = l.mount(d, l.path); err != nil {
		return err
	}
	l.once = new(sync.Once)
	l.t.Cleanup(l.unmount(l.once, l.mounted))
	return nil
}

func (l *lossy) unmount(once *sync.Once, m unmounter) func() {
	return func() {
		once.Do(func() {
			if err := m.Unmount(); err != nil {
				l.t.Error(err)
			}
		})
	}
}

func (l *lossy) dir() string         { return l.path }
func (l *lossy) losesUnsynced() bool { return true }

func (l *lossy) cut(all []*process) {
	if !l.gentle {
		l.after, l.lost = l.disk.PowerCut()
	}
	for _, p := range all {
		p.signal(syscall.SIGKILL)
	}
	l.disk.Thaw() // who waits in the kernel dies when it has an answer
	for _, p := range all {
		p.kill()
	}
	if !l.gentle {
		l.unmount(l.once, l.mounted)()
	}
}

// again says whether the power is to fail once more, before anything new is written.
func (l *lossy) again() bool {
	was := l.stayed
	l.stayed = false
	if was && l.chance.IntN(3) > 0 {
		l.gentle = false
		return true
	}
	return false
}

func (l *lossy) mend() error {
	was := l.gentle
	l.gentle = l.chance.IntN(gentleEvery) == 0
	l.stayed = was
	if was {
		l.tally.saw("power stayed", 1)
		return nil
	}
	l.tally.saw("files not synced at a cut", l.lost.Files)
	l.tally.saw("files torn", l.lost.Torn)
	l.tally.saw("names not synced at a cut", l.lost.Names)
	l.tally.saw("names lost", l.lost.NamesLost)
	l.tally.saw("names lost out of order", l.lost.OutOfOrder)
	return l.use(l.after)
}

// strikeAfter has the strike come at the nth change of the file system; where the power
// stays, before a sync.
func (l *lossy) strikeAfter(n int, late bool, hit func()) bool {
	switch {
	case !l.exact || late && !l.gentle:
		return false
	case l.gentle:
		l.disk.Freeze(1+n/5, hit)
	default:
		l.disk.After(n, hit)
	}
	return true
}
