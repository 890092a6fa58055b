package decisionlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/oklog/ulid/v2"

	"rapport/profilestore"
	"rapport/server/decide"
)

// A Block is a number of records, encoded one after another. Names, of which the same
// few come again and again, stand once in a block and are numbers in its records, and so
// do the lists of fields and the readings of evidence; so a block can be read by itself, and a record can't.
//
// Its bytes are, numbers as varints: the number of names, and each with its length; the
// number of lists of fields, and each with its length and the numbers of its names; the
// number of readings of evidence, and each with its number, how many counts it has, and
// these; the number of records, and each with its length and its bytes. The format has no version
// of its own: that is for the file that blocks stand in.

// BlockWriter encodes records into blocks. It is not safe for concurrent use.
type BlockWriter struct {
	names  map[string]uint64
	list   []string
	fields [][]string
	index  [][]uint64 // of the names of fields
	read   []*Evidence
	rows   []byte // records, each with its length
	n      int
	one    []byte // a record
	size   int    // of names and lists
}

// NewBlockWriter returns a writer with an empty block.
func NewBlockWriter() *BlockWriter {
	return &BlockWriter{names: make(map[string]uint64)}
}

// Len returns how many records the block has.
func (w *BlockWriter) Len() int { return w.n }

// Size returns about how many bytes the block has.
func (w *BlockWriter) Size() int { return len(w.rows) + w.size }

// Reset makes the block empty.
func (w *BlockWriter) Reset() {
	clear(w.names)
	w.list, w.fields, w.index = w.list[:0], w.fields[:0], w.index[:0]
	clear(w.read)
	w.read = w.read[:0]
	w.rows, w.n, w.size = w.rows[:0], 0, 0
}

// AppendTo appends the block's bytes.
func (w *BlockWriter) AppendTo(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(w.list)))
	for _, s := range w.list {
		dst = appendText(dst, s)
	}
	dst = binary.AppendUvarint(dst, uint64(len(w.index)))
	for _, list := range w.index {
		dst = binary.AppendUvarint(dst, uint64(len(list)))
		for _, n := range list {
			dst = binary.AppendUvarint(dst, n)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(w.read)))
	for _, x := range w.read {
		dst = binary.AppendUvarint(dst, x.Number)
		dst = binary.AppendUvarint(dst, uint64(len(x.Counts)))
		for i := range x.Counts {
			c := &x.Counts[i]
			for _, n := range [...]uint64{w.names[c.Offer], w.names[c.Channel], c.Presented, c.Successes} {
				dst = binary.AppendUvarint(dst, n)
			}
		}
	}
	dst = binary.AppendUvarint(dst, uint64(w.n))
	return append(dst, w.rows...)
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// name returns the number of a name.
func (w *BlockWriter) name(s string) uint64 {
	n, ok := w.names[s]
	if !ok {
		n = uint64(len(w.list))
		w.names[s] = n
		w.list = append(w.list, s)
		w.size += len(s) + 2
	}
	return n
}

// fieldList returns the number of a list of fields.
func (w *BlockWriter) fieldList(names []string) uint64 {
	for i, list := range w.fields {
		if len(list) == len(names) && (len(list) == 0 || &list[0] == &names[0] || slices.Equal(list, names)) {
			return uint64(i)
		}
	}
	numbers := make([]uint64, len(names))
	for i, s := range names {
		numbers[i] = w.name(s)
	}
	w.fields, w.index = append(w.fields, names), append(w.index, numbers)
	w.size += 2 * len(names)
	return uint64(len(w.index) - 1)
}

// evidence returns the number of a reading, from 1; 0 for none.
func (w *BlockWriter) evidence(x *Evidence) uint64 {
	if x == nil {
		return 0
	}
	for i, y := range slices.Backward(w.read) {
		if x == y || x.Number == y.Number && slices.Equal(x.Counts, y.Counts) {
			return uint64(i + 1)
		}
	}
	for i := range x.Counts {
		w.name(x.Counts[i].Offer)
		w.name(x.Counts[i].Channel)
	}
	w.read = append(w.read, x)
	w.size += 4 + 6*len(x.Counts)
	return uint64(len(w.read))
}

// Add encodes a record. It keeps nothing of it but r.Fields and r.Evidence, which must not
// be changed.
func (w *BlockWriter) Add(r *Record) {
	e := encoder{w, w.one[:0]}
	e.record(r)
	w.one = e.b
	w.rows = append(binary.AppendUvarint(w.rows, uint64(len(e.b))), e.b...)
	w.n++
}

// encoder appends parts of a record.
type encoder struct {
	w *BlockWriter
	b []byte
}

func (e *encoder) number(n int)        { e.b = binary.AppendUvarint(e.b, uint64(n)) }
func (e *encoder) uint64(n uint64)     { e.b = binary.LittleEndian.AppendUint64(e.b, n) }
func (e *encoder) uvarint(n uint64)    { e.b = binary.AppendUvarint(e.b, n) }
func (e *encoder) varint(n int64)      { e.b = binary.AppendVarint(e.b, n) }
func (e *encoder) name(s string)       { e.b = binary.AppendUvarint(e.b, e.w.name(s)) }
func (e *encoder) text(s string)       { e.b = appendText(e.b, s) }
func (e *encoder) float(f float64)     { e.uint64(math.Float64bits(f)) }
func (e *encoder) flags(flags ...bool) { e.b = append(e.b, packed(flags)) }
func (e *encoder) ranker(r Ranker)     { e.name(r.Name); e.name(r.Version); e.name(r.Digest) }
func (e *encoder) value(v profilestore.Value) {
	e.b, _ = v.AppendBinary(e.b) // it never fails
}

func packed(flags []bool) (b byte) {
	for i, set := range flags {
		if set {
			b |= 1 << i
		}
	}
	return b
}

func (e *encoder) record(r *Record) {
	e.b = append(e.b, r.ID[:]...)
	e.uint64(r.Hash)
	e.flags(r.Blocked, r.Many, r.OneContact, r.Profile != nil, r.Unreserved != "", r.Customer != r.Identity, r.PendingRead)
	e.number(r.Pipeline)
	e.varint(r.Time)
	e.varint(r.Took)
	e.uint64(r.Seed)
	e.text(r.Identity)
	if r.Customer != r.Identity {
		e.text(r.Customer)
	}
	if r.Unreserved != "" {
		e.text(r.Unreserved)
	}
	e.varint(r.Catalog)
	e.name(r.Schema)
	e.number(len(r.Tables))
	for _, t := range r.Tables {
		e.name(t.Name)
		e.varint(t.Number)
	}
	e.uvarint(e.w.fieldList(r.Fields))
	if r.Profile != nil {
		e.profile(r)
	}
	e.b, _ = r.History.AppendBinary(e.b) // it never fails
	e.number(len(r.Pending))
	for i := range r.Pending {
		e.contact(&r.Pending[i])
	}
	e.uvarint(e.w.fieldList(r.ContextFields))
	for _, v := range r.Context {
		e.value(v)
	}
	e.number(len(r.Loads))
	for _, x := range r.Loads {
		e.name(x.Channel)
		e.float(x.Value)
	}
	e.uvarint(e.w.evidence(r.Evidence))
	e.number(len(r.Places))
	for _, p := range r.Places {
		e.name(p.Capacity)
		e.name(p.Offer)
		e.name(p.Channel)
		e.flags(p.Taken)
	}
	e.number(len(r.At))
	for i := range r.At {
		e.touchpoint(&r.At[i])
	}
}

func (e *encoder) profile(r *Record) {
	p := r.Profile
	e.flags(p.Known)
	e.uvarint(p.DeltaVersion)
	e.uvarint(p.IdentityEpoch)
	e.number(len(p.Snapshots))
	for _, s := range p.Snapshots {
		e.name(s.Source)
		e.varint(s.Generation)
		e.flags(s.HasRow)
	}
	for _, v := range r.Values {
		e.value(v)
	}
}

func (e *encoder) contact(c *decide.Contact) {
	e.varint(c.Time)
	e.name(c.Channel)
	e.name(c.Touchpoint)
	e.number(len(c.Items))
	for i := range c.Items {
		e.name(c.Items[i].Offer)
		e.name(c.Items[i].Group)
		e.name(c.Items[i].Class)
	}
}

func (e *encoder) touchpoint(t *Touchpoint) {
	e.name(t.ID)
	e.name(t.Scenario)
	e.number(t.Slots)
	e.flags(t.RankedBy != t.Strategy)
	e.ranker(t.Strategy)
	if t.RankedBy != t.Strategy {
		e.ranker(t.RankedBy)
	}
	e.varint(t.FuelLimit)
	e.varint(t.FuelUsed)
	e.number(len(t.Degradations))
	for _, d := range t.Degradations {
		e.b = append(e.b, byte(d.Step))
		e.text(d.Detail)
	}
	e.number(len(t.Reasons))
	for _, r := range t.Reasons {
		e.b = append(e.b, byte(r))
	}
	e.number(len(t.Details))
	for _, d := range t.Details {
		e.number(d.Place)
		e.name(d.By)
		e.varint(d.Until)
	}
	e.number(len(t.Slate))
	for i := range t.Slate {
		p := &t.Slate[i]
		e.flags(p.Fallback, p.Probability != 1)
		e.name(p.Offer)
		e.name(p.Channel)
		e.text(p.Content)
		e.text(p.Script)
		e.name(p.Reason)
		for _, f := range [...]float64{p.Score, p.Propensity, p.Value, p.Weight, p.Lever} {
			e.float(f)
		}
		if p.Probability != 1 {
			e.float(p.Probability)
		}
	}
}

// ErrDamaged means that bytes are not what was written.
var ErrDamaged = errors.New("decision log: damaged")

// Block is a block that is read.
type Block struct {
	names  []string
	fields [][]string
	read   []*Evidence
	rows   [][]byte
}

// ReadBlock reads the bytes of a block and keeps them. An error wraps ErrDamaged.
func ReadBlock(b []byte) (*Block, error) {
	d := decoder{b: b}
	x := new(Block)
	x.names = make([]string, d.count(1))
	for i := range x.names {
		x.names[i] = d.text()
	}
	d.names = x.names
	x.fields = make([][]string, d.count(1))
	for i := range x.fields {
		x.fields[i] = make([]string, d.count(1))
		for k := range x.fields[i] {
			x.fields[i][k] = d.name()
		}
	}
	x.read = make([]*Evidence, d.count(2))
	for i := range x.read {
		x.read[i] = &Evidence{Number: d.uvarint(), Counts: make([]EvidenceCount, d.count(4))}
		for k := range x.read[i].Counts {
			x.read[i].Counts[k] = EvidenceCount{d.name(), d.name(), d.uvarint(), d.uvarint()}
		}
	}
	x.rows = make([][]byte, d.count(minRecord))
	for i := range x.rows {
		if x.rows[i] = d.bytes(d.count(1)); len(x.rows[i]) < minRecord {
			d.bad = true
		}
	}
	if d.bad || len(d.b) > 0 {
		return nil, fmt.Errorf("%w: not a block of records", ErrDamaged)
	}
	return x, nil
}

// minRecord is how many bytes a record has at least: its id and its customer's hash.
const minRecord = 24

// Len returns how many records the block has.
func (x *Block) Len() int { return len(x.rows) }

// ID returns the id of a record, and Hash the hash of its customer, without decoding it.
func (x *Block) ID(i int) ulid.ULID { return ulid.ULID(x.rows[i][:16]) }

// Hash returns the hash of a record's customer: see ID.
func (x *Block) Hash(i int) uint64 { return binary.LittleEndian.Uint64(x.rows[i][16:]) }

// Record decodes a record into r. What r has is overwritten; r shares memory with the
// block. An error wraps ErrDamaged.
func (x *Block) Record(i int, r *Record) error {
	d := decoder{b: x.rows[i], names: x.names, read: x.read}
	*r = Record{}
	d.record(r, x.fields)
	if d.bad || len(d.b) > 0 {
		return fmt.Errorf("%w: not a record", ErrDamaged)
	}
	return nil
}

// decoder takes bytes apart. After the first mistake it is bad and returns zeros.
type decoder struct {
	b     []byte
	names []string
	read  []*Evidence
	bad   bool
}

func (d *decoder) bytes(n int) []byte {
	if d.bad || n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads a count of things of at least size bytes each, so that a damaged one
// can't make the caller allocate more than the block could hold.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/size) {
		d.bad, d.b = true, nil
		return 0
	}
	return int(n)
}

// small reads a number that is no count.
func (d *decoder) small() int {
	n := d.uvarint()
	if n > math.MaxInt32 {
		d.bad = true
		return 0
	}
	return int(n)
}

func (d *decoder) uint64() uint64 {
	if b := d.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) byte() byte {
	if b := d.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) float() float64 { return math.Float64frombits(d.uint64()) }
func (d *decoder) text() string   { return string(d.bytes(d.count(1))) }
func (d *decoder) ranker() Ranker { return Ranker{d.name(), d.name(), d.name()} }

func (d *decoder) name() string {
	n := d.uvarint()
	if n >= uint64(len(d.names)) {
		d.bad = true
		return ""
	}
	return d.names[n]
}

func (d *decoder) flags(into ...*bool) {
	b := d.byte()
	for i, p := range into {
		*p = b&(1<<i) != 0
	}
}

func (d *decoder) value() (v profilestore.Value) {
	var err error
	if v, d.b, err = profilestore.DecodeValue(d.b); err != nil {
		d.bad = true
	}
	return v
}

func (d *decoder) record(r *Record, lists [][]string) {
	copy(r.ID[:], d.bytes(len(r.ID)))
	r.Hash = d.uint64()
	var profile, unreserved, named bool
	d.flags(&r.Blocked, &r.Many, &r.OneContact, &profile, &unreserved, &named, &r.PendingRead)
	r.Pipeline = d.small()
	r.Time, r.Took, r.Seed = d.varint(), d.varint(), d.uint64()
	r.Identity = d.text()
	if r.Customer = r.Identity; named {
		r.Customer = d.text()
	}
	if unreserved {
		r.Unreserved = d.text()
	}
	r.Catalog, r.Schema = d.varint(), d.name()
	r.Tables = make([]Version, d.count(2))
	for i := range r.Tables {
		r.Tables[i] = Version{d.name(), d.varint()}
	}
	r.Fields = d.list(lists)
	if profile {
		d.profile(r)
	}
	if d.bad {
		return
	}
	var err error
	if r.History, d.b, err = profilestore.DecodeHistory(d.b, r.Time); err != nil {
		d.bad = true
	}
	r.Pending = make([]decide.Contact, d.count(4))
	for i := range r.Pending {
		r.Pending[i] = d.contact()
	}
	r.ContextFields = d.list(lists)
	r.Context = d.values(len(r.ContextFields))
	r.Loads = make([]Load, d.count(9))
	for i := range r.Loads {
		r.Loads[i] = Load{d.name(), d.float()}
	}
	switch n := d.uvarint(); {
	case n > uint64(len(d.read)):
		d.bad = true
	case n > 0:
		r.Evidence = d.read[n-1]
	}
	r.Places = make([]PlaceAsked, d.count(4))
	for i := range r.Places {
		p := &r.Places[i]
		p.Capacity, p.Offer, p.Channel = d.name(), d.name(), d.name()
		d.flags(&p.Taken)
	}
	r.At = make([]Touchpoint, d.count(8))
	for i := range r.At {
		d.touchpoint(&r.At[i])
	}
}

func (d *decoder) profile(r *Record) {
	p := new(ProfileState)
	r.Profile = p
	d.flags(&p.Known)
	p.DeltaVersion, p.IdentityEpoch = d.uvarint(), d.uvarint()
	p.Snapshots = make([]Snapshot, d.count(3))
	for i := range p.Snapshots {
		s := &p.Snapshots[i]
		s.Source, s.Generation = d.name(), d.varint()
		d.flags(&s.HasRow)
	}
	r.Values = d.values(len(r.Fields))
}

// list reads the number of a list of names.
func (d *decoder) list(lists [][]string) []string {
	n := d.uvarint()
	if n >= uint64(len(lists)) {
		d.bad = true
		return nil
	}
	return lists[n]
}

// values reads so many values, of at least a byte each.
func (d *decoder) values(n int) []profilestore.Value {
	if d.bad || n > len(d.b) {
		d.bad = true
		return nil
	}
	out := make([]profilestore.Value, n)
	for i := range out {
		out[i] = d.value()
	}
	return out
}

func (d *decoder) contact() (c decide.Contact) {
	c.Time, c.Channel, c.Touchpoint = d.varint(), d.name(), d.name()
	c.Items = make([]profilestore.Item, d.count(3))
	for i := range c.Items {
		c.Items[i] = profilestore.Item{Offer: d.name(), Group: d.name(), Class: d.name()}
	}
	return c
}

func (d *decoder) touchpoint(t *Touchpoint) {
	t.ID, t.Scenario, t.Slots = d.name(), d.name(), d.small()
	var other bool
	d.flags(&other)
	t.Strategy = d.ranker()
	if t.RankedBy = t.Strategy; other {
		t.RankedBy = d.ranker()
	}
	t.FuelLimit, t.FuelUsed = d.varint(), d.varint()
	t.Degradations = make([]Degradation, d.count(2))
	for i := range t.Degradations {
		t.Degradations[i] = Degradation{decide.Step(d.byte()), d.text()}
	}
	reasons := d.bytes(d.count(1))
	t.Reasons = make([]decide.Reason, len(reasons))
	for i, b := range reasons {
		t.Reasons[i] = decide.Reason(b)
		d.bad = d.bad || !t.Reasons[i].Valid()
	}
	t.Details = make([]decide.Detail, d.count(3))
	for i := range t.Details {
		t.Details[i] = decide.Detail{Place: d.small(), By: d.name(), Until: d.varint()}
	}
	t.Slate = make([]Placement, d.count(40))
	for i := range t.Slate {
		p := &t.Slate[i]
		var uncertain bool
		d.flags(&p.Fallback, &uncertain)
		p.Offer, p.Channel, p.Content, p.Script, p.Reason = d.name(), d.name(), d.text(), d.text(), d.name()
		for _, f := range [...]*float64{&p.Score, &p.Propensity, &p.Value, &p.Weight, &p.Lever} {
			*f = d.float()
		}
		if p.Probability = 1; uncertain {
			p.Probability = d.float()
		}
	}
}
