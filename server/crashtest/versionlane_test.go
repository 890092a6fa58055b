package crashtest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"

	"rapport/plugins"
	rapportv1 "rapport/server/api/rapport/v1"
)

// pointer is the naive twin of something of which one version is in force: which one it
// may be. Versions are named by the number of what they were made from, its wave.
type pointer struct {
	now   int          // in force by what was acknowledged; 0: none
	doubt map[int]bool // perhaps these
	ever  []int        // was in force at some time; a rollback goes to one of them
}

// moved notes a change to a version, which is -1 for any that was in force before.
func (p *pointer) moved(to int, f fate) {
	switch f { //nolint:exhaustive // what was refused has changed nothing
	case acknowledged:
		p.now, p.doubt = to, nil
		p.ever = append(p.ever, to)
	case inDoubt:
		if p.doubt == nil {
			p.doubt = make(map[int]bool)
		}
		if to >= 0 {
			p.doubt[to] = true
			return
		}
		for _, v := range p.ever {
			p.doubt[v] = true
		}
	}
}

// settle says what is wrong with the version that is found in force.
func (p *pointer) settle(t *tally, what string, found int) error {
	if found != p.now && !p.doubt[found] {
		return fmt.Errorf("%s: version %d is in force, %d was acknowledged, in doubt is %v", what, found, p.now, p.doubt)
	}
	if len(p.doubt) > 0 {
		t.settled(what+" change", found != p.now)
	}
	p.moved(found, acknowledged)
	return nil
}

// waveOf returns the number in a name like bi-17.csv.
func waveOf(origin string) (int, error) {
	_, rest, _ := strings.Cut(origin, "-")
	return strconv.Atoi(strings.TrimSuffix(rest, ".csv"))
}

// file writes a file to be loaded.
func (w *world) file(name, content string) (string, error) {
	path := filepath.Join(w.t.TempDir(), name)
	return path, os.WriteFile(path, []byte(content), 0o600)
}

// snapshotLane loads files of one source, activates the snapshots, and rolls back. As-of
// times move on, so the past is pruned.
type snapshotLane struct {
	w      *world
	source string
	wave   int // of the newest file
	hours  int // its as-of time, in quarters of an hour
	sure   int // the newest that was sealed for sure
	doubt  bool
	active pointer
	listed []*rapportv1.Snapshot
}

func (l *snapshotLane) step(ctx context.Context, r *rand.Rand) error {
	wait(time.Duration(r.IntN(20_000)) * time.Microsecond)
	if l.wave == 0 || r.IntN(3) == 0 {
		return l.load(r)
	}
	if err := l.list(ctx); err != nil || l.w.struck.Load() {
		return err
	}
	if r.IntN(4) == 0 {
		return l.rollback(ctx)
	}
	if len(l.listed) == 0 {
		return nil
	}
	return l.activate(ctx, l.listed[r.IntN(min(2, len(l.listed)))])
}

// load loads another file.
func (l *snapshotLane) load(r *rand.Rand) error {
	l.wave++
	path, err := l.w.file(fmt.Sprintf("%s-%d.csv", l.source, l.wave), batchFile(l.source, l.wave))
	if err != nil {
		return err
	}
	l.hours = min(l.hours+r.IntN(3), 44)
	f, err := l.w.beside("load", role{Do: "load", Data: l.w.data(), Source: l.source, File: path, AsOf: dawn().Add(time.Duration(l.hours) * 15 * time.Minute).UnixMicro()})
	if err == nil && f == acknowledged {
		l.sure = l.wave
	}
	l.doubt = f == inDoubt
	return err
}

// list asks which snapshots there are, the newest first.
func (l *snapshotLane) list(ctx context.Context) error {
	_, err := l.w.call("list", func() error {
		res, err := l.w.api.snapshots.ListSnapshots(ctx, connect.NewRequest(&rapportv1.ListSnapshotsRequest{Source: l.source}))
		if err == nil {
			l.listed = res.Msg.GetSnapshots()
			slices.SortFunc(l.listed, func(a, b *rapportv1.Snapshot) int { return int(b.GetGeneration() - a.GetGeneration()) })
		}
		return err
	})
	return err
}

func (l *snapshotLane) activate(ctx context.Context, s *rapportv1.Snapshot) error {
	wave, err := waveOf(s.GetOrigin())
	if err != nil {
		return err
	}
	f, err := l.w.change("snapshot activate", "activate", func() error {
		_, err := l.w.api.snapshots.ActivateSnapshot(ctx, connect.NewRequest(&rapportv1.ActivateSnapshotRequest{Source: l.source, Generation: s.GetGeneration()}))
		return err
	}, connect.CodeFailedPrecondition) // it does not reach the horizon
	l.active.moved(wave, f)
	return err
}

func (l *snapshotLane) rollback(ctx context.Context) error {
	wave := -1
	var broken error
	f, err := l.w.change("snapshot rollback", "rollback", func() error {
		res, err := l.w.api.snapshots.RollbackSnapshot(ctx, connect.NewRequest(&rapportv1.RollbackSnapshotRequest{Source: l.source}))
		if err == nil {
			wave, broken = waveOf(res.Msg.GetActive().GetOrigin())
		}
		return err
	}, connect.CodeFailedPrecondition)
	l.active.moved(wave, f)
	return errors.Join(err, broken)
}

func (l *snapshotLane) check(ctx context.Context, r *rand.Rand) error {
	if err := l.list(ctx); err != nil {
		return err
	}
	found, newest := 0, 0
	for _, s := range l.listed {
		wave, err := waveOf(s.GetOrigin())
		if err != nil || s.GetState() == "damaged" || s.GetRows() != 2*batchCustomers {
			return fmt.Errorf("source %s: %w: a snapshot that is not whole: %v", l.source, err, s)
		}
		newest = max(newest, wave)
		if s.GetState() == "active" {
			found = wave
		}
	}
	if newest < l.sure {
		return fmt.Errorf("source %s: the load of file %d was acknowledged, and the newest snapshot is of file %d", l.source, l.sure, newest)
	}
	if l.doubt {
		l.w.tally.settled("load", newest == l.wave)
		l.doubt = false
	}
	l.sure = newest
	if err := l.active.settle(l.w.tally, "snapshot", found); err != nil || found == 0 {
		return err
	}
	field := map[string]string{"bi": "value.wave", "crm": "general.wave"}[l.source]
	for _, n := range []int{0, batchCustomers - 1, r.IntN(batchCustomers)} {
		name := fmt.Sprintf("e%d-%d", r.IntN(2), n)
		res, err := l.w.api.profiles.GetProfile(ctx, connect.NewRequest(&rapportv1.GetProfileRequest{Customer: name}))
		if err != nil {
			return err
		}
		i := slices.IndexFunc(res.Msg.GetFields(), func(f *rapportv1.ProfileValue) bool { return f.GetName() == field })
		if i < 0 || int(res.Msg.GetFields()[i].GetNumber()) != found {
			return fmt.Errorf("source %s: snapshot of file %d, but of %s there is %v", l.source, found, name, res.Msg)
		}
	}
	return nil
}

// catalogLane publishes catalogues and rolls back.
type catalogLane struct {
	w       *world
	wave    int
	active  pointer
	version map[int]int64 // of a wave that was published for sure
}

func (l *catalogLane) step(ctx context.Context, r *rand.Rand) error {
	if l.active.now > 0 {
		wait(time.Duration(r.IntN(30_000)) * time.Microsecond)
	}
	if len(l.active.ever) > 1 && r.IntN(3) == 0 {
		return l.rollback(ctx, l.active.ever[r.IntN(len(l.active.ever))])
	}
	l.wave++
	f, err := l.w.change("catalogue publish", "publish", func() error {
		res, err := l.w.api.catalogs.PublishCatalog(ctx, connect.NewRequest(&rapportv1.PublishCatalogRequest{Files: []*rapportv1.CatalogFile{{Name: "catalog.yaml", Content: catalogOf(l.wave)}}}))
		if err == nil {
			l.knows(l.wave, res.Msg.GetVersion().GetVersion())
		}
		return err
	})
	l.active.moved(l.wave, f)
	return err
}

func (l *catalogLane) knows(wave int, version int64) {
	if l.version == nil {
		l.version = make(map[int]int64)
	}
	l.version[wave] = version
}

func (l *catalogLane) rollback(ctx context.Context, wave int) error {
	if wave == l.active.now || wave == 0 { // 0: there was none
		return nil
	}
	f, err := l.w.change("catalogue rollback", "catalogue rollback", func() error {
		_, err := l.w.api.catalogs.RollbackCatalog(ctx, connect.NewRequest(&rapportv1.RollbackCatalogRequest{Version: l.version[wave]}))
		return err
	})
	l.active.moved(wave, f)
	return err
}

func (l *catalogLane) check(ctx context.Context, r *rand.Rand) error {
	res, err := l.w.api.catalogs.GetCatalog(ctx, connect.NewRequest(&rapportv1.GetCatalogRequest{}))
	if connect.CodeOf(err) == connect.CodeFailedPrecondition || connect.CodeOf(err) == connect.CodeNotFound {
		return l.active.settle(l.w.tally, "catalogue", 0)
	}
	if err != nil {
		return err
	}
	wave, err := l.whole(res.Msg)
	if err != nil {
		return err
	}
	l.knows(wave, res.Msg.GetVersion().GetVersion())
	if err := l.active.settle(l.w.tally, "catalogue", wave); err != nil {
		return err
	}
	served, _, err := l.w.greeting(ctx)
	if err != nil || served != wave {
		return fmt.Errorf("the current catalogue is %d, and decisions are made with %d: %w", wave, served, err)
	}
	// One of before, which must be as it was.
	old := l.active.ever[r.IntN(len(l.active.ever))]
	if old == 0 {
		return nil
	}
	res, err = l.w.api.catalogs.GetCatalog(ctx, connect.NewRequest(&rapportv1.GetCatalogRequest{Version: l.version[old]}))
	if err != nil {
		return err
	}
	if got, err := l.whole(res.Msg); err != nil || got != old {
		return fmt.Errorf("catalogue %d has become %d: %w", old, got, err)
	}
	return nil
}

var waveText = regexp.MustCompile(`wave (\d+) in`)

// whole returns which catalogue this is, if nothing of it is missing.
func (l *catalogLane) whole(c *rapportv1.GetCatalogResponse) (int, error) {
	if len(c.GetFiles()) != 1 {
		return 0, fmt.Errorf("catalogue with %d files", len(c.GetFiles()))
	}
	content := c.GetFiles()[0].GetContent()
	m := waveText.FindStringSubmatch(content)
	if m == nil {
		return 0, fmt.Errorf("what is this catalogue? %.200s", content)
	}
	wave, err := strconv.Atoi(m[1])
	if err == nil && content != catalogOf(wave) {
		err = fmt.Errorf("catalogue %d is not what was published", wave)
	}
	return wave, err
}

// greeting returns with which catalogue and which reference table decisions are made, 0
// if with none.
func (w *world) greeting(ctx context.Context) (catalog, table int, err error) {
	res, err := w.api.decisions.Decide(ctx, connect.NewRequest(&rapportv1.DecideRequest{Customer: "customer:greeted", Touchpoint: "web.wave", DryRun: &rapportv1.DryRun{}}))
	if connect.CodeOf(err) == connect.CodeFailedPrecondition {
		return 0, 0, nil
	}
	if err != nil || len(res.Msg.GetSlate()) != 1 {
		return 0, 0, fmt.Errorf("no greeting: %v %w", res, err)
	}
	content := res.Msg.GetSlate()[0].GetContent()
	if _, err := fmt.Sscanf(content, "wave %d in area-%d", &catalog, &table); err != nil {
		return 0, 0, fmt.Errorf("%q: %w", content, err)
	}
	return catalog, table, nil
}

// strategyLane uploads versions of a strategy, releases them and rolls back.
type strategyLane struct {
	w        *world
	wave     int
	uploaded []int // for sure
	live     pointer
}

func versionOf(wave int) string { return fmt.Sprintf("1.0.%d", wave) }

func (l *strategyLane) step(ctx context.Context, r *rand.Rand) error {
	wait(time.Duration(r.IntN(40_000)) * time.Microsecond)
	if len(l.uploaded) == 0 || r.IntN(5) == 0 {
		return l.upload(ctx)
	}
	if r.IntN(4) == 0 {
		return l.rollback(ctx)
	}
	wave := l.uploaded[len(l.uploaded)-1-r.IntN(min(3, len(l.uploaded)))]
	f, err := l.w.change("strategy release", "release", func() error {
		_, err := l.w.api.strategies.ReleaseStrategy(ctx, connect.NewRequest(&rapportv1.ReleaseStrategyRequest{Name: "pvcl", Version: versionOf(wave), Stage: rapportv1.StrategyStage_STRATEGY_STAGE_LIVE}))
		return err
	}, connect.CodeFailedPrecondition) // it is live
	l.live.moved(wave, f)
	return err
}

func (l *strategyLane) upload(ctx context.Context) error {
	l.wave++
	module, err := strategy(versionOf(l.wave))
	if err != nil {
		return err
	}
	f, err := l.w.change("strategy upload", "upload", func() error {
		_, err := l.w.api.strategies.UploadStrategy(ctx, connect.NewRequest(&rapportv1.UploadStrategyRequest{Module: module}))
		return err
	})
	if err == nil && f == acknowledged {
		l.uploaded = append(l.uploaded, l.wave)
	}
	return err
}

func (l *strategyLane) rollback(ctx context.Context) error {
	wave := -1
	f, err := l.w.change("strategy rollback", "strategy rollback", func() error {
		res, err := l.w.api.strategies.RollbackStrategy(ctx, connect.NewRequest(&rapportv1.RollbackStrategyRequest{Name: "pvcl"}))
		if err == nil {
			wave = strategyWave(res.Msg.GetAfter().GetLiveVersion())
		}
		return err
	}, connect.CodeFailedPrecondition)
	l.live.moved(wave, f)
	return err
}

// strategyWave returns 0 for the version that ships.
func strategyWave(version string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(version, "1.0."))
	if err != nil {
		return 0
	}
	return n
}

// strategy returns the module that ships with the server as another version.
func strategy(version string) ([]byte, error) {
	wasm := bytes.Clone(plugins.PVCL())
	start := bytes.Index(wasm, []byte(`{"abi":1`))
	end := start + bytes.Index(wasm[start:], []byte(`"reasons":[]}`)) + len(`"reasons":[]}`)
	manifest := strings.Replace(string(wasm[start:end]), `"version":"1.0.0"`, `"version":"`+version+`"`, 1)
	const key = `"description":"`
	at := strings.Index(manifest, key) + len(key)
	length := strings.IndexByte(manifest[at:], '"')
	pad := end - start - (len(manifest) - length)
	if start < 0 || pad < 0 {
		return nil, fmt.Errorf("the manifest has not this form: %s", manifest)
	}
	copy(wasm[start:end], manifest[:at]+strings.Repeat("x", pad)+manifest[at+length:])
	return wasm, nil
}

func (l *strategyLane) check(ctx context.Context, _ *rand.Rand) error {
	res, err := l.w.api.strategies.ListStrategies(ctx, connect.NewRequest(&rapportv1.ListStrategiesRequest{Name: "pvcl"}))
	if err != nil {
		return err
	}
	there := make(map[int]bool)
	found := 0
	for _, s := range res.Msg.GetStrategies() {
		wave := strategyWave(s.GetVersion())
		there[wave] = true
		if s.GetProblem() != "" {
			return fmt.Errorf("strategy version %s: %s", s.GetVersion(), s.GetProblem())
		}
		if s.GetLive() {
			found = wave
		}
	}
	for _, wave := range l.uploaded {
		if !there[wave] {
			return fmt.Errorf("the upload of strategy version %d was acknowledged and is lost", wave)
		}
	}
	if !slices.Contains(l.uploaded, l.wave) && l.wave > 0 {
		l.w.tally.settled("upload", there[l.wave])
		if there[l.wave] {
			l.uploaded = append(l.uploaded, l.wave)
		}
	}
	return l.live.settle(l.w.tally, "strategy", found)
}

// tableLane loads versions of a reference table, puts them in force and rolls back.
type tableLane struct {
	w       *world
	wave    int
	sure    []int // made for sure
	version map[int]int64
	active  pointer
}

func (l *tableLane) step(ctx context.Context, r *rand.Rand) error {
	wait(time.Duration(r.IntN(20_000)) * time.Microsecond)
	switch n := r.IntN(5); {
	case l.wave == 0 || n == 0:
		l.wave++
		path, err := l.w.file(fmt.Sprintf("area-%d.csv", l.wave), tableFile(l.wave))
		if err != nil {
			return err
		}
		f, err := l.w.beside("table load", role{Do: "table", Data: l.w.data(), Table: "area", File: path})
		if err == nil && f == acknowledged {
			l.sure = append(l.sure, l.wave)
		}
		return err
	case n == 1:
		return l.rollback(ctx)
	}
	if err := l.list(ctx); err != nil || len(l.sure) == 0 || l.w.struck.Load() {
		return err
	}
	wave := l.sure[len(l.sure)-1-r.IntN(min(3, len(l.sure)))]
	f, err := l.w.change("table activate", "table activate", func() error {
		_, err := l.w.api.tables.ActivateTable(ctx, connect.NewRequest(&rapportv1.ActivateTableRequest{Table: "area", Version: l.version[wave]}))
		return err
	})
	l.active.moved(wave, f)
	return err
}

func (l *tableLane) rollback(ctx context.Context) error {
	wave := -1
	var broken error
	f, err := l.w.change("table rollback", "table rollback", func() error {
		res, err := l.w.api.tables.RollbackTable(ctx, connect.NewRequest(&rapportv1.RollbackTableRequest{Table: "area"}))
		if err == nil {
			wave, broken = waveOf(res.Msg.GetActive().GetOrigin())
		}
		return err
	}, connect.CodeFailedPrecondition)
	l.active.moved(wave, f)
	return errors.Join(err, broken)
}

// list learns the numbers of the versions.
func (l *tableLane) list(ctx context.Context) error {
	_, err := l.w.call("list", func() error {
		_, err := l.versions(ctx)
		return err
	})
	return err
}

// versions returns which version is in force.
func (l *tableLane) versions(ctx context.Context) (active int, err error) {
	res, err := l.w.api.tables.ListTables(ctx, connect.NewRequest(&rapportv1.ListTablesRequest{Table: "area"}))
	if err != nil {
		return 0, err
	}
	l.version = make(map[int]int64)
	for _, v := range res.Msg.GetVersions() {
		wave, err := waveOf(v.GetOrigin())
		if err != nil || v.GetState() == "damaged" || v.GetRows() != 300 {
			return 0, fmt.Errorf("a version that is not whole: %v: %w", v, err)
		}
		l.version[wave] = v.GetVersion()
		if v.GetState() == "active" {
			active = wave
		}
	}
	return active, nil
}

func (l *tableLane) check(ctx context.Context, _ *rand.Rand) error {
	found, err := l.versions(ctx)
	if err != nil {
		return err
	}
	for _, wave := range l.sure {
		if l.version[wave] == 0 {
			return fmt.Errorf("the load of table file %d was acknowledged and is lost", wave)
		}
	}
	if !slices.Contains(l.sure, l.wave) && l.wave > 0 {
		l.w.tally.settled("table load", l.version[l.wave] > 0)
		if l.version[l.wave] > 0 {
			l.sure = append(l.sure, l.wave)
		}
	}
	if err := l.active.settle(l.w.tally, "table", found); err != nil {
		return err
	}
	catalog, used, err := l.w.greeting(ctx)
	if err != nil || catalog > 0 && used != found {
		return fmt.Errorf("table version %d is in force, and decisions look up in %d: %w", found, used, err)
	}
	return nil
}
