package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"rapport/profilestore/durable"
)

// stage says how far a version is in service.
type stage string

// The stages of a candidate; the live version has none of them.
const (
	stageShadow stage = "shadow" // it ranks beside the live version and affects nothing
	stageShare  stage = "share"  // it ranks for a share of the customers
)

// release is what of a strategy is in service, as kept in
// DATA/strategies/NAME/RELEASE: the live version, a candidate on its way to
// become that, and the versions to go back to. It is a value: a change makes
// another, which takes the place of this one in one step. So a crash leaves the
// one or the other, and a restart finds what was acknowledged.
//
//	upload ──► shadow ──► share ──► live ──► rollback
//	              └──────────┴──► rollback
//
// Any stage may be skipped, and a share may be made larger or smaller. A rollback
// removes the candidate if there is one; else the version that was live before is
// live again. It is not itself something to go back from: repeated, it walks back
// through the history, and does not swing between two versions.
//
// In the file, an empty version stands for the one that ships with the server,
// whichever that is: so a newer server's built-in version is live where the older
// one's was. In memory the version stands in its place.
type release struct {
	Live      string     `json:"live,omitempty"` // empty in memory: none is live
	Candidate *candidate `json:"candidate,omitempty"`
	// Earlier are the versions that were live before, the latest last.
	Earlier []string `json:"earlier,omitempty"`
}

// candidate is a version on its way to become the live one.
type candidate struct {
	Version string  `json:"version"`
	Stage   stage   `json:"stage"`
	Share   float64 `json:"share,omitempty"` // percent of the customers, at stageShare
}

// equal reports whether two are the same, or neither is there.
func (c *candidate) equal(o *candidate) bool {
	return c == o || c != nil && o != nil && *c == *o
}

// maxEarlier bounds the history. Nobody walks back so far by rollback.
const maxEarlier = 100

var (
	errStrategyIsLive    = errors.New("the version is live")
	errNoEarlierStrategy = errors.New("there is no candidate to take back, and no version that was live before")
)

// withCandidate returns the release in which a version is the candidate.
func (r release) withCandidate(c candidate) (release, error) {
	if r.Live == c.Version {
		return r, fmt.Errorf("%w: %s can't be a candidate as well; release another version or roll back first", errStrategyIsLive, c.Version)
	}
	r.Candidate = &c
	return r, nil
}

// withLive returns the release in which a version is the live one.
func (r release) withLive(version string) release {
	if r.Candidate != nil && r.Candidate.Version == version {
		r.Candidate = nil
	}
	if r.Live == version {
		return r
	}
	if r.Live != "" {
		r.Earlier = append(slices.Clone(r.Earlier), r.Live)
		r.Earlier = r.Earlier[max(0, len(r.Earlier)-maxEarlier):]
	}
	r.Live = version
	return r
}

// rolledBack returns the release before the last step. Versions that are gone are
// passed over.
func (r release) rolledBack(exists func(version string) bool) (release, error) {
	if r.Candidate != nil {
		r.Candidate = nil
		return r, nil
	}
	for i, version := range slices.Backward(r.Earlier) {
		if exists(version) {
			r.Live, r.Earlier = version, slices.Clone(r.Earlier[:i])
			return r, nil
		}
	}
	return r, errNoEarlierStrategy
}

// String says in words what is in service.
func (r release) String() string {
	var parts []string
	if r.Live != "" {
		parts = append(parts, "live "+r.Live)
	}
	if c := r.Candidate; c != nil {
		part := string(c.Stage) + " " + c.Version
		if c.Stage == stageShare {
			part = "share " + c.Version + " of " + strconv.FormatFloat(c.Share, 'f', -1, 64) + "%"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

// check says what is wrong with a release that was read from a file.
func (r release) check() error {
	c := r.Candidate
	switch {
	case c == nil:
		return nil
	case c.Version == "" || c.Version == r.Live:
		return fmt.Errorf("%q can't be the candidate", c.Version)
	case c.Stage == stageShadow && c.Share == 0, c.Stage == stageShare && validShare(c.Share):
		return nil
	}
	return fmt.Errorf("the candidate has the stage %q with a share of %v%%", c.Stage, c.Share)
}

// validShare reports whether a share in percent is one: more than nobody and less
// than everybody. NaN is none.
func validShare(percent float64) bool { return percent > 0 && percent < 100 }

// releaseFile and liveFile are the names beside a strategy's modules. Earlier
// versions of Rapport wrote only the live version, to liveFile.
const (
	releaseFile = "RELEASE"
	liveFile    = "LIVE"
)

// readRelease reads what of a strategy is in service. builtin is the version that
// ships with the server; empty if none does. That no file says so is no error.
func readRelease(dir, builtin string) (release, error) {
	r, err := readReleaseFile(dir)
	if err == nil {
		err = r.replace("", builtin).check()
	}
	if err != nil {
		return release{}, fmt.Errorf("strategies/%s/%s: %w: put the file back from a backup, or remove it and release a version again", filepath.Base(dir), releaseFile, withoutPath(err))
	}
	return r.replace("", builtin), nil
}

// replace returns the release with another version in the place of one.
func (r release) replace(from, to string) release {
	if r.Live == from {
		r.Live = to
	}
	r.Earlier = slices.Clone(r.Earlier)
	for i, version := range r.Earlier {
		if version == from {
			r.Earlier[i] = to
		}
	}
	return r
}

func readReleaseFile(dir string) (release, error) {
	var r release
	b, err := durable.ReadSealed(filepath.Join(dir, releaseFile))
	if errors.Is(err, os.ErrNotExist) {
		var live []byte
		live, err = os.ReadFile(filepath.Join(dir, liveFile))
		if errors.Is(err, os.ErrNotExist) {
			return r, nil
		}
		r.Live = strings.TrimSpace(string(live))
		return r, err
	}
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	return r, err
}

// writeRelease replaces what of a strategy is in service, durably.
func writeRelease(dir, builtin string, r release) error {
	if builtin != "" {
		r = r.replace(builtin, "")
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := durable.MakeFolder(dir, 0o750); err != nil {
		return err
	}
	return durable.WriteSealed(filepath.Join(dir, releaseFile), append(b, '\n'))
}
