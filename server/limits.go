package server

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"sync"
	"syscall"
)

// bodies bounds the request bodies that are being read and unpacked: a message in
// memory can be a hundred times its size on the wire. A request takes as many tokens
// as its body has parts of bodyPart bytes and gives them back when it is answered.
// They are taken by one request at a time, so two can't each hold what the other
// waits for.
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

// enter takes the tokens of a body of n bytes, −1 if that is not known. It reports
// false if the context ended first; leave must follow when it is true.
func (b *bodies) enter(ctx context.Context, n int64) (parts int, ok bool) {
	if n < 0 {
		n = maxRequestBytes
	}
	parts = int(min(max(1, (n+bodyPart-1)/bodyPart), bodyParts))
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
		if r.Method == http.MethodPost {
			parts, ok := s.bodies.enter(r.Context(), r.ContentLength)
			if !ok {
				return // the client is gone
			}
			defer s.bodies.leave(parts)
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
