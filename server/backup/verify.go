package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
)

// VerifyOptions say what to verify. Folder is needed.
type VerifyOptions struct {
	Folder string
	ID     string // of the one backup to verify; all if empty
	// Quick looks only whether everything is there and of the right size.
	Quick bool
	// Discard removes pieces that are damaged, so that the next backup stores them again, as long as the
	// data folder has them.
	Discard bool
	// Progress, if not nil, is called now and then with the bytes looked at, of total.
	Progress func(bytes, total int64)
}

// Verification is what was found.
type Verification struct {
	Backups   []Verified // oldest first
	Objects   Amount     // that were looked at, each once
	Unused    Amount     // that no backup has: of one that was killed; the next backup or Prune takes care of them
	Discarded int
}

// Verified is a backup.
type Verified struct {
	ID     string
	Bytes  int64   // of its files
	Damage []error // by file, the first 20; none if it can be restored
	Files  int     // that are damaged
}

// Damaged returns how many backups can't be restored.
func (v *Verification) Damaged() (n int) {
	for _, b := range v.Backups {
		if len(b.Damage) > 0 {
			n++
		}
	}
	return n
}

// maxDamage is how many damaged files of a backup are named.
const maxDamage = 20

// Verify reads backups and says which can be restored. What is damaged is no error.
func Verify(ctx context.Context, o VerifyOptions) (_ *Verification, err error) {
	f, err := open(o.Folder, o.Discard)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	list, err := f.list()
	if err != nil {
		return nil, err
	}
	v := &verifier{o: o, folder: f, pieces: make(map[hash]*pieceState), out: new(Verification)}
	for _, b := range list {
		v.collect(b.Manifest)
	}
	if err := f.objects(v.object); err != nil {
		return nil, fmt.Errorf("folder of backups: %w", err)
	}
	found := false
	for _, b := range list {
		if o.ID != "" && b.ID != o.ID {
			continue
		}
		found = true
		if err := v.backup(ctx, b); err != nil {
			return nil, err
		}
	}
	if o.ID != "" && !found {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, o.ID)
	}
	return v.out, nil
}

type verifier struct {
	o      VerifyOptions
	folder *folder
	pieces map[hash]*pieceState
	out    *Verification
	total  int64
}

// pieceState is what is known of a piece that some backup has.
type pieceState struct {
	size   int64
	wanted bool // by what is verified
	looked bool
	err    error
}

// collect notes the pieces of a backup.
func (v *verifier) collect(m *Manifest) {
	if m == nil {
		return
	}
	for i := range m.Files {
		file := &m.Files[i]
		for j, h := range file.Pieces {
			p := v.pieces[h]
			if p == nil {
				p = &pieceState{size: file.pieceSize(j)}
				v.pieces[h] = p
			}
			if !p.wanted && (v.o.ID == "" || v.o.ID == m.ID) {
				p.wanted = true
				v.total += p.size
			}
		}
	}
}

// object counts a file among the pieces that no backup has.
func (v *verifier) object(_ string, h hash, ok bool, size int64) error {
	if !ok || v.pieces[h] == nil {
		v.out.Unused.Pieces++
		v.out.Unused.Bytes += size
	}
	return nil
}

// backup verifies a backup.
func (v *verifier) backup(ctx context.Context, b Listed) error {
	out := Verified{ID: b.ID}
	if b.Err != nil {
		out.Damage = []error{b.Err}
		v.out.Backups = append(v.out.Backups, out)
		return nil //nolint:nilerr // it is what was found
	}
	out.Bytes = b.Manifest.Bytes()
	for i := range b.Manifest.Files {
		file := &b.Manifest.Files[i]
		var damage error
		for j, h := range file.Pieces {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := v.piece(h, file.pieceSize(j))
			if err != nil && !errors.Is(err, ErrDamaged) {
				return err
			}
			damage = cmp.Or(damage, err)
		}
		if damage == nil {
			continue
		}
		if out.Files++; out.Files <= maxDamage {
			out.Damage = append(out.Damage, fmt.Errorf("%s: %w", file.Path, damage))
		}
	}
	v.out.Backups = append(v.out.Backups, out)
	return nil
}

// piece looks at a piece, once.
func (v *verifier) piece(h hash, size int64) error {
	p := v.pieces[h]
	if p.looked {
		return p.err
	}
	p.looked = true
	if v.o.Quick {
		if !v.folder.has(h, size) {
			p.err = fmt.Errorf("%w: piece %s is missing or has another size", ErrDamaged, h)
		}
	} else {
		_, p.err = v.folder.get(h, size)
	}
	v.out.Objects.Pieces++
	v.out.Objects.Bytes += size
	if v.o.Progress != nil {
		v.o.Progress(v.out.Objects.Bytes, v.total)
	}
	if v.o.Discard && errors.Is(p.err, ErrDamaged) {
		switch err := os.Remove(v.folder.objectPath(h)); {
		case err == nil:
			v.out.Discarded++
		case !errors.Is(err, os.ErrNotExist):
			return err
		}
	}
	return p.err
}
