package profilestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"rapport/profilestore/durable"
)

// QuarantineFolder is the folder of a data folder to which damaged files are moved: never
// removed, for a person to look at, or to be read by a tool. Beside each is NAME.txt with
// what was wrong.
const QuarantineFolder = "quarantine"

// SetAside moves a file or folder of a data folder into its quarantine, durably, and
// returns where it is now, relative to the data folder. why is written beside it.
func SetAside(data, path, why string) (to string, err error) {
	dir := filepath.Join(data, QuarantineFolder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	rel, err := filepath.Rel(data, path)
	if err != nil {
		return "", err
	}
	name := strings.ReplaceAll(filepath.ToSlash(rel), "/", "_") + "-" + time.Now().UTC().Format("20060102T150405Z")
	to = filepath.Join(dir, name)
	for n := 2; ; n++ {
		if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return "", err
		}
		to = filepath.Join(dir, name+"-"+strconv.Itoa(n))
	}
	if err := durable.WriteFile(to+".txt", []byte(rel+"\n"+why+"\n")); err != nil {
		return "", err
	}
	if err := os.Rename(path, to); err != nil {
		return "", err
	}
	if err := errors.Join(durable.SyncDir(dir), durable.SyncDir(filepath.Dir(path)), durable.SyncDir(data)); err != nil {
		return "", err
	}
	return filepath.Rel(data, to)
}

// ErrDeltasDamaged is in the error of a call that found that the delta records can't be
// used. They can be derived anew: see SetDeltasAside.
var ErrDeltasDamaged = errors.New("the delta records are damaged")

// ErrNoRebuild is in the error of a call that would have the delta records derived anew,
// when the journal has no longer all of what they were derived from.
var ErrNoRebuild = errors.New("the delta records can't be derived from the journal anew")

// SetDeltasAside moves the delta records of a data folder, which nobody has open, into
// its quarantine. When the store is opened next they are derived from the journal anew,
// all of it. The error is ErrNoRebuild, and nothing has changed, if the journal does not
// begin with its first entry and that loss is not accepted.
func SetDeltasAside(data string, why error, acceptLoss bool) (to string, err error) {
	first, err := journalBegin(data)
	if err != nil {
		return "", err
	}
	if first > 1 && !acceptLoss && !baseStands(data) {
		return "", fmt.Errorf("%w: it begins with entry %d, and the events before it are gone: %w: put back the folders deltas and journal from a backup; "+
			"or run rapport doctor --data %s --repair --accept-loss: then the profiles know only what has happened since that entry", ErrNoRebuild, first, why, data)
	}
	return SetAside(data, filepath.Join(data, "deltas"), why.Error())
}

// baseStands reports whether there is a base that says what the removed beginning of the
// journal came to.
func baseStands(data string) bool {
	b, err := openBase(data)
	if err != nil || b == nil {
		return false
	}
	defer b.close()
	return b.verify(context.Background(), nil) == nil
}

// journalBegin returns the number of the first entry in the journal of a data folder, 1 if
// there is none yet.
func journalBegin(data string) (uint64, error) {
	entries, err := os.ReadDir(filepath.Join(data, "journal")) // by name, which is by number
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	for _, e := range entries {
		if digits, ok := strings.CutSuffix(e.Name(), ".journal"); ok {
			if n, err := strconv.ParseUint(digits, 10, 64); err == nil {
				return n, nil
			}
		}
	}
	return 1, nil
}

// CheckCheckpoint says whether it is known what the delta records of a data folder were
// derived from. The error is ErrDeltasDamaged if not. It changes nothing.
func CheckCheckpoint(data string) error {
	state, err := readCheckpoint(data)
	if err != nil || state != nil {
		return err
	}
	// Records without a checkpoint might have been derived from anything.
	dir := filepath.Join(data, "deltas")
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%w: %s is missing", ErrDeltasDamaged, filepath.Join(dir, checkpointFile))
	}
	return nil
}
