package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/cmd/rapport/demo"
	rapportv1 "rapport/server/api/rapport/v1"
)

var (
	damages    = flag.Int("damages", 1, "how many damaged data folders are opened")
	damageSeed = flag.Uint64("damage-seed", 0, "the first seed of TestDamage")
	damageKind = flag.String("damage-kind", "", "damage only files of this kind")
)

// TestDamage damages one file of a data folder, by a flipped bit, zeros, a cut or
// altogether, and opens a server on the folder, a process of its own. Whatever it answers
// is what the whole folder answers, or it says which file is damaged; it never dies. Then
// rapport doctor repairs what can be repaired, and says of the rest what to do: if nothing
// is left to be said, all answers are right.
//
// One seed is one damage: -damage-seed N -damages 1 makes it again.
func TestDamage(t *testing.T) {
	if testing.Short() {
		t.Skip("runs servers")
	}
	w := newDamageWorld(t)
	seen := make(map[string]int)
	for i := range *damages {
		seed := *damageSeed + uint64(i)
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) { w.damageOnce(t, seed, seen) }) && i > 20 {
			t.Log("so many are enough to look at")
		}
	}
	for _, line := range slices.Sorted(maps.Keys(seen)) {
		t.Logf("%5d  %s", seen[line], line)
	}
}

// damageWorld is a data folder in two states, and what it answers.
type damageWorld struct {
	closed, killed string // folders
	truth          map[string]*rightAnswers
	home           string // for commands
}

// rightAnswers are those of a folder that is not damaged; a server on a copy of it gives
// them anew, as some depend on the time.
type rightAnswers struct {
	server  *damageServer
	answers map[string]string
}

const damageCustomers = 700

var damageTime = time.Date(2026, time.November, 20, 12, 0, 0, 0, time.UTC)

func newDamageWorld(t *testing.T) *damageWorld {
	t.Helper()
	w := &damageWorld{home: t.TempDir(), truth: make(map[string]*rightAnswers)}
	w.closed, w.killed = filepath.Join(w.home, "closed"), filepath.Join(w.home, "killed")
	w.fill(t)
	for _, folder := range []string{w.closed, w.killed} {
		copied := folder + "-whole"
		copyFolder(t, folder, copied)
		s := w.start(t, copied)
		if s.refusal != "" {
			t.Fatalf("%s: %s", folder, s.refusal)
		}
		t.Cleanup(func() { s.stop(t) })
		w.truth[folder] = &rightAnswers{s, s.ask()}
		for q, a := range w.truth[folder].answers {
			if strings.HasPrefix(a, "error") || strings.Contains(a, `"degradations":`) {
				t.Fatalf("%s: without damage %s gives %s", folder, q, a)
			}
		}
	}
	return w
}

// fill makes the folders, through the commands and the API.
func (w *damageWorld) fill(t *testing.T) {
	t.Helper()
	c := &devCmd{Customers: damageCustomers, Seed: 1}
	a := &app{console: console{in: strings.NewReader(""), out: io.Discard, err: io.Discard}}
	for range 2 { // two snapshots of each source
		c.Seed++
		if _, err := c.load(t.Context(), a, w.closed); err != nil {
			t.Fatal(err)
		}
	}
	s := w.start(t, w.closed)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, source := range []string{"bi", "service_centre"} {
		for _, n := range []int64{1, 2} {
			_, err := s.snapshots.ActivateSnapshot(t.Context(), connect.NewRequest(&rapportv1.ActivateSnapshotRequest{Source: source, Generation: n}))
			must(err)
		}
	}
	for _, comment := range []string{"", "# published again\n"} {
		r := &rapportv1.PublishCatalogRequest{}
		for _, f := range demo.Catalog() {
			r.Files = append(r.Files, &rapportv1.CatalogFile{Name: f.Name, Content: comment + string(f.Content)})
		}
		_, err := s.catalogs.PublishCatalog(t.Context(), connect.NewRequest(r))
		must(err)
	}
	wasm, err := os.ReadFile("../../plugins/dist/scorecard.wasm")
	must(err)
	uploaded, err := s.strategies.UploadStrategy(t.Context(), connect.NewRequest(&rapportv1.UploadStrategyRequest{Module: wasm}))
	must(err)
	_, err = s.strategies.ReleaseStrategy(t.Context(), connect.NewRequest(&rapportv1.ReleaseStrategyRequest{
		Name: uploaded.Msg.GetStrategy().GetName(), Version: uploaded.Msg.GetStrategy().GetVersion(), Stage: rapportv1.StrategyStage_STRATEGY_STAGE_LIVE,
	}))
	must(err)
	w.happen(t, s, 1)
	s.stop(t)
	copyFolder(t, w.closed, w.killed)
	s = w.start(t, w.killed)
	w.happen(t, s, 2)
	must(s.cmd.Process.Kill())
	<-s.done
}

// happen sends what happens to customers: events, links, decisions and outcomes.
func (w *damageWorld) happen(t *testing.T, s *damageServer, round int) {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(round), 3))
	var events []*rapportv1.Event
	for i := range 3000 {
		e := fmt.Sprintf(`{"id": "e%d-%d", "identity": %q, "time": %q`, round, i, damageCustomer(r.IntN(damageCustomers)),
			damageTime.Add(-time.Duration(r.IntN(15*24))*time.Hour).Format(time.RFC3339))
		switch r.IntN(5) {
		case 0:
			e += fmt.Sprintf(`, "type": "balance", "attributes": {"amount": %d}}`, r.IntN(100))
		case 1:
			e += fmt.Sprintf(`, "type": "data_session", "attributes": {"mb": %d}}`, r.IntN(1000))
		case 2:
			e += `, "type": "hotline_call"}`
		case 3:
			e += `, "type": "contact", "attributes": {"channel": "sms", "offer": "data_10g", "group": "data", "class": "marketing"}}`
		case 4:
			e += `, "type": "outcome", "attributes": {"channel": "sms", "offer": "data_10g", "group": "data", "class": "marketing", "outcome": "accepted"}}`
		}
		x := new(rapportv1.Event)
		if err := protojson.Unmarshal([]byte(e), x); err != nil {
			t.Fatal(err)
		}
		events = append(events, x)
	}
	for part := range slices.Chunk(events, 500) {
		got, err := s.profiles.IngestEvents(t.Context(), connect.NewRequest(&rapportv1.IngestEventsRequest{Events: part}))
		if err != nil {
			t.Fatal(err)
		}
		if n := len(got.Msg.GetRefused()); n > 0 {
			t.Fatalf("%d events refused: %v", n, got.Msg.GetRefused()[0])
		}
	}
	for i := range 30 {
		_, err := s.profiles.LinkIdentities(t.Context(), connect.NewRequest(&rapportv1.LinkIdentitiesRequest{Links: []*rapportv1.IdentityLink{{
			A: damageCustomer(i), B: fmt.Sprintf("msisdn:4%d%03d", round, i),
		}}}))
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 60 {
		d, err := s.decisions.Decide(t.Context(), connect.NewRequest(&rapportv1.DecideRequest{Customer: damageCustomer(i), Touchpoint: "web.home"}))
		if err != nil {
			t.Fatal(err)
		}
		if len(d.Msg.GetSlate()) == 0 || i%2 == 0 {
			continue
		}
		_, err = s.decisions.RecordOutcomes(t.Context(), connect.NewRequest(&rapportv1.RecordOutcomesRequest{Reports: []*rapportv1.OutcomeReport{{
			Token: d.Msg.GetSlate()[0].GetToken(), Outcome: "presented",
		}}}))
		if err != nil {
			t.Fatal(err)
		}
	}
}

func damageCustomer(i int) string { return fmt.Sprintf("customer:%d", 100001+i) }

// damageServer is a server in a process of its own.
type damageServer struct {
	*clients
	cmd     *exec.Cmd
	url     string
	done    chan struct{}
	log     *lockedBuffer
	refusal string // it did not start: what it said
}

// lockedBuffer is written by a process and read meanwhile.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (w *damageWorld) start(t *testing.T, folder string) *damageServer {
	t.Helper()
	s := &damageServer{done: make(chan struct{}), log: new(lockedBuffer)}
	s.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), "rapport", "serve", "--data", folder, "--listen", "127.0.0.1:0", "--drain-delay", "0s", "--deadline", "10s")
	s.cmd.Stderr = s.log
	s.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=10")
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	url := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if u := urlPattern.FindString(lines.Text()); u != "" {
				url <- u
			}
		}
		_ = s.cmd.Wait()
		close(s.done)
	}()
	select {
	case s.url = <-url:
		s.clients = dial(s.url)
	case <-s.done:
		s.refusal = s.log.String()
		if s.refusal == "" {
			s.refusal = "nothing"
		}
	case <-time.After(startupTimeout):
		_ = s.cmd.Process.Kill()
		t.Fatalf("the server does not start: %s", s.log)
	}
	return s
}

// stop ends a server in order, and returns what was wrong with its end.
func (s *damageServer) stop(t *testing.T) {
	t.Helper()
	if s.refusal != "" {
		return
	}
	_ = s.close()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(startupTimeout):
		_ = s.cmd.Process.Kill()
		t.Errorf("the server does not end: %s", s.log)
	}
}

// crashed says how a server ended that should not have; empty if it did not.
func (s *damageServer) crashed() string {
	select {
	case <-s.done:
	default:
		return ""
	}
	if status, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return "it died of " + status.Signal().String()
	}
	for _, word := range []string{"panic:", "fatal error:", "SIGBUS", "SIGSEGV"} {
		if strings.Contains(s.log.String(), word) {
			return "it ended by a " + word
		}
	}
	return ""
}

// ask returns the answers to all questions.
func (s *damageServer) ask() map[string]string {
	answers := make(map[string]string)
	var mu sync.Mutex
	var work sync.WaitGroup
	questions := make(chan [2]string)
	for range 4 {
		work.Go(func() {
			for q := range questions {
				a := s.answer(q[0], q[1])
				mu.Lock()
				answers[q[0]+" "+q[1]] = a
				mu.Unlock()
			}
		})
	}
	for i := range damageCustomers {
		questions <- [2]string{"profile", damageCustomer(i)}
		if i%5 == 0 {
			questions <- [2]string{"timeline", damageCustomer(i)}
			questions <- [2]string{"decision", damageCustomer(i)}
		}
	}
	for i := range 30 {
		questions <- [2]string{"profile", fmt.Sprintf("msisdn:41%03d", i)}
	}
	for _, q := range []string{"propensities", "capacities", "snapshots", "catalogue", "strategies", "audit", "decisions", "tables"} {
		questions <- [2]string{q, ""}
	}
	close(questions)
	work.Wait()
	return answers
}

// answer returns an answer as a text; of an error, the text begins with it.
func (s *damageServer) answer(kind, customer string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var m proto.Message
	var err error
	switch kind {
	case "profile":
		m, err = message(s.profiles.GetProfile(ctx, connect.NewRequest(&rapportv1.GetProfileRequest{Customer: customer})))
	case "timeline":
		m, err = message(s.profiles.GetTimeline(ctx, connect.NewRequest(&rapportv1.GetTimelineRequest{Customer: customer})))
	case "decision":
		var r *connect.Response[rapportv1.DecideResponse]
		r, err = s.decisions.Decide(ctx, connect.NewRequest(&rapportv1.DecideRequest{
			Customer: customer, Touchpoint: "web.home", DryRun: &rapportv1.DryRun{Time: timestamppb.New(damageTime), Seed: 7},
		}))
		m, err = message(r, err)
	case "propensities":
		m, err = message(s.readings.ListPropensities(ctx, connect.NewRequest(&rapportv1.ListPropensitiesRequest{})))
	case "capacities":
		m, err = message(s.readings.ListCapacities(ctx, connect.NewRequest(&rapportv1.ListCapacitiesRequest{})))
	case "snapshots":
		m, err = message(s.snapshots.ListSnapshots(ctx, connect.NewRequest(&rapportv1.ListSnapshotsRequest{})))
	case "catalogue":
		m, err = message(s.catalogs.GetCatalog(ctx, connect.NewRequest(&rapportv1.GetCatalogRequest{})))
	case "strategies":
		m, err = message(s.strategies.ListStrategies(ctx, connect.NewRequest(&rapportv1.ListStrategiesRequest{})))
	case "audit":
		m, err = message(s.audit.ListAuditRecords(ctx, connect.NewRequest(&rapportv1.ListAuditRecordsRequest{})))
	case "decisions":
		m, err = message(s.decisions.ListDecisions(ctx, connect.NewRequest(&rapportv1.ListDecisionsRequest{})))
	case "tables":
		m, err = message(s.tables.ListTables(ctx, connect.NewRequest(&rapportv1.ListTablesRequest{})))
	}
	if err != nil {
		return "error: " + err.Error()
	}
	b, err := protojson.Marshal(m)
	if err != nil {
		return "error: " + err.Error()
	}
	var compact bytes.Buffer // protojson adds spaces at random
	if err := json.Compact(&compact, b); err != nil {
		return "error: " + err.Error()
	}
	if kind == "strategies" { // how much they were asked depends on who has asked
		return strategyCounts.ReplaceAllString(compact.String(), "")
	}
	return compact.String()
}

var strategyCounts = regexp.MustCompile(`,"counts":\{("[a-z]+":("[0-9]+"|\{\})[,}]?)+\}?`)

// message returns the message of a response.
func message[T any, M interface {
	*T
	proto.Message
}](r *connect.Response[T], err error) (proto.Message, error) {
	if err != nil {
		return nil, err
	}
	return M(r.Msg), nil
}

// ready returns what /readyz says.
func (s *damageServer) ready(t *testing.T) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/readyz", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return "error: " + err.Error()
	}
	defer func() { _ = res.Body.Close() }()
	b, _ := io.ReadAll(res.Body)
	return string(b)
}

// damagedKinds are the kinds of files, by what their paths match.
var damagedKinds = []struct {
	kind string
	path *regexp.Regexp
}{
	{"lock, copy, value log", regexp.MustCompile(`(^|/)(LOCK|LOAD\.lock|CURRENT\.lock)$|\.copy$|^deltas/.*\.vlog$|^deltas/DISCARD$`)},
	{"FORMAT", regexp.MustCompile(`^FORMAT$`)},
	{"schema", regexp.MustCompile(`^schema$`)},
	{"inventory", regexp.MustCompile(`^INVENTORY$`)},
	{"keys", regexp.MustCompile(`^keys/`)},
	{"journal ID", regexp.MustCompile(`^journal/ID$`)},
	{"journal", regexp.MustCompile(`^journal/`)},
	{"deltas checkpoint", regexp.MustCompile(`^deltas/CHECKPOINT$`)},
	{"deltas seal", regexp.MustCompile(`^deltas/SEAL$`)},
	{"deltas MANIFEST", regexp.MustCompile(`^deltas/MANIFEST$`)},
	{"deltas log", regexp.MustCompile(`^deltas/.*\.mem$`)},
	{"deltas table", regexp.MustCompile(`^deltas/.*\.sst$`)},
	{"deltas others", regexp.MustCompile(`^deltas/`)},
	{"snapshot pointer", regexp.MustCompile(`^snapshots/.*/CURRENT\.json$`)},
	{"snapshot horizon", regexp.MustCompile(`^snapshots/.*/HORIZON\.json$`)},
	{"snapshot manifest", regexp.MustCompile(`^snapshots/.*/MANIFEST\.json$`)},
	{"snapshot marker", regexp.MustCompile(`^snapshots/.*/COMPLETE$`)},
	{"snapshot distributions", regexp.MustCompile(`^snapshots/.*/FIELDS\.json$`)},
	{"snapshot table", regexp.MustCompile(`^snapshots/.*/rows/.*\.sst$`)},
	{"snapshot engine", regexp.MustCompile(`^snapshots/.*/rows/`)},
	{"catalogue pointer", regexp.MustCompile(`^catalog/CURRENT$`)},
	{"catalogue version", regexp.MustCompile(`^catalog/`)},
	{"strategy module", regexp.MustCompile(`^strategies/.*\.wasm$`)},
	{"strategy facts", regexp.MustCompile(`^strategies/.*\.json$`)},
	{"strategy release", regexp.MustCompile(`^strategies/`)},
	{"wasm-cache", regexp.MustCompile(`^wasm-cache/`)},
	{"table sets", regexp.MustCompile(`^tables/SETS\.json$`)},
	{"table version", regexp.MustCompile(`^tables/`)},
	{"ledger", regexp.MustCompile(`^ledger/`)},
	{"evidence", regexp.MustCompile(`^evidence$`)},
	{"decisions", regexp.MustCompile(`^decisions/`)},
	{"audit", regexp.MustCompile(`^audit/`)},
}

func kindOfFile(path string) string {
	for _, k := range damagedKinds {
		if k.path.MatchString(path) {
			return k.kind
		}
	}
	return "unknown"
}

// damage is what was done to a file.
type damage struct {
	kind, file, how string
	told            string // what doctor has said of it, when it repaired it
}

// harm damages one file of a folder.
func harm(t *testing.T, folder string, r *rand.Rand) damage {
	t.Helper()
	files := make(map[string][]string)
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(folder, path)
		kind := kindOfFile(rel)
		if kind == "unknown" {
			t.Errorf("%s is of no known kind", rel)
		}
		if *damageKind == "" || kind == *damageKind {
			files[kind] = append(files[kind], rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	kinds := slices.Sorted(maps.Keys(files))
	d := damage{kind: kinds[r.IntN(len(kinds))]}
	d.file = files[d.kind][r.IntN(len(files[d.kind]))]
	path := filepath.Join(folder, d.file)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	size := info.Size()
	at := int64(0)
	if size > 0 {
		at = r.Int64N(min(size, max(64<<10, usedBytes(t, path)))) // logs have room for more
	}
	hit := func(change func(b []byte)) {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		b := make([]byte, min(4096, size-at))
		if _, err := f.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		change(b)
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
	}
	switch n := r.IntN(10); {
	case size == 0 || n == 9:
		d.how, err = "removed", os.Remove(path)
	case n < 4:
		d.how = "bit flipped"
		bit := byte(1) << r.IntN(8)
		hit(func(b []byte) { b[0] ^= bit })
	case n < 6:
		d.how = "block of zeros"
		at &^= 4095
		hit(func(b []byte) { clear(b) })
	case n < 8:
		d.how, err = "cut", os.Truncate(path, at)
	default:
		d.how, err = "emptied", os.Truncate(path, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// usedBytes returns where the last byte of a file is that is not zero.
func usedBytes(t *testing.T, path string) int64 {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return int64(len(bytes.TrimRight(b, "\x00")))
}

// names reports whether a text names the damaged file, or the folder that is one thing.
func (d damage) names(text string) bool {
	base := filepath.Base(d.file)
	parts := strings.Split(d.file, string(filepath.Separator))
	switch parts[0] {
	case "snapshots":
		return strings.Contains(text, base) && strings.Contains(text, parts[1]) ||
			strings.Contains(text, "source "+parts[1]) || strings.Contains(text, filepath.Join(parts[1], parts[2])) || strings.Contains(text, "source="+parts[1])
	case "catalog":
		return strings.Contains(text, base) || strings.Contains(text, "catalogue version") || strings.Contains(text, "which one is in use can't be read")
	case "strategies":
		return strings.Contains(text, strings.TrimSuffix(base, filepath.Ext(base))) || strings.Contains(text, base)
	}
	return strings.Contains(text, base)
}

func (w *damageWorld) damageOnce(t *testing.T, seed uint64, seen map[string]int) {
	r := rand.New(rand.NewPCG(seed, 8))
	from, state := w.closed, "closed"
	if r.IntN(2) == 1 {
		from, state = w.killed, "killed"
	}
	folder := filepath.Join(w.home, fmt.Sprint("seed-", seed))
	copyFolder(t, from, folder)
	defer func() {
		if !t.Failed() {
			_ = os.RemoveAll(folder)
		}
	}()
	d := harm(t, folder, r)
	t.Logf("%s: %s: %s", state, d.file, d.how)

	checkedBefore := w.doctor(t, folder, false)
	result := w.serveDamaged(t, folder, from, d, checkedBefore)
	if result == "as if nothing were wrong" && !checkedBefore.clean && !d.names(checkedBefore.text) {
		t.Errorf("doctor names something else than %s:\n%s", d.file, checkedBefore.text)
	}
	if result != "as if nothing were wrong" && checkedBefore.clean && !strings.HasPrefix(result, "repaired") {
		t.Errorf("the server found something, doctor nothing:\n%s", checkedBefore.text)
	}
	seen[fmt.Sprintf("%-24s %-15s %s", d.kind, d.how, result)]++

	if result == "as if nothing were wrong" && checkedBefore.clean {
		return
	}

	// What is left is for the doctor.
	repaired := w.doctor(t, folder, true)
	after := w.doctor(t, folder, false)
	if repaired.clean && !after.clean || !repaired.clean && !after.named(d) {
		t.Errorf("after the repair:\n%s\ndoctor says:\n%s", repaired.text, after.text)
	}
	d.told = repaired.text
	final := w.serveDamaged(t, folder, from, d, after)
	switch {
	case after.clean && strings.Contains(repaired.text, "\n  lost: "):
		seen["doctor: repaired, something is lost"]++
	case after.clean && final != "as if nothing were wrong":
		t.Errorf("doctor says that nothing is wrong, but the server's result is %q\nthe repair was:\n%s", final, repaired.text)
	case after.clean:
		seen["doctor: then all is right"]++
	default:
		seen[fmt.Sprintf("doctor: %s can't be repaired: %s", d.kind, d.how)]++
	}
}

// doctorSaid is what rapport doctor has said.
type doctorSaid struct {
	clean bool
	text  string
}

func (s doctorSaid) named(d damage) bool { return d.names(s.text) }

func (w *damageWorld) doctor(t *testing.T, folder string, repair bool) doctorSaid {
	t.Helper()
	args := []string{"doctor", "--data", folder}
	if repair {
		args = append(args, "--repair")
	}
	cmd := exec.CommandContext(t.Context(), "rapport", args...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=10")
	var before map[string]string
	if !repair {
		before = stamps(t, folder)
	}
	out, err := cmd.CombinedOutput()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if err != nil && (!ok || exit.ExitCode() != 1) {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	if !repair {
		if after := stamps(t, folder); !maps.Equal(before, after) {
			t.Errorf("doctor without --repair has changed something")
		}
	}
	return doctorSaid{err == nil, string(out)}
}

// stamps returns size and time of every file.
func stamps(t *testing.T, folder string) map[string]string {
	t.Helper()
	m := make(map[string]string)
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && !e.IsDir() && e.Name() != "LOCK" {
			m[path] = fmt.Sprint(info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// serveDamaged opens a server on a folder, compares every answer, and says what came of it.
func (w *damageWorld) serveDamaged(t *testing.T, folder, from string, d damage, doctor doctorSaid) string {
	t.Helper()
	s := w.start(t, folder)
	defer s.stop(t)
	if s.refusal != "" {
		if how := s.crashed(); how != "" {
			t.Errorf("%s: %s\n%s", d.file, how, s.refusal)
			return "CRASHED"
		}
		if !d.names(s.refusal + d.told) {
			t.Errorf("the server refuses to start and does not name %s:\n%s", d.file, s.refusal)
		}
		return "refused to start"
	}
	answers := s.ask()
	said := s.log.String() + s.ready(t)
	for q, a := range answers {
		if strings.HasPrefix(q, "profile") || strings.HasPrefix(q, "decision ") {
			if i := strings.Index(a, `"setAside":`); i >= 0 && !strings.Contains(said, "source ") {
				t.Errorf("%s sets something aside that is not said: %s", q, a[i:])
			}
		}
	}
	if how := s.crashed(); how != "" {
		t.Errorf("%s: %s\n%s", d.file, how, said)
		return "CRASHED"
	}
	var wrong []string
	failed, named := 0, d.names(said+d.told)
	for q, a := range answers {
		right := w.truth[from]
		if a == right.answers[q] {
			continue
		}
		kind, customer, _ := strings.Cut(q, " ")
		now := right.server.answer(kind, customer) // another time may have another answer
		for range 3 {                              // a busy machine may have no time to rank
			if a != now && failing(a) {
				a = s.answer(kind, customer)
			}
		}
		switch {
		case a == now:
		case failing(a) || d.excuses(kind, a, now):
			failed++
			named = named || strings.Contains(a, `"state":"damaged"`) || strings.Contains(a, `"setAside":`)
		default:
			wrong = append(wrong, fmt.Sprintf("%s:\n%s\nis, and should be:\n%s", q, a, now))
		}
	}
	switch {
	case len(wrong) > 0:
		t.Errorf("%s: %s: %d wrong answers, such as\n%.3000s\nthe server says\n%.3000s\ndoctor says\n%s", d.file, d.how, len(wrong), wrong[0], said, doctor.text)
		return "WRONG"
	case failed > 0 && !named:
		t.Errorf("%s: %s: %d answers failed, and the file is not named:\n%.2000s", d.file, d.how, failed, said)
		return "NOT NAMED"
	case failed > 0:
		return "named, some answers fail"
	case d.names(said):
		return "repaired or named, all answers right"
	}
	return "as if nothing were wrong"
}

// failing reports whether an answer is an error, or says that it is a lesser one.
func failing(a string) bool {
	return strings.HasPrefix(a, "error") || strings.Contains(a, `"degradations":`)
}

// excuses reports whether an answer is a lesser one that says so itself.
func (d damage) excuses(question, got, want string) bool {
	switch question {
	case "profile", "decision": // without the snapshot of a source, which the answer names
		return strings.HasPrefix(d.kind, "snapshot") && strings.Contains(got, `"setAside":`) && !strings.Contains(want, `"setAside":`)
	case "snapshots": // listed as damaged, or set aside by doctor
		return strings.HasPrefix(d.kind, "snapshot") && (strings.Contains(got, `"state":"damaged"`) || d.told != "")
	case "strategies":
		return strings.HasPrefix(d.kind, "strategy")
	case "audit":
		return d.kind == "audit"
	case "decisions":
		return d.kind == "decisions"
	case "capacities":
		return d.kind == "ledger"
	case "tables":
		return strings.HasPrefix(d.kind, "table")
	}
	return false
}

// copyFolder copies a folder; of a file with holes, what is not a hole.
func copyFolder(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), info.Mode().Perm()|0o700)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, rel), bytes.TrimRight(b, "\x00"), info.Mode().Perm()); err != nil {
			return err
		}
		return os.Truncate(filepath.Join(to, rel), int64(len(b)))
	})
	if err != nil {
		t.Fatal(err)
	}
}
