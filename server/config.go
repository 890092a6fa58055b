package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"time"

	"rapport/profilestore"
	"rapport/sdk/abi"
	"rapport/server/decisionlog"
	"rapport/server/ledger"
	"rapport/server/sandbox"
)

// Config configures a [Server]. The zero value of every field but Data has a
// usable meaning.
type Config struct {
	Data     string // the data folder
	Listen   string // host:port; DefaultListen if empty
	Insecure bool   // allow Listen to be reachable from other machines

	// Deadline is the server's own limit for a decision; DefaultDeadline if 0.
	// The caller's is kept too if it is shorter.
	Deadline time.Duration
	// CacheEntries is how many customers the hot cache holds;
	// DefaultCacheEntries if 0, none if negative.
	CacheEntries int
	// MaxConcurrent is how many decisions run at once; 0: one fewer than
	// GOMAXPROCS, at least 1.
	MaxConcurrent int
	// StrategyInstances is how many instances of a strategy are kept for each
	// scenario; 0: one more than MaxConcurrent, so that an instance that is being
	// restored does not hold up a decision.
	StrategyInstances int
	// StrategyFuel is what a call of a strategy may use, unless its manifest says less:
	// about one unit an instruction. abi.DefaultFuel if zero.
	StrategyFuel abi.Fuel
	// StrategyMemoryPages is the most memory that an instance of a strategy may have,
	// in pages of 64 KiB; sandbox.DefaultMemoryPages if 0. With another one all
	// strategies are compiled again.
	StrategyMemoryPages int
	// TrustedKeys are Ed25519 public keys, each 32 bytes in base64 or hexadecimal.
	// With any, only strategies that one of them has signed are taken and run,
	// besides those that ship with the server; see SignStrategy.
	TrustedKeys []string
	// KeepDecisions is how long the decision log keeps a decision, and
	// DecisionLogBytes how large it may be before the oldest go sooner;
	// DefaultKeepDecisions and DefaultDecisionLogBytes if 0. With a negative
	// KeepDecisions there is none.
	KeepDecisions    time.Duration
	DecisionLogBytes int64
	// JournalRetain is how long events are kept in the journal; for ever if 0. What they say
	// of customers stays, see profilestore.Store.Retain.
	JournalRetain time.Duration
	// OnReplay, if set, is told of how the delta records are derived while the server opens.
	OnReplay func(profilestore.ReplayProgress)
	// Compiler is the command of the process that compiles strategies, as in
	// sandbox.Options. If it is empty, it is this program itself, whose main
	// function must begin as sandbox.CompilerCommand says.
	Compiler []string
	// RevealPersonal allows that personal data is shown in explanations, lists and replays
	// of decisions, to who asks for it. Each time leaves an audit record.
	RevealPersonal bool
	// DrainDelay is the pause between readiness going off and the listener
	// closing, in which load balancers notice.
	DrainDelay time.Duration

	Logger  *slog.Logger // slog.Default() if nil
	Version string       // of the program, for people

	// WrapEngine, if set, is given the embedded engine of the profile store and returns what
	// the store uses: something that measures or delays it, or another engine in its place.
	WrapEngine func(profilestore.Engine) profilestore.Engine

	// For tests: the clock of decisions, events and circuit breakers; how the ledger
	// writes; who sees the decisions. Nil: nothing else.
	now      func() time.Time
	ledgerFS ledger.FS
	decided  func(*decisionlog.Record)

	decisionFS decisionlog.FS

	simulatedAtOnce int // customers that a simulation holds at once; 0: maxDrawn
}

// Defaults of Config.
const (
	DefaultListen       = "127.0.0.1:8080"
	DefaultDeadline     = 5 * time.Millisecond
	DefaultCacheEntries = 200_000

	DefaultKeepDecisions    = 30 * 24 * time.Hour
	DefaultDecisionLogBytes = 10 << 30
)

// minJournalRetain is the least that JournalRetain may be: what is removed can't be
// exported, or derived by other rules.
const minJournalRetain = 24 * time.Hour

// maxMemoryPages is the most that StrategyMemoryPages may be: 2 GiB.
const maxMemoryPages = 32_768

// withDefaults returns the configuration with everything filled in.
func (c Config) withDefaults() Config {
	if c.Listen == "" {
		c.Listen = DefaultListen
	}
	if c.Deadline == 0 {
		c.Deadline = DefaultDeadline
	}
	switch {
	case c.CacheEntries == 0:
		c.CacheEntries = DefaultCacheEntries
	case c.CacheEntries < 0:
		c.CacheEntries = 0
	}
	if c.KeepDecisions == 0 {
		c.KeepDecisions = DefaultKeepDecisions
	}
	if c.DecisionLogBytes == 0 {
		c.DecisionLogBytes = DefaultDecisionLogBytes
	}
	if c.MaxConcurrent == 0 {
		c.MaxConcurrent = max(1, runtime.GOMAXPROCS(0)-1)
	}
	if c.StrategyInstances == 0 {
		c.StrategyInstances = c.MaxConcurrent + 1
	}
	if c.StrategyFuel == (abi.Fuel{}) {
		c.StrategyFuel = abi.DefaultFuel()
	}
	if c.StrategyMemoryPages == 0 {
		c.StrategyMemoryPages = sandbox.DefaultMemoryPages
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.now == nil {
		c.now = time.Now
	}
	return c
}

// Validate says what is wrong with the configuration and what to do.
func (c Config) Validate() error {
	d := c.withDefaults()
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if d.Data == "" {
		fail("data: no data folder is given: name one, it is made if it does not exist")
	}
	host, _, err := net.SplitHostPort(d.Listen)
	switch {
	case err != nil:
		fail("listen: %q is not HOST:PORT, as in %s", d.Listen, DefaultListen)
	case !d.Insecure && !isLoopback(host):
		fail("listen: %q can be reached from other machines, and there is no access control yet: use a loopback address such as %s, or allow it with insecure", d.Listen, DefaultListen)
	}
	if d.Deadline < 0 || d.Deadline > time.Minute {
		fail("deadline: %v is out of range: use up to 1m", d.Deadline)
	}
	if d.MaxConcurrent < 0 || d.MaxConcurrent > 10_000 {
		fail("max-concurrent: %d is out of range: use 1 to 10000, or 0 for one fewer than the processors", d.MaxConcurrent)
	}
	if d.StrategyInstances < 0 || d.StrategyInstances > 10_000 {
		fail("strategy-instances: %d is out of range: use 1 to 10000, or 0", d.StrategyInstances)
	}
	if f := d.StrategyFuel; f.Base < 0 || f.Base > abi.MaxFuelBase {
		fail("strategy-fuel: %d is out of range: use 0 to %d", f.Base, int64(abi.MaxFuelBase))
	}
	if f := d.StrategyFuel; f.PerCandidate < 0 || f.PerCandidate > abi.MaxFuelPerCandidate {
		fail("strategy-fuel-per-candidate: %d is out of range: use 0 to %d", f.PerCandidate, abi.MaxFuelPerCandidate)
	}
	if n := d.StrategyMemoryPages; n < 0 || n > maxMemoryPages {
		fail("strategy-memory-pages: %d is out of range: use 1 to %d, which are 2 GiB, or 0 for %d", n, maxMemoryPages, sandbox.DefaultMemoryPages)
	}
	if _, err := parseTrustedKeys(d.TrustedKeys); err != nil {
		errs = append(errs, err)
	}
	if d.JournalRetain != 0 && d.JournalRetain < minJournalRetain {
		fail("journal-retain: %v is out of range: use 1d or more, or 0 to keep the journal for ever", d.JournalRetain)
	}
	if d.DrainDelay < 0 || d.DrainDelay > 10*time.Minute {
		fail("drain-delay: %v is out of range: use up to 10m", d.DrainDelay)
	}
	return errors.Join(errs...)
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
