package sandbox

import (
	"context"
	"log/slog"
	"time"
)

// retryReplace is how long a keeper waits after it could not make an instance.
const retryReplace = 100 * time.Millisecond

// inlineCost is the most bytes that a call copies by itself to restore an
// instance. Up to here that takes no longer than to wake a keeper.
const inlineCost = 64 << 10

// release gives an instance back after a call.
func (s *Strategy) release(in *instance) {
	if s.restore == RestoreFresh {
		in.spent = true
	}
	if !in.spent && in.fault == nil && in.restorer.cost() <= inlineCost && in.host.quiet() {
		in.restore(s.image)
		s.free <- in
		return
	}
	s.used <- in
}

// keep makes instances ready for the next call until the strategy is closed. What
// there is to log comes last, so that no call waits for the log.
func (s *Strategy) keep() {
	var said words
	for in := range s.used {
		said, in.host.words = in.host.words, said
		fault := in.fault
		in.fault = nil
		if in.spent {
			in = s.replace(in)
		} else {
			in.restore(s.image)
		}
		s.free <- in
		said.report(s.guestLog)
		if fault != nil {
			s.guestLog.write(slog.LevelWarn, "strategy fault", "kind", string(fault.Kind), "fault", fault.Message)
		}
	}
}

// replace makes an instance in another's place. It returns nil if the strategy
// is closed before it could.
func (s *Strategy) replace(old *instance) *instance {
	if s.image.grown(old.memory) {
		s.grown.Add(1)
	} else if s.restore != RestoreFresh {
		s.trapped.Add(1)
	}
	s.replaced.Add(1)
	old.close()
	for {
		in, err := s.clone()
		if err == nil {
			return in
		}
		s.log.Error("can't replace an instance of a strategy", "error", err)
		select {
		case <-s.closing:
			return nil
		case <-time.After(retryReplace):
		}
	}
}

// Close waits for the calls in flight and frees the instances. Calls that come
// later get [ErrClosed]. If ctx ends first, Close returns its error, and may be
// called again.
func (s *Strategy) Close(ctx context.Context) error {
	s.closeMu.Lock()
	defer s.closeMu.Unlock()
	if s.closed {
		return nil
	}
	select {
	case <-s.closing:
	default:
		close(s.closing)
	}
	for s.missing > 0 {
		select {
		case in := <-s.free:
			s.missing--
			if in != nil {
				in.close()
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	close(s.used)
	s.keepers.Wait()
	s.image.close()
	s.module.remove(s)
	s.closed = true
	return nil
}

// discard frees what a strategy that nobody was given has.
func (s *Strategy) discard() {
	for len(s.free) > 0 {
		(<-s.free).close()
	}
	if s.image != nil {
		s.image.close()
	}
}
