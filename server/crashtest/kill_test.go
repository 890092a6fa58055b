package crashtest_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

var (
	kills = flag.Int("kills", 3, "how often TestKill kills a server")
	seed  = flag.Uint64("seed", 1, "the seed of the first world; the others follow")
	only  = flag.String("only", "", "strike during this kind of operation only, such as publish")
)

// disk is where a data folder is, and what becomes of it when a server is stopped.
type disk interface {
	// dir is a folder. It may be another one after a cut.
	dir() string
	// cut ends processes and leaves of the folder what is then there.
	cut(all []*process)
	// mend makes the folder usable again after a cut.
	mend() error
	// losesUnsynced says that what was written and not synced may be gone.
	losesUnsynced() bool
}

// folder is the disk of a machine that goes on: what was written is there.
type folder struct{ path string }

func (f *folder) dir() string         { return f.path }
func (f *folder) mend() error         { return nil }
func (f *folder) losesUnsynced() bool { return false }

func (f *folder) cut(all []*process) {
	for _, p := range all {
		p.kill()
	}
}

// Nothing that was acknowledged is lost or counts twice when a server is killed, whatever
// it was doing, and it starts again without being helped.
func TestKill(t *testing.T) {
	breakServers(t, *kills, 2, func(t *testing.T, _ uint64, _ *tally) (disk, error) { return &folder{t.TempDir()}, nil })
}

// roundsEach is how often the server of one world is stopped.
const roundsEach = 25

// breakServers stops servers, as often as is said, several at a time.
func breakServers(t *testing.T, rounds, atOnce int, newDisk func(*testing.T, uint64, *tally) (disk, error)) {
	t.Helper()
	count := newTally()
	t.Cleanup(func() { t.Logf("%v", count) })
	free := make(chan struct{}, atOnce)
	worlds := max((rounds+roundsEach-1)/roundsEach, min(atOnce, rounds/3), 1)
	for i := range worlds {
		own := *seed + uint64(i)
		n := rounds/worlds + map[bool]int{true: 1}[i < rounds%worlds]
		t.Run(fmt.Sprintf("seed %d", own), func(t *testing.T) {
			t.Parallel()
			free <- struct{}{}
			defer func() { <-free }()
			d, err := newDisk(t, own, count)
			if err != nil {
				t.Fatal(err)
			}
			w, err := newWorld(t, own, d, count)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.run(n); err != nil {
				count.failed.Store(true)
				t.Fatalf("run with -seed %d: %v", own, err)
			}
		})
	}
}

// run stops the server so many times, and looks each time.
func (w *world) run(rounds int) (err error) {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(w.seed, 1))
	defer func() {
		if err != nil && w.server != nil {
			w.server.kill()
			err = fmt.Errorf("%w\nlog:\n%s", err, w.server.stderr.String())
		}
	}()
	if err := w.open(); err != nil {
		return err
	}
	for round := range rounds {
		if w.tally.failed.Load() { // in another world: nobody waits for this one
			return w.close()
		}
		if err := w.round(ctx, r, round); err != nil {
			return fmt.Errorf("round %d, strike %+v: %w", round, w.strike, err)
		}
	}
	return w.finish(ctx, r)
}

// round works until a strike, and looks what is left.
func (w *world) round(ctx context.Context, r *rand.Rand, round int) error {
	s := randomStrike(r)
	if *only != "" {
		s.kind = *only
	}
	if round == 0 { // the world needs things in it first
		s = strike{kind: "none", patience: 500 * time.Millisecond}
	}
	switch s.kind {
	case "start", "stop":
		if err := w.between(ctx, r, s); err != nil {
			return err
		}
	default:
		if err := w.work(ctx, r, s); err != nil {
			return err
		}
	}
	if err := w.disk.mend(); err != nil {
		return err
	}
	// A killed process leaves in memory maps what it has written there, so the delta records
	// would hide that the journal lacks an event. On a disk that loses what is not synced
	// they don't.
	if !w.disk.losesUnsynced() && r.IntN(2) == 0 {
		w.tally.saw("delta records removed, and derived anew", 1)
		if err := os.RemoveAll(filepath.Join(w.data(), "deltas")); err != nil {
			return err
		}
	}
	if err := w.open(); err != nil {
		return err
	}
	if d, ok := w.disk.(interface{ again() bool }); ok && d.again() {
		if err := w.lookAndCut(ctx); err != nil {
			return err
		}
	}
	return w.check(ctx, r)
}

// lookAndCut cuts the power after having seen which events are there, and before anything
// new is written: what was shown to be there must stay.
func (w *world) lookAndCut(ctx context.Context) error {
	for _, l := range w.lanes {
		if l, ok := l.(*eventLane); ok {
			if err := l.look(ctx); err != nil {
				return err
			}
		}
	}
	w.tally.saw("power failed after a look", 1)
	w.disk.cut([]*process{w.server})
	if err := w.disk.mend(); err != nil {
		return err
	}
	return w.open()
}

// between works a little, and strikes while the server stops or while it starts again.
func (w *world) between(ctx context.Context, r *rand.Rand, s strike) error {
	work := strike{kind: "none", patience: time.Duration(r.IntN(300)) * time.Millisecond}
	if s.kind == "start" {
		if err := w.work(ctx, r, work); err != nil {
			return err
		}
		if err := w.disk.mend(); err != nil {
			return err
		}
		r, err := w.serverRole()
		if err != nil {
			return err
		}
		if w.server, err = start(r); err != nil {
			return err
		}
	} else {
		if err := w.check(ctx, r); err != nil {
			return err
		}
		w.server.signal(syscall.SIGTERM)
		w.workedAt, w.struckAt = time.Now(), time.Now() // what the last strike has taken was just judged
	}
	wait(time.Duration(s.at * float64(w.tally.typical(s.kind))))
	w.strike = s
	w.tally.midway(s.kind, 1)
	w.disk.cut([]*process{w.server})
	if w.disk.losesUnsynced() {
		return nil
	}
	return w.complaints()
}

// finish stops the server in order, and looks what the strikes have left lying about.
func (w *world) finish(ctx context.Context, r *rand.Rand) error {
	for _, l := range w.lanes { // a load removes what another has left
		if s, ok := l.(*snapshotLane); ok {
			if err := s.load(r); err != nil {
				return err
			}
		}
	}
	if err := w.close(); err != nil {
		return err
	}
	if err := w.open(); err != nil {
		return err
	}
	if err := w.check(ctx, r); err != nil {
		return err
	}
	if err := w.close(); err != nil {
		return err
	}
	left, err := w.leftovers()
	if len(left) > 0 {
		err = errors.Join(err, fmt.Errorf("left behind: %v", left))
	}
	return err
}
