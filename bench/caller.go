package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/HdrHistogram/hdrhistogram-go"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"rapport/bench/traffic"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/api/rapport/v1/rapportv1connect"
)

// transport is how a generator reaches a server.
type transport struct{ *http.Transport }

// newTransport keeps so many connections, over HTTP/2 just those it needs.
func newTransport(connections int, h2c bool) transport {
	t := &http.Transport{MaxIdleConns: connections, MaxIdleConnsPerHost: connections, DisableCompression: true, Protocols: new(http.Protocols)}
	t.Protocols.SetHTTP1(!h2c)
	t.Protocols.SetUnencryptedHTTP2(h2c)
	return transport{t}
}

func (t transport) client() *http.Client { return &http.Client{Transport: t.Transport} }

// protocol is one of those that are measured.
type protocol struct {
	name    string
	h2c     bool
	options []connect.ClientOption
}

func protocols() []protocol {
	return []protocol{
		{"connect, HTTP/1.1", false, nil},
		{"connect, HTTP/2", true, nil},
		{"gRPC", true, []connect.ClientOption{connect.WithGRPC()}},
	}
}

// caller asks for decisions.
type caller struct {
	client    rapportv1connect.DecisionServiceClient
	transport transport
	customers int
	timeout   time.Duration
	zipf      []*rand.Zipf // one for each worker, or none: who comes is then even
	// touchpoint is where decisions are for, and ids, if there are any, are whom they are about.
	touchpoint string
	ids        []string
	empty      atomic.Int64 // counted decisions without an offer
	degraded   atomic.Int64 // counted decisions that had to do without something
	served     served
}

// callTimeout is so long that a request fails only if it is never answered: a machine that
// others use may stand still for seconds.
const callTimeout = 30 * time.Second

func newCaller(url string, p protocol, workers, customers int) *caller {
	t := newTransport(workers, p.h2c)
	return &caller{
		client: rapportv1connect.NewDecisionServiceClient(t.client(), url, p.options...), transport: t, customers: customers, touchpoint: "web.home",
		timeout: callTimeout,
	}
}

// skew has some customers come far more often than others.
func (c *caller) skew(workers int, seed uint64) {
	for i := range workers {
		random := rand.New(rand.NewPCG(seed, uint64(i))) //nolint:gosec // who comes is no secret
		c.zipf = append(c.zipf, rand.NewZipf(random, 1.1, 100, uint64(c.customers-1)))
	}
}

// customer returns whom a request is about.
func (c *caller) customer(r traffic.Request) string {
	if len(c.ids) > 0 {
		return c.ids[r.Number*7919%len(c.ids)]
	}
	if len(c.zipf) == 0 {
		return strconv.Itoa(r.Number * 7919 % c.customers)
	}
	// The most frequent ones are not neighbours in the store.
	return strconv.FormatUint(c.zipf[r.Worker].Uint64()*7919%uint64(c.customers), 10)
}

// decide is a traffic.Call.
func (c *caller) decide(ctx context.Context, r traffic.Request) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	res, err := c.client.Decide(ctx, connect.NewRequest(&rapportv1.DecideRequest{Customer: c.customer(r), Touchpoint: c.touchpoint}))
	if err != nil {
		return refusal(err)
	}
	c.decided(r, res)
	if len(res.Msg.GetSlate()) == 0 && len(res.Msg.GetDegradations()) == 0 {
		return errNoOffer
	}
	return nil
}

// decided counts a decision that is counted.
func (c *caller) decided(r traffic.Request, res *connect.Response[rapportv1.DecideResponse]) {
	if !r.Counted || r.Kind != mixDecide {
		return
	}
	if len(res.Msg.GetDegradations()) > 0 {
		c.degraded.Add(1)
	}
	if len(res.Msg.GetSlate()) == 0 {
		c.empty.Add(1)
	}
	if took, err := strconv.ParseInt(res.Header().Get(serverTimeHeader), 10, 64); err == nil { // an echo has none
		c.served.add(time.Duration(took) * time.Microsecond)
	}
}

// serverTimeHeader has the server's own time of a decision, in microseconds.
const serverTimeHeader = "Rapport-Server-Time-Us"

// served are the times that a server says its decisions took it, the wait for a processor
// and for the disk included.
type served struct {
	mu    sync.Mutex
	times *hdrhistogram.Histogram
}

func (s *served) add(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.times == nil {
		s.times = hdrhistogram.New(1, int64(time.Minute), 3)
	}
	_ = s.times.RecordValue(min(max(int64(d), 1), int64(time.Minute))) // within its bounds
}

// take returns them and begins anew; nil if there are none.
func (s *served) take() *hdrhistogram.Histogram {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.times
	s.times = nil
	return t
}

var errNoOffer = errors.New("a decision without an offer")

// refusal marks errors by which a server says that it has too much to do.
func refusal(err error) error {
	if connect.CodeOf(err) != connect.CodeResourceExhausted {
		return err
	}
	if !hasRetryHint(err) {
		return fmt.Errorf("refused without saying when to try again: %w", err)
	}
	return errors.Join(traffic.ErrRefused, err)
}

// hasRetryHint reports whether an error says when to try again.
func hasRetryHint(err error) bool {
	e := (*connect.Error)(nil)
	if !errors.As(err, &e) {
		return false
	}
	for _, d := range e.Details() {
		v, err := d.Value()
		if info, ok := v.(*errdetails.RetryInfo); err == nil && ok && info.GetRetryDelay().AsDuration() > 0 {
			return true
		}
	}
	return false
}

func (c *caller) close() { c.transport.CloseIdleConnections() }
