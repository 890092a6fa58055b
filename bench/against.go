package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"connectrpc.com/connect"

	"rapport/bench/traffic"
	rapportv1 "rapport/server/api/rapport/v1"
)

// AgainstLayer is the name of the layer of [Against].
const AgainstLayer = "against"

const againstSays = "decisions of a server that somebody else runs, with its own catalogue and customers"

// Against measures a server that already runs, by asking it for decisions, and for nothing
// else unless Outcome is given. Each of them is made in earnest: the server keeps it, and its
// contacts count.
type Against struct {
	URL        string
	Touchpoint string
	Customers  []string // who are asked about, in turns
	// Rate is how many requests are due in a second, in an open loop; or Callers is how many
	// callers ask one after the other, in a closed one.
	Rate             float64
	Callers          int
	Warmup, Duration time.Duration
	// Outcome, if not empty, is reported of one offer for every ten decisions, by a request of
	// its own, such as "presented".
	Outcome string
	// Anywhere allows a server that is not on this machine.
	Anywhere bool
}

// ErrElsewhere is in the error of a server that is not on this machine.
var ErrElsewhere = errors.New("the server is not on this machine")

func (a *Against) check() error {
	u, err := url.Parse(a.URL)
	switch {
	case err != nil || u.Host == "":
		return fmt.Errorf("bench: %q is not the URL of a server: write it as in http://127.0.0.1:8080", a.URL)
	case !a.Anywhere && !isLoopback(u.Hostname()):
		return fmt.Errorf("bench: %s: %w", u.Host, ErrElsewhere)
	case a.Touchpoint == "" || len(a.Customers) == 0:
		return errors.New("bench: a touchpoint and customers are needed, of whom to decide what to offer")
	case (a.Rate > 0) == (a.Callers > 0):
		return errors.New("bench: either a rate is needed or a number of callers")
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Run measures.
func (a *Against) Run(ctx context.Context) ([]Record, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	workers := loadWorkers
	if a.Callers > 0 {
		workers = a.Callers
	}
	m := newMix(a.URL, workers, len(a.Customers), 1)
	defer m.close()
	m.touchpoint, m.ids, m.reports = a.Touchpoint, a.Customers, a.Outcome
	// One decision by itself says what is wrong, if something is.
	_, err := m.client.Decide(ctx, connect.NewRequest(&rapportv1.DecideRequest{Customer: a.Customers[0], Touchpoint: a.Touchpoint}))
	if err != nil {
		return nil, fmt.Errorf("bench: a first decision: %w", err)
	}
	plan := traffic.Plan{Rate: a.Rate, Workers: workers, Warmup: a.Warmup, Duration: a.Duration, Seed: 1, Drain: callTimeout}
	if a.Outcome != "" {
		plan.Shares = []float64{mixDecide: 10, mixOutcome: 1}
	} else {
		plan.Shares = []float64{1}
	}
	in := Case{}.Of("touchpoint", a.Touchpoint).Of("customers", len(a.Customers))
	var r *traffic.Result
	if a.Rate > 0 {
		in = in.Of("loop", "open")
		r, err = traffic.Offer(ctx, plan, m.call)
	} else {
		in = in.Of("loop", "closed").Of("callers", a.Callers)
		r, err = traffic.Saturate(ctx, plan, m.call)
	}
	if err != nil {
		return nil, err
	}
	run := &loadRun{Result: r, served: m.served.take(), cpu: -1, degraded: m.degraded.Load()}
	var records []Record
	for kind := range r.Kinds {
		if plan.Shares[kind] == 0 {
			continue
		}
		rec, err := run.record(AgainstLayer, in, kind)
		if err != nil {
			return records, err
		}
		if kind == mixDecide {
			rec.Figures = append(rec.Figures, Figure{Name: "without-offer", Value: float64(m.empty.Load())})
		}
		records = append(records, rec)
	}
	return records, run.broken()
}
