package trial

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"rapport/profilestore"
	"rapport/sdk/abi"
	"rapport/server/catalog"
	"rapport/server/decide"
	"rapport/server/sandbox"
)

// types are the schema's types of what a manifest declares, and kinds those of values.
var (
	types = map[abi.Type]profilestore.Type{
		abi.Number: profilestore.TypeNumber, abi.Flag: profilestore.TypeFlag, abi.Text: profilestore.TypeText,
		abi.Time: profilestore.TypeTime, abi.Set: profilestore.TypeSet,
	}
	kinds = map[abi.Type]profilestore.Kind{
		abi.Number: profilestore.KindNumber, abi.Flag: profilestore.KindFlag, abi.Text: profilestore.KindText,
		abi.Time: profilestore.KindTime, abi.Set: profilestore.KindSet,
	}
)

// world is a catalogue, with its schema, that fits a strategy and a case, and the
// decision that the case is.
//
// Its scenario has a candidate more than the case: one that has every attribute that
// the strategy reads. A server refuses a strategy that reads an attribute which no
// offer has; a case may well be about just that.
type world struct {
	manifest *sandbox.Manifest
	c        *Case

	catalog  *catalog.Compiled
	scenario *catalog.Scenario
	profile  []profilestore.Value // by slot
	context  []profilestore.Value

	errs []error
}

// newWorld makes the world of a case. Its error names every place where the two don't
// fit, a line each.
func newWorld(m *sandbox.Manifest, c *Case) (*world, error) {
	w := &world{manifest: m, c: c}
	if err := w.addProfile(); err != nil {
		return nil, err
	}
	w.addCandidates()
	w.checkParameters()
	w.checkHistory()
	return w, errors.Join(w.errs...)
}

// fail notes a mistake of the case; line 0: none in particular.
func (w *world) fail(line int, format string, args ...any) {
	where := w.c.file
	if line > 0 {
		where = fmt.Sprintf("%s:%d", where, line)
	}
	w.errs = append(w.errs, fmt.Errorf("%s: %s", where, fmt.Sprintf(format, args...)))
}

// addProfile makes schema, profile and context.
func (w *world) addProfile() error {
	const source = "batch"
	fields := []profilestore.Field{}
	var context []catalog.ContextField
	for _, in := range w.manifest.Profile {
		t := abi.TypeOf(in.Type)
		if name, ok := strings.CutPrefix(in.Name, abi.ContextGroup); ok {
			context = append(context, catalog.ContextField{Name: name, Kind: kinds[t]})
			w.context = append(w.context, w.value(w.c.Context, name, "context field", t))
			continue
		}
		fields = append(fields, profilestore.Field{Name: in.Name, Type: types[t], Batch: source, Decimals: profilestore.NoDecimals})
	}
	w.unread(w.c.Context, "context field", func(name string) string { return abi.ContextGroup + name })
	w.unread(w.c.Profile, "profile field", func(name string) string { return name })
	if len(fields) == 0 { // a schema has at least one
		fields = append(fields, profilestore.Field{Name: "general.nothing", Type: profilestore.TypeFlag, Batch: source, Decimals: profilestore.NoDecimals})
	}
	schema, err := profilestore.NewSchema([]profilestore.Source{{ID: source}}, fields)
	if err != nil {
		return fmt.Errorf("no schema can have the profile fields that the strategy declares: %w", err)
	}
	w.profile = make([]profilestore.Value, len(schema.Fields()))
	for _, in := range w.manifest.Profile {
		if slot, ok := schema.Lookup(in.Name); ok {
			w.profile[slot] = w.value(w.c.Profile, in.Name, "profile field", abi.TypeOf(in.Type))
		}
	}
	w.catalog = &catalog.Compiled{Schema: schema, Context: context}
	return nil
}

// unread finds fields that the case has and the strategy does not read.
func (w *world) unread(given map[string]Value, what string, declared func(string) string) {
	var known []string
	for _, in := range w.manifest.Profile {
		if name := strings.TrimPrefix(in.Name, abi.ContextGroup); declared(name) == in.Name {
			known = append(known, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(known, name) {
			w.fail(given[name].node.Line, "the strategy does not read the %s %s%s", what, name, sandbox.Nearest(name, known))
		}
	}
}

// value returns a value of the type that the strategy declares, or unknown.
func (w *world) value(given map[string]Value, name, what string, t abi.Type) profilestore.Value {
	v, ok := given[name]
	if !ok {
		return profilestore.Unknown()
	}
	value, err := v.as(t)
	if err != nil {
		w.fail(v.node.Line, "the %s %s %v", what, name, err)
	}
	return value
}

// addCandidates makes offers, channels and the scenario.
func (w *world) addCandidates() {
	m := w.manifest
	w.scenario = &catalog.Scenario{ID: "case", Plain: true, Strategy: &catalog.StrategyUse{Name: m.Name, Version: m.Version, Parameters: w.c.Parameters}}
	for i := range w.c.Candidates {
		k := &w.c.Candidates[i]
		w.addCandidate(k.ID, w.attributes(k.Offer, "offer attribute", m.Offer), w.attributes(k.Channel, "channel attribute", m.Channel))
	}
	w.addCandidate("", everything(m.Offer), everything(m.Channel))
	w.catalog.Scenarios = []*catalog.Scenario{w.scenario}
	offers, channels := func(k *Candidate) map[string]Value { return k.Offer }, func(k *Candidate) map[string]Value { return k.Channel }
	w.checkAttributes("offer", m.Offer, offers)
	w.checkAttributes("channel", m.Channel, channels)
}

func (w *world) addCandidate(id string, offer, channel map[string]profilestore.Value) {
	i := len(w.catalog.Offers)
	w.catalog.Offers = append(w.catalog.Offers, catalog.Offer{ID: id, Attributes: offer})
	w.catalog.Channels = append(w.catalog.Channels, catalog.Channel{ID: id, Attributes: channel})
	w.scenario.Candidates = append(w.scenario.Candidates, catalog.Candidate{Offer: i, Channel: i})
}

func (w *world) attributes(given map[string]Value, what string, inputs []abi.Input) map[string]profilestore.Value {
	all := make(map[string]profilestore.Value, len(inputs))
	for _, in := range inputs {
		if v := w.value(given, in.Name, what, abi.TypeOf(in.Type)); v.Known() {
			all[in.Name] = v
		}
	}
	return all
}

// everything has all attributes that are read.
func everything(inputs []abi.Input) map[string]profilestore.Value {
	all := make(map[string]profilestore.Value, len(inputs))
	for _, in := range inputs {
		switch abi.TypeOf(in.Type) {
		case abi.Number:
			all[in.Name] = profilestore.Number(0)
		case abi.Flag:
			all[in.Name] = profilestore.Flag(false)
		case abi.Text:
			all[in.Name] = profilestore.Text("")
		case abi.Time:
			all[in.Name] = profilestore.Time(0)
		case abi.Set:
			all[in.Name] = profilestore.Set()
		}
	}
	return all
}

// checkAttributes finds misspelt attributes: the strategy reads one that no candidate
// has, and some candidate has one like it, that is not read.
func (w *world) checkAttributes(what string, inputs []abi.Input, of func(*Candidate) map[string]Value) {
	lines, declared := make(map[string]int), make(map[string]bool)
	for i := range w.c.Candidates {
		for name, v := range of(&w.c.Candidates[i]) {
			if lines[name] == 0 {
				lines[name] = max(1, v.node.Line)
			}
		}
	}
	for _, in := range inputs {
		declared[in.Name] = true
	}
	var others []string
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		if !declared[name] {
			others = append(others, name)
		}
	}
	for _, in := range inputs {
		if near := sandbox.Nearest(in.Name, others); lines[in.Name] == 0 && near != "" {
			w.fail(lines[strings.TrimPrefix(near, "; the nearest is ")], "no candidate has the %s attribute %s, which the strategy reads%s, which it does not read", what, in.Name, near)
		}
	}
}

func (w *world) checkParameters() {
	names := make([]string, len(w.manifest.Parameters))
	for i, p := range w.manifest.Parameters {
		names[i] = p.Name
	}
	for _, name := range slices.Sorted(maps.Keys(w.c.Parameters)) {
		i, v := slices.Index(names, name), w.c.Parameters[name]
		if i < 0 {
			w.fail(0, "the strategy has no parameter %s%s", name, sandbox.Nearest(name, names))
		} else if p := w.manifest.Parameters[i]; !(v >= p.Min && v <= p.Max) {
			w.fail(0, "the parameter %s is %g; it may be %g to %g", name, v, p.Min, p.Max)
		}
	}
}

// checkHistory finds columns of the history that the strategy does not read.
func (w *world) checkHistory() {
	var known []string
	for _, name := range w.manifest.Candidate {
		if _, ok := abi.ParseHistoryColumn(name); ok {
			known = append(known, name)
		}
	}
	for i := range w.c.Candidates {
		for _, name := range slices.Sorted(maps.Keys(w.c.Candidates[i].History)) {
			if !slices.Contains(known, name) {
				w.fail(0, "candidate %s: the strategy does not read the history column %s%s", w.c.Candidates[i].ID, name, sandbox.Nearest(name, known))
			}
		}
	}
}

// Get returns the value of a profile field.
func (w *world) Get(slot int) profilestore.Value { return w.profile[slot] }

// HistoryColumn fills in a column of the history.
func (w *world) HistoryColumn(column string, candidates []int32, cells []float64) {
	none := 0.0
	if h, _ := abi.ParseHistoryColumn(column); h.What == abi.HistoryDays {
		none = -1
	}
	for i, k := range candidates {
		x, ok := w.c.Candidates[k].History[column]
		if !ok {
			x = none
		}
		cells[i] = x
	}
}

var _ sandbox.HistoryColumns = (*world)(nil)

// ranking returns the decision, with places for the answer.
func (w *world) ranking() *decide.Ranking {
	n := len(w.c.Candidates)
	cells := func() []float64 { return make([]float64, n) }
	q := &decide.Ranking{
		Seed: w.c.Seed, Profile: w, Context: w.context, Slots: cmp.Or(w.c.Slots, n), Dry: true,
		Candidates: make([]int32, n), Propensity: cells(), Value: cells(), Weight: cells(), Lever: cells(),
		Score: cells(), Reason: make([]uint32, n), Veto: make([]bool, n),
	}
	if !w.c.Now.IsZero() {
		q.Now = w.c.Now.UnixMicro()
	}
	if w.manifest.Probability {
		q.Chance = cells()
	}
	one := func(x *float64) float64 {
		if x == nil {
			return 1
		}
		return *x
	}
	for i := range w.c.Candidates {
		k := &w.c.Candidates[i]
		q.Candidates[i] = int32(i)
		q.Propensity[i], q.Value[i], q.Weight[i], q.Lever[i] = k.Propensity, k.Value, one(k.Weight), one(k.Lever)
	}
	return q
}

// as returns the value as a type. The error goes on after the name of what has it.
func (v *Value) as(t abi.Type) (profilestore.Value, error) {
	n := &v.node
	unknown := profilestore.Unknown()
	if n.ShortTag() == "!!null" {
		return unknown, nil
	}
	wrong := func(write string) (profilestore.Value, error) {
		is := map[string]string{"!!int": "a number", "!!float": "a number", "!!bool": "a flag", "!!str": "a text", "!!timestamp": "a time", "!!seq": "a list", "!!map": "a table"}[n.ShortTag()]
		return unknown, fmt.Errorf("is %s, and the strategy reads a %s: write %s", cmp.Or(is, n.ShortTag()), t, write)
	}
	switch t {
	case abi.Number:
		var x float64
		if tag := n.ShortTag(); tag != "!!int" && tag != "!!float" || n.Decode(&x) != nil {
			return wrong("it as 29.85, without quotes")
		}
		if value := profilestore.Number(x); value.Known() {
			return value, nil
		}
		return unknown, errors.New("is not a number that can be known: leave it out")
	case abi.Flag:
		var b bool
		if n.ShortTag() != "!!bool" || n.Decode(&b) != nil {
			return wrong("true or false, without quotes")
		}
		return profilestore.Flag(b), nil
	case abi.Text:
		if n.ShortTag() != "!!str" {
			return wrong("it in quotes")
		}
		return profilestore.Text(n.Value), nil
	case abi.Time:
		at, err := time.Parse(time.RFC3339, n.Value)
		if n.Kind != yaml.ScalarNode || err != nil {
			return wrong("it with date, time and offset, as 2026-03-01T12:00:00Z")
		}
		return profilestore.Time(at.UnixMicro()), nil
	case abi.Set:
		var elements []string
		if n.ShortTag() != "!!seq" || n.Decode(&elements) != nil {
			return wrong("a list of texts, as [gold, roaming]")
		}
		for _, e := range elements {
			if err := profilestore.CheckElement(e); err != nil {
				return unknown, fmt.Errorf("has the element %.80q, which %w", e, err)
			}
		}
		return profilestore.Set(elements...), nil
	}
	return unknown, nil
}
