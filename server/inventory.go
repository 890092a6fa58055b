package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rapport/profilestore/durable"
)

// inventory says which files the logs of a data folder had, and of what size, when a
// server last opened or closed it: DATA/INVENTORY. These files are only ever appended to,
// and go oldest first. Each can tell by itself that something in it is damaged, but not
// that its end is gone, nor a file that it is.
type inventory struct {
	Closed bool             `json:"closed"` // nothing has changed since
	Sizes  map[string]int64 `json:"sizes"`  // by path in the data folder, with slashes
	// Lost are the losses that nobody has accepted yet, in words.
	Lost map[string]string `json:"lost,omitempty"`
}

const inventoryFile = "INVENTORY"

// logFiles are the files of logs.
var logFiles = []string{"audit/*.ndjson", "decisions/*.log", "journal/*.journal", "ledger/*.log"}

// takeInventory lists the files of logs.
func (d *dataFolder) takeInventory(closed bool) (*inventory, error) {
	v := &inventory{Closed: closed, Sizes: make(map[string]int64)}
	for _, pattern := range logFiles {
		paths, err := filepath.Glob(d.path(filepath.FromSlash(pattern)))
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			info, err := os.Stat(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			rel, err := filepath.Rel(d.dir, path)
			if err != nil {
				return nil, err
			}
			v.Sizes[filepath.ToSlash(rel)] = info.Size()
		}
	}
	return v, nil
}

// writeInventory writes the list, durably.
func (d *dataFolder) writeInventory(closed bool) error {
	v, err := d.takeInventory(closed)
	if err != nil {
		return err
	}
	if err := d.syncListed(v); err != nil {
		return err
	}
	v.Lost = d.lost
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := durable.WriteSealed(d.path(inventoryFile), append(b, '\n')); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	return nil
}

// syncListed makes durable what the list says, of files that have grown since it was last
// made. Some logs are synced once a second, and what a loss of power takes of that is no
// damage; nor is what a killed process had not synced.
func (d *dataFolder) syncListed(v *inventory) error {
	folders := make(map[string]bool)
	for path, size := range v.Sizes {
		if old, there := d.synced[path]; there && old == size {
			continue
		}
		f, err := os.Open(d.path(filepath.FromSlash(path)))
		if errors.Is(err, fs.ErrNotExist) { // it has become too old
			delete(v.Sizes, path)
			continue
		}
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("data folder: %w", err)
		}
		folders[folderOf(path)] = true
	}
	for folder := range folders {
		if err := durable.SyncDir(d.path(folder)); err != nil {
			return fmt.Errorf("data folder: %w", err)
		}
	}
	d.synced = v.Sizes
	return nil
}

// checkInventory says which files of logs are missing or have lost their end. A list that
// can't be read says nothing.
func (d *dataFolder) checkInventory() ([]durable.Damage, error) {
	var was inventory
	b, err := durable.ReadSealed(d.path(inventoryFile))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, durable.ErrDamaged) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &was)
	}
	if err != nil {
		return nil, err
	}
	is, err := d.takeInventory(false)
	if err != nil {
		return nil, err
	}
	problems := maps.Clone(was.Lost)
	if problems == nil {
		problems = make(map[string]string)
	}
	oldest := make(map[string]string) // of the files that are there, by folder
	for path := range is.Sizes {
		if folder := folderOf(path); oldest[folder] == "" || path < oldest[folder] {
			oldest[folder] = path
		}
	}
	for path, size := range was.Sizes {
		now, there := is.Sizes[path]
		name := d.path(filepath.FromSlash(path))
		switch old := oldest[folderOf(path)]; {
		case there && now < size:
			problems[path] = fmt.Sprintf("%s has %d bytes and had %d: its end is gone", name, now, size)
		case there, !was.Closed && old != "" && path < old: // it had become too old
		default:
			problems[path] = name + " is missing"
		}
	}
	var all []durable.Damage
	for _, path := range slices.Sorted(maps.Keys(problems)) {
		all = append(all, durable.Damage{Path: d.path(filepath.FromSlash(path)), Problem: problems[path]})
	}
	return all, nil
}

func folderOf(path string) string {
	folder, _, _ := strings.Cut(path, "/")
	return folder
}

// noticeLosses tells of files of logs that are missing or have lost their end.
func (s *Server) noticeLosses() error {
	losses, err := s.folder.checkInventory()
	s.folder.lost = make(map[string]string)
	for _, x := range losses {
		if rel, err := filepath.Rel(s.folder.dir, x.Path); err == nil {
			s.folder.lost[filepath.ToSlash(rel)] = x.Problem
		}
		s.log.Error("a file of a log has lost something, which can't be had back but from a backup", "problem", x.Problem)
		s.notices.add("lost: " + x.Problem + "; put it back from a backup, or accept the loss (rapport doctor --data DIR --repair)")
	}
	return err
}
