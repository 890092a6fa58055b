package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"syscall"
	"time"

	"rapport/profilestore"
	"rapport/server"
)

// serverFlags are the settings of the server, which `rapport config` shows too.
type serverFlags struct {
	Listen            string        `help:"Address to listen on." default:"${listen}" placeholder:"HOST:PORT" setting:""`
	Insecure          bool          `help:"Allow an address that other machines can reach: there is no access control yet." setting:""`
	Deadline          time.Duration `help:"The server's own limit for a decision." default:"${deadline}" placeholder:"TIME" setting:""`
	CacheEntries      int           `help:"Customers to keep in the hot cache; -1: none." default:"${cache_entries}" placeholder:"N" setting:""`
	MaxConcurrent     int           `help:"Decisions that run at once; 0: one fewer than the processors." default:"0" placeholder:"N" setting:""`
	StrategyInstances int           `help:"Instances of a strategy for each scenario; 0: one more than run at once." default:"0" placeholder:"N" setting:""`
	DrainDelay        time.Duration `help:"Pause between readiness going off and the listener closing." default:"1s" placeholder:"TIME" setting:""`
	KeepDecisions     time.Duration `help:"How long the decision log keeps a decision; negative: no log." default:"${keep_decisions}" placeholder:"TIME" setting:""`
	DecisionLogBytes  int64         `help:"Bytes that the decision log may have before the oldest decisions go sooner." default:"${decision_log_bytes}" placeholder:"N" setting:""`
	JournalRetain     span          `help:"How long events are kept in the journal, as in 400d; 0: for ever." default:"0" placeholder:"TIME" setting:""`
	RevealPersonal    bool          `help:"Show personal data in what is told of past decisions to who asks with --reveal; the audit log has each time." setting:""`
	LogFormat         string        `help:"Form of the log on stderr: text or json." enum:"text,json" default:"text" placeholder:"FORM" setting:""`
	LogLevel          string        `help:"Least level to log: debug, info, warn or error." enum:"debug,info,warn,error" default:"info" placeholder:"LEVEL" setting:""`
}

// span is a time with days, as in 400d, which time.ParseDuration does not know.
type span time.Duration

// UnmarshalText reads a span.
func (s *span) UnmarshalText(text []byte) error {
	d, err := parseSpan(string(text))
	if err != nil {
		return fmt.Errorf("%q is no time: write it as in 400d or 36h", text)
	}
	*s = span(d)
	return nil
}

// String writes a span as it is read.
func (s span) String() string {
	if s == 0 {
		return "0"
	}
	return profilestore.FormatSpan(time.Duration(s))
}

// config returns the server's configuration for a data folder.
func (f *serverFlags) config(data string, strategies *strategyFlags, logTo io.Writer) (server.Config, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.LogLevel)); err != nil {
		return server.Config{}, usagef("--log-level: %v", err)
	}
	options := &slog.HandlerOptions{Level: level}
	var handler slog.Handler = slog.NewTextHandler(logTo, options)
	if f.LogFormat == "json" {
		handler = slog.NewJSONHandler(logTo, options)
	}
	c := server.Config{
		Data:              data,
		Listen:            f.Listen,
		Insecure:          f.Insecure,
		Deadline:          f.Deadline,
		CacheEntries:      f.CacheEntries,
		MaxConcurrent:     f.MaxConcurrent,
		StrategyInstances: f.StrategyInstances,
		DrainDelay:        f.DrainDelay,
		KeepDecisions:     f.KeepDecisions,
		DecisionLogBytes:  f.DecisionLogBytes,
		JournalRetain:     time.Duration(f.JournalRetain),
		RevealPersonal:    f.RevealPersonal,
		Logger:            slog.New(handler),
		Version:           programVersion(),
	}
	if err := strategies.apply(&c); err != nil {
		return server.Config{}, err
	}
	return c, c.Validate()
}

// serveCmd runs the server.
type serveCmd struct {
	serverFlags
}

// Help is shown by --help.
func (serveCmd) Help() string {
	return `The data folder needs a schema; a catalogue can be published once the server runs. SIGTERM or Ctrl-C
ends it: readiness goes off, what is under way is answered, the stores are closed. A second one ends it
at once.

Examples:

	rapport schema apply --data DATA schema.yaml
	rapport serve --data DATA
	RAPPORT_DATA=DATA rapport serve --listen 127.0.0.1:9000 --log-format json
	rapport serve --data DATA --listen 0.0.0.0:8080 --insecure`
}

// Run serves until ctx is done.
func (cmd *serveCmd) Run(ctx context.Context, a *app) error {
	data, err := a.target.folder("a server keeps its data in a folder")
	if err != nil {
		return err
	}
	c, err := cmd.config(data, &a.strategies, a.err)
	if err != nil {
		return err
	}
	if err := checkDataFolder(data); err != nil {
		return err
	}
	listener, err := listen(ctx, c.Listen)
	if err != nil {
		return err
	}
	s, err := server.Open(ctx, c)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	if err := cmd.announce(a, listener, data); err != nil {
		return errors.Join(err, listener.Close(), s.Close())
	}
	return errors.Join(s.Serve(ctx, listener), s.Close())
}

// announce says where the server listens. Connections made from now on wait in
// the listener until the server takes them.
func (cmd *serveCmd) announce(a *app, l net.Listener, data string) error {
	url := "http://" + l.Addr().String()
	if a.json {
		return a.printLine(map[string]string{"url": url, "data": data})
	}
	_, err := fmt.Fprintf(a.out, "rapport listens on %s with the data folder %s\n", url, data)
	return err
}

// listen takes an address, or says how to find a free one.
func listen(ctx context.Context, address string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		host, _, _ := net.SplitHostPort(address)
		return nil, fmt.Errorf("%s is in use by another program: give another port, or --listen %s for any free one", address, net.JoinHostPort(host, "0"))
	case err != nil:
		return nil, fmt.Errorf("--listen %s: %w", address, err)
	}
	return l, nil
}
