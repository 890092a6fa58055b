package rules

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"

	"rapport/profilestore"
)

// Limits of one expression. They keep the work of compiling and of evaluating
// it small, whoever wrote it.
const (
	MaxBytes         = 4096   // of its text
	maxDepth         = 64     // of its tree
	maxComprehension = 2      // exists, all, map and filter within each other
	maxCost          = 10_000 // of one evaluation, in cel-go's units of about one operation
	maxRegexp        = 1_000  // instructions of a pattern's program
)

// Env is what the conditions of a catalogue may name: the profile's fields, the
// declared context, and now. It is safe for concurrent use.
type Env struct {
	lang     *language
	decimals map[string]int // of the fields of the schema that declare them
	rows     *conditions    // those of the rows of decision tables; nil: there are none
}

// NewEnv declares the fields of a schema as profile.GROUP.NAME, its reference tables as
// functions, the inputs as context.NAME, and the time of the decision as now. It fails
// if an input has no kind or is declared twice.
//
// area(KEY) is what the table area has for a key, and unknown if it has no row for it;
// area(KEY, TEXT) is the text then. That is unlike in event rules, where area(KEY) is ""
// then: an event happened and changes something, whatever a table lacks, but an offer
// is not made on what is not known.
func NewEnv(schema *profilestore.Schema, context []Input) (*Env, error) {
	names := objects{profileObject: {}, contextObject: {}}
	places, decimals := make(map[string]int), make(map[string]int)
	for slot, f := range schema.Fields() {
		names.addProfileField(slot, f)
		places["profile."+f.Name] = slot
		if f.Decimals != profilestore.NoDecimals {
			decimals[f.Name] = f.Decimals
		}
	}
	for i, in := range context {
		if _, ok := names[contextObject][in.Name]; ok {
			return nil, fmt.Errorf("rules: context.%s is declared twice", in.Name)
		}
		if in.Kind == profilestore.KindUnknown {
			return nil, fmt.Errorf("rules: context.%s has no type", in.Name)
		}
		names.addContextField(i, in)
		places["context."+in.Name] = i
	}
	lang, err := newLanguage(names, map[string]*types.Type{
		"profile": types.NewObjectType(profileObject),
		"context": types.NewObjectType(contextObject),
		"now":     types.TimestampType,
	}, usableTables(schema.Tables())...)
	if err != nil {
		return nil, err
	}
	for i, name := range schema.TableNames() {
		lang.tablePlaces[name] = i
	}
	lang.places = places
	return &Env{lang: lang, decimals: decimals}, nil
}

// NewTable begins a table of rules.
func (e *Env) NewTable() *TableBuilder {
	c := newConditions(e.lang)
	if e.rows != nil {
		c.atoms, c.index = slices.Clone(e.rows.atoms), maps.Clone(e.rows.index)
	}
	return &TableBuilder{conditions: c, rules: make(map[string]Rule)}
}

// language is a set of declared names and the cel-go environment that knows
// them.
type language struct {
	names objects
	roots map[string]*types.Type // the variables
	env   *cel.Env

	tables      []string       // the reference tables, each a function of its name
	tablePlaces map[string]int // of all tables in the schema
	lookup      Tables         // for event rules; nil: all are empty

	// segments are what stands for segment.NAME; nil if there are none.
	segments   segments
	ofSegments bool // it is the language of segments themselves

	decisions      []decision
	decisionPlaces map[string]int // by id

	labels labels

	// places are the slots of profile.GROUP.NAME and the indices of context.NAME, for
	// the compiler.
	places map[string]int
}

func newLanguage(names objects, roots map[string]*types.Type, tables ...string) (*language, error) {
	options := []cel.EnvOption{
		cel.CustomTypeProvider(names),
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.EnableMacroCallTracking(), // or conditions with macros could not be printed
		cel.EnableIdentifierEscapeSyntax(),
		cel.ParserRecursionLimit(maxDepth),
		cel.RegexProgramSizeLimit(maxRegexp),
		cel.ASTValidators(cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateRegexLiterals()),
		ext.Strings(),
		cel.Function("days",
			cel.Overload("days_int", []*cel.Type{cel.IntType}, cel.DurationType, cel.UnaryBinding(days)),
			cel.Overload("days_double", []*cel.Type{cel.DoubleType}, cel.DurationType, cel.UnaryBinding(days))),
		cel.Function("decimal",
			cel.Overload("decimal_int", []*cel.Type{cel.IntType, cel.IntType}, cel.StringType, cel.BinaryBinding(decimal)),
			cel.Overload("decimal_double", []*cel.Type{cel.DoubleType, cel.IntType}, cel.StringType, cel.BinaryBinding(decimal))),
	}
	for name, typ := range roots {
		options = append(options, cel.Variable(name, typ))
	}
	places := make(map[string]int, len(tables))
	for i, name := range tables {
		options = append(options, tableFunction(name, roots["event"] == nil))
		places[name] = i
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	return &language{names: names, roots: roots, env: env, tables: tables, tablePlaces: places}, nil
}

// maxDays bounds days(n), well inside the range of a duration.
const maxDays = 36_500

// days is the function of that name: n times 24 hours.
func days(v ref.Val) ref.Val {
	var n float64
	switch v := v.(type) {
	case types.Int:
		n = float64(v)
	case types.Double:
		n = float64(v)
	}
	if math.IsNaN(n) || math.Abs(n) > maxDays {
		return types.NewErr("days(%v): use at most %d", n, maxDays)
	}
	return types.Duration{Duration: time.Duration(n * float64(24*time.Hour))}
}

// maxPlaces is how many places behind the point decimal writes at most.
const maxPlaces = 9

// decimal is the function of that name: a number as people write it, with so many places
// behind the point. CEL's string(1234567.5) is 1.2345675e+06.
func decimal(v, places ref.Val) ref.Val {
	var n float64
	switch v := v.(type) {
	case types.Int:
		n = float64(v)
	case types.Double:
		n = float64(v)
	}
	p, _ := places.(types.Int)
	out, ok := appendDecimal(nil, n, int64(p))
	if !ok {
		return types.NewErr("decimal(%v, %d): the number must be finite, with 0 to %d places", n, p, maxPlaces)
	}
	return types.String(out)
}

// appendDecimal appends a number with so many places behind the point.
func appendDecimal(dst []byte, n float64, places int64) ([]byte, bool) {
	if !isFinite(n) || places < 0 || places > maxPlaces {
		return dst, false
	}
	at := len(dst)
	dst = strconv.AppendFloat(dst, n, 'f', int(places), 64)
	if dst[at] == '-' && bytes.IndexFunc(dst[at:], func(r rune) bool { return '1' <= r && r <= '9' }) < 0 {
		dst = slices.Delete(dst, at, at+1) // no -0.00
	}
	return dst, true
}
