package ledger

import (
	"cmp"
	"slices"
)

// keptPeriods is how many periods of a capacity are remembered.
const keptPeriods = 8

// pool is a capacity with periods of one length. A capacity whose periods change their
// length counts anew; when they change back it finds its counts. A new maximum is a new
// maximum: nothing is taken away by it, and a place is given when fewer are taken.
//
// The last periods are remembered, not only the present one: an outcome takes the place
// in the period in which it was reserved, and the clock may step back into a period of
// which places are gone. Of a period that is no longer remembered no place is given.
type pool struct {
	key     poolKey
	floor   int64     // what begins then or before is forgotten, except for 0
	periods []*period // by begin
}

type poolKey struct {
	capacity string
	period   uint8
}

// period is a period of a capacity.
type period struct {
	pool     *pool
	begin    int64
	taken    int64      // for good
	reserved int64      // by reservations that were not removed, and by holds
	expiry   expiryHeap // of the reservations
}

// at returns a period of a capacity, nil if it is forgotten. One that is not there yet
// is made.
func (l *Ledger) at(key poolKey, begin int64) *period {
	q := l.pools[key]
	if q == nil {
		q = &pool{key: key}
		l.pools[key] = q
	}
	i, ok := slices.BinarySearchFunc(q.periods, begin, func(p *period, begin int64) int { return cmp.Compare(p.begin, begin) })
	if ok {
		return q.periods[i]
	}
	if begin != 0 && begin <= q.floor {
		return nil
	}
	p := &period{pool: q, begin: begin}
	q.periods = slices.Insert(q.periods, i, p)
	return p
}

// shorten forgets the first periods of too many, as long as nothing is reserved in them.
func (l *Ledger) shorten(q *pool) {
	for len(q.periods) > keptPeriods {
		i := 0
		if q.periods[0].begin == 0 {
			i = 1
		}
		p := q.periods[i]
		if l.drain(p); p.reserved > 0 {
			return
		}
		q.floor = max(q.floor, p.begin)
		q.periods = slices.Delete(q.periods, i, i+1)
	}
}

// drain ends what has expired of a period.
func (l *Ledger) drain(p *period) {
	for l.drainOne(p) {
	}
}

// drainOne ends one reservation that has expired, and reports false if there is none.
func (l *Ledger) drainOne(p *period) bool {
	if len(p.expiry) == 0 || p.expiry[0].expires > l.clock {
		return false
	}
	if r := p.expiry.pop(); !r.ended {
		l.expire(r)
	}
	return true
}

// take takes a place if fewer than most are taken and reserved.
func (l *Ledger) take(key poolKey, begin, most int64) *period {
	if most > 0 {
		if p := l.at(key, begin); p != nil {
			for p.taken+p.reserved >= most && l.drainOne(p) {
			}
			if p.taken+p.reserved < most {
				p.reserved++
				l.counts.Places++
				l.shorten(p.pool)
				return p
			}
		}
	}
	l.counts.Refused++
	return nil
}

// give gives a place back that nobody has reserved yet.
func (l *Ledger) give(p *period) {
	p.reserved--
	l.counts.Places--
}

// Free returns how many places are free, for a decision that takes none. It sees places
// of decisions that are under way as taken.
func (l *Ledger) Free(p Place, most int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.pools[poolKey{p.Capacity, p.Period}]
	if q == nil {
		return max(most, 0)
	}
	if p.Begin != 0 && p.Begin <= q.floor && !slices.ContainsFunc(q.periods, func(x *period) bool { return x.begin == p.Begin }) {
		return 0
	}
	for _, x := range q.periods {
		if x.begin == p.Begin {
			l.drain(x)
			most -= x.taken + x.reserved
		}
	}
	return max(most, 0)
}
