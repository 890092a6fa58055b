package abitest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"rapport/profilestore"
	"rapport/sdk/abi"
	"rapport/server/catalog"
	"rapport/server/sandbox"
)

// The attributes that every offer and every channel has, which are numbers.
const (
	offerValue  = "value"
	channelCost = "cost"
)

// types are the schema's types of what a manifest declares.
var types = map[string]profilestore.Type{
	abi.Number.String(): profilestore.TypeNumber,
	abi.Flag.String():   profilestore.TypeFlag,
	abi.Text.String():   profilestore.TypeText,
	abi.Time.String():   profilestore.TypeTime,
	abi.Set.String():    profilestore.TypeSet,
}

// kinds are the kinds of values of what a manifest declares of the context.
var kinds = map[string]profilestore.Kind{
	abi.Number.String(): profilestore.KindNumber,
	abi.Flag.String():   profilestore.KindFlag,
	abi.Text.String():   profilestore.KindText,
	abi.Time.String():   profilestore.KindTime,
	abi.Set.String():    profilestore.KindSet,
}

// world is a schema that has what a manifest declares, and makes scenarios whose
// offers and channels have it too.
type world struct {
	manifest *sandbox.Manifest
	schema   *profilestore.Schema
	context  []catalog.ContextField
	slots    []int    // of the manifest's profile fields; those of the context are behind those of the schema
	columns  []string // abi.Columns, and behind them those of the history that the manifest has
	values   *values
}

// newWorld returns the world of a manifest. Its error says what there can't be a
// schema or catalogue for.
func newWorld(m *sandbox.Manifest, texts []string) (*world, error) {
	const source = "batch"
	fields := make([]profilestore.Field, 0, len(m.Profile)+1)
	room := 0
	var context []catalog.ContextField
	for _, in := range m.Profile {
		if name, ok := strings.CutPrefix(in.Name, abi.ContextGroup); ok {
			context = append(context, catalog.ContextField{Name: name, Kind: kinds[in.Type]})
		} else {
			fields = append(fields, profilestore.Field{Name: in.Name, Type: types[in.Type], Batch: source, Decimals: profilestore.NoDecimals})
		}
		if t := abi.TypeOf(in.Type); t == abi.Text || t == abi.Set {
			room += sandbox.TextRoom
		}
	}
	if len(fields) == 0 { // a schema has at least one
		fields = append(fields, profilestore.Field{Name: "general.nothing", Type: profilestore.TypeFlag, Batch: source, Decimals: profilestore.NoDecimals})
	}
	schema, err := profilestore.NewSchema([]profilestore.Source{{ID: source}}, fields)
	if err != nil {
		return nil, fmt.Errorf("no schema can have the profile fields that it declares: %w", err)
	}
	for _, own := range []struct {
		what, name string
		inputs     []abi.Input
	}{{"offer", offerValue, m.Offer}, {"channel", channelCost, m.Channel}} {
		for _, in := range own.inputs {
			if in.Name == own.name && in.Type != abi.Number.String() {
				return nil, fmt.Errorf("it declares the %s attribute %s as a %s, and in every catalogue that is a number", own.what, in.Name, in.Type)
			}
		}
	}
	w := &world{manifest: m, schema: schema, context: context, columns: slices.Clone(abi.Columns[:]), values: &values{texts: texts, room: room}}
	behind := len(schema.Fields())
	for _, in := range m.Profile {
		slot, ok := schema.Lookup(in.Name)
		if !ok {
			slot = behind
			behind++
		}
		w.slots = append(w.slots, slot)
	}
	for _, name := range m.Candidate {
		if _, ok := abi.ParseHistoryColumn(name); ok {
			w.columns = append(w.columns, name)
		}
	}
	return w, nil
}

// attributes are those of an offer or a channel, by name.
type attributes map[string]profilestore.Value

// row is what a candidate's offer and channel have.
type row struct{ offer, channel attributes }

// with returns the row with another value for an attribute. What is unknown is not
// there.
func (r row) with(offer bool, name string, v profilestore.Value) row {
	of := &r.channel
	if offer {
		of = &r.offer
	}
	changed := maps.Clone(*of)
	changed[name] = v
	if !v.Known() {
		delete(changed, name)
	}
	*of = changed
	return r
}

// row draws a candidate that has all attributes.
func (w *world) row(random *rand.Rand) row {
	draw := func(inputs []abi.Input, own string, value float64) attributes {
		a := attributes{own: profilestore.Number(value)}
		for _, in := range inputs {
			if in.Name != own {
				a[in.Name] = w.values.ordinary(random, in.Type)
			}
		}
		return a
	}
	return row{
		draw(w.manifest.Offer, offerValue, cents(random, 100)),
		draw(w.manifest.Channel, channelCost, cents(random, 2)),
	}
}

// rows draws n candidates. Of the first everything is known, as some candidate must
// have each attribute; of the others each attribute, with some probability.
func (w *world) rows(random *rand.Rand, n int, known float64) []row {
	rows := make([]row, n)
	for i := range rows {
		rows[i] = w.row(random)
		if i == 0 {
			continue
		}
		for _, in := range w.manifest.Offer {
			if in.Name != offerValue && random.Float64() >= known {
				delete(rows[i].offer, in.Name)
			}
		}
		for _, in := range w.manifest.Channel {
			if in.Name != channelCost && random.Float64() >= known {
				delete(rows[i].channel, in.Name)
			}
		}
	}
	return rows
}

// scenario returns a catalogue with a scenario of these candidates, each with an
// offer and a channel of its own. Parameters that are not set have their defaults.
func (w *world) scenario(rows []row, set map[string]float64) (*catalog.Compiled, *catalog.Scenario) {
	c := &catalog.Compiled{Schema: w.schema, Context: w.context}
	sc := &catalog.Scenario{ID: "check", Strategy: &catalog.StrategyUse{Name: w.manifest.Name, Version: w.manifest.Version, Parameters: set}}
	for i, r := range rows {
		c.Offers = append(c.Offers, catalog.Offer{ID: fmt.Sprintf("offer_%d", i), Attributes: r.offer})
		c.Channels = append(c.Channels, catalog.Channel{ID: fmt.Sprintf("channel_%d", i), Attributes: r.channel})
		sc.Candidates = append(sc.Candidates, catalog.Candidate{Offer: i, Channel: i})
	}
	c.Scenarios = []*catalog.Scenario{sc}
	return c, sc
}
