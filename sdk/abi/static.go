package abi

import "encoding/binary"

// StaticMagic begins a static block: "RPS1".
const StaticMagic = 0x3153_5052

// StaticHeader is the size of a static block's header.
const StaticHeader = 80

// Places of the fields of a static block's header, each a u32. Places in memory
// (…At) count from the start of the block.
const (
	staticMagic             = 0
	staticVersion           = 4
	staticHeaderSize        = 8
	staticSize              = 12
	staticCandidates        = 16
	staticParameters        = 20
	staticOfferColumns      = 24
	staticChannelColumns    = 28
	staticParametersAt      = 32
	staticOfferAt           = 36
	staticOfferPresenceAt   = 40
	staticChannelAt         = 44
	staticChannelPresenceAt = 48
	staticStringsAt         = 52
	staticStringsSize       = 56
	staticFrameAt           = 60
	staticFrameCapacity     = 64
)

// Table is a set of columns with one cell per candidate of the scenario: column
// by column, with a presence bitmap for each column in the same order.
type Table struct {
	rows, columns int
	cells         []uint64
	presence      []uint64
}

func newTable(rows, columns int) Table {
	return Table{rows, columns, make([]uint64, rows*columns), make([]uint64, bitWords(rows)*columns)}
}

// Columns returns how many columns there are.
func (t *Table) Columns() int { return t.columns }

// Cell returns a cell, and whether it is present. It panics if there is no such
// column or row.
func (t *Table) Cell(column, row int) (cell uint64, ok bool) {
	cell = t.cells[column*t.rows+row]
	return cell, Bit(t.presence[column*bitWords(t.rows):], row)
}

// Column returns the cells of a column and their presence bits.
func (t *Table) Column(column int) (cells, presence []uint64) {
	w := bitWords(t.rows)
	return t.cells[column*t.rows:][:t.rows], t.presence[column*w:][:w]
}

// Set sets a cell and its presence.
func (t *Table) Set(column, row int, cell uint64) {
	t.cells[column*t.rows+row] = cell
	SetBit(t.presence[column*bitWords(t.rows):], row)
}

// Static is the part of the arena that is the same for every call: parameters
// and what the strategy reads of offers and channels, laid out by candidate of
// the scenario. Its slices are views of the block that it was parsed from.
type Static struct {
	Candidates int       // of the scenario
	Parameters []float64 // in declared order
	Offer      Table     // offer attributes, in declared order
	Channel    Table     // channel attributes, in declared order
	Strings    []byte    // the pool of all texts

	Size          int // of the block, without the padding behind it
	FrameAt       int // where the call frame begins, from the start of the block
	FrameCapacity int // the most bytes that a call frame takes
}

// ParseStatic reads a static block, which must be 8-aligned, and checks that
// everything in it lies where the header says and inside of it. Its error is a
// [*LayoutError].
func ParseStatic(b []byte) (Static, error) {
	bad := func(what string) (Static, error) {
		return Static{}, &LayoutError{"static block: " + what}
	}
	if len(b) < StaticHeader {
		return bad("shorter than its header")
	}
	u := func(at int) int { return int(binary.LittleEndian.Uint32(b[at:])) }
	switch {
	case u(staticMagic) != StaticMagic:
		return bad("not the magic RPS1")
	case u(staticVersion) != Version:
		return bad("another version")
	case u(staticHeaderSize) < StaticHeader || u(staticSize) > len(b) || u(staticHeaderSize) > u(staticSize):
		return bad("sizes")
	}
	b = b[:u(staticSize)]
	n, offer, channel := u(staticCandidates), u(staticOfferColumns), u(staticChannelColumns)
	p := part{size: len(b), from: u(staticHeaderSize)}
	p.check(u(staticParametersAt), u(staticParameters), 1, 8)
	p.check(u(staticOfferAt), offer, n, 8)
	p.check(u(staticOfferPresenceAt), offer, bitWords(n), 8)
	p.check(u(staticChannelAt), channel, n, 8)
	p.check(u(staticChannelPresenceAt), channel, bitWords(n), 8)
	p.check(u(staticStringsAt), u(staticStringsSize), 1, 1)
	if p.bad {
		return bad("a part lies outside, or is not 8-aligned")
	}
	if at := u(staticFrameAt); at%Align != 0 || at < len(b) {
		return bad("the call frame's place")
	}
	return Static{
		Candidates: n,
		Parameters: view[float64](b, u(staticParametersAt), u(staticParameters)),
		Offer: Table{
			n, offer,
			view[uint64](b, u(staticOfferAt), offer*n),
			view[uint64](b, u(staticOfferPresenceAt), offer*bitWords(n)),
		},
		Channel: Table{
			n, channel,
			view[uint64](b, u(staticChannelAt), channel*n),
			view[uint64](b, u(staticChannelPresenceAt), channel*bitWords(n)),
		},
		Strings:       b[u(staticStringsAt):][:u(staticStringsSize)],
		Size:          len(b),
		FrameAt:       u(staticFrameAt),
		FrameCapacity: u(staticFrameCapacity),
	}, nil
}

// part checks places against the bytes that a block has behind its header.
type part struct {
	size, from int
	bad        bool
}

func (p *part) check(at, columns, rows, width int) {
	if uint64(columns) > uint64(p.size) || uint64(rows) > uint64(p.size) {
		p.bad = p.bad || uint64(columns)*uint64(rows) != 0
		return
	}
	end := uint64(at) + uint64(columns)*uint64(rows)*uint64(width)
	if at%8 != 0 || at < p.from || end > uint64(p.size) {
		p.bad = true
	}
}

// StaticBuilder makes a static block: fill its tables, then call Build.
type StaticBuilder struct {
	Parameters     []float64
	Offer, Channel Table

	candidates int
	strings    []byte
	places     map[string]uint64
}

// NewStaticBuilder returns a builder whose cells are all absent.
func NewStaticBuilder(candidates int, parameters []float64, offer, channel int) *StaticBuilder {
	return &StaticBuilder{
		Parameters: parameters,
		Offer:      newTable(candidates, offer),
		Channel:    newTable(candidates, channel),
		candidates: candidates,
		places:     make(map[string]uint64),
	}
}

// Text puts a text into the string pool, once, and returns its cell.
func (s *StaticBuilder) Text(text string) uint64 {
	cell, ok := s.places[text]
	if !ok {
		cell = TextCell(len(s.strings), len(text))
		s.strings = append(s.strings, text...)
		s.places[text] = cell
	}
	return cell
}

// Build returns the block, padded so that the call frame follows it, and says in
// its header that the frame has that capacity.
func (s *StaticBuilder) Build(frameCapacity int) []byte {
	parametersAt := StaticHeader
	offerAt := parametersAt + len(s.Parameters)*8
	offerPresenceAt := offerAt + len(s.Offer.cells)*8
	channelAt := offerPresenceAt + len(s.Offer.presence)*8
	channelPresenceAt := channelAt + len(s.Channel.cells)*8
	stringsAt := channelPresenceAt + len(s.Channel.presence)*8
	size := align(stringsAt+len(s.strings), 8)
	frameAt := align(size, Align)

	b := NewArena(frameAt)
	for at, v := range map[int]int{
		staticMagic: StaticMagic, staticVersion: Version, staticHeaderSize: StaticHeader,
		staticSize: size, staticCandidates: s.candidates, staticParameters: len(s.Parameters),
		staticOfferColumns: s.Offer.columns, staticChannelColumns: s.Channel.columns,
		staticParametersAt: parametersAt,
		staticOfferAt:      offerAt, staticOfferPresenceAt: offerPresenceAt,
		staticChannelAt: channelAt, staticChannelPresenceAt: channelPresenceAt,
		staticStringsAt: stringsAt, staticStringsSize: len(s.strings),
		staticFrameAt: frameAt, staticFrameCapacity: frameCapacity,
	} {
		binary.LittleEndian.PutUint32(b[at:], uint32(v))
	}
	copy(view[float64](b, parametersAt, len(s.Parameters)), s.Parameters)
	copy(view[uint64](b, offerAt, len(s.Offer.cells)), s.Offer.cells)
	copy(view[uint64](b, offerPresenceAt, len(s.Offer.presence)), s.Offer.presence)
	copy(view[uint64](b, channelAt, len(s.Channel.cells)), s.Channel.cells)
	copy(view[uint64](b, channelPresenceAt, len(s.Channel.presence)), s.Channel.presence)
	copy(b[stringsAt:], s.strings)
	return b
}
