package crashtest_test

import (
	"net"
	"sync/atomic"
	"time"
)

// lateListener is a listener on whose connections answers come late, see role.
type lateListener struct{ net.Listener }

func (l lateListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &lateConn{Conn: c}, nil
}

type lateConn struct {
	net.Conn
	asked atomic.Int64 // when the last request came, in nanoseconds; 0: it is being answered
}

func (c *lateConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.asked.Store(time.Now().UnixNano())
	return n, err
}

func (c *lateConn) Write(b []byte) (int, error) {
	if asked := c.asked.Swap(0); asked > 0 {
		dawdle(time.Duration(time.Now().UnixNano() - asked))
	}
	return c.Conn.Write(b)
}

// dawdle waits as long as something has taken, if that was not very long.
func dawdle(took time.Duration) {
	time.Sleep(min(took, 500*time.Millisecond)) //nolint:forbidigo // so that the moment of the strike is often here
}
