package profilestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rapport/profilestore/journal"
)

// JournalVerification is what VerifyJournal found.
type JournalVerification struct {
	Journal *journal.Verification
	Base    *BaseInfo // nil if there is none, or it can't be opened
	// BaseError is what is wrong with the base, nil if nothing is.
	BaseError error
	// Missing says that the journal's beginning has been removed, and that there is no base
	// that can be used.
	Missing bool
}

// VerifyJournal reads all of the journal of a data folder, and of its base, which a server
// may have open, and finds every damage. It changes nothing. progress, if set, is called
// now and then with how many bytes of all have been read.
func VerifyJournal(ctx context.Context, dir string, progress func(done, total int64)) (*JournalVerification, error) {
	v := &JournalVerification{}
	b, err := openBase(dir)
	if _, damaged := errors.AsType[*BaseError](err); damaged {
		v.BaseError = err
	} else if err != nil {
		return nil, err
	}
	position, err := newestBase(dir) // also one that can't be read says what is known to be removed
	if err != nil {
		return nil, err
	}
	size := int64(0)
	if b != nil {
		defer b.close()
		v.Base, size = &b.info, b.info.Bytes
	}
	o := journal.VerifyOptions{First: position + 1}
	if progress != nil {
		o.Progress = func(done, total int64) { progress(done, total+size) }
	}
	if v.Journal, err = journal.Verify(ctx, filepath.Join(dir, "journal"), o); err != nil {
		return nil, err
	}
	if b != nil {
		read := v.Journal.Bytes
		err := b.verify(ctx, func(done, total int64) {
			if progress != nil {
				progress(read+done, read+total)
			}
		})
		if _, damaged := errors.AsType[*BaseError](err); damaged {
			v.BaseError = err
		} else if err != nil {
			return nil, err
		}
	}
	v.Missing = v.Journal.First > 1 && b == nil
	return v, nil
}

// JournalSegment is a file of the journal, and when the first event in it was logged.
type JournalSegment struct {
	journal.Segment
	Logged int64 // microseconds since the Unix epoch; 0 if it can't be told
}

// ListJournal returns the files of the journal of a data folder, which a server may have
// open, and the base, nil if there is none that can be used.
func ListJournal(ctx context.Context, dir string) ([]JournalSegment, *BaseInfo, error) {
	segments, err := journal.List(filepath.Join(dir, "journal"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	out := make([]JournalSegment, len(segments))
	for i, x := range segments {
		out[i] = JournalSegment{Segment: x}
		err := journal.Read(ctx, filepath.Join(dir, "journal"), x.First, func(seq uint64, payload []byte) error {
			if seq >= x.Next {
				return errEnough
			}
			e, err := decodeEntry(seq, payload)
			if err == nil {
				out[i].Logged = e.Logged()
			}
			return errEnough
		})
		if ctx.Err() != nil {
			return nil, nil, err
		} // else a damaged one is listed as it is
	}
	b, err := openBase(dir)
	if err != nil || b == nil {
		return out, nil, nil // verifying says what is wrong with it
	}
	defer b.close()
	return out, &b.info, nil
}

var errEnough = errors.New("enough")

// JournalEntry is an entry of the journal: an event, or a change of identities.
type JournalEntry struct {
	Seq    uint64
	Event  *Event
	Change *IdentityChange // or else
	logged int64
}

// Logged returns when the entry was logged, microseconds since the Unix epoch.
func (e *JournalEntry) Logged() int64 {
	if e.Event != nil {
		return e.Event.Logged
	}
	return e.logged
}

// Names reports whether an entry is about an identity, which is in canonical form.
func (e *JournalEntry) Names(identity string) bool {
	if e.Event != nil {
		return e.Event.Identity == identity
	}
	return e.Change.A == identity || e.Change.B == identity
}

func decodeEntry(seq uint64, payload []byte) (*JournalEntry, error) {
	if len(payload) > 0 && payload[0] == tiesFormat {
		c, err := decodeTies(payload)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", seq, err)
		}
		return &JournalEntry{Seq: seq, Change: &IdentityChange{Op: c.op, A: c.a, B: c.b, Time: c.time, Reason: c.reason}, logged: c.logged}, nil
	}
	e, err := decodeEvent(payload)
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", seq, err)
	}
	return &JournalEntry{Seq: seq, Event: e}, nil
}

// ReadJournal calls fn for the entries of the journal of a data folder, which a server may
// have open, from number from on, 0 for the first there is. An error of fn ends it.
func ReadJournal(ctx context.Context, dir string, from uint64, fn func(*JournalEntry) error) error {
	return journal.Read(ctx, filepath.Join(dir, "journal"), from, func(seq uint64, payload []byte) error {
		e, err := decodeEntry(seq, payload)
		if err != nil {
			return err
		}
		return fn(e)
	})
}

// JournalLosses returns, in words, what events that the journal does not have any more, as
// it begins with the entry first, have said to fields of a schema that another does not
// have, or gives another meaning: it would be lost.
func JournalLosses(dir string, first uint64, before, after *Schema) ([]string, error) {
	b, err := openBase(dir)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, fmt.Errorf("profilestore: the journal in %s begins with entry %d: %w", dir, first, ErrBaseMissing)
	}
	defer b.close()
	since := "entry " + fmt.Sprint(first)
	if at := firstLogged(dir, first); at != 0 {
		since += " of " + micros(at).Format(time.RFC3339)
	}
	var losses []string
	for i := range b.schema.fields {
		f := &b.schema.fields[i]
		if f.Events == nil {
			continue
		}
		now, ok := before.Lookup(f.Name)
		if !ok || !sameMeaning(f, &before.fields[now]) {
			continue // it has been lost already
		}
		slot, ok := after.Lookup(f.Name)
		switch {
		case !ok:
			losses = append(losses, fmt.Sprintf("%s: what events have said of it before %s, with which the journal begins: that part has been removed, so the field could not be had back", f.Name, since))
		case !sameMeaning(f, &after.fields[slot]):
			losses = append(losses, fmt.Sprintf("%s: what events say of it by its new rule is known from %s on only, with which the journal begins: what is before has been removed", f.Name, since))
		}
	}
	slices.Sort(losses)
	return losses, nil
}

// SayJournalBegins says, in changes that derive a field anew from the journal, from when on
// the journal of a data folder has events, where its beginning has been removed.
func SayJournalBegins(dir string, changes []SchemaChange) error {
	first, err := journal.Begins(filepath.Join(dir, "journal"))
	if err != nil || first == 1 {
		return err
	}
	since := fmt.Sprintf("with all events that it still has, from entry %d on", first)
	if at := firstLogged(dir, first); at != 0 {
		since += fmt.Sprintf(", logged at %s", micros(at).Format(time.RFC3339))
	}
	for i := range changes {
		changes[i].What = strings.ReplaceAll(changes[i].What, sinceItBegan, since)
	}
	return nil
}

// firstLogged returns when an entry of the journal was logged, 0 if that can't be told.
func firstLogged(dir string, seq uint64) (at int64) {
	_ = ReadJournal(context.Background(), dir, seq, func(e *JournalEntry) error {
		at = e.Logged()
		return errEnough
	})
	return at
}
