package catalog

import (
	"fmt"
	"maps"
	"strings"

	"rapport/profilestore"
	"rapport/profilestore/rules"
	rapportv1 "rapport/server/api/rapport/v1"
)

// StrategyChecker says whether a strategy fits where a catalogue uses it.
type StrategyChecker interface {
	// Check returns, in words, what keeps the scenario's strategy, which is not
	// nil, from ranking the scenario; nothing if it can.
	Check(c *Compiled, s *Scenario) []string
}

// Compile reads the files of one catalogue, checks everything that can be
// checked against the schema and the strategies, and lays the result out for
// decisions. It returns either the catalogue, compiled and as a message, or
// every mistake. Without a StrategyChecker, what strategies need is not checked.
func Compile(files []File, schema *profilestore.Schema, strategies StrategyChecker) (*Compiled, *rapportv1.Catalog, []Problem) {
	c := compileFiles(files, schema)
	if strategies != nil && len(c.lost) == 0 {
		c.checkStrategies(strategies)
	}
	if problems := c.problems(); len(problems) > 0 {
		return nil, nil, problems
	}
	return c.out, c.message, nil
}

// compileFiles reads and compiles files as far as that is possible.
func compileFiles(files []File, schema *profilestore.Schema) *compiler {
	m := readCatalog(files)
	c := &compiler{
		merged: m, schema: schema,
		out: &Compiled{Schema: schema, touchpoint: make(map[string]int), context: make(map[string]int)},
	}
	if len(m.docs) > 0 {
		c.compile()
	}
	return c
}

// problems returns all mistakes.
func (m *merged) problems() []Problem {
	if len(m.docs) == 0 {
		return []Problem{{File: "catalogue", Message: "there are no files"}}
	}
	return problemsOf(m.docs)
}

// Parse returns the files of a catalogue that Compile accepted as one message,
// without looking at rules and references again.
func Parse(files []File) (*rapportv1.Catalog, error) {
	m := readCatalog(files)
	if problems := problemsOf(m.docs); len(problems) > 0 {
		return nil, fmt.Errorf("catalogue: %s, and %d more problems", problems[0], len(problems)-1)
	}
	return m.message, nil
}

// merged are the files of a catalogue as one message, whose lists are those of
// the files joined.
type merged struct {
	docs    []*document
	message *rapportv1.Catalog
	origins map[string][]origin // of the elements of each list

	// lost are the lists of which a part could not be read: what refers to it
	// would look wrong and is not. Offers lost are groups lost.
	lost map[string]bool
}

// origin is where an element of a merged list came from.
type origin struct {
	doc  *document
	path string
}

// readCatalog reads and merges files and checks each for itself.
func readCatalog(files []File) *merged {
	m := &merged{message: &rapportv1.Catalog{}, origins: make(map[string][]origin), lost: make(map[string]bool)}
	names, total := make(map[string]bool, len(files)), 0
	for _, f := range files {
		total += len(f.Content)
		d := &document{file: f.Name, reported: make(map[string]bool)}
		switch {
		case names[f.Name]:
			d.failAt(nil, "", "two files have this name")
		case total > MaxBytes:
			d.failAt(nil, "", "with this file the catalogue has more than %d bytes", MaxBytes)
		default:
			d = readDocument(f)
		}
		names[f.Name] = true
		part := &rapportv1.Catalog{}
		d.decode(part)
		m.docs = append(m.docs, d)
		m.append(d, part)
	}
	if len(m.docs) > 0 {
		if err := validateLists(m.message, m.locate); err != nil {
			m.docs[0].failAt(nil, "", "can't be checked: %v", err)
		}
	}
	for _, d := range m.docs {
		d.invalid = maps.Clone(d.reported)
	}
	return m
}

// append joins the lists of a file's message to those of the whole. What a catalogue
// has once may be in any file, but in one only.
func (m *merged) append(d *document, part *rapportv1.Catalog) {
	fields := part.ProtoReflect().Descriptor().Fields()
	for k := range fields.Len() {
		f := fields.Get(k)
		name := string(f.Name())
		if d.partial {
			m.lost[name] = true
		}
		from := part.ProtoReflect()
		switch {
		case f.IsList():
			list, all := from.Get(f).List(), m.message.ProtoReflect().Mutable(f).List()
			for i := range list.Len() {
				all.Append(list.Get(i))
				m.origins[name] = append(m.origins[name], origin{d, fmt.Sprintf("%s[%d]", name, i)})
			}
		case !from.Has(f):
		case len(m.origins[name]) > 0:
			first := m.origins[name][0]
			d.fail(name, "it is in %s:%d already: a catalogue has it once", first.doc.file, first.doc.line(first.path))
		default:
			m.message.ProtoReflect().Set(f, from.Get(f))
			m.origins[name] = []origin{{d, name}}
		}
	}
}

// locate returns where an element of a list came from, or the list itself.
func (m *merged) locate(list string, i int) (*document, string) {
	if i < 0 {
		return m.docs[0], list
	}
	from := m.origins[list][i]
	return from.doc, from.path
}

// compiler checks a merged catalogue and lays it out. What is wrong is reported
// and left out, so that the rest can still be checked.
type compiler struct {
	*merged
	schema *profilestore.Schema
	out    *Compiled

	env        *rules.Env
	conditions *rules.TableBuilder
	texts      map[string]*rules.Text // the computed parts of texts
	mistaken   int                    // conditions and texts with mistakes, of which so many are compiled
	channels   map[string]int
	offers     map[string]int
	groups     map[string][]int // the offers of each
	levels     map[string]level // what the groups say of all their offers
	issues     map[string]level // likewise
	// treatments and ruled are the contents of each offer by channel, in
	// catalogue order, and whether it has a rule.
	treatments [][]treatment
	ruled      []bool
	uses       map[*Scenario]origin // the scenarios with a strategy
	placed     int                  // candidates so far, of scenarios and touchpoints
	policies   []scope              // of Compiled.Policies
	capacities []scope              // of Compiled.Capacities
	hinted     int                  // suggestions made so far
}

// treatment is an offer's form in a channel.
type treatment struct {
	channel         int
	content, script *Template
	format          string
	eligible        rules.Rule
	ruled           bool // eligible is given
}

func (c *compiler) compile() {
	c.addContext()
	c.addClock()
	c.texts = make(map[string]*rules.Text)
	c.conditions = c.addVocabulary()
	c.addChannels()
	c.addTouchpoints()
	c.addIssues()
	c.addGroups()
	c.addOffers()
	c.addScenarios()
	c.addPolicies()
	c.addCapacities()
	c.addControlGroup()
	c.bind()
	c.out.Rules = c.conditions.Build()
	for _, list := range []string{"offers", "scenarios"} {
		if len(c.origins[list]) == 0 && !c.lost[list] {
			c.docs[0].failAt(nil, "", "the catalogue has no %s: nothing could be offered", list)
		}
	}
}

// fail reports a problem below an element of a list. What is a mistake by itself is no
// second one, nor what came from a key that is (protoyaml takes the number of a field
// for its name).
func (c *compiler) fail(list string, i int, below, format string, args ...any) {
	from := c.origins[list][i]
	path := from.path + "." + below
	if len(from.doc.problems) > 0 && (!from.doc.has(path) || isWithin(path, from.doc.invalid)) {
		return
	}
	from.doc.fail(path, format, args...)
}

// where says in which file and line an element is, for messages about two.
func (c *compiler) where(list string, i int) string {
	from := c.origins[list][i]
	return fmt.Sprintf("%s:%d", from.doc.file, from.doc.line(from.path))
}

// declare notes the id of an element. It reports whether the id is new.
func (c *compiler) declare(index map[string]int, list string, i int, field, what, id string) bool {
	if id == "" { // it is missing, which was said
		c.lost[list] = true
		return false
	}
	if first, ok := index[id]; ok {
		c.fail(list, i, field, "%s %q is declared twice, first in %s", what, id, c.where(list, first))
		return false
	}
	index[id] = i
	return true
}

// addContext adds what a request may say.
func (c *compiler) addContext() {
	seen := make(map[string]int)
	for i, f := range c.message.GetContext() {
		if !c.declare(seen, "context", i, "name", "context field", f.GetName()) {
			continue
		}
		kind := profilestore.Type(f.GetType()).Kind()
		if kind == profilestore.KindUnknown {
			continue
		}
		field := ContextField{Name: f.GetName(), Kind: kind}
		if f.GetDefault() != nil {
			v, err := valueOf(f.GetDefault(), kind)
			if from := c.origins["context"][i]; err != nil && !from.doc.suppressed(from.path+".default") {
				c.fail("context", i, "default", "%v", err)
			}
			field.Default = v
		}
		c.out.context[field.Name] = len(c.out.Context)
		c.out.Context = append(c.out.Context, field)
	}
}

// addChannels adds the channels.
func (c *compiler) addChannels() {
	c.channels = make(map[string]int)
	seen := make(map[string]int)
	for i, m := range c.message.GetChannels() {
		if !c.declare(seen, "channels", i, "id", "channel", m.GetId()) {
			continue
		}
		ch := Channel{ID: m.GetId(), Outbound: m.GetDirection() == "outbound", Cost: m.GetCost()}
		ch.Attributes = c.attributes("channels", i, m.GetAttributes(), map[string]profilestore.Value{"cost": profilestore.Number(m.GetCost())})
		c.addContactRules(i, m, &ch)
		c.channels[ch.ID] = len(c.out.Channels)
		c.out.Channels = append(c.out.Channels, ch)
	}
}

// addTouchpoints adds the touchpoints.
func (c *compiler) addTouchpoints() {
	seen := make(map[string]int)
	for i, m := range c.message.GetTouchpoints() {
		if !c.declare(seen, "touchpoints", i, "id", "touchpoint", m.GetId()) {
			continue
		}
		t := Touchpoint{ID: m.GetId(), Slots: 1, Scenario: -1}
		if m.Slots != nil {
			t.Slots = int(m.GetSlots())
		}
		var ok bool
		if t.Channel, ok = c.channel("touchpoints", i, "channel", m.GetChannel()); !ok {
			continue
		}
		if t.ID != m.GetChannel() && !strings.HasPrefix(t.ID, m.GetChannel()+".") {
			c.fail("touchpoints", i, "id", "the id must begin with its channel: %s.%s", m.GetChannel(), t.ID)
		}
		t.formats = m.GetFormats()
		c.addCards(i, m, &t)
		c.out.touchpoint[t.ID] = len(c.out.Touchpoints)
		c.out.Touchpoints = append(c.out.Touchpoints, t)
	}
}

// channel returns the place of a channel that an element names.
func (c *compiler) channel(list string, i int, below, id string) (int, bool) {
	at, ok := c.channels[id]
	if !ok && id != "" && !c.lost["channels"] {
		c.fail(list, i, below, "there is no channel %q%s", id, nearest(c, id, c.channels))
	}
	return at, ok
}

// checkStrategies asks whether the strategies fit.
func (c *compiler) checkStrategies(strategies StrategyChecker) {
	for _, s := range c.out.Scenarios {
		if s.Strategy == nil {
			continue
		}
		from := c.uses[s]
		for _, message := range strategies.Check(c.out, s) {
			from.doc.fail(from.path+".strategy", "%s", message)
		}
	}
}

// rulesEnv returns the environment of conditions.
func (c *compiler) rulesEnv() *rules.Env {
	inputs := make([]rules.Input, len(c.out.Context))
	for i, f := range c.out.Context {
		inputs[i] = rules.Input{Name: f.Name, Kind: f.Kind}
	}
	env, err := rules.NewEnv(c.schema, inputs)
	if err != nil {
		panic(err) // names and kinds were checked
	}
	return env
}
