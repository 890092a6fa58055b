package sandbox

import (
	"bytes"
	"fmt"
	"math"
	"math/bits"

	"rapport/profilestore"
	"rapport/sdk/abi"
	"rapport/server/decide"
)

// call ranks with an instance: it writes the frame into the guest's memory,
// calls the guest, checks what it left, and copies the answer out. It leaves the
// memory as the guest did, for a keeper to restore.
// It may use so much fuel.
func (s *Strategy) call(in *instance, r *decide.Ranking, fuel int64) *FaultError {
	if !s.fillHead(in.head, r) {
		return s.faulted(in, FaultInput, fmt.Sprintf("the profile's texts are more than %d bytes together", s.texts), nil)
	}
	layout, head := in.head.Finish(len(r.Candidates), len(s.columns), r.Now, r.Seed)
	frame, guard, ok := s.frame(in, layout)
	if !ok {
		return s.faulted(in, FaultTrap, "its arena is gone", nil)
	}
	in.restorer.begin()
	copy(frame.Input(), head)
	copy(abi.Bytes(frame.Index()), abi.Bytes(r.Candidates))
	clear(padding(&frame))
	s.fillHistory(in, r)
	for i := range s.columns {
		copy(frame.Column(i), s.column(in, r, i))
	}
	frame.ClearOutput()
	copy(guard, guardBytes[:])

	in.host.begin(r.Now, r.Seed)
	in.supply(fuel)
	in.stack[0] = uint64(layout.Size)
	err := in.rank.CallWithStack(in.ctx, in.stack[:])
	in.ran = in.restorer.end()
	r.FuelLimit, r.FuelUsed = fuel, min(fuel, fuel-in.left())
	if err != nil {
		in.spent = true
		kind, message := in.callFault(err, fuel)
		if kind == FaultFuel {
			return s.outOfFuel(in, r, err)
		}
		return s.faulted(in, kind, message, err)
	}
	in.spent = s.image.grown(in.memory)
	if in.left() < 0 { // its last charge came after the last check
		return s.outOfFuel(in, r, nil)
	}
	status, detail := abi.UnpackStatus(in.stack[0])
	if status != abi.StatusOK {
		return s.faulted(in, FaultStatus, fmt.Sprintf("it answers status %d, detail %d%s", status, detail, in.host.said()), nil)
	}
	if int64(detail) != int64(len(r.Candidates)) {
		return s.faulted(in, FaultCount, fmt.Sprintf("it says that it ranked %d candidates of %d", detail, len(r.Candidates)), nil)
	}
	// The memory may have moved as it grew.
	if frame, guard, ok = s.frame(in, layout); !ok {
		return s.faulted(in, FaultTrap, "its arena is gone", nil)
	}
	if part := s.overwritten(in, &frame, head, guard, r); part != "" {
		return s.faulted(in, FaultOverwrite, "it wrote into "+part, nil)
	}
	return s.takeOutput(in, &frame, r)
}

var guardBytes = func() (g [abi.GuardSize]byte) {
	for i := range g {
		g[i] = byte(uint64(abi.GuardWord) >> (8 * (i % 8)))
	}
	return g
}()

// fillHead writes what the strategy reads of the profile. It reports false if
// the texts don't fit.
func (s *Strategy) fillHead(head *abi.Head, r *decide.Ranking) bool {
	head.Reset()
	for i := range s.fields {
		f := &s.fields[i]
		v := f.of(r)
		switch {
		case v.Kind() != f.kind: // unknown
		case !isText(f.kind):
			head.Set(i, cell(v))
		case !head.SetText(i, textOf(v)):
			return false
		}
	}
	return true
}

// textOf returns what stands in the string pool for a value.
func textOf(v profilestore.Value) string {
	if v.Kind() == profilestore.KindSet {
		return v.SetText()
	}
	return v.Text()
}

// frame returns the call frame in an instance's memory, and the guard behind it.
// Both are views, valid until the guest runs.
func (s *Strategy) frame(in *instance, l abi.FrameLayout) (f abi.Frame, guard []byte, ok bool) {
	b, ok := in.memory.Read(s.arena+uint32(s.layout.FrameAt), uint32(l.Size+abi.GuardSize))
	if !ok {
		return f, nil, false
	}
	return l.View(b), b[l.Size:], true
}

// padding returns the bytes between the index and the candidate columns.
func padding(f *abi.Frame) []byte {
	return f.Input()[f.IndexAt+4*f.Candidates : f.ColumnsAt]
}

// overwritten names the part of the arena that the guest changed though it is
// not the output, or nothing.
func (s *Strategy) overwritten(in *instance, f *abi.Frame, head, guard []byte, r *decide.Ranking) string {
	if !bytes.Equal(guard, guardBytes[:]) {
		return "the memory behind its output"
	}
	same := bytes.Equal(f.Input()[:len(head)], head) &&
		bytes.Equal(abi.Bytes(f.Index()), abi.Bytes(r.Candidates))
	for _, b := range padding(f) {
		same = same && b == 0
	}
	for i := range s.columns {
		same = same && bytes.Equal(abi.Bytes(f.Column(i)), abi.Bytes(s.column(in, r, i)))
	}
	if !same {
		return "the input of the call"
	}
	if !in.restorer.intact(s.arena, uint32(len(s.static))) {
		return "the static block"
	}
	return ""
}

// takeOutput copies the answer into the ranking and checks it there.
func (s *Strategy) takeOutput(in *instance, f *abi.Frame, r *decide.Ranking) *FaultError {
	copy(r.Score, f.Score())
	for i, x := range r.Score {
		if math.Float64bits(x)&infinity == infinity {
			return s.faultedFor(in, r.Candidates[i], FaultScore, fmt.Sprintf("the score of candidate %d is %v, or was not given", r.Candidates[i], x))
		}
	}
	copy(r.Reason, f.Reason())
	for i, code := range r.Reason {
		if uint64(code) >= uint64(len(s.info.Reasons)) {
			return s.faultedFor(in, r.Candidates[i], FaultReason, fmt.Sprintf("the reason of candidate %d is %d; it declares %d", r.Candidates[i], code, len(s.info.Reasons)-1))
		}
	}
	if fault := s.takeChances(in, f, r); fault != nil {
		return fault
	}
	for i, word := range f.Veto() {
		veto := r.Veto[i*64 : min(i*64+64, len(r.Veto))]
		clear(veto)
		for ; word != 0; word &= word - 1 {
			bit := bits.TrailingZeros64(word)
			if bit >= len(veto) {
				return s.faulted(in, FaultVeto, fmt.Sprintf("it vetoes candidates beyond the %d that there are", len(r.Veto)), nil)
			}
			veto[bit] = true
		}
	}
	return nil
}

// takeChances copies the probabilities, if the strategy gives them.
func (s *Strategy) takeChances(in *instance, f *abi.Frame, r *decide.Ranking) *FaultError {
	if !f.Probability {
		return nil
	}
	copy(r.Chance, f.Chance())
	for i, p := range r.Chance {
		if !(p >= 0 && p <= 1) {
			return s.faultedFor(in, r.Candidates[i], FaultProbability, fmt.Sprintf("the probability of candidate %d is %v", r.Candidates[i], p))
		}
	}
	return nil
}

// infinity is the exponent of a float64 that is infinite or NaN.
const infinity = 0x7FF << 52

// outOfFuel makes the error of a call that has used all that it was given.
func (s *Strategy) outOfFuel(in *instance, r *decide.Ranking, cause error) *FaultError {
	if r.FuelLimit < s.fuelLimit(len(r.Candidates)) {
		return s.faulted(in, FaultDeadline, fmt.Sprintf("it used all of the %d units of fuel that there was time for", r.FuelLimit), cause)
	}
	return s.faulted(in, FaultFuel, spent(r.FuelLimit), cause)
}

// faulted makes the error of a call, and leaves it for the log.
func (s *Strategy) faulted(in *instance, kind FaultKind, message string, cause error) *FaultError {
	in.fault = &FaultError{Kind: kind, Strategy: s.info.Name + " " + s.info.Version, Message: message, Err: cause}
	return in.fault
}

// faultedFor makes the error of a call whose answer for one candidate is wrong.
func (s *Strategy) faultedFor(in *instance, candidate int32, kind FaultKind, message string) *FaultError {
	fault := s.faulted(in, kind, message, nil)
	fault.Candidate = int(candidate) + 1
	return fault
}
