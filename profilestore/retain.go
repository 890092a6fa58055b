package profilestore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"rapport/profilestore/backuplock"
	"rapport/profilestore/journal"
)

// retention removes what has become too old of the journal.
type retention struct {
	stop context.CancelFunc
	wait sync.WaitGroup

	removed, failures atomic.Uint64
}

// retainLook is how often it is looked at. A file of the journal is some minutes' or days' worth.
const retainLook = 10 * time.Minute

// start begins to remove what is older than keep, if that is not 0. Where something has
// been removed and there is no base that can be used, it writes one.
func (r *retention) start(s *Store, keep time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	if keep <= 0 && (s.journal.First() == 1 || s.newest.Load() != nil) {
		return
	}
	r.wait.Go(func() {
		look := time.NewTicker(retainLook)
		defer look.Stop()
		for {
			if err := s.retain(ctx, keep); err != nil && ctx.Err() == nil {
				r.failures.Add(1)
				s.log.Warn("the beginning of the journal can't be removed; it is tried again", "every", retainLook, "error", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-look.C:
			}
		}
	})
}

func (r *retention) halt() {
	if r.stop != nil {
		r.stop()
	}
	r.wait.Wait()
}

func (s *Store) retain(ctx context.Context, keep time.Duration) error {
	if s.journal.First() > 1 && s.newest.Load() == nil {
		if _, err := s.writeBase(ctx, WriteBaseOptions{Gentle: true}); err != nil {
			return err
		}
	}
	if keep <= 0 {
		return nil
	}
	_, err := s.Retain(ctx, time.Now().Add(-keep))
	return err
}

// Retain removes the files of the journal that were last written before a time, whole
// ones and never the last, and returns them. What they say is in a base by then, which is
// written if there is none of the present schema that has it all. Nothing is removed that
// a restart or the observer would need, and nothing while a backup is under way.
//
// Then the delta records can be derived from the base and the rest of the journal as
// before. What can't be had any more is what the removed part says to a field that
// did not exist, or meant something else, when the base was written.
func (s *Store) Retain(ctx context.Context, before time.Time) ([]journal.Segment, error) {
	segments, err := s.journal.Segments()
	if err != nil {
		return nil, err
	}
	next := uint64(0)
	for _, x := range segments[:len(segments)-1] {
		if !x.Written.Before(before) {
			break
		}
		next = x.Next
	}
	if next == 0 {
		return nil, nil
	}
	if err := s.coverBase(ctx, next-1); err != nil {
		return nil, err
	}
	if err := s.checkpoint(ctx); err != nil {
		return nil, err
	}
	limit := min(next, s.newest.Load().Position+1, s.checkpoints.at.Load()+1)
	if to := s.observer.to; to != nil {
		limit = min(limit, to.Kept()+1)
	}
	release, err := backuplock.Removal(s.dir)
	if err != nil {
		return nil, fmt.Errorf("profilestore: %w", err)
	}
	if release == nil {
		s.log.Info("the beginning of the journal is removed later: a backup is under way")
		return nil, nil
	}
	defer release()
	removed, err := s.journal.RemoveBefore(limit)
	s.retention.removed.Add(uint64(len(removed)))
	if errors.Is(err, journal.ErrReading) {
		return nil, nil // the next time
	}
	return removed, err
}

// coverBase sees to it that there is a base of the present schema that stands for the
// journal up to an entry, and that all of it can be read.
func (s *Store) coverBase(ctx context.Context, upTo uint64) error {
	if b := s.newest.Load(); b != nil && b.Position >= upTo && b.Schema == s.schema.ID() {
		err := s.verifyBase(ctx, b)
		if _, damaged := errors.AsType[*BaseError](err); !damaged {
			return err
		}
		s.log.Error("the base of the delta records is damaged; a new one is written", "error", err)
	}
	b, err := s.writeBase(ctx, WriteBaseOptions{Gentle: true})
	if b == nil {
		return err
	}
	if err != nil {
		s.log.Warn("an old base can't be removed", "error", err)
	}
	s.log.Info("wrote a base of the delta records", "file", b.Path, "position", b.Position, "records", b.Records, "bytes", b.Bytes)
	return s.verifyBase(ctx, b)
}

// verifyBase reads a base, once in the store's life.
func (s *Store) verifyBase(ctx context.Context, b *BaseInfo) error {
	if s.verified.Load() == b {
		return nil
	}
	x, err := openBase(s.dir)
	if err != nil {
		return err
	}
	if x == nil || x.info.Path != b.Path {
		return fmt.Errorf("profilestore: the base %s has vanished", b.Path)
	}
	defer x.close()
	if err := x.verify(ctx, nil); err != nil {
		return err
	}
	s.verified.Store(b)
	return nil
}

// openNewestBase looks for a base. One that is damaged is none, and told of.
func (s *Store) openNewestBase() error {
	if err := removeUnfinished(s.dir); err != nil {
		s.log.Warn("a base that was not finished can't be removed; it takes room and no more", "error", err)
	}
	b, err := openBase(s.dir)
	if _, ok := errors.AsType[*BaseError](err); ok {
		s.log.Error("the base of the delta records can't be used; a new one is written if they are there", "error", err)
		return nil
	}
	if err != nil || b == nil {
		return err
	}
	b.close()
	s.newest.Store(&b.info)
	return nil
}
