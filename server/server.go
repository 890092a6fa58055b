package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/reftable"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
	"rapport/server/decisionlog"
	"rapport/server/ledger"
	"rapport/server/sandbox"
)

// Server is an open data folder and everything that answers from it. It is safe
// for concurrent use.
type Server struct {
	config      Config
	log         *slog.Logger
	folder      *dataFolder
	store       *profilestore.Store
	tables      *reftable.Tables
	tableList   atomic.Pointer[tableList]
	catalogs    *catalog.Store
	runtime     *sandbox.Runtime
	strategies  *strategies
	audit       *auditLog
	admission   *admission
	slowReads   chan struct{}
	counting    sync.Mutex // held while segments are counted
	simulating  sync.Mutex // held during a simulation
	tokens      *tokens
	ledger      *ledger.Ledger
	decisionLog *decisionlog.Log // nil: no decision is kept
	replays     *replaySources
	ledgerTime  ledgerTime
	learning    learning
	loads       loads
	metrics     *metrics
	handler     http.Handler

	live       atomic.Pointer[live]
	changing   sync.Mutex // held while what is in service changes
	stopping   atomic.Bool
	background sync.WaitGroup
	requests   sync.WaitGroup // that came over the network
	bodies     *bodies

	notices notices
	scrub   scrub
	opened  bool // as a whole

	// catalogError is why the current catalogue is not in service.
	catalogError atomic.Pointer[error]

	ctx    context.Context // ends when the server closes
	cancel context.CancelFunc
}

// Open locks the data folder, opens its stores, replays the journal and puts the
// current catalogue into service. A catalogue that does not compile any more (the
// schema may have changed) does not keep the server from opening: it is not ready
// then, and says why. Nor does a strategy that can't be used, because its file was
// altered, say: see live.problems.
//
// Errors: *LockedError; ErrNoSchema; what the stores say.
func Open(ctx context.Context, config Config) (_ *Server, err error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	config = config.withDefaults()
	s := &Server{
		config: config, log: config.Logger, metrics: newMetrics(),
		admission: newAdmission(config.MaxConcurrent),
		slowReads: make(chan struct{}, maxSlowReads),
		bodies:    newBodies(),
	}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.folder, err = openDataFolder(config.Data); err != nil {
		return nil, err
	}
	if err := dropUploads(s.folder.path("strategies")); err != nil {
		return nil, err
	}
	if err := errors.Join(s.mendSealed(), s.noticeLosses()); err != nil {
		return nil, err
	}
	if s.audit, err = openAudit(s.folder.path("audit"), s.log); err != nil {
		return nil, err
	}
	if s.catalogs, err = catalog.OpenStore(s.folder.path("catalog")); err != nil {
		return nil, err
	}
	if err := s.openLearning(); err != nil {
		return nil, err
	}
	if err := s.openStore(ctx); err != nil {
		return nil, err
	}
	s.learning.start(s)
	if s.tokens, err = s.folder.openTokens(); err != nil {
		return nil, err
	}
	if s.ledger, err = ledger.Open(s.folder.path("ledger"), ledger.Options{Logger: s.log, FS: config.ledgerFS}); err != nil {
		return nil, err
	}
	s.ledgerTime.start(s.ledger, s.now)
	if s.runtime, err = s.newSandbox(ctx); err != nil {
		return nil, err
	}
	trusted, err := parseTrustedKeys(config.TrustedKeys)
	if err != nil {
		return nil, err
	}
	if s.strategies, err = openStrategies(ctx, s.folder.path("strategies"), s.runtime, trusted, s.log); err != nil {
		return nil, err
	}
	if err := s.openDecisionLog(); err != nil {
		return nil, err
	}
	s.replays = newReplaySources(s)
	s.replays.keep()
	if err := s.serveCurrentCatalog(ctx); err != nil {
		return nil, err
	}
	if err := s.folder.writeInventory(false); err != nil {
		return nil, err
	}
	s.opened = true
	s.audit.setGrown(func() error { return s.folder.writeInventory(false) })
	s.scrub.start(s)
	s.metrics.observe(s)
	s.handler = s.newHandler()
	return s, nil
}

func (s *Server) newSandbox(ctx context.Context) (_ *sandbox.Runtime, err error) {
	o := sandbox.Options{
		Logger: s.log, CacheDir: s.folder.path("wasm-cache"),
		Fuel: s.config.StrategyFuel, MaxMemoryPages: uint32(s.config.StrategyMemoryPages), Now: s.config.now,
	}
	if o.Compiler, err = s.ownCommand(); err != nil {
		return nil, err
	}
	if o.CacheKey, err = s.folder.cacheKey(); err != nil {
		return nil, err
	}
	return sandbox.New(ctx, o)
}

func (s *Server) openStore(ctx context.Context) error {
	schema, err := readInstalledSchema(s.folder)
	if err != nil {
		return err
	}
	if s.tables, err = reftable.Open(s.folder.path("tables"), schema.TableNames(), s.log); err != nil {
		return err
	}
	mapper, err := rules.NewEventMapper(schema, rules.WithTables(s.tables))
	if err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	engine, err := s.openDeltas(ctx, schema)
	if err != nil {
		return err
	}
	if s.config.WrapEngine != nil {
		engine = s.config.WrapEngine(engine)
	}
	s.store, err = profilestore.OpenStore(ctx, profilestore.Options{
		Dir: s.config.Data, Schema: schema, Mapper: mapper, Engine: engine, TableSet: s.tables.Set,
		Clock:        func() int64 { return s.now().UnixMicro() },
		CacheEntries: s.config.CacheEntries, Logger: s.log, Observer: s.learning.observer(),
		Retain: s.config.JournalRetain, OnReplay: s.config.OnReplay,
		OnSync: func(events, _ int, took time.Duration) {
			s.metrics.syncTime.Observe(took.Seconds())
			s.metrics.syncEvents.Observe(float64(events))
		},
	})
	return err
}

// now is the time by which decisions are made and events are dated.
func (s *Server) now() time.Time { return s.config.now() }

// Handler returns the handler of everything that the server answers.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve answers on l until ctx ends. Then it is not ready any more, waits for
// Config.DrainDelay, stops taking connections, waits for the requests under way
// and returns nil. It takes over l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	h := &http.Server{
		Handler:           s.guard(s.handler),
		Protocols:         protocols,
		ReadHeaderTimeout: time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 250},
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	if err := s.folder.announce("http://" + l.Addr().String()); err != nil {
		return errors.Join(err, l.Close())
	}
	done := make(chan error, 1)
	go func() { done <- h.Serve(newLimitListener(l)) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	s.stopping.Store(true)
	s.log.Info("stopping", "drain", s.config.DrainDelay)
	time.Sleep(s.config.DrainDelay) //nolint:forbidigo // load balancers need this time to notice
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := h.Shutdown(stop); err != nil {
		// Somebody sends a body and does not end, say. What was acknowledged is
		// safe, and nobody else is to wait.
		s.log.Warn("requests were still under way and have been cut off", "after", drainTimeout, "error", err)
		if err := h.Close(); err != nil {
			s.log.Warn("connections could not be closed", "error", err)
		}
	}
	s.requests.Wait()
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// drainTimeout is how long requests under way may take when the server stops.
const drainTimeout = 10 * time.Second

// Close waits for what is under way, makes everything durable and releases the
// data folder. Call it after Serve has returned. Closing again does nothing.
func (s *Server) Close() error {
	s.changing.Lock()
	defer s.changing.Unlock()
	s.stopping.Store(true)
	if s.folder == nil {
		return nil
	}
	ctx := context.WithoutCancel(s.ctx)
	s.learning.halt()
	s.swap(nil)
	s.scrub.halt()
	s.background.Wait()
	s.ledgerTime.end()
	var errs []error
	if s.store != nil {
		errs = append(errs, s.store.Close(), s.learning.finish(s.store))
	}
	if s.ledger != nil {
		errs = append(errs, s.ledger.Close())
	}
	if s.decisionLog != nil {
		errs = append(errs, s.decisionLog.Close())
	}
	if s.replays != nil {
		errs = append(errs, s.replays.close(ctx))
	}
	if s.strategies != nil {
		errs = append(errs, s.strategies.close(ctx))
	}
	if s.runtime != nil {
		errs = append(errs, s.runtime.Close(ctx))
	}
	if s.audit != nil {
		errs = append(errs, s.audit.close())
	}
	if s.opened && errors.Join(errs...) == nil {
		errs = append(errs, s.folder.writeInventory(true))
	}
	errs = append(errs, s.folder.close())
	s.folder = nil
	s.cancel()
	return errors.Join(errs...)
}

// notReady says what keeps the server from being ready, in words; empty if it is.
func (s *Server) notReady() []string {
	var out []string
	if s.stopping.Load() {
		out = append(out, "the server is stopping")
	}
	if err := s.store.Err(); err != nil {
		out = append(out, "events: "+err.Error())
	}
	l := s.live.Load()
	if l == nil {
		err := errNoCatalog
		if e := s.catalogError.Load(); e != nil {
			err = *e
		}
		out = append(out, "catalogue: "+err.Error())
	} else {
		out = append(out, l.problems...)
	}
	return out
}
