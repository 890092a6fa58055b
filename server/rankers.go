package server

import (
	"context"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"rapport/server/decide"
)

// The rankers in front of the sandbox. Which of them a scenario has is decided
// when its strategies are bound, so that a decision pays for what is in service
// and nothing else:
//
//	sharing ─┬─ live ─► counted ─► sandbox.Strategy
//	         └─ candidate ─► counted ─► sandbox.Strategy
//	shadowed ── live ─► counted ─► sandbox.Strategy, and a copy to the shadow

// counted counts what a version does.
type counted struct {
	decide.Ranker
	counts *counts
}

// Rank ranks and counts.
func (c counted) Rank(ctx context.Context, q *decide.Ranking) error {
	err := c.Ranker.Rank(ctx, q)
	c.counts.rank(q.FuelUsed, err)
	return err
}

// unavailable stands where a version should rank that can't be used. It always
// fails, so each decision says that the built-in arbitration ranked in the
// version's place.
type unavailable struct {
	info decide.RankerInfo
}

// Info says who should rank.
func (u unavailable) Info() decide.RankerInfo { return u.info }

// Rank fails.
func (u unavailable) Rank(context.Context, *decide.Ranking) error {
	return fmt.Errorf("%w: %s %s; the server is not ready, and says why", errStrategyUnavailable, u.info.Name, u.info.Version)
}

// sharing lets a candidate rank for a share of the customers, and the live version
// for the others.
//
// Whether a customer is in the share follows from a hash of the customer and of a
// salt that is fixed for the name and version of the candidate: the same on every
// server and after every restart. A larger share adds customers and takes nobody
// away, as the hash is compared with the share. With the next candidate the salt is
// another, so it is not always the same customers who meet what is new. A table of
// customers instead would have to be kept, and would not know those who come later.
type sharing struct {
	decide.Ranker // the live version

	candidate decide.Ranker
	salt      uint64
	share     float64 // 0 to 1
}

func newSharing(live, candidate decide.Ranker, percent float64) sharing {
	info := candidate.Info()
	return sharing{live, candidate, shareSalt(info.Name, info.Version), percent / 100}
}

// Choose returns who ranks for a customer.
func (s sharing) Choose(customer uint64) decide.Ranker {
	if inShare(customer, s.salt, s.share) {
		return s.candidate
	}
	return s.Ranker
}

// customerHash is the hash of a customer's common name, from which follows who is
// in a share. It must never change, nor must shareSalt and inShare.
func customerHash(name string) uint64 { return xxhash.Sum64String(name) }

// shareSalt returns the salt of a candidate. Neither names nor versions contain
// spaces.
func shareSalt(name, version string) uint64 {
	return xxhash.Sum64String("rapport share " + name + " " + version)
}

// inShare reports whether a customer is in a share of 0 to 1.
func inShare(customer, salt uint64, share float64) bool {
	return float64(mix64(customer^salt)>>11)*0x1p-53 < share
}

// mix64 spreads a number over all its bits (the finaliser of MurmurHash3, Appleby).
func mix64(z uint64) uint64 {
	z = (z ^ z>>33) * 0xff51afd7ed558ccd
	z = (z ^ z>>33) * 0xc4ceb9fe1a85ec53
	return z ^ z>>33
}
