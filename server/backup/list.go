package backup

import "errors"

// Listed is a backup, or one whose manifest can't be read.
type Listed struct {
	ID       string
	Manifest *Manifest // nil if it can't be read
	Err      error     // why not
}

// List returns the backups of a folder, oldest first.
func List(dir string) ([]Listed, error) {
	if err := checkFormat(dir); err != nil {
		return nil, err
	}
	f := &folder{dir: dir} // manifests come and go in one step: no lock is needed
	return f.list()
}

func (f *folder) list() ([]Listed, error) {
	ids, err := f.ids()
	if err != nil {
		return nil, err
	}
	list := make([]Listed, 0, len(ids))
	for _, id := range ids {
		m, err := f.read(id)
		if errors.Is(err, ErrNotFound) {
			continue // pruned since
		}
		list = append(list, Listed{ID: id, Manifest: m, Err: err})
	}
	return list, nil
}
