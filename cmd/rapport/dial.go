package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"

	"rapport/server"
	"rapport/server/api/rapport/v1/rapportv1connect"
)

// clients are the API, of a running server or of one in this process.
type clients struct {
	decisions  rapportv1connect.DecisionServiceClient
	profiles   rapportv1connect.ProfileServiceClient
	snapshots  rapportv1connect.SnapshotServiceClient
	tables     rapportv1connect.TableServiceClient
	catalogs   rapportv1connect.CatalogServiceClient
	strategies rapportv1connect.StrategyServiceClient
	audit      rapportv1connect.AuditServiceClient
	register   rapportv1connect.RegisterServiceClient
	readings   rapportv1connect.ReadingServiceClient

	close func() error // ends what dial began
	// reached returns the error of a stream, or one that says that there is no server;
	// calls that are no streams have it already.
	reached func(error) error
}

// call dials, makes use of the API, and closes what was opened.
func (a *app) call(ctx context.Context, use func(*clients) error) error {
	serverURL, data, err := a.target.choose()
	if err != nil {
		return err
	}
	var c *clients
	if data == "" {
		c = dial(serverURL)
	} else if c, err = a.open(ctx, data); err != nil {
		return err
	}
	return errors.Join(use(c), c.close())
}

// dial returns the API of a running server. Nothing is sent until it is used.
func dial(url string) *clients {
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     30 * time.Second,
		DisableCompression:  true,
	}
	reach := connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
			response, err := next(ctx, r)
			if err != nil {
				return nil, reachError(url, err)
			}
			return response, nil
		}
	})
	c := newClients(&http.Client{Transport: transport}, url, connect.WithInterceptors(reach))
	c.close = func() error {
		transport.CloseIdleConnections()
		return nil
	}
	c.reached = func(err error) error { return reachError(url, err) }
	return c
}

// open opens the server on a data folder in this process, without a listener,
// and returns its API. No one else can have the folder meanwhile.
func (a *app) open(ctx context.Context, data string) (*clients, error) {
	if err := checkDataFolder(data); err != nil {
		return nil, err
	}
	config := server.Config{
		Data:     data,
		Deadline: offlineDeadline,
		Logger:   a.logger(),
		Version:  programVersion(),

		RevealPersonal: true, // who can open the folder can read all that is in it
	}
	if err := a.strategies.apply(&config); err != nil {
		return nil, err
	}
	s, err := server.Open(ctx, config)
	if err != nil {
		return nil, err
	}
	c := inProcess(s)
	c.close = s.Close
	return c, nil
}

// offlineDeadline is for a decision in this process: nobody waits in a channel, and
// nothing is warm yet.
const offlineDeadline = 10 * time.Second

// logger is for what runs in this process besides `rapport serve`: a person is
// at work here, who wants to hear of trouble only.
func (a *app) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// inProcess returns the API of a server in this process. Closing the clients
// leaves the server open.
func inProcess(s *server.Server) *clients {
	c := newClients(&http.Client{Transport: handlerTransport{s.Handler()}}, "http://in.process")
	c.close = func() error { return nil }
	return c
}

func newClients(client connect.HTTPClient, url string, options ...connect.ClientOption) *clients {
	options = append(options, connect.WithAcceptCompression("gzip", nil, nil))
	return &clients{
		reached:    func(err error) error { return err },
		decisions:  rapportv1connect.NewDecisionServiceClient(client, url, options...),
		profiles:   rapportv1connect.NewProfileServiceClient(client, url, options...),
		snapshots:  rapportv1connect.NewSnapshotServiceClient(client, url, options...),
		tables:     rapportv1connect.NewTableServiceClient(client, url, options...),
		catalogs:   rapportv1connect.NewCatalogServiceClient(client, url, options...),
		strategies: rapportv1connect.NewStrategyServiceClient(client, url, options...),
		audit:      rapportv1connect.NewAuditServiceClient(client, url, options...),
		register:   rapportv1connect.NewRegisterServiceClient(client, url, options...),
		readings:   rapportv1connect.NewReadingServiceClient(client, url, options...),
	}
}

// handlerTransport carries a request to a handler in this process. It waits for
// the whole response, except for a stream.
type handlerTransport struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (t handlerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	in.RequestURI = r.URL.RequestURI()
	in.RemoteAddr = "127.0.0.1:0" // we are on the server's own machine
	in.Host = r.URL.Host
	if in.Body == nil {
		in.Body = http.NoBody
	}
	if strings.HasPrefix(in.Header.Get("Content-Type"), "application/connect+") {
		return t.stream(in)
	}
	w := &memoryResponse{header: make(http.Header)}
	t.handler.ServeHTTP(w, in)
	w.WriteHeader(http.StatusOK) // unless it has
	if err := errors.Join(in.Body.Close(), r.Context().Err()); err != nil {
		return nil, err
	}
	return &http.Response{
		Status:        http.StatusText(w.status),
		StatusCode:    w.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        w.sent,
		Body:          io.NopCloser(&w.body),
		ContentLength: int64(w.body.Len()),
		Request:       r,
	}, nil
}

// stream answers while the handler is at work. Closing the body ends the handler's
// context, as hanging up does.
func (t handlerTransport) stream(in *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(in.Context())
	in = in.WithContext(ctx)
	r, w := io.Pipe()
	stream := &streamResponse{memoryResponse: memoryResponse{header: make(http.Header)}, pipe: w, begun: make(chan struct{})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		t.handler.ServeHTTP(stream, in)
		stream.WriteHeader(http.StatusOK) // unless it has
		_ = w.CloseWithError(errors.Join(in.Body.Close(), ctx.Err()))
	}()
	<-stream.begun
	return &http.Response{
		Status:        http.StatusText(stream.status),
		StatusCode:    stream.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        stream.sent,
		Body:          &streamBody{r, func() { cancel(); <-ended }},
		ContentLength: -1,
		Request:       in,
	}, nil
}

// streamResponse is an http.ResponseWriter whose other end is read meanwhile.
type streamResponse struct {
	memoryResponse
	pipe  *io.PipeWriter
	begun chan struct{} // closed when status and header are sent
}

func (w *streamResponse) WriteHeader(status int) {
	if before := w.sent; before == nil {
		w.memoryResponse.WriteHeader(status)
		if w.sent != nil {
			close(w.begun)
		}
	}
}

func (w *streamResponse) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.pipe.Write(b)
}

// Flush does nothing: what is written is read at once.
func (w *streamResponse) Flush() { w.WriteHeader(http.StatusOK) }

// streamBody ends the handler when it is closed.
type streamBody struct {
	*io.PipeReader
	end func()
}

// Close ends the handler and waits for it.
func (b *streamBody) Close() error {
	err := b.PipeReader.Close()
	b.end()
	return err
}

// memoryResponse is an http.ResponseWriter that keeps what is written.
type memoryResponse struct {
	header http.Header // as the handler sees it
	sent   http.Header // as it was when the response began; nil before
	body   bytes.Buffer
	status int
}

func (w *memoryResponse) Header() http.Header { return w.header }

func (w *memoryResponse) WriteHeader(status int) {
	if w.sent == nil && status >= 200 {
		w.status, w.sent = status, w.header.Clone()
	}
}

func (w *memoryResponse) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}
