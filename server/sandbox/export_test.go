package sandbox

import (
	"bytes"
	"context"
	"slices"
	"time"

	"rapport/server/decide"
)

// What tests of images see beyond the package's API.

// WithPagemap returns options with another file in the place of the system's
// pagemap.
func WithPagemap(o Options, path string) Options {
	o.pagemap = path
	return o
}

// State is all that an instance remembers.
type State struct {
	Memory  []byte
	Globals []uint64
}

// Equal reports whether two states are the same, byte for byte.
func (s State) Equal(other State) bool {
	return bytes.Equal(s.Memory, other.Memory) && slices.Equal(s.Globals, other.Globals)
}

// stateOf returns the state of an instance; its memory is valid until the guest
// runs.
func stateOf(in *instance) State { return State{in.bytes(), readGlobals(in.globals)} }

// Initialized returns the state of a new instance that was initialised, and not
// cloned.
func (s *Strategy) Initialized() (State, error) {
	in, err := s.ready()
	if err != nil {
		return State{}, err
	}
	defer in.close()
	state := stateOf(in)
	state.Memory = bytes.Clone(state.Memory)
	return state, nil
}

// Peek waits for a free instance, passes its state to f, and gives it back as it
// is.
func (s *Strategy) Peek(f func(State)) {
	in := <-s.free
	defer func() { s.free <- in }() // also if f ends the test
	f(stateOf(in))
}

// PeekAll passes the states of all instances to f. No call may be in flight.
func (s *Strategy) PeekAll(f func(State)) {
	all := make([]*instance, cap(s.free))
	for i := range all {
		all[i] = <-s.free
		defer func() { s.free <- all[i] }() // also if f ends the test
	}
	for _, in := range all {
		f(stateOf(in))
	}
}

// TakeImageOf makes two instances, lets edit change one, and makes the image of
// them.
func (s *Strategy) TakeImageOf(edit func(State, func(global int, value uint64))) error {
	var two [2]*instance
	for i := range two {
		in, err := s.ready()
		if err != nil {
			return err
		}
		defer in.close()
		two[i] = in
	}
	edit(stateOf(two[1]), func(i int, v uint64) { two[1].globals[i].Set(v) })
	g, err := takeImage(two[0], two[1], s.pages)
	if err != nil {
		return err
	}
	g.close()
	return nil
}

// Bare calls an instance without restoring it, and then restores it if told to. It
// returns how long each took.
func (s *Strategy) Bare(q *decide.Ranking, restore bool) (call, restored time.Duration, err error) {
	in, err := s.acquire(context.Background(), time.Time{})
	if err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	fault := s.call(in, q, s.fuelLimit(len(q.Candidates)))
	called := time.Now()
	if fault == nil && restore {
		if s.restore == RestoreFresh {
			in = s.replace(in)
		} else {
			in.restore(s.image)
		}
	}
	end := time.Now()
	s.free <- in
	if fault != nil {
		return 0, 0, fault
	}
	return called.Sub(begin), end.Sub(called), nil
}

// Left ranks as Rank does, without the breaker, and returns what the fuel counter
// says after the call; below 0 it is spent.
func (s *Strategy) Left(q *decide.Ranking) (left int64, err error) {
	in, err := s.acquire(context.Background(), time.Time{})
	if err != nil {
		return 0, err
	}
	defer s.release(in)
	fault := s.call(in, q, s.fuelLimit(len(q.Candidates)))
	left = in.left()
	if fault != nil {
		return left, fault
	}
	return left, nil
}
