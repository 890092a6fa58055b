package decide_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"rapport/profilestore"
	"rapport/server/decide"
)

// bookRow is a file of testdata/book: a row of the scenario book.
type bookRow struct {
	path, id, scenario string
	archive            *txtar.Archive
	cases              []*bookCase
}

// bookCase is one customer who is decided for.
type bookCase struct {
	name     string
	nearMiss string // the words of the row's table; empty for others
	positive bool
	customer string
	given    map[string]map[string]string // by source and field; no entry: the source has no row
	happened []happening
	asked    question
	must     []string
	answer   string
}

// happening is an event, or a snapshot of a source that is loaded.
type happening struct {
	event    *profilestore.Event
	arrives  time.Time // zero: when it happens
	snapshot string    // the source
	asOf     time.Time
	row      map[string]string
}

// question is what is asked of the decision.
type question struct {
	at          time.Time
	touchpoints []string
	one         bool
	context     []profilestore.Value
	role        string
	loads       []float64
	pending     []decide.Contact
	taken       map[string]int64 // places of capacities that are taken, by id
}

// reloads reports whether a source is loaded again, so that the case needs a store of
// its own.
func (c *bookCase) reloads() bool {
	return slices.ContainsFunc(c.happened, func(h happening) bool { return h.snapshot != "" })
}

// setAnswer writes the answer of a case into its file.
func (row *bookRow) setAnswer(c *bookCase, answer string) {
	for i := range row.archive.Files {
		if row.archive.Files[i].Name == c.name && i+1 < len(row.archive.Files) && row.archive.Files[i+1].Name == "answer" {
			row.archive.Files[i+1].Data = []byte(answer)
			return
		}
	}
	i := slices.IndexFunc(row.archive.Files, func(f txtar.File) bool { return f.Name == c.name })
	row.archive.Files = slices.Insert(row.archive.Files, i+1, txtar.File{Name: "answer", Data: []byte(answer)})
}

var bookTitle = regexp.MustCompile(`^([A-F][0-9]+[a-c]?) (.+)$`)

// readRow reads a file of testdata/book.
func (b *book) readRow(t *testing.T, path string) *bookRow {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	row := &bookRow{path: path, archive: archive}
	title, _, _ := strings.Cut(string(archive.Comment), "\n")
	m := bookTitle.FindStringSubmatch(title)
	if m == nil || !strings.HasSuffix(path, "/"+m[1]+".txtar") {
		t.Fatalf("%s: the first line must be the id of the row and its scenario, is %q", path, title)
	}
	row.id, row.scenario = m[1], m[2]
	names := make(map[string]bool)
	for i, f := range archive.Files {
		if f.Name == "answer" {
			if i == 0 || len(row.cases) == 0 || row.cases[len(row.cases)-1].name != archive.Files[i-1].Name {
				t.Fatalf("%s: an answer must follow its case", path)
			}
			row.cases[len(row.cases)-1].answer = string(f.Data)
			continue
		}
		if names[f.Name] {
			t.Fatalf("%s: %q is there twice", path, f.Name)
		}
		names[f.Name] = true
		p := &caseParser{T: t, book: b, at: path + ": " + f.Name, c: &bookCase{name: f.Name}}
		p.parse(string(f.Data))
		row.cases = append(row.cases, p.c)
	}
	return row
}

// caseParser reads a case.
type caseParser struct {
	*testing.T
	book *book
	at   string
	c    *bookCase
}

func (p *caseParser) fail(format string, args ...any) {
	p.Helper()
	p.Fatalf(p.at+": "+format, args...)
}

func (p *caseParser) parse(text string) {
	c := p.c
	c.asked = question{at: p.moment("11-04", "10:00"), taken: make(map[string]int64)}
	c.given = map[string]map[string]string{}
	for _, source := range p.book.schema.Sources() {
		c.given[source.ID] = make(map[string]string)
	}
	p.setGiven("bi", "general.customer_type=individual", "general.brand=everyday", "general.customer_since=2025-06-01")
	p.setGiven("service_centre", "general.birth_date=1980-06-15", "preference.consent_message=true", "preference.consent_call=true")
	for _, x := range p.book.catalog.Context {
		c.asked.context = append(c.asked.context, x.Default)
	}
	c.asked.loads = make([]float64, len(p.book.catalog.Channels))
	kind, part := "", ""
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] == "#":
		case line[0] != ' ':
			head := strings.TrimSpace(line)
			switch rest, near := strings.CutPrefix(head, "near miss: "); {
			case near:
				kind, c.nearMiss = "near miss", rest
			case head == "positive" || head == "besides":
				kind, c.positive = head, head == "positive"
			case head == "customer" || head == "happened" || head == "asked" || head == "must":
				part = head
			default:
				p.fail("%q is none of positive, near miss, besides, customer, happened, asked, must", head)
			}
		case part == "customer":
			p.setGiven(words[0], words[1:]...)
		case part == "happened":
			p.c.happened = append(p.c.happened, p.happening(words))
		case part == "asked":
			p.ask(words)
		case part == "must":
			c.must = append(c.must, strings.Join(words, " "))
		default:
			p.fail("%q stands in no part", strings.TrimSpace(line))
		}
	}
	if kind == "" || len(c.asked.touchpoints) == 0 || len(c.must) == 0 {
		p.fail("it must say whether it is positive, a near miss or besides, what is asked, and what must hold")
	}
}

// setGiven reads what a source has of the customer.
func (p *caseParser) setGiven(source string, words ...string) {
	row, ok := p.c.given[source]
	switch {
	case !ok:
		p.fail("there is no source %s, or it has no row", source)
	case strings.Join(words, " ") == "has no row":
		delete(p.c.given, source)
	default:
		p.fields(source, words, row)
	}
}

// fields reads FIELD=VALUE words of a source; ~ is a blank.
func (p *caseParser) fields(source string, words []string, row map[string]string) {
	for _, word := range words {
		name, value, ok := strings.Cut(word, "=")
		slot, known := p.book.schema.Lookup(name)
		switch {
		case !ok || !known:
			p.fail("%s is no FIELD=VALUE of the schema", word)
		case p.book.schema.Fields()[slot].Batch != source:
			p.fail("source %s does not deliver %s", source, name)
		}
		row[name] = strings.ReplaceAll(value, "~", " ")
	}
}

var shanghai = time.FixedZone("+08:00", 8*60*60)

// moment reads a local day, of 2026 unless it says the year, and time of day.
func (p *caseParser) moment(day, clock string) time.Time {
	if len(day) == len("11-04") {
		day = "2026-" + day
	}
	if strings.Count(clock, ":") == 1 {
		clock += ":00"
	}
	at, err := time.ParseInLocation("2006-01-02 15:04:05", day+" "+clock, shanghai)
	if err != nil {
		p.fail("%v", err)
	}
	return at
}

// happening reads a line of what happened.
func (p *caseParser) happening(words []string) (h happening) {
	if len(words) < 3 {
		p.fail("%v: a day, a time and an event are needed", words)
	}
	at := p.moment(words[0], words[1])
	words = words[2:]
	if words[0] == "snapshot" { // snapshot SOURCE as of DAY TIME: FIELD=VALUE …
		if len(words) < 6 {
			p.fail("%v: use snapshot SOURCE as of DAY TIME: FIELD=VALUE …", words)
		}
		h.snapshot, h.asOf, h.row = words[1], p.moment(words[4], strings.TrimSuffix(words[5], ":")), make(map[string]string)
		p.fields(h.snapshot, words[6:], h.row)
		return h
	}
	h.event = &profilestore.Event{Type: words[0], Time: at.UnixMicro(), Attributes: make(map[string]any)}
	if words[0] == "contact" || words[0] == "outcome" {
		p.interaction(h.event, words[1:])
		return h
	}
	for _, word := range words[1:] {
		i := strings.IndexAny(word, ":=")
		if i < 0 {
			p.fail("%s: use NAME:TEXT, or NAME=VALUE for a number or flag", word)
		}
		name, value := word[:i], word[i+1:]
		switch {
		case name == "id":
			h.event.ID = value
		case name == "arrives": // the clock at which it comes, on the same day
			h.arrives = p.moment(at.Format("2006-01-02"), value)
		case word[i] == ':':
			h.event.Attributes[name] = value
		default:
			var v any
			if err := json.Unmarshal([]byte(value), &v); err != nil {
				p.fail("%s: %v", word, err)
			}
			h.event.Attributes[name] = v
		}
	}
	return h
}

// interaction reads `TOUCHPOINT: OFFER …`, of an outcome after its name.
func (p *caseParser) interaction(e *profilestore.Event, words []string) {
	if e.Type == "outcome" {
		e.Attributes["outcome"], words = words[0], words[1:]
	}
	contact := p.contact(words)
	e.Attributes["channel"], e.Attributes["touchpoint"] = contact.Channel, contact.Touchpoint
	var items []any
	for _, x := range contact.Items {
		items = append(items, map[string]any{"offer": x.Offer, "group": x.Group, "class": x.Class})
	}
	e.Attributes["items"] = items
}

// contact reads `TOUCHPOINT: OFFER …`.
func (p *caseParser) contact(words []string) decide.Contact {
	id := strings.TrimSuffix(words[0], ":")
	at, ok := p.book.catalog.Touchpoint(id)
	if !ok || len(words) < 2 {
		p.fail("%v: use TOUCHPOINT: OFFER …", words)
	}
	x := decide.Contact{Channel: p.book.catalog.Channels[p.book.catalog.Touchpoints[at].Channel].ID, Touchpoint: id}
	for _, word := range words[1:] {
		o := p.book.offer(p.T, word)
		x.Items = append(x.Items, profilestore.Item{Offer: o.ID, Group: o.Group, Class: o.Class.String()})
	}
	return x
}

// ask reads a line of what is asked.
func (p *caseParser) ask(words []string) {
	q := &p.c.asked
	switch words[0] {
	case "at":
		q.at = p.moment(words[1], words[2])
	case "touchpoints", "touchpoint":
		q.touchpoints = append(q.touchpoints, words[1:]...)
	case "one":
		q.one = true
	case "context":
		for _, word := range words[1:] {
			p.context(word)
		}
	case "loads":
		for _, word := range words[1:] {
			name, value, _ := strings.Cut(word, "=")
			load, err := strconv.ParseFloat(value, 64)
			i := slices.IndexFunc(p.book.catalog.Channels, func(c channel) bool { return c.ID == name })
			if err != nil || i < 0 {
				p.fail("%s is no CHANNEL=LOAD", word)
			}
			q.loads[i] = load
		}
	case "pending":
		x := p.contact(words[3:])
		x.Time = p.moment(words[1], words[2]).UnixMicro()
		q.pending = append(q.pending, x)
	case "taken":
		for _, word := range words[1:] {
			name, value, _ := strings.Cut(word, "=")
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil || !slices.ContainsFunc(p.book.catalog.Capacities, func(c capacity) bool { return c.ID == name }) {
				p.fail("%s is no CAPACITY=PLACES", word)
			}
			q.taken[name] = n
		}
	default:
		p.fail("%q is none of at, touchpoints, one contact, context, loads, pending, taken", words[0])
	}
}

// context reads a context field.
func (p *caseParser) context(word string) {
	name, value, _ := strings.Cut(word, "=")
	i, ok := p.book.catalog.ContextField(name)
	if !ok {
		p.fail("there is no context field %q", name)
	}
	if name == "role" {
		p.c.asked.role = value
	}
	var v profilestore.Value
	switch p.book.catalog.Context[i].Kind {
	case profilestore.KindFlag:
		v = profilestore.Flag(value == "true")
	case profilestore.KindNumber:
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			p.fail("%v", err)
		}
		v = profilestore.Number(n)
	case profilestore.KindText:
		v = profilestore.Text(value)
	default:
		p.fail("context field %s: times are not read here", name)
	}
	p.c.asked.context[i] = v
}
