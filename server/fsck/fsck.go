package fsck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/badger"
	"rapport/profilestore/durable"
	"rapport/profilestore/journal"
	"rapport/profilestore/reftable"
	"rapport/server"
	"rapport/server/catalog"
	"rapport/server/decisionlog"
	"rapport/server/evidence"
	"rapport/server/ledger"
	"rapport/server/sandbox"
)

// Options say how a folder is checked.
type Options struct {
	// Checker is as in badger.Options.
	Checker []string
	// Running says that a server has the folder open: only files that never change are
	// checked then.
	Running bool
	// AcceptLoss lets a repair cut out of the journal what is damaged in it, and derive the
	// delta records from a journal that no longer has all events.
	AcceptLoss bool
	// Progress, if set, is called with the bytes of snapshots that were read.
	Progress func(bytes int64)
}

// Finding is something that is wrong, and what is to be done about it.
type Finding struct {
	Path    string `json:"path"`    // in the data folder
	Problem string `json:"problem"` // what is wrong
	// Repair is what a repair does; empty if it can do nothing.
	Repair string `json:"repair,omitempty"`
	// Lost is what is lost even after a repair; empty if nothing is.
	Lost string `json:"lost,omitempty"`
	// Do is what a person can do.
	Do string `json:"do,omitempty"`
	// Done says that it has been repaired, and Failed why it could not be.
	Done   bool   `json:"done,omitempty"`
	Failed string `json:"failed,omitempty"`

	repair func(ctx context.Context, aside string) error
}

// Report is what was found in a data folder.
type Report struct {
	Dir      string    `json:"data"`
	Findings []Finding `json:"findings"`
	// Aside is the folder that damaged files were moved to, in the data folder.
	Aside string `json:"aside,omitempty"`
}

// Left returns how many findings have not been repaired.
func (r *Report) Left() int {
	n := 0
	for i := range r.Findings {
		if !r.Findings[i].Done {
			n++
		}
	}
	return n
}

// checker collects what is found.
type checker struct {
	ctx    context.Context // of one Check; every method belongs to it
	o      Options
	dir    string
	report *Report
	cut    map[string]bool // segments of the journal that were written again
}

// Check reads the files of a data folder and says what is wrong. It changes nothing. The
// caller has locked the folder, unless Options.Running.
func Check(ctx context.Context, dir string, o Options) (*Report, error) {
	if o.Progress == nil {
		o.Progress = func(int64) {}
	}
	c := &checker{ctx, o, dir, &Report{Dir: dir}, make(map[string]bool)}
	checks := []func() error{c.folder, c.journal, c.deltas, c.snapshots, c.tables, c.catalogue, c.ledger, c.evidence, c.decisions, c.cache}
	if o.Running {
		checks = []func() error{c.snapshots, c.tables, c.catalogue}
	}
	for _, check := range checks {
		if err := check(); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(c.report.Findings, func(a, b Finding) int { return strings.Compare(a.Path, b.Path) })
	return c.report, nil
}

// Repair repairs what can be repaired.
func (r *Report) Repair(ctx context.Context) error {
	aside := filepath.Join(profilestore.QuarantineFolder, time.Now().UTC().Format("20060102T150405.000Z"))
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.repair == nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		to := filepath.Join(r.Dir, aside, strings.ReplaceAll(filepath.Dir(f.Path), string(filepath.Separator), "_"))
		if err := f.repair(ctx, to); err != nil {
			f.Failed = err.Error()
			continue
		}
		f.Done = true
	}
	if _, err := os.Stat(filepath.Join(r.Dir, aside)); err == nil {
		r.Aside = aside
	}
	return nil
}

func (c *checker) path(elem ...string) string {
	return filepath.Join(append([]string{c.dir}, elem...)...)
}

// add adds a finding. Its path and problem come with the path of the data folder.
func (c *checker) add(f Finding) {
	if rel, err := filepath.Rel(c.dir, f.Path); err == nil {
		f.Path = rel
	}
	f.Problem = strings.ReplaceAll(f.Problem, c.dir+string(filepath.Separator), "")
	c.report.Findings = append(c.report.Findings, f)
}

const fromCopy = "written again from what is whole"

func (c *checker) folder() error {
	found, err := server.CheckFiles(c.dir)
	for _, d := range found {
		f := Finding{Path: d.Path, Problem: d.Problem, Do: d.Do, Lost: d.Lost}
		if c.isJournal(d.Path) && d.Lost != "" && !c.o.AcceptLoss { // those are acknowledged events
			d.Mend, f.Lost = nil, ""
			f.Do = "put it back from a backup; or give up the events in it (--repair --accept-loss)"
		}
		if d.Mend != nil {
			f.Repair = fromCopy
			if d.Lost != "" {
				f.Repair = "set aside, and gone on without it"
			}
			f.repair = func(_ context.Context, aside string) error { return d.Mend(aside) }
		}
		c.add(f)
	}
	return err
}

func (c *checker) isJournal(path string) bool {
	return strings.HasPrefix(path, c.path("journal")+string(filepath.Separator))
}

func (c *checker) journal() error {
	id := c.path("journal", "ID")
	if err := durable.CheckSealed(id); err != nil && !errors.Is(err, fs.ErrNotExist) {
		f := Finding{Path: id, Problem: err.Error(), Do: "put it back from a backup"}
		if _, err := durable.ReadSealed(id); err == nil {
			f.Repair, f.Do = fromCopy, ""
			f.repair = func(_ context.Context, aside string) error { return durable.MendSealed(id, aside) }
		}
		c.add(f)
	}
	if _, err := os.Stat(c.path("journal")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	v, err := journal.Verify(c.ctx, c.path("journal"), journal.VerifyOptions{})
	if err != nil {
		return err
	}
	for _, d := range v.Damages {
		f, err := c.journalDamage(d)
		if err != nil {
			return err
		}
		c.add(f)
	}
	if len(v.Damages) > 0 {
		return nil
	}
	return c.journalEnd()
}

// journalEnd checks that the journal has what the delta records have.
func (c *checker) journalEnd() error {
	err := profilestore.CheckAhead(c.dir, func(fn func(key, stored []byte)) error { return badger.EachLogged(c.path("deltas"), fn) })
	if !errors.Is(err, profilestore.ErrJournalShort) {
		return err
	}
	file, _, endErr := journal.End(c.path("journal"))
	if endErr != nil {
		return endErr
	}
	f := Finding{Path: file, Problem: err.Error(), Do: "put the file back from a backup; or give up the events that are missing (--repair --accept-loss)"}
	if c.o.AcceptLoss {
		f.Do, f.Lost = "", "the events at the end of the journal"
		f.Repair = "the folder deltas set aside; the next start derives it from what the journal has"
		f.repair = func(context.Context, string) error {
			if _, err := os.Stat(c.path("deltas")); errors.Is(err, fs.ErrNotExist) {
				return nil // for another reason already
			}
			_, aside := profilestore.SetDeltasAside(c.dir, err, true)
			return aside
		}
	}
	c.add(f)
	return nil
}

// journalDamage says what can be done about a damage of the journal: a bit that was turned
// over is found by the checksum, and turned back; anything else is lost where there is no
// backup.
func (c *checker) journalDamage(d journal.Damage) (f Finding, err error) {
	f = Finding{Path: d.File, Problem: fmt.Sprintf("%s is damaged at byte %d: %s", d.File, d.Offset, d.Reason)}
	bit, ok, err := journal.FindFlippedBit(c.ctx, c.path("journal"), d)
	if err != nil {
		return f, err
	}
	lost := "an unknown number of events"
	if d.Lost > 0 {
		lost = fmt.Sprintf("%d events, from number %d on", d.Lost, d.From)
	}
	switch {
	case ok:
		f.Repair = fmt.Sprintf("a bit of byte %d was turned over; turned back, all checksums fit", bit.Offset)
		f.repair = func(_ context.Context, aside string) error {
			return errors.Join(copyInto(d.File, aside), bit.Mend())
		}
	case c.o.AcceptLoss:
		f.Repair, f.Lost = "set aside, and written again without what is damaged", lost
		f.repair = func(ctx context.Context, aside string) error {
			if c.cut[d.File] { // for another damage of it
				return nil
			}
			_, err := journal.CutOut(ctx, c.path("journal"), d, aside)
			c.cut[d.File] = err == nil
			return err
		}
	default:
		f.Do = fmt.Sprintf("put the file back from a backup; or give up what is damaged in it, %s (--repair --accept-loss)", lost)
	}
	return f, nil
}

// copyInto copies a file to a folder, which is made.
func copyInto(path, aside string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(aside, filepath.Base(path)), b)
}

func (c *checker) deltas() error {
	err := profilestore.CheckCheckpoint(c.dir)
	if err == nil {
		err = badger.Check(c.ctx, c.path("deltas"), c.o.Checker)
	}
	var path string
	switch d, ok := errors.AsType[*badger.DamagedError](err); {
	case err == nil:
		return c.deltaSeal()
	case ok:
		path = d.File
	case errors.Is(err, profilestore.ErrDeltasDamaged):
		path = c.path("deltas", "CHECKPOINT")
	default:
		return err
	}
	why := err
	c.add(Finding{
		Path: path, Problem: err.Error(), Repair: "the folder deltas set aside; the next start derives it from the journal anew",
		repair: func(context.Context, string) error {
			_, err := profilestore.SetDeltasAside(c.dir, why, c.o.AcceptLoss)
			return err
		},
	})
	return nil
}

// deltaSeal checks the seal of delta records that are whole.
func (c *checker) deltaSeal() error {
	if err := badger.CheckSeal(c.path("deltas")); err != nil {
		path := c.path("deltas", "SEAL")
		c.add(Finding{
			Path: path, Problem: err.Error(), Repair: "set aside; the next start makes another",
			repair: func(_ context.Context, aside string) error { return moveInto(path, aside) },
		})
	}
	return nil
}

// moveInto moves a file to a folder, which is made.
func moveInto(path, aside string) error {
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return err
	}
	err := os.Rename(path, filepath.Join(aside, filepath.Base(path)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return cmp.Or(err, durable.SyncDir(aside), durable.SyncDir(filepath.Dir(path)))
}

func (c *checker) snapshots() error {
	found, err := profilestore.CheckSnapshots(c.ctx, c.path("snapshots"), c.o.Progress)
	for _, d := range found {
		f := Finding{Path: d.Path, Problem: d.Problem}
		switch origin := cmp.Or(d.Origin, "FILE"); {
		case d.Mend != nil:
			f.Repair = fromCopy
			f.repair = func(_ context.Context, aside string) error { return d.Mend(aside) }
		case d.Generation == 0:
			f.Do = fmt.Sprintf("put it back from a backup; or remove it and its copy, and activate a snapshot (rapport snapshot activate %s N)", d.Source)
		case d.Active:
			f.Do = fmt.Sprintf("load the same file again (rapport load --source %s --as-of TIME %s), or go back to an earlier snapshot (rapport snapshot rollback %s); until then all fields of the source are unknown", d.Source, origin, d.Source)
		default:
			dir := c.path("snapshots", d.Source, fmt.Sprintf("gen-%d", d.Generation))
			f.Repair = "the snapshot set aside"
			f.Lost = fmt.Sprintf("nothing can go back to snapshot %d of source %s until %s is loaded again", d.Generation, d.Source, origin)
			f.repair = func(context.Context, string) error {
				if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
					return nil // for another of its files
				}
				_, err := profilestore.SetAside(c.dir, dir, d.Problem)
				return err
			}
		}
		c.add(f)
	}
	return err
}

func (c *checker) tables() error {
	found, err := reftable.Check(c.path("tables"))
	for _, d := range found {
		f := Finding{Path: d.Path, Problem: d.Problem, Do: "load the same file again (rapport table load --no-activate), which repairs it, or put it back from a backup"}
		if strings.HasSuffix(d.Path, ".json") {
			f.Do = "put it back from a backup"
			c.mendable(&f)
		}
		c.add(f)
	}
	return err
}

// mendable lets a sealed file that can be read be repaired.
func (c *checker) mendable(f *Finding) {
	path := f.Path
	if _, err := durable.ReadSealed(path); err == nil && durable.CheckSealed(path) != nil {
		f.Repair, f.Do = fromCopy, ""
		f.repair = func(_ context.Context, aside string) error { return durable.MendSealed(path, aside) }
	}
}

func (c *checker) catalogue() error {
	found, err := catalog.Check(c.path("catalog"))
	for _, d := range found {
		f := Finding{Path: d.Path, Problem: d.Problem, Do: "put it back from a backup, or publish the catalogue again"}
		c.mendable(&f)
		c.add(f)
	}
	return err
}

func (c *checker) ledger() error {
	found, err := ledger.Check(c.path("ledger"))
	for _, d := range found {
		c.add(Finding{
			Path: d.Path, Problem: d.Problem, Repair: "set aside; what can be read of it is written again",
			Lost:   "contacts that were under way may be missing, and places be given twice",
			repair: func(_ context.Context, aside string) error { return ledger.Mend(c.path("ledger"), aside) },
		})
	}
	return err
}

func (c *checker) evidence() error {
	path := c.path("evidence")
	found, err := evidence.Check(path)
	for _, d := range found {
		c.add(Finding{
			Path: d.Path, Problem: d.Problem, Repair: "set aside; the next start counts it from the journal anew",
			repair: func(_ context.Context, aside string) error { return moveInto(path, aside) },
		})
	}
	return err
}

func (c *checker) decisions() error {
	found, err := decisionlog.Check(c.ctx, c.path("decisions"))
	for _, d := range found {
		c.add(Finding{Path: d.Path, Problem: d.Problem, Do: "the decisions that can be read are shown; put the file back from a backup to have all"})
	}
	return err
}

func (c *checker) cache() error {
	key, err := server.CacheKey(c.dir)
	if err != nil || key == nil {
		return err
	}
	found, err := sandbox.CheckCache(c.path("wasm-cache"), key)
	for _, d := range found {
		c.add(Finding{
			Path: d.Path, Problem: d.Problem, Repair: "set aside; the next start compiles the module again",
			repair: func(_ context.Context, aside string) error { return moveInto(d.Path, aside) },
		})
	}
	return err
}
