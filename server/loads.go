package server

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/catalog"
)

// defaultLoadTime is how long a reported load holds.
const defaultLoadTime = time.Minute

// loads are the reported loads of channels, by their ids, so that they outlive a change
// of the catalogue. They are not kept on disk: a report is older than a restart.
type loads struct {
	mu   sync.Mutex
	read atomic.Pointer[map[string]load] // replaced as a whole
}

type load struct {
	value float64
	until time.Time
}

// report notes loads.
func (l *loads) report(now time.Time, reports []*rapportv1.ChannelLoad) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := make(map[string]load)
	if old := l.read.Load(); old != nil {
		for id, x := range *old {
			if x.until.After(now) {
				next[id] = x
			}
		}
	}
	for _, r := range reports {
		holds := defaultLoadTime
		if r.GetSeconds() > 0 {
			holds = time.Duration(r.GetSeconds()) * time.Second
		}
		next[r.GetChannel()] = load{r.GetLoad(), now.Add(holds)}
	}
	l.read.Store(&next)
}

// of returns the loads of a catalogue's channels; nil if none is reported.
func (l *loads) of(c *catalog.Compiled, now time.Time) []float64 {
	all := l.read.Load()
	if all == nil || len(*all) == 0 {
		return nil
	}
	out := make([]float64, len(c.Channels))
	for i := range c.Channels {
		if x, ok := (*all)[c.Channels[i].ID]; ok && x.until.After(now) {
			out[i] = x.value
		}
	}
	return out
}

// ReportLoads takes how full channels are.
func (s decisions) ReportLoads(_ context.Context, req *connect.Request[rapportv1.ReportLoadsRequest]) (*connect.Response[rapportv1.ReportLoadsResponse], error) {
	l := s.acquire()
	if l == nil {
		return nil, errNoCatalog
	}
	defer s.release(l)
	known := make(map[string]bool, len(l.compiled.Channels))
	for i := range l.compiled.Channels {
		known[l.compiled.Channels[i].ID] = true
	}
	for i, r := range req.Msg.GetLoads() {
		if !known[r.GetChannel()] {
			return nil, &argumentError{fmt.Sprintf("loads[%d].channel", i), fmt.Sprintf("there is no channel %q in catalogue version %d", r.GetChannel(), l.compiled.Version)}
		}
	}
	s.loads.report(time.Now(), req.Msg.GetLoads())
	return connect.NewResponse(&rapportv1.ReportLoadsResponse{}), nil
}
