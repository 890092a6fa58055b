package backup

import (
	"errors"
	"fmt"
	"os"
	"time"

	"rapport/profilestore/durable"
)

// PruneOptions say which backups stay. Folder is needed, and Keep or KeepFor. A backup stays if one of them
// says so.
type PruneOptions struct {
	Folder  string
	Keep    int           // so many of the newest, not counting those with problems
	KeepFor time.Duration // those that are not older
	Now     time.Time     // time.Now() if zero
	// DryRun only says what would be removed.
	DryRun bool
}

// Pruned is what Prune has removed, or would.
type Pruned struct {
	Removed []Listed
	Kept    []Listed
	Freed   Amount
}

// Prune removes backups, and the pieces that no other backup has. The newest without
// problems always stays. While the manifest of a backup can't be read nothing is removed,
// since nobody knows which pieces it has.
func Prune(o PruneOptions) (_ *Pruned, err error) {
	if o.Keep < 0 || o.KeepFor < 0 || o.Keep == 0 && o.KeepFor == 0 {
		return nil, errors.New("nothing says which backups stay: give their number or for how long")
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	f, err := open(o.Folder, true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	list, err := f.list()
	if err != nil {
		return nil, err
	}
	for _, b := range list {
		if b.Err != nil {
			return nil, fmt.Errorf("nothing was removed, since nobody knows what a backup needs whose manifest can't be read: %w; if it is to be given up, remove %s", b.Err, f.path(backupsFolder, b.ID))
		}
	}
	p := o.choose(list)
	if !o.DryRun {
		if err := f.clean(); err != nil {
			return nil, err
		}
		for _, b := range p.Removed {
			if err := os.Remove(f.path(backupsFolder, b.ID)); err != nil {
				return nil, fmt.Errorf("folder of backups: %w", err)
			}
		}
		// Before the pieces: a backup that is there has all of its pieces.
		if err := durable.SyncDir(f.path(backupsFolder)); err != nil {
			return nil, fmt.Errorf("folder of backups: %w", err)
		}
	}
	if p.Freed, err = f.sweep(p.Kept, o.DryRun); err != nil {
		return nil, fmt.Errorf("folder of backups: %w", err)
	}
	return p, nil
}

// choose decides which backups stay.
func (o *PruneOptions) choose(list []Listed) *Pruned {
	p := new(Pruned)
	stay := make([]bool, len(list))
	good := 0
	for i := len(list) - 1; i >= 0; i-- {
		m := list[i].Manifest
		sound := len(m.Problems) == 0
		if sound {
			good++
		}
		stay[i] = sound && good <= max(o.Keep, 1) ||
			!sound && good < o.Keep || // beside those that count
			good == 0 || // nothing better is newer
			o.KeepFor > 0 && o.Now.Sub(m.Ended) <= o.KeepFor
	}
	for i, b := range list {
		if stay[i] {
			p.Kept = append(p.Kept, b)
		} else {
			p.Removed = append(p.Removed, b)
		}
	}
	return p
}

// sweep removes the pieces that none of these backups has, and whatever else lies among
// them.
func (f *folder) sweep(list []Listed, dry bool) (removed Amount, err error) {
	used := make(map[hash]bool)
	for _, b := range list {
		for i := range b.Manifest.Files {
			for _, h := range b.Manifest.Files[i].Pieces {
				used[h] = true
			}
		}
	}
	var unused []string
	err = f.objects(func(path string, h hash, ok bool, size int64) error {
		if !ok || !used[h] {
			unused = append(unused, path)
			removed.Pieces++
			removed.Bytes += size
		}
		return nil
	})
	if err != nil || dry {
		return removed, err
	}
	for _, path := range unused {
		if err := os.Remove(path); err != nil {
			return removed, err
		}
	}
	return removed, nil
}
