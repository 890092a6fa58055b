package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/profilestore/durable"
	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
)

// question is a dry run: its answer is a function of it.
func question(customer string, seed uint64) *rapportv1.DecideRequest {
	return &rapportv1.DecideRequest{
		Customer: customer, Touchpoint: "web.home",
		DryRun: &rapportv1.DryRun{Time: timestamppb.New(time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)), Seed: seed},
	}
}

func (h *house) ask(t testing.TB, q *rapportv1.DecideRequest) *rapportv1.DecideResponse {
	t.Helper()
	res, err := h.decisions().Decide(context.Background(), connect.NewRequest(q))
	if err != nil {
		t.Fatal(err)
	}
	return res.Msg
}

func canonical(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// rivals are offers that compete for everybody, so that the order says how they
// were ranked. The values and propensities are drawn so that many tie if all
// offers are worth the same.
func rivals(n int) string {
	var b strings.Builder
	b.WriteString("channels: [{id: web, direction: inbound}]\ntouchpoints: [{id: web.home, channel: web, slots: 3}, {id: web.side, channel: web, slots: 1}]\noffers:\n")
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("o%d", i)
		fmt.Fprintf(&b, "  - {id: o%d, group: g, class: care, value: %d, propensity: {start: %v}, treatments: [{channel: web, content: x}]}\n", i, 1+i*7%5, float64(1+i%2)/4)
	}
	fmt.Fprintf(&b, "scenarios:\n  - {id: home, touchpoints: [web.home], offers: [%s], strategy: {name: pvcl}}\n", strings.Join(ids, ", "))
	fmt.Fprintf(&b, "  - {id: side, touchpoints: [web.side], offers: [%s], strategy: {name: pvcl, version: 1.0.0}}\n", strings.Join(ids, ", "))
	return b.String()
}

// TestShare: the share has the size that was asked for, a customer stays on the
// same side, also after a restart, and a larger share only adds customers. The
// answer names the version that ranked. Who names a version is not concerned.
func TestShare(t *testing.T) {
	h := newHouse(t)
	if _, err := h.publish(rivals(10)); err != nil {
		t.Fatal(err)
	}
	digest := h.upload(t, module(t, "2.0.0", equalValues), nil).GetDigest()
	const customers = 400
	rankedBy := func(percent float64) []bool {
		h.put(t, "2.0.0", share, percent)
		in := make([]bool, customers)
		for i := range in {
			r := h.ask(t, question(fmt.Sprintf("c%d", i), 1))
			in[i] = r.GetRankedBy().GetVersion() == "2.0.0"
			if in[i] && r.GetRankedBy().GetDigest() != digest {
				t.Errorf("customer %d: digest %s", i, r.GetRankedBy().GetDigest())
			}
			// With equal values an offer of the higher propensity wins, whatever it is
			// worth; else the one worth most.
			if p := r.GetSlate()[0]; (p.GetScore() == 0.5) != in[i] {
				t.Errorf("customer %d: ranked by %s, but the first is %v", i, r.GetRankedBy().GetVersion(), p)
			}
			if i%50 == 0 {
				q := question(fmt.Sprintf("c%d", i), 1)
				q.Touchpoint = "web.side"
				if got := h.ask(t, q).GetRankedBy().GetVersion(); got != "1.0.0" {
					t.Errorf("a scenario that names version 1.0.0 is ranked by %s", got)
				}
			}
		}
		return in
	}
	var before []bool
	for _, percent := range []float64{0.5, 10, 37.5, 37.5, 90, 99.5} {
		in := rankedBy(percent)
		n := 0
		for i := range in {
			if in[i] {
				n++
			} else if before != nil && before[i] {
				t.Errorf("customer %d was in a smaller share and is not in one of %v%%", i, percent)
			}
		}
		p := percent / 100
		if sigma := math.Sqrt(customers * p * (1 - p)); math.Abs(float64(n)-customers*p) > 4*sigma {
			t.Errorf("%d of %d customers are in a share of %v%%", n, customers, percent)
		}
		t.Logf("share %v%%: %d of %d customers", percent, n, customers)
		before = in
	}
	again := rankedBy(37.5)
	h.stop()
	h = open(t, h.dir, nil)
	if !slices.Equal(rankedBy(37.5), again) {
		t.Error("after a restart other customers are in the share")
	}
	if err := h.rollback(); err != nil {
		t.Fatal(err)
	}
	if r := h.ask(t, question("c1", 1)); r.GetRankedBy().GetVersion() != "1.0.0" {
		t.Errorf("after the rollback %v ranks", r.GetRankedBy())
	}
}

// TestShadowAffectsNothing: with whatever in shadow, the same requests have the
// same answers, bit for bit.
func TestShadowAffectsNothing(t *testing.T) {
	h := newHouse(t)
	if _, err := h.publish(rivals(10)); err != nil {
		t.Fatal(err)
	}
	h.upload(t, module(t, "2.0.0"), nil)
	h.upload(t, module(t, "2.1.0", equalValues), nil)
	h.upload(t, module(t, "2.2.0", infinite), nil)
	const requests = 300
	answers := func() [][]byte {
		out := make([][]byte, requests)
		for i := range out {
			out[i] = canonical(t, h.ask(t, question(fmt.Sprintf("c%d", i%7), uint64(i))))
		}
		return out
	}
	want := answers()
	for _, version := range []string{"2.0.0", "2.1.0", "2.2.0"} {
		h.put(t, version, shadow, 0)
		if got := answers(); !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("with %s in shadow the answers differ", version)
		}
		// The last ones may still be compared; taking it out of shadow ends that.
		if err := h.rollback(); err != nil {
			t.Fatal(err)
		}
		var c *rapportv1.ShadowCounts
		for c = h.pvcl(t, version).GetCounts().GetShadow(); done(c) < requests; c = h.pvcl(t, version).GetCounts().GetShadow() {
		}
		t.Logf("%s: %v", version, c)
		if done(c) != requests {
			t.Errorf("%s: %d requests, and %v", version, requests, c)
		}
		if n := h.pvcl(t, version).GetCounts().GetRanked(); n != 0 {
			t.Errorf("%s has ranked %d decisions", version, n)
		}
		switch version {
		case "2.0.0":
			if c.GetScoreDiffers()+c.GetSlateDiffers()+c.GetWinnerDiffers() != 0 || c.GetComparisons() == 0 {
				t.Errorf("the same module differs: %v", c)
			}
		case "2.1.0":
			if c.GetScoreDiffers() != c.GetComparisons() || c.GetComparisons() == 0 {
				t.Errorf("another module does not differ: %v", c)
			}
		case "2.2.0":
			if c.GetComparisons() != 0 || c.GetFaults()["score"] == 0 {
				t.Errorf("a module that fails: %v", c)
			}
		}
	}
}

// done returns of how many decisions a shadow knows the outcome.
func done(c *rapportv1.ShadowCounts) uint64 {
	n := c.GetComparisons() + c.GetDropped() + c.GetSuspended()
	for _, faults := range c.GetFaults() {
		n += faults
	}
	return n
}

// TestShadowCounts compares what a shadow counts with the naive twin: ask with the
// one version, ask with the other, and compare the answers.
func TestShadowCounts(t *testing.T) {
	h := newHouse(t)
	if _, err := h.publish(rivals(9)); err != nil {
		t.Fatal(err)
	}
	h.upload(t, module(t, "2.0.0", equalValues), nil)
	const requests = 100
	ask := func(i int) *rapportv1.DecideResponse {
		q := question("c", uint64(i))
		q.Slots = int32(i % 4)
		return h.ask(t, q)
	}
	var winner, slates uint64
	first := make([]*rapportv1.DecideResponse, requests)
	for i := range first {
		first[i] = ask(i)
	}
	h.put(t, "2.0.0", live, 0)
	for i := range first {
		second := ask(i)
		if second.GetSlate()[0].GetOffer() != first[i].GetSlate()[0].GetOffer() {
			winner++
		}
		if slate(second) != slate(first[i]) {
			slates++
		}
	}
	if err := h.rollback(); err != nil {
		t.Fatal(err)
	}
	h.put(t, "2.0.0", shadow, 0)
	for i := range uint64(requests) {
		ask(int(i))
		for done(h.pvcl(t, "2.0.0").GetCounts().GetShadow()) <= i { // so that none is dropped
		}
	}
	c := h.pvcl(t, "2.0.0").GetCounts().GetShadow()
	t.Logf("of %d requests %d have another winner, %d another slate", requests, winner, slates)
	if winner == 0 || winner == requests || slates == winner {
		t.Error("the test shows nothing")
	}
	if c.GetComparisons() != requests || c.GetWinnerDiffers() != winner || c.GetSlateDiffers() != slates || c.GetScoreDiffers() != requests {
		t.Errorf("counted %v", c)
	}
}

// TestReleaseSteps walks through releases and back again, with a restart after
// each step.
func TestReleaseSteps(t *testing.T) {
	h := newHouse(t)
	h.upload(t, module(t, "2.0.0"), nil)
	h.upload(t, module(t, "3.0.0"), nil)
	h.upload(t, module(t, "4.0.0", unfit), nil)
	state := func() string {
		res, err := h.strategies().ListStrategies(context.Background(), connect.NewRequest(&rapportv1.ListStrategiesRequest{Name: "pvcl"}))
		if err != nil || len(res.Msg.GetReleases()) != 1 {
			t.Fatalf("%v, %v", res, err)
		}
		r := res.Msg.GetReleases()[0]
		out := r.GetLiveVersion()
		if v := r.GetCandidateVersion(); v != "" {
			out += fmt.Sprintf(" +%s %s %v", v, strings.TrimPrefix(r.GetCandidateStage().String(), "STRATEGY_STAGE_"), r.GetCandidateShare())
		}
		return out + " <" + strings.Join(r.GetEarlierVersions(), " ")
	}
	const back = "back"
	for _, step := range []struct {
		version string
		stage   rapportv1.StrategyStage
		share   float64
		reason  string
		want    string
	}{
		{back, 0, 0, "NO_EARLIER_STRATEGY", "1.0.0 <"},
		{"1.0.0", shadow, 0, "STRATEGY_IS_LIVE", "1.0.0 <"},
		{"9.0.0", shadow, 0, "STRATEGY_NOT_FOUND", "1.0.0 <"},
		{"2.0.0", share, 0, "INVALID_ARGUMENT", "1.0.0 <"},
		{"2.0.0", share, 100, "INVALID_ARGUMENT", "1.0.0 <"},
		{"2.0.0", share, -1, "INVALID_ARGUMENT", "1.0.0 <"},
		{"2.0.0", share, math.NaN(), "INVALID_ARGUMENT", "1.0.0 <"},
		{"2.0.0", shadow, 10, "INVALID_ARGUMENT", "1.0.0 <"},
		{"2.0.0", live, 10, "INVALID_ARGUMENT", "1.0.0 <"},
		{"2.0.0", 77, 0, "INVALID_ARGUMENT", "1.0.0 <"},
		{"4.0.0", shadow, 0, "STRATEGY_UNFIT", "1.0.0 <"},
		{"4.0.0", share, 1, "STRATEGY_UNFIT", "1.0.0 <"},
		{"4.0.0", live, 0, "STRATEGY_UNFIT", "1.0.0 <"},
		{"2.0.0", shadow, 0, "", "1.0.0 +2.0.0 SHADOW 0 <"},
		{"2.0.0", share, 0.25, "", "1.0.0 +2.0.0 SHARE 0.25 <"},
		{"2.0.0", share, 50, "", "1.0.0 +2.0.0 SHARE 50 <"},
		{back, 0, 0, "", "1.0.0 <"},
		{"2.0.0", shadow, 0, "", "1.0.0 +2.0.0 SHADOW 0 <"},
		{"3.0.0", shadow, 0, "", "1.0.0 +3.0.0 SHADOW 0 <"}, // takes its place
		{"2.0.0", live, 0, "", "2.0.0 +3.0.0 SHADOW 0 <1.0.0"},
		{"3.0.0", 0, 0, "", "3.0.0 <2.0.0 1.0.0"},
		{"3.0.0", live, 0, "", "3.0.0 <2.0.0 1.0.0"}, // again: nothing to go back to
		{"live", live, 0, "", "3.0.0 <2.0.0 1.0.0"},
		{"1.0.0", share, 5, "", "3.0.0 +1.0.0 SHARE 5 <2.0.0 1.0.0"},
		{back, 0, 0, "", "3.0.0 <2.0.0 1.0.0"},
		{back, 0, 0, "", "2.0.0 <1.0.0"},
		{back, 0, 0, "", "1.0.0 <"},
		{back, 0, 0, "NO_EARLIER_STRATEGY", "1.0.0 <"},
		{"2.0.0", live, 0, "", "2.0.0 <1.0.0"},
	} {
		var err error
		if step.version == back {
			err = h.rollback()
		} else {
			err = h.tryPut(step.version, step.stage, step.share)
		}
		if errorReason(err) != step.reason {
			t.Fatalf("%s %v %v: error %v, want %q", step.version, step.stage, step.share, err, step.reason)
		}
		if got := state(); got != step.want {
			t.Fatalf("%s %v %v: %q, want %q", step.version, step.stage, step.share, got, step.want)
		}
		if got := h.decide(t, "1", "web.home").GetRankedBy().GetVersion(); step.stage != share && got != strings.Fields(step.want)[0] {
			t.Fatalf("%s %v: ranked by %s, want %s", step.version, step.stage, got, step.want)
		}
		if step.reason != "" {
			continue
		}
		h.stop()
		h = open(t, h.dir, nil)
		if got := state(); got != step.want {
			t.Fatalf("%s %v %v, after a restart: %q, want %q", step.version, step.stage, step.share, got, step.want)
		}
	}
}

// TestPublishWithShare: a catalogue that a version with a share does not fit is
// refused; one that a shadow does not fit is not.
func TestPublishWithShare(t *testing.T) {
	h := newHouse(t)
	if _, err := h.publish(rivals(3)); err != nil {
		t.Fatal(err)
	}
	h.upload(t, module(t, "2.0.0", `"offer":[]=>"offer":[{"name":"value","type":"number"},{"name":"co","type":"text"}]`), nil)
	color := strings.ReplaceAll(rivals(3), "class: care,", "class: care, attributes: {co: red},")
	if _, err := h.publish(color); err != nil {
		t.Fatal(err)
	}
	h.put(t, "2.0.0", share, 50)
	if _, err := h.publish(rivals(3)); errorReason(err) != "CATALOG_INVALID" {
		t.Errorf("published a catalogue that the version with a share does not fit: %v", err)
	}
	h.put(t, "2.0.0", shadow, 0)
	if _, err := h.publish(rivals(3)); err != nil {
		t.Errorf("a shadow keeps a catalogue from being published: %v", err)
	}
	if r := h.ask(t, question("c", 1)); r.GetRankedBy().GetVersion() != "1.0.0" || len(r.GetDegradations()) > 0 {
		t.Errorf("%v", r)
	}
}

// TestReleasesLoseNoDecision: versions go through all stages under load, one that
// reads the profile among them while snapshots change, and each decision is made by
// a version that was in service.
func TestReleasesLoseNoDecision(t *testing.T) {
	h := newHouse(t)
	if _, err := h.publish(rivals(20)); err != nil {
		t.Fatal(err)
	}
	h.upload(t, module(t, "2.0.0"), nil)
	h.upload(t, module(t, "3.0.0", equalValues, `"profile":[]=>"profile":[{"name":"value.balance","type":"number"}]`), nil)
	load(t, h.dir, "bi", "customer,value.balance,usage.data_mb\n1,4.5,7000\n2,50,1\n")
	var stop atomic.Bool
	var mu sync.Mutex
	rankedBy := make(map[string]int)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			client := h.decisions()
			for i := 0; !stop.Load(); i++ {
				customer := fmt.Sprint(1 + i%3) // of whom something is known
				if i%2 == 0 {
					customer = fmt.Sprint(worker, "-", i)
				}
				res, err := client.Decide(context.Background(), connect.NewRequest(&rapportv1.DecideRequest{Customer: customer, Touchpoint: "web.home"}))
				if connect.CodeOf(err) == connect.CodeResourceExhausted {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if len(res.Msg.GetDegradations()) > 0 || len(res.Msg.GetSlate()) != 3 {
					t.Errorf("%v", res.Msg)
				}
				mu.Lock()
				rankedBy[res.Msg.GetRankedBy().GetVersion()]++
				mu.Unlock()
			}
		})
	}
	const swaps = 50
	for i := range swaps {
		if i%5 == 1 {
			activate := &rapportv1.ActivateSnapshotRequest{Source: "bi", Generation: int64(1 + i/5%2)}
			if _, err := h.snapshots().ActivateSnapshot(context.Background(), connect.NewRequest(activate)); err != nil {
				t.Error(err)
			}
		}
		version := []string{"2.0.0", "3.0.0"}[i/5%2]
		switch i % 5 {
		case 0:
			h.put(t, version, shadow, 0)
		case 1:
			h.put(t, version, share, 20)
		case 2:
			h.put(t, version, share, 80)
		case 3:
			h.put(t, version, live, 0)
		case 4:
			if err := h.rollback(); err != nil {
				t.Error(err)
			}
		}
	}
	stop.Store(true)
	wg.Wait()
	shadowed := h.pvcl(t, "2.0.0").GetCounts().GetShadow()
	t.Logf("over %d swaps, decisions by version: %v; shadow of 2.0.0: %v", swaps, rankedBy, shadowed)
	for _, version := range []string{"1.0.0", "2.0.0", "3.0.0"} {
		if rankedBy[version] == 0 {
			t.Errorf("version %s ranked nothing", version)
		}
		c := h.pvcl(t, version).GetCounts()
		if len(c.GetFaults()) > 0 || c.GetBusy() > 0 || c.GetRanked() < uint64(rankedBy[version]) {
			t.Errorf("version %s: %v, and %d answers", version, c, rankedBy[version])
		}
	}
	if shadowed.GetScoreDiffers() != 0 {
		t.Errorf("2.0.0 is the same module as the live one, and differs: %v", shadowed)
	}
}

// TestDamagedStrategies: what is wrong with one strategy in the data folder is said
// by name, keeps nothing else from working, and nothing takes its place in silence.
func TestDamagedStrategies(t *testing.T) {
	base := newHouse(t)
	if _, err := base.publish(rivals(5)); err != nil {
		t.Fatal(err)
	}
	two := module(t, "2.0.0")
	base.upload(t, two, nil)
	base.upload(t, module(t, "3.0.0"), nil)
	base.put(t, "2.0.0", live, 0)
	base.put(t, "3.0.0", share, 50)
	base.stop()
	file := func(dir, name string) string { return filepath.Join(dir, "strategies", "pvcl", name) }
	write := func(name string, content []byte) func(string) error {
		return func(dir string) error {
			return errors.Join(durable.RemoveSealed(file(dir, name)), os.WriteFile(file(dir, name), content, 0o600))
		}
	}
	flip := func(name string) func(string) error {
		return func(dir string) error {
			b, err := os.ReadFile(file(dir, name))
			if err == nil {
				b[len(b)/2] ^= 4
				err = os.WriteFile(file(dir, name), b, 0o600)
			}
			return err
		}
	}
	remove := func(name string) func(string) error {
		return func(dir string) error { return durable.RemoveSealed(file(dir, name)) }
	}
	for _, c := range []struct {
		name   string
		damage func(dir string) error
		live   bool   // the live version is concerned
		ready  string // what /readyz says; nothing if it is ready
	}{
		{"nothing", func(string) error { return nil }, false, ""},
		{"live module altered", flip("2.0.0.wasm"), true, "2.0.0.wasm: its content has changed since it was uploaded"},
		{"live module gone", remove("2.0.0.wasm"), true, "strategies/pvcl/2.0.0.wasm: no such file"},
		{"live module cut", write("2.0.0.wasm", two[:100]), true, "its content has changed"},
		{"what is known of it is gone", remove("2.0.0.json"), true, "put the .json file back"},
		{"what is known of it is nonsense", write("2.0.0.json", []byte("{")), true, "put the .json file back"},
		{"share altered", flip("3.0.0.wasm"), false, "3.0.0.wasm: its content has changed since it was uploaded"},
		{"no module at all", write("4.0.0.wasm", []byte("hello")), false, ""},
		{"a module in another's place", func(dir string) error {
			b, err := os.ReadFile(file(dir, "2.0.0.json"))
			return errors.Join(err, os.WriteFile(file(dir, "4.0.0.json"), b, 0o600), os.WriteFile(file(dir, "4.0.0.wasm"), two, 0o600))
		}, false, ""},
		{"the release is nonsense", write("RELEASE", []byte(`{"live":"2.0.0","candidate":{"version":"3.0.0","stage":"share","share":200}}`)), true, "strategies/pvcl/RELEASE"},
		{"the release is cut", write("RELEASE", []byte(`{"live":"2.0`)), true, "strategies/pvcl/RELEASE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := copyOf(t, base.dir)
			if err := c.damage(dir); err != nil {
				t.Fatal(err)
			}
			h := open(t, dir, nil)
			status, body := h.get(t, "/readyz")
			if (status == 200) != (c.ready == "") || !strings.Contains(body, c.ready) || strings.Contains(body, dir) {
				t.Errorf("readyz: %d %q, want %q", status, body, c.ready)
			}
			versions := make(map[string]int)
			for i := range 50 {
				r := h.ask(t, question(fmt.Sprintf("c%d", i), 1))
				versions[r.GetRankedBy().GetName()+" "+r.GetRankedBy().GetVersion()]++
				if isBuiltin := r.GetRankedBy().GetName() == "builtin"; isBuiltin != (len(r.GetDegradations()) == 1) {
					t.Errorf("ranked by %v, degradations %v", r.GetRankedBy(), r.GetDegradations())
				}
				// The scenario that names the version that ships is not concerned.
				side := question("c", 1)
				side.Touchpoint = "web.side"
				if r := h.ask(t, side); r.GetRankedBy().GetVersion() != "1.0.0" || len(r.GetDegradations()) > 0 {
					t.Errorf("another scenario: %v", r)
				}
			}
			t.Log(versions)
			if c.live != (versions["builtin 1"] > 0) || c.live == (versions["pvcl 2.0.0"] > 0) || versions["pvcl 1.0.0"] > 0 {
				t.Errorf("ranked by %v", versions)
			}
			if status, body := h.get(t, "/metrics"); status != 200 || !strings.Contains(body, "rapport_ready") {
				t.Errorf("metrics: %d %.200q", status, body)
			}
			// Another version helps at once.
			h.put(t, "1.0.0", live, 0)
			if c.name != "share altered" {
				if status, body := h.get(t, "/readyz"); status != 200 {
					t.Errorf("after another release: %q", body)
				}
			}
			if r := h.ask(t, question("c", 1)); len(r.GetDegradations()) > 0 {
				t.Errorf("after another release: %v", r)
			}
		})
	}
}

// TestMendByUpload: a module that is in use and was altered in the folder is put
// back by uploading it again, and another one can't take its place.
func TestMendByUpload(t *testing.T) {
	h := newHouse(t)
	wasm := module(t, "2.0.0")
	h.upload(t, wasm, nil)
	h.put(t, "2.0.0", live, 0)
	h.stop()
	name := filepath.Join(h.dir, "strategies", "pvcl", "2.0.0.wasm")
	if err := os.WriteFile(name, module(t, "2.0.0", equalValues), 0o600); err != nil {
		t.Fatal(err)
	}
	h = open(t, h.dir, nil)
	if _, err := h.tryUpload(module(t, "2.0.0", equalValues), nil); errorReason(err) != "STRATEGY_VERSION_TAKEN" {
		t.Errorf("another module in its place: %v", err)
	}
	if s := h.pvcl(t, "2.0.0"); s.GetProblem() == "" || s.GetStage() != live {
		t.Errorf("listed as %v", s)
	}
	h.upload(t, wasm, nil)
	if s := h.pvcl(t, "2.0.0"); s.GetProblem() != "" {
		t.Errorf("listed as %v", s)
	}
	if status, body := h.get(t, "/readyz"); status != 200 {
		t.Errorf("readyz: %q", body)
	}
	if r := h.decide(t, "1", "web.home"); r.GetRankedBy().GetVersion() != "2.0.0" || len(r.GetDegradations()) > 0 {
		t.Errorf("%v", r)
	}
	if b, err := os.ReadFile(name); err != nil || !bytes.Equal(b, wasm) {
		t.Errorf("the file was not put back: %v", err)
	}
}

// TestNoChangeWithoutRecord: if the audit log can't be written, nothing changes.
func TestNoChangeWithoutRecord(t *testing.T) {
	dir := newData(t)
	log := filepath.Join(dir, "audit", "000001.ndjson")
	if err := os.WriteFile(log, []byte(strings.Repeat("so large that a new file is begun\n", 200_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	h := open(t, dir, nil)
	blocked := filepath.Join(dir, "audit", "000002.ndjson")
	if err := os.Mkdir(blocked, 0o700); err != nil {
		t.Fatal(err)
	}
	check := func(err error) {
		t.Helper()
		if connect.CodeOf(err) != connect.CodeUnavailable || errorReason(err) != "AUDIT_FAILED" {
			t.Errorf("a change without a record: %v", err)
		}
	}
	_, err := h.publish(catalogYAML)
	check(err)
	_, err = h.tryUpload(module(t, "2.0.0"), nil)
	check(err)
	check(h.tryPut("1.0.0", live, 0))
	_, err = h.snapshots().ActivateSnapshot(context.Background(), connect.NewRequest(&rapportv1.ActivateSnapshotRequest{Source: "bi", Generation: 1}))
	check(err)
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "strategies")); err != nil || len(entries) > 0 {
		t.Errorf("strategies: %v, %v", entries, err)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "catalog")); err != nil || len(entries) > 0 {
		t.Errorf("catalogues: %v, %v", entries, err)
	}
	if _, err := h.publish(catalogYAML); err != nil {
		t.Errorf("when it can be written again: %v", err)
	}
	h.upload(t, module(t, "2.0.0"), nil)
	h.stop()
	if _, _, err := server.InstallSchema(dir, "schema.yaml", []byte(schemaYAML+"  - {name: value.more, type: number, batch: bi}\n")); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(blocked); err != nil || bytes.Count(b, []byte("\n")) != 3 || !bytes.Contains(b, []byte(`"schema apply"`)) {
		t.Errorf("recorded: %s, %v", b, err)
	}
}
