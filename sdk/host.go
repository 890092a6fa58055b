package rapport

import (
	"errors"
	"strconv"
	"strings"

	"rapport/sdk/abi"
)

// What the strategy answers when a call fails; the reason is in the log.
const (
	statusBadStatic = 1 // the static block is malformed or not that of the manifest
	statusBadFrame  = 2 // the call frame is
)

// Describe returns the manifest, or an error that names every mistake in the
// declarations. Describe, Configure and Call are what the module's exports do: a
// test of a strategy uses them through package rapporttest, and a strategy never.
func Describe() ([]byte, error) {
	mistakes := declared.mistakes
	if declared.manifest.Name == "" {
		mistakes = append(mistakes, "rapport.Name is not called")
	}
	if declared.rank == nil {
		mistakes = append(mistakes, "rapport.Rank is not called")
	}
	if len(mistakes) > 0 {
		return nil, errors.New("rapport: " + strings.Join(mistakes, "; "))
	}
	return declared.manifest.AppendJSON(nil), nil
}

// Configure reads the static block, which must stay where it is, and says
// whether it fits: 0 if it does.
func Configure(block []byte) (status int32) {
	static, err := abi.ParseStatic(block)
	m := &declared.manifest
	if err == nil && (len(static.Parameters) != len(m.Parameters) ||
		static.Offer.Columns() != len(m.Offer) || static.Channel.Columns() != len(m.Channel)) {
		err = errors.New("static block of another strategy")
	}
	if err != nil {
		Log(LevelError, "rapport: "+err.Error())
		return statusBadStatic
	}
	declared.static = static
	declared.decision.columns = make([][]float64, len(m.Candidate)) // in the image, so that no call allocates it
	for i, a := range declared.offer {
		a.cells, a.presence = static.Offer.Column(i)
	}
	for i, a := range declared.channel {
		a.cells, a.presence = static.Channel.Column(i)
	}
	return abi.StatusOK
}

// Call ranks the candidates of a frame. The detail is how many they are, or of
// no meaning where the status is not 0.
func Call(frame []byte) (status, detail uint32) {
	f, err := abi.ParseFrame(frame)
	m := &declared.manifest
	if err == nil && (f.Profile != len(m.Profile) || f.Columns != len(m.Candidate) || f.Probability != m.Probability) {
		err = errors.New("call frame of another strategy")
	}
	if err == nil {
		for _, row := range f.Index() {
			if int(row) >= declared.static.Candidates {
				err = errors.New("no candidate " + strconv.Itoa(int(row)))
			}
		}
	}
	if err != nil {
		Log(LevelError, "rapport: "+err.Error())
		return statusBadFrame, 0
	}
	declared.decision.begin(&declared.static, f)
	declared.rank(&declared.decision)
	return abi.StatusOK, uint32(f.Candidates)
}
