package abi

import "encoding/binary"

// FrameMagic begins a call frame: "RPF1".
const FrameMagic = 0x3146_5052

// FrameHeader is the size of a call frame's header.
const FrameHeader = 96

// Places of the fields of a call frame's header, each a u32 but for now (i64)
// and seed (u64). Places in memory (…At) count from the start of the frame.
const (
	frameMagic       = 0
	frameVersion     = 4
	frameHeaderSize  = 8
	frameSize        = 12
	frameCandidates  = 16
	frameProfile     = 20
	frameColumns     = 24
	frameStringsSize = 28
	frameNow         = 32
	frameSeed        = 40
	framePresenceAt  = 48
	frameCellsAt     = 52
	frameStringsAt   = 56
	frameIndexAt     = 60
	frameColumnsAt   = 64
	frameOutputAt    = 68
	frameOutputSize  = 72
	frameScoreAt     = 76
	frameReasonAt    = 80
	frameVetoAt      = 84
	frameChanceAt    = 88
)

// FrameShape is what decides where the parts of a call frame are.
type FrameShape struct {
	Candidates int // to rank in this call
	Profile    int // declared profile fields
	Columns    int // declared candidate columns
	Texts      int // bytes in the string pool

	Probability bool // the guest says with which probability it chose
}

// FrameLayout says where the parts of a call frame are, in bytes from its start.
type FrameLayout struct {
	FrameShape
	PresenceAt, CellsAt, StringsAt int // the profile
	IndexAt, ColumnsAt             int // the candidates
	ScoreAt, ReasonAt, VetoAt      int // the output, which begins with the scores
	ChanceAt                       int // its probabilities; 0 where there are none
	Size                           int // of the whole frame; the guard is behind it
}

// Layout lays out a frame as the server does: header, profile, strings,
// candidates, output.
func (s FrameShape) Layout() FrameLayout {
	l := FrameLayout{FrameShape: s}
	n := s.Candidates
	l.PresenceAt = FrameHeader
	l.CellsAt = l.PresenceAt + bitWords(s.Profile)*8
	l.StringsAt = l.CellsAt + s.Profile*8
	l.IndexAt = align(l.StringsAt+s.Texts, 8)
	l.ColumnsAt = align(l.IndexAt+n*4, 8)
	l.ScoreAt = l.ColumnsAt + s.Columns*n*8
	l.ReasonAt = l.ScoreAt + n*8
	l.VetoAt = align(l.ReasonAt+n*4, 8)
	l.Size = l.VetoAt + bitWords(n)*8
	if s.Probability {
		l.ChanceAt = l.Size
		l.Size += n * 8
	}
	return l
}

// View returns the frame of that layout in b, which holds at least Size bytes and
// is 8-aligned.
func (l FrameLayout) View(b []byte) Frame { return Frame{FrameLayout: l, b: b[:l.Size:l.Size]} }

// putHeader writes the header of the layout.
func (l *FrameLayout) putHeader(b []byte, now int64, seed uint64) {
	_ = b[FrameHeader-1]
	u := func(at, v int) { binary.LittleEndian.PutUint32(b[at:], uint32(v)) }
	u(frameMagic, FrameMagic)
	u(frameVersion, Version)
	u(frameHeaderSize, FrameHeader)
	u(frameSize, l.Size)
	u(frameCandidates, l.Candidates)
	u(frameProfile, l.Profile)
	u(frameColumns, l.Columns)
	u(frameStringsSize, l.Texts)
	binary.LittleEndian.PutUint64(b[frameNow:], uint64(now))
	binary.LittleEndian.PutUint64(b[frameSeed:], seed)
	u(framePresenceAt, l.PresenceAt)
	u(frameCellsAt, l.CellsAt)
	u(frameStringsAt, l.StringsAt)
	u(frameIndexAt, l.IndexAt)
	u(frameColumnsAt, l.ColumnsAt)
	u(frameOutputAt, l.ScoreAt)
	u(frameOutputSize, l.Size-l.ScoreAt)
	u(frameScoreAt, l.ScoreAt)
	u(frameReasonAt, l.ReasonAt)
	u(frameVetoAt, l.VetoAt)
	u(frameChanceAt, l.ChanceAt)
}

// Frame is a call frame: what one call of rapport_rank reads and writes. Its
// slices are views of the bytes it lies in.
type Frame struct {
	FrameLayout
	b []byte
}

// ParseFrame reads the header of a call frame, which must be 8-aligned, and
// checks that every part lies inside. Its error is a [*LayoutError].
func ParseFrame(b []byte) (Frame, error) {
	bad := func(what string) (Frame, error) { return Frame{}, &LayoutError{"call frame: " + what} }
	if len(b) < FrameHeader {
		return bad("shorter than its header")
	}
	u := func(at int) int { return int(binary.LittleEndian.Uint32(b[at:])) }
	switch {
	case u(frameMagic) != FrameMagic:
		return bad("not the magic RPF1")
	case u(frameVersion) != Version:
		return bad("another version")
	case u(frameHeaderSize) < FrameHeader || u(frameSize) > len(b) || u(frameHeaderSize) > u(frameSize):
		return bad("sizes")
	}
	l := FrameLayout{
		FrameShape: FrameShape{
			Candidates: u(frameCandidates), Profile: u(frameProfile), Columns: u(frameColumns), Texts: u(frameStringsSize),
			Probability: u(frameChanceAt) != 0,
		},
		PresenceAt: u(framePresenceAt), CellsAt: u(frameCellsAt), StringsAt: u(frameStringsAt),
		IndexAt: u(frameIndexAt), ColumnsAt: u(frameColumnsAt),
		ScoreAt: u(frameScoreAt), ReasonAt: u(frameReasonAt), VetoAt: u(frameVetoAt), ChanceAt: u(frameChanceAt),
		Size: u(frameSize),
	}
	in := part{size: u(frameOutputAt), from: u(frameHeaderSize)}
	in.check(l.PresenceAt, 1, bitWords(l.Profile), 8)
	in.check(l.CellsAt, 1, l.Profile, 8)
	in.check(l.StringsAt, 1, l.Texts, 1)
	in.check(l.IndexAt, 1, l.Candidates, 4)
	in.check(l.ColumnsAt, l.Columns, l.Candidates, 8)
	out := part{size: u(frameOutputAt) + u(frameOutputSize), from: u(frameOutputAt)}
	out.check(l.ScoreAt, 1, l.Candidates, 8)
	out.check(l.ReasonAt, 1, l.Candidates, 4)
	out.check(l.VetoAt, 1, bitWords(l.Candidates), 8)
	if l.Probability {
		out.check(l.ChanceAt, 1, l.Candidates, 8)
	}
	if in.bad || out.bad || out.size > l.Size || in.size > l.Size {
		return bad("a part lies outside, or is not 8-aligned")
	}
	return Frame{FrameLayout: l, b: b[:l.Size:l.Size]}, nil
}

// Now returns the decision's time, in microseconds since the Unix epoch.
func (f *Frame) Now() int64 { return int64(binary.LittleEndian.Uint64(f.b[frameNow:])) }

// Seed returns the decision's seed.
func (f *Frame) Seed() uint64 { return binary.LittleEndian.Uint64(f.b[frameSeed:]) }

// Presence returns the presence bitmap of the profile.
func (f *Frame) Presence() []uint64 { return view[uint64](f.b, f.PresenceAt, bitWords(f.Profile)) }

// Cells returns the profile's cells, in declared order.
func (f *Frame) Cells() []uint64 { return view[uint64](f.b, f.CellsAt, f.Profile) }

// Strings returns the pool of the profile's texts.
func (f *Frame) Strings() []byte { return f.b[f.StringsAt:][:f.Texts] }

// Index returns, for each candidate to rank, its row in the static tables.
func (f *Frame) Index() []uint32 { return view[uint32](f.b, f.IndexAt, f.Candidates) }

// Column returns a candidate column by its declared place.
func (f *Frame) Column(i int) []float64 {
	return view[float64](f.b, f.ColumnsAt+i*f.Candidates*8, f.Candidates)
}

// Bytes returns the whole frame.
func (f *Frame) Bytes() []byte { return f.b }

// Input returns the bytes in front of the output.
func (f *Frame) Input() []byte { return f.b[:f.ScoreAt] }

// Score returns the scores, to be written by the guest.
func (f *Frame) Score() []float64 { return view[float64](f.b, f.ScoreAt, f.Candidates) }

// Reason returns the reason codes, to be written by the guest.
func (f *Frame) Reason() []uint32 { return view[uint32](f.b, f.ReasonAt, f.Candidates) }

// Veto returns the veto bits, to be written by the guest.
func (f *Frame) Veto() []uint64 { return view[uint64](f.b, f.VetoAt, bitWords(f.Candidates)) }

// Chance returns the probabilities, to be written by the guest: nil if it did not declare
// that it gives them.
func (f *Frame) Chance() []float64 {
	if !f.Probability {
		return nil
	}
	return view[float64](f.b, f.ChanceAt, f.Candidates)
}

// ClearOutput makes the output ready for a call: no score, no reason, no veto, and
// probability 0, which stands for none given.
func (f *Frame) ClearOutput() {
	scores := view[uint64](f.b, f.ScoreAt, f.Candidates)
	for i := range scores {
		scores[i] = UnscoredBits
	}
	clear(f.b[f.ReasonAt:])
}

// Head is the part of a call frame in front of the candidates: header, profile
// and strings. The host fills one, outside the guest, and keeps it to compare
// with after the call. It has room for its strings and no more, so filling it
// allocates nothing.
type Head struct {
	// Probability says that the guest gives probabilities.
	Probability bool

	b       []byte
	profile int
	cellsAt int
	poolAt  int
	used    int // bytes, up to the end of the last text
}

// NewHead returns a head for that many profile fields and bytes of text.
func NewHead(profile, texts int) *Head {
	l := FrameShape{Profile: profile, Texts: texts}.Layout()
	return &Head{b: NewArena(l.IndexAt), profile: profile, cellsAt: l.CellsAt, poolAt: l.StringsAt, used: l.StringsAt}
}

// Reset makes every field absent.
func (h *Head) Reset() {
	clear(h.b[FrameHeader:h.used])
	h.used = h.poolAt
}

// Set sets a field that is not a text.
func (h *Head) Set(field int, cell uint64) {
	binary.LittleEndian.PutUint64(h.b[h.cellsAt+field*8:], cell)
	h.b[FrameHeader+field/8] |= 1 << (field % 8)
}

// SetText sets a text, or reports false if there is no room for it.
func (h *Head) SetText(field int, text string) bool {
	if len(text) > len(h.b)-h.used {
		return false
	}
	copy(h.b[h.used:], text)
	h.Set(field, TextCell(h.used-h.poolAt, len(text)))
	h.used += len(text)
	return true
}

// Finish writes the header of a frame with that many candidates and candidate
// columns and returns its layout, and the bytes in front of its candidates. They
// are the head's own, valid until Reset.
func (h *Head) Finish(candidates, columns int, now int64, seed uint64) (FrameLayout, []byte) {
	l := FrameShape{
		Candidates: candidates, Profile: h.profile, Columns: columns, Texts: h.used - h.poolAt, Probability: h.Probability,
	}.Layout()
	l.putHeader(h.b, now, seed)
	return l, h.b[:l.IndexAt]
}
