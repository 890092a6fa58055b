package profilestore_test

import (
	"archive/zip"
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/memory"
	"rapport/profilestore/rules"
)

var pegaOnDisk = flag.Bool("pega", false, "send the interactions of the real system in every order to a store on the disk too")

const pegaFile = "data/pega-cdh-sample/Data-pxStrategyResult_pxInteractionHistory_20210101T010000_GMT.zip"

// pegaRecord is a record of the real system: what was offered to a customer, and what
// came of it.
type pegaRecord struct {
	fact, customer               string
	channel, offer, group, class string
	outcome                      string // as the real system has it
	decided, responded           int64  // microseconds
	decidedText, respondedText   string
}

// readPega reads the records. What it takes from a line by search it compares with what
// a JSON decoder takes from it, for one line in a thousand: decoding 147 MB takes 5 s.
func readPega(t testing.TB) []pegaRecord {
	t.Helper()
	archive, err := zip.OpenReader(sharedFile(t, pegaFile))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = archive.Close() }()
	file, err := archive.Open("data.json")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var records []pegaRecord
	names := make(map[string]string)
	for r := bufio.NewReaderSize(file, 64<<10); ; {
		line, err := r.ReadSlice('\n')
		if len(line) > 0 {
			records = append(records, parsePega(t, line, names))
		}
		if errors.Is(err, io.EOF) {
			return records
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(records)%1000 == 1 {
			checkPega(t, line, records[len(records)-1])
		}
	}
}

// parsePega reads a record. Texts that many records have are there once.
func parsePega(t testing.TB, line []byte, names map[string]string) (p pegaRecord) {
	t.Helper()
	for _, x := range [...]struct {
		key  string
		into *string
	}{
		{`"pxFactID":"`, &p.fact},
		{`"pySubjectID":"`, &p.customer},
		{`"pyChannel":"`, &p.channel},
		{`"pyName":"`, &p.offer},
		{`"pyGroup":"`, &p.group},
		{`"pyIssue":"`, &p.class},
		{`"pyOutcome":"`, &p.outcome},
		{`"pxDecisionTime":"`, &p.decidedText},
		{`"pxOutcomeTime":"`, &p.respondedText},
	} {
		i := bytes.Index(line, []byte(x.key))
		if i < 0 {
			t.Fatalf("a record has no %s: %.200s", x.key, line)
		}
		value := line[i+len(x.key):]
		value = value[:bytes.IndexByte(value, '"')]
		s, ok := names[string(value)]
		if !ok {
			s = string(value)
			names[s] = s
		}
		*x.into = s
	}
	p.decided, p.responded = pegaTime(t, p.decidedText), pegaTime(t, p.respondedText)
	return p
}

func pegaTime(t testing.TB, s string) int64 {
	t.Helper()
	at, err := time.Parse("20060102T150405.000 GMT", s)
	if err != nil {
		t.Fatal(err)
	}
	return at.UnixMicro()
}

func checkPega(t testing.TB, line []byte, got pegaRecord) {
	t.Helper()
	var want map[string]any
	if err := json.Unmarshal(line, &want); err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string]string{
		"pxFactID": got.fact, "pySubjectID": got.customer, "pyChannel": got.channel, "pyName": got.offer, "pyGroup": got.group,
		"pyIssue": got.class, "pyOutcome": got.outcome, "pxDecisionTime": got.decidedText, "pxOutcomeTime": got.respondedText,
	} {
		if want[key] != value {
			t.Fatalf("%s is %v, read as %q", key, want[key], value)
		}
	}
}

// pegaOutcomes are the names of outcomes; a contact without an answer has none.
var pegaOutcomes = map[string]string{
	"NoResponse": "", "Rejected": "rejected", "Clicked": "clicked", "Accept": "accepted", "Accepted": "accepted", "Churned": "churned", "Loyal": "loyal",
}

// events returns the contact and, if there was one, the outcome of a record.
func (p *pegaRecord) events(t testing.TB) []*profilestore.Event {
	t.Helper()
	attributes := make(map[string]any)
	for name, value := range map[string]string{"channel": p.channel, "offer": p.offer, "group": p.group, "class": p.class} {
		if value != "" {
			attributes[name] = value
		}
	}
	events := []*profilestore.Event{{ID: p.fact + "/c", Type: profilestore.ContactEvent, Identity: p.customer, Time: p.decided, Attributes: attributes}}
	outcome, ok := pegaOutcomes[p.outcome]
	if !ok {
		t.Fatalf("record %s has the outcome %q", p.fact, p.outcome)
	}
	if outcome == "" {
		return events
	}
	with := maps.Clone(attributes)
	with["outcome"] = outcome
	return append(events, &profilestore.Event{ID: p.fact + "/o", Type: profilestore.OutcomeEvent, Identity: p.customer, Time: p.responded, Attributes: with})
}

// pegaKey is what the fold counts by; a contact has no outcome.
type pegaKey struct{ offer, channel, outcome string }

// pegaCounts are all that were until the reading, and those of windows that end there.
type pegaCounts struct{ all, month, week, twoDays int }

var (
	pegaReading = time.Date(2021, 2, 1, 0, 0, 0, 0, time.UTC)
	pegaWindows = []time.Duration{30 * 24 * time.Hour, 7 * 24 * time.Hour, 48 * time.Hour}
)

// foldPega counts over the file, record by record.
func foldPega(records []pegaRecord) map[string]map[pegaKey]pegaCounts {
	counts := make(map[string]map[pegaKey]pegaCounts)
	count := func(p *pegaRecord, outcome string, at int64) {
		key := pegaKey{p.offer, p.channel, outcome}
		of := counts[p.customer]
		if of == nil {
			of = make(map[pegaKey]pegaCounts)
			counts[p.customer] = of
		}
		if at > pegaReading.UnixMicro() {
			return
		}
		c := of[key]
		c.all++
		if at > pegaReading.AddDate(0, 0, -30).UnixMicro() {
			c.month++
		}
		if at > pegaReading.AddDate(0, 0, -7).UnixMicro() {
			c.week++
		}
		if at > pegaReading.AddDate(0, 0, -2).UnixMicro() {
			c.twoDays++
		}
		of[key] = c
	}
	for i := range records {
		p := &records[i]
		count(p, "", p.decided)
		if p.outcome != "NoResponse" {
			count(p, pegaOutcomes[p.outcome], p.responded)
		}
	}
	return counts
}

// pegaSchema has a field of each type that such events can feed.
func pegaSchema(t testing.TB) (*profilestore.Schema, profilestore.EventMapper) {
	t.Helper()
	contact, outcome := `event.type == "contact"`, `event.type == "outcome"`
	schema, err := profilestore.NewSchema(nil, []profilestore.Field{
		{Name: "marketing.contacts", Type: profilestore.TypeCounter, Decimals: 0, Events: &profilestore.EventRule{On: contact, Add: "1"}},
		{Name: "marketing.rejected_week", Type: profilestore.TypeCounter, Decimals: 0, Window: 7 * 24 * time.Hour, Events: &profilestore.EventRule{On: outcome + ` && event.outcome == "rejected"`, Add: "1"}},
		{Name: "marketing.last_outcome", Type: profilestore.TypeText, Events: &profilestore.EventRule{On: outcome, Set: "event.outcome"}},
		{Name: "marketing.accepted", Type: profilestore.TypeSet, Events: &profilestore.EventRule{On: outcome + ` && event.outcome == "accepted"`, Add: "event.offer"}},
		{Name: "marketing.last_contact", Type: profilestore.TypeTime, Events: &profilestore.EventRule{On: contact, Set: "event.time"}},
		{Name: "tag.loyal", Type: profilestore.TypeFlag, Events: &profilestore.EventRule{On: outcome + ` && (event.outcome == "loyal" || event.outcome == "churned")`, Set: `event.outcome == "loyal"`}},
	})
	if err != nil {
		t.Fatal(err)
	}
	mapper, err := rules.NewEventMapper(schema)
	if err != nil {
		t.Fatal(err)
	}
	return schema, mapper
}

// TestPegaHistory sends 127,123 interactions of a real system to a store: each a contact
// and, unless there was no response, an outcome, which for a third of them is dated
// before its contact. In the order of the file, reversed, and shuffled with a tenth sent
// twice, the profiles are the same, and the counts are those of a fold over the file.
func TestPegaHistory(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 147 MB")
	}
	started := time.Now()
	records := readPega(t)
	customers := make(map[string]bool)
	early, answered := 0, 0
	for i := range records {
		customers[records[i].customer] = true
		if records[i].responded < records[i].decided {
			early++
		}
		if records[i].outcome != "NoResponse" {
			answered++
		}
	}
	if len(records) != 127_123 || len(customers) != 10_000 || early != 44_774 || answered != 127_123-49_997 {
		t.Fatalf("%d records of %d customers, %d with the outcome first, %d with an outcome", len(records), len(customers), early, answered)
	}
	if underRace {
		records = slices.DeleteFunc(records, func(p pegaRecord) bool { return !strings.HasSuffix(p.customer, "7") })
	}
	var events []*profilestore.Event
	for i := range records {
		events = append(events, records[i].events(t)...)
	}
	fold := foldPega(records)
	t.Logf("read %d records, %d events, in %v", len(records), len(events), time.Since(started).Round(time.Millisecond))

	r := rand.New(rand.NewPCG(1, 2))
	orders := map[string]func() []*profilestore.Event{
		"file order": func() []*profilestore.Event { return events },
		"reversed": func() []*profilestore.Event {
			reversed := slices.Clone(events)
			slices.Reverse(reversed)
			return reversed
		},
		"shuffled, 10% twice": func() []*profilestore.Event {
			twice := slices.Clone(events)
			r.Shuffle(len(twice), func(i, j int) { twice[i], twice[j] = twice[j], twice[i] })
			twice = append(twice, twice[:len(twice)/10]...)
			r.Shuffle(len(twice), func(i, j int) { twice[i], twice[j] = twice[j], twice[i] })
			return twice
		},
	}
	var first map[string]string
	for _, name := range []string{"file order", "reversed", "shuffled, 10% twice"} {
		order := orders[name]()
		engines := map[string]*memory.Memory{"memory": new(memory.Memory)}
		if *pegaOnDisk {
			engines["badger"] = nil
		}
		for engine, records := range engines {
			t.Run(name+", "+engine, func(t *testing.T) {
				profiles := pegaProfiles(t, records, order, len(order)-len(events), fold)
				if first == nil {
					first = profiles
				}
				differ := 0
				for customer, profile := range first {
					if profiles[customer] != profile {
						if differ++; differ == 1 {
							t.Errorf("the profile of %s is\n%s\nand in the order of the file\n%s", customer, profiles[customer], profile)
						}
					}
				}
				if differ > 0 {
					t.Errorf("%d profiles differ from those of the file's order", differ)
				}
			})
		}
	}
}

// pegaProfiles sends events to a new store, compares the histories of all customers with
// the fold, and returns all that is known of each customer and what is in the record.
func pegaProfiles(t *testing.T, records *memory.Memory, events []*profilestore.Event, duplicates int, fold map[string]map[pegaKey]pegaCounts) map[string]string {
	t.Helper()
	started := time.Now()
	schema, mapper := pegaSchema(t)
	dir := t.TempDir()
	if records != nil {
		dir = memoryDir(t)
	}
	h := &house{dir: dir, schema: schema, mapper: mapper, memory: records, now: pegaReading.AddDate(0, 0, 2).UnixMicro()}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	for batch := range slices.Chunk(events, 5000) {
		results, err := h.store.Ingest(t.Context(), batch)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range results {
			if r.Outcome == profilestore.Refused {
				t.Fatal(batch[i].ID, r.Err)
			}
		}
	}
	stats := h.store.Stats()
	if int(stats.Duplicates) != duplicates || int(stats.Accepted) != len(events)-duplicates {
		t.Fatalf("%d accepted, %d duplicates of %d", stats.Accepted, stats.Duplicates, duplicates)
	}
	sent := time.Since(started)
	profiles := make(map[string]string, len(fold))
	interactions := 0
	for customer, want := range fold {
		view, err := h.store.View(t.Context(), "customer:"+customer)
		if err != nil {
			t.Fatal(err)
		}
		interactions += comparePega(t, customer, view.At(pegaReading.UnixMicro()).History(), want)
		var b strings.Builder
		later := view.At(h.now)
		for slot := range schema.Fields() {
			fmt.Fprintf(&b, " %s", later.Get(slot))
		}
		for x := range later.History().Recent(profilestore.InteractionFilter{}) {
			fmt.Fprintf(&b, " %v", x)
		}
		profiles[customer] = b.String()
	}
	t.Logf("%d events, of which %d out of order and %d duplicates, in %v; %d interactions read and compared in %v",
		len(events), stats.OutOfOrder, stats.Duplicates, sent.Round(time.Millisecond), interactions, (time.Since(started) - sent).Round(time.Millisecond))
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	engine, err := h.engine()
	if err != nil {
		t.Fatal(err)
	}
	for customer := range fold {
		record, _, err := engine.Get(t.Context(), []byte("customer:"+customer), nil)
		if err != nil {
			t.Fatal(err)
		}
		content, err := profilestore.RecordContent("customer:"+customer, record)
		if err != nil {
			t.Fatal(err)
		}
		profiles[customer] += fmt.Sprintf(" %x", content)
	}
	if err := engine.Close(); err != nil {
		t.Error(err)
	}
	return profiles
}

// comparePega compares a history with the fold over the file, in every way to count.
func comparePega(t *testing.T, customer string, h profilestore.History, want map[pegaKey]pegaCounts) (interactions int) {
	t.Helper()
	got := make(map[pegaKey]pegaCounts)
	for _, s := range h.Summary(profilestore.InteractionFilter{}, pegaWindows...) {
		got[pegaKey{s.Offer, s.Channel, s.Outcome}] = pegaCounts{s.Count, s.Within[0], s.Within[1], s.Within[2]}
	}
	for key, c := range want {
		if got[key] != c {
			t.Fatalf("%s, %+v: the summary has %+v, the fold gives %+v", customer, key, got[key], c)
		}
		interactions += c.all
		if key.offer == "" {
			continue // a filter can't ask for interactions without an offer
		}
		f := profilestore.InteractionFilter{Offer: key.offer, Channel: key.channel, Outcome: key.outcome, Type: profilestore.Outcomes}
		if key.outcome == "" {
			f.Type = profilestore.Contacts
		}
		if n := (pegaCounts{h.Count(f, 0), h.Count(f, pegaWindows[0]), h.Count(f, pegaWindows[1]), h.Count(f, pegaWindows[2])}); n != c {
			t.Fatalf("%s, %+v: counts are %+v, the fold gives %+v", customer, key, n, c)
		}
	}
	if len(got) > len(want) {
		t.Fatalf("%s: the summary has %v, the fold gives %v", customer, got, want)
	}
	return interactions
}
