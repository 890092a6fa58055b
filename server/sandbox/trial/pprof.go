package trial

import (
	"compress/gzip"
	"io"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"rapport/server/sandbox"
)

// Numbers of fields in perftools.profiles: see profile.proto of github.com/google/pprof.
const (
	profileSampleType, profileSample, profileLocation, profileFunction, profileStrings, profilePeriodType, profilePeriod = 1, 2, 4, 5, 6, 11, 12

	valueTypeType, valueTypeUnit          = 1, 2
	sampleLocations, sampleValues         = 1, 2
	locationID, locationLine              = 1, 4
	lineFunction                          = 1
	functionID, functionName, functionRaw = 1, 2, 3
)

// WriteProfile writes where fuel went as `go tool pprof` and speedscope read it: a
// compressed profile.proto with two values a sample, calls and units of fuel.
func WriteProfile(w io.Writer, stacks []sandbox.FuelStack) error {
	p := &pprof{texts: map[string]uint64{"": 0}, list: []string{""}, functions: make(map[string]uint64)}
	for _, t := range [][2]string{{"calls", "count"}, {"fuel", "units"}} {
		p.message(profileSampleType, p.valueType(t[0], t[1]))
	}
	for _, s := range stacks {
		var ids, values []byte
		for _, f := range slices.Backward(s.Functions) { // the innermost first
			ids = protowire.AppendVarint(ids, p.function(f))
		}
		values = protowire.AppendVarint(values, uint64(s.Calls))
		values = protowire.AppendVarint(values, uint64(s.Fuel))
		p.message(profileSample, message(message(nil, sampleLocations, ids), sampleValues, values))
	}
	p.message(profilePeriodType, p.valueType("fuel", "units"))
	p.out = varint(p.out, profilePeriod, 1)
	for _, s := range p.list {
		p.message(profileStrings, []byte(s))
	}
	z := gzip.NewWriter(w)
	if _, err := z.Write(p.out); err != nil {
		return err
	}
	return z.Close()
}

// pprof is a profile that is being written.
type pprof struct {
	out       []byte
	texts     map[string]uint64
	list      []string
	functions map[string]uint64
}

func (p *pprof) message(field protowire.Number, b []byte) { p.out = message(p.out, field, b) }

func message(to []byte, field protowire.Number, b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(to, field, protowire.BytesType), b)
}

func varint(to []byte, field protowire.Number, x uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(to, field, protowire.VarintType), x)
}

// text returns the place of a text in the table.
func (p *pprof) text(s string) uint64 {
	i, ok := p.texts[s]
	if !ok {
		i = uint64(len(p.list))
		p.texts[s], p.list = i, append(p.list, s)
	}
	return i
}

func (p *pprof) valueType(name, unit string) []byte {
	return varint(varint(nil, valueTypeType, p.text(name)), valueTypeUnit, p.text(unit))
}

// function returns the location of a function, which it writes the first time.
func (p *pprof) function(name string) uint64 {
	if id, ok := p.functions[name]; ok {
		return id
	}
	id := uint64(len(p.functions) + 1)
	p.functions[name] = id
	p.message(profileFunction, varint(varint(varint(nil, functionID, id), functionName, p.text(name)), functionRaw, p.text(name)))
	p.message(profileLocation, message(varint(nil, locationID, id), locationLine, varint(nil, lineFunction, id)))
	return id
}
