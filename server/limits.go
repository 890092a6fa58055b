package server

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"syscall"
)

// bodies bounds the large request bodies that are being read and unpacked: a
// message in memory can be a hundred times its size on the wire. Bodies of up to
// bodyPart are not counted: connections bound those. A larger one takes as many
// tokens as it has parts, all at once, and gives them back when it is answered; one
// that does not say how large it is takes what it may have when it has proved to be
// large. Tokens are taken by one request at a time, and none waits for more while it
// holds some, so no two wait for each other.
type bodies struct {
	next   chan struct{} // held by who is taking tokens
	tokens chan struct{}
}

const (
	bodyPart  = 64 << 10
	bodyParts = 128 // 8 MiB in all: one large upload, or two of the largest batches of events
)

func newBodies() *bodies {
	return &bodies{next: make(chan struct{}, 1), tokens: make(chan struct{}, bodyParts)}
}

// enter takes the tokens of a body of n bytes and returns how many they are. It
// reports false if the context ended first; leave must follow when it is true.
func (b *bodies) enter(ctx context.Context, n int64) (parts int, ok bool) {
	parts = int(min((n+bodyPart-1)/bodyPart, bodyParts))
	select {
	case b.next <- struct{}{}:
		defer func() { <-b.next }()
	case <-ctx.Done():
		return 0, false
	}
	for taken := range parts {
		select {
		case b.tokens <- struct{}{}:
		case <-ctx.Done():
			b.leave(taken)
			return 0, false
		}
	}
	return parts, true
}

func (b *bodies) leave(parts int) {
	for range parts {
		<-b.tokens
	}
}

// countedBody is a request body that takes tokens before what is large of it is
// read.
type countedBody struct {
	io.ReadCloser
	ctx    context.Context // of the request that the body belongs to
	bodies *bodies
	length int64 // −1 if not known
	read   int64
	parts  int // taken
}

// maxUnknown is what a body is taken for that does not say how large it is.
const maxUnknown = maxRequestBytes

// Read reads on, and waits for tokens where they are needed.
func (c *countedBody) Read(p []byte) (int, error) {
	if c.parts == 0 && max(c.length, c.read) > bodyPart {
		n := c.length
		if n < 0 {
			n = maxUnknown
		}
		var ok bool
		if c.parts, ok = c.bodies.enter(c.ctx, n); !ok {
			return 0, c.ctx.Err()
		}
	}
	n, err := c.ReadCloser.Read(p)
	c.read += int64(n)
	return n, err
}

// guard is in front of everything that comes over the network. It bounds bodies,
// and where the server listens on loopback it answers only who asked for a
// loopback address by name: else any page in a browser on this machine could,
// under a name of its own that resolves to 127.0.0.1, read profiles and publish.
func (s *Server) guard(next http.Handler) http.Handler {
	host, _, err := net.SplitHostPort(s.config.Listen)
	local := err == nil && isLoopback(host)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		defer s.requests.Done()
		if local && !(isLocalName(r.Host) && isLocalOrigin(r.Header.Get("Origin"))) {
			writeText(w, http.StatusForbidden, "this server listens on loopback and answers only under a loopback name, such as localhost\n")
			return
		}
		if r.Body != nil {
			body := &countedBody{ReadCloser: r.Body, ctx: r.Context(), bodies: s.bodies, length: r.ContentLength}
			defer func() { s.bodies.leave(body.parts) }()
			r.Body = body
		}
		next.ServeHTTP(w, r)
	})
}

func isLocalName(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	return isLoopback(host)
}

func isLocalOrigin(origin string) bool {
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && isLoopback(u.Hostname())
}

// limitListener bounds open connections, so that idle ones can't use up the file
// descriptors that the stores need.
type limitListener struct {
	net.Listener
	free chan struct{}
	done chan struct{}
	once sync.Once
}

// newLimitListener lets at most half of the process's file descriptors be
// connections.
func newLimitListener(l net.Listener) *limitListener {
	most := 10_000
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil && limit.Cur/2 < uint64(most) {
		most = max(1, int(limit.Cur/2))
	}
	return &limitListener{Listener: l, free: make(chan struct{}, most), done: make(chan struct{})}
}

// Accept waits until a connection may be open, and for it.
func (l *limitListener) Accept() (net.Conn, error) {
	select {
	case l.free <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &limitedConn{Conn: c, free: l.free}, nil
}

// Close stops Accept.
func (l *limitListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	free chan struct{}
	once sync.Once
}

// Close closes the connection and makes room for another.
func (c *limitedConn) Close() error {
	c.once.Do(func() { <-c.free })
	return c.Conn.Close()
}
