package profilestore

import (
	"encoding/binary"
	"errors"
	"math"
)

// withLater is set in the first byte of a history that has what is dated later.
const withLater = 0x80

// AppendBinary appends the history in a form that [DecodeHistory] reads: one byte where
// there is none. It implements encoding.BinaryAppender.
func (h History) AppendBinary(dst []byte) ([]byte, error) {
	n := 0
	for _, m := range h.members {
		if m != nil {
			n++
		}
	}
	if h.later {
		n |= withLater
	}
	dst = append(dst, byte(n))
	for _, m := range h.members {
		if m != nil {
			dst = m.append(dst)
		}
	}
	return dst, nil
}

// DecodeHistory reads a history that [History.AppendBinary] wrote, as it is at a moment,
// microseconds since the Unix epoch, and returns what follows it. It keeps nothing of b.
func DecodeHistory(b []byte, now int64) (h History, rest []byte, err error) {
	r := reader{b: b}
	h.now = now
	n := int(r.byte())
	if h.later = n&withLater != 0; h.later {
		n &^= withLater
	}
	if n > len(h.members) {
		return History{}, nil, errNotAHistory
	}
	for i := range n {
		if h.members[i] = r.history(); h.members[i] == nil {
			return History{}, nil, errNotAHistory
		}
	}
	if r.bad {
		return History{}, nil, errNotAHistory
	}
	return h, r.b, nil
}

var errNotAHistory = errors.New("profilestore: not an encoded history")

// append appends the record's section of the history: one byte where there is none.
func (h *history) append(dst []byte) []byte {
	if h == nil {
		return append(dst, 0)
	}
	number := func(n uint64) { dst = binary.AppendUvarint(dst, n) }
	number(uint64(len(h.sigs)))
	number(uint64(len(h.texts)))
	number(uint64(h.textBytes))
	for _, s := range h.texts {
		number(uint64(len(s)))
	}
	for _, s := range h.texts {
		dst = append(dst, s...)
	}
	for i := range h.sigs {
		s := &h.sigs[i]
		number(uint64(s.outcome))
		number(uint64(s.channel))
		number(uint64(s.touchpoint))
		number(uint64(s.to - s.from))
		for _, x := range h.itemsOf(s) {
			number(uint64(x.offer))
			number(uint64(x.group))
			number(uint64(x.class))
		}
	}
	number(uint64(len(h.raw)))
	dst = binary.AppendVarint(dst, h.raw[0].time)
	before := h.raw[0].time
	for _, r := range h.raw {
		number(uint64(r.time - before))
		number(uint64(r.sig))
		before = r.time
	}
	dst = append(dst, h.level)
	number(uint64(h.cut - h.reach()))
	number(uint64(len(h.cells)))
	day := h.cut
	for _, c := range h.cells {
		number(uint64(int64(c.day) - day))
		number(uint64(c.sig))
		number(uint64(c.n))
		day = int64(c.day)
	}
	for _, list := range [...][]total{h.totals, h.parts} {
		number(uint64(len(list)))
		for _, t := range list {
			number(uint64(t.sig))
			number(t.n)
			dst = binary.AppendVarint(dst, t.last)
			number(uint64(t.last - t.first))
		}
	}
	return dst
}

// history reads what append wrote.
func (r *reader) history() *history {
	n := r.count(4)
	if n == 0 {
		return nil
	}
	h := &history{sigs: make([]signature, n), items: make([]itemRefs, 0, n)}
	r.historyTexts(h)
	for i := range h.sigs {
		s := &h.sigs[i]
		s.outcome, s.channel, s.touchpoint = r.ref(h), r.ref(h), r.ref(h)
		s.from = uint32(len(h.items))
		for k := range r.count(3) {
			x := itemRefs{r.ref(h), r.ref(h), r.ref(h)}
			if k > 0 && x.compare(h.items[len(h.items)-1]) <= 0 {
				r.fail()
			}
			h.items = append(h.items, x)
		}
		s.to = uint32(len(h.items))
		if i > 0 && h.compare(h.sigs[i-1], *s) >= 0 {
			r.fail()
		}
	}
	h.raw = make([]rawInteraction, r.count(2))
	before := rawInteraction{time: r.varint()}
	for i := range h.raw {
		x := rawInteraction{time: before.time + int64(r.uvarint()), sig: r.sig(h)}
		if x.compare(before) < 0 {
			r.fail()
		}
		h.raw[i], before = x, x
	}
	if h.level = r.byte(); h.level > levelItems || len(h.raw) == 0 || before.time > maxTime || h.raw[0].time < minTime {
		r.fail()
		return nil
	}
	reach := h.reach()
	if h.cut = reach + int64(r.uvarint()); h.cut < reach {
		r.fail()
	}
	r.historyCells(h)
	h.totals, h.parts = r.totals(h), r.totals(h)
	if r.bad {
		return nil
	}
	return h
}

func (r *reader) historyTexts(h *history) {
	lengths := make([]int, r.count(2))
	size := r.count(1)
	for i := range lengths {
		lengths[i] = r.count(1)
	}
	all := string(r.bytes(size))
	h.texts = make([]string, len(lengths))
	for i, n := range lengths {
		if n == 0 || n > len(all) {
			r.fail()
			return
		}
		h.texts[i], all = all[:n], all[n:]
		if i > 0 && h.texts[i] <= h.texts[i-1] {
			r.fail()
		}
	}
	if len(all) > 0 {
		r.fail()
	}
	h.textBytes = size
}

func (r *reader) historyCells(h *history) {
	h.cells = make([]dayCell, r.count(3))
	day := h.cut
	for i := range h.cells {
		if day += int64(r.uvarint()); day < h.cut || day > math.MaxInt32 {
			r.fail()
		}
		c := dayCell{day: int32(day), sig: r.sig(h)}
		n := r.uvarint()
		if c.n = uint32(n); n == 0 || n > math.MaxUint32 || i > 0 && c.compare(h.cells[i-1]) <= 0 {
			r.fail()
		}
		if r.bad {
			return
		}
		h.cells[i] = c
		h.cellCost += h.cost(c.sig)
	}
}

func (r *reader) totals(h *history) []total {
	list := make([]total, r.count(4))
	for i := range list {
		t := total{sig: r.sig(h), n: r.uvarint(), last: r.varint()}
		t.first = t.last - int64(r.uvarint())
		if t.n == 0 || t.n > math.MaxInt64 || t.first > t.last || t.first < minTime || t.last > maxTime || i > 0 && t.sig <= list[i-1].sig {
			r.fail()
		}
		list[i] = t
	}
	return list
}

// ref reads a ref into the names of a history.
func (r *reader) ref(h *history) ref {
	v := r.uvarint()
	if v > uint64(len(h.texts)) {
		r.fail()
		return 0
	}
	return ref(v)
}

// sig reads the place of a signature.
func (r *reader) sig(h *history) uint32 {
	v := r.uvarint()
	if v >= uint64(len(h.sigs)) {
		r.fail()
		return 0
	}
	return uint32(v)
}

func (r *reader) fail() { r.bad, r.b = true, nil }
