package crashtest_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// strike says when the server is to be stopped: in the nth operation of a kind, when this
// part of the time that such an operation takes has passed. More than all of it is
// possible: it may take longer than before, and the moment after the answer is one too.
type strike struct {
	kind     string
	nth      int
	at       float64
	patience time.Duration // the operation may never come
}

// kinds are the operations that strikes aim at. The frequent ones come twice, so that
// they are struck in several states.
var kinds = []string{
	"ingest", "ingest", "decide", "decide", "outcome", "outcome", "link", "unlink",
	"load", "load", "activate", "activate", "rollback", "publish", "publish", "catalogue rollback",
	"upload", "release", "strategy rollback", "table load", "table activate", "table rollback",
	"start", "start", "stop", "stop",
}

// randomStrike chooses a strike.
func randomStrike(r *rand.Rand) strike {
	s := strike{kind: kinds[r.IntN(len(kinds))], nth: 1 + r.IntN(3), at: r.Float64(), patience: 2 * time.Second}
	if r.IntN(2) == 0 { // most become durable near their end
		s.at = 0.8 + 0.7*s.at
	}
	if r.IntN(20) == 0 { // long enough for the decision log to be behind what it may lose
		return strike{kind: "none", patience: lossWindow + time.Second}
	}
	switch s.kind {
	case "ingest", "decide", "outcome":
		s.nth = 1 + r.IntN(40)
	}
	return s
}

// tally counts, over all worlds of a test, what strikes have met.
type tally struct {
	failed atomic.Bool

	mu    sync.Mutex
	times map[string]time.Duration
	under map[string]int // strikes while such an operation was under way
	found map[string]int
}

func newTally() *tally {
	return &tally{times: make(map[string]time.Duration), under: make(map[string]int), found: make(map[string]int)}
}

// took learns how long an operation takes.
func (t *tally) took(kind string, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.times[kind]; old > 0 {
		d = (7*old + d) / 8
	}
	t.times[kind] = d
}

// typical is how long an operation takes, mostly.
func (t *tally) typical(kind string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(t.times[kind], 100*time.Microsecond)
}

func (t *tally) midway(kind string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n > 0 {
		t.under[kind]++
	}
}

// saw counts what a check has found.
func (t *tally) saw(what string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.found[what] += n
}

// settled counts what came of an operation that was in doubt.
func (t *tally) settled(kind string, happened bool) {
	t.saw(kind+map[bool]string{true: " in doubt: done", false: " in doubt: not done"}[happened], 1)
}

func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := func(m map[string]int) string {
		var out []string
		for _, k := range slices.Sorted(maps.Keys(m)) {
			out = append(out, fmt.Sprintf("%s %d", k, m[k]))
		}
		return strings.Join(out, ", ")
	}
	return "struck while under way: " + list(t.under) + "\nfound: " + list(t.found)
}
