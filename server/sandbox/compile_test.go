package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"rapport/plugins"
	"rapport/profilestore"
	"rapport/sdk/abi"
	"rapport/server/catalog"
	"rapport/server/sandbox"
)

func TestModulesThatAreRefused(t *testing.T) {
	zero := uint32(0)
	cases := map[string]struct {
		wasm   []byte
		reason sandbox.Reason
		want   string // in the message
	}{
		"empty":         {nil, sandbox.ReasonMalformed, "asm"},
		"text":          {[]byte("(module)"), sandbox.ReasonMalformed, "asm"},
		"component":     {[]byte("\x00asm\x0d\x00\x01\x00"), sandbox.ReasonUnsupported, "component"},
		"too large":     {make([]byte, sandbox.MaxModuleSize+1), sandbox.ReasonTooLarge, "16777217"},
		"cut short":     {plugins.PVCL()[:600], sandbox.ReasonMalformed, "and the file"},
		"invalid code":  {guest{before: i32add}.bytes(), sandbox.ReasonMalformed, "an operand is missing"},
		"start section": {guest{edit: func(m *module) { m.start = &zero }}.bytes(), sandbox.ReasonStart, "_initialize"},
		"memory bomb":   {guest{pages: 513}.bytes(), sandbox.ReasonLimit, "512"},

		"no memory":    {guest{edit: without(abi.ExportMemory)}.bytes(), sandbox.ReasonExport, "memory"},
		"no marker":    {guest{edit: without(abi.ExportMarker)}.bytes(), sandbox.ReasonExport, "rapport_abi_1"},
		"no describe":  {guest{edit: without(abi.ExportDescribe)}.bytes(), sandbox.ReasonExport, "rapport_describe () → (i64)"},
		"no arena":     {guest{edit: without(abi.ExportArena)}.bytes(), sandbox.ReasonExport, "rapport_arena"},
		"no configure": {guest{edit: without(abi.ExportConfigure)}.bytes(), sandbox.ReasonExport, "rapport_configure"},
		"no rank":      {guest{edit: without(abi.ExportRank)}.bytes(), sandbox.ReasonExport, "rapport_rank"},
		"describe of another type": {
			guest{edit: retyped(abi.ExportDescribe, "", "i", i32(0))}.bytes(),
			sandbox.ReasonExport, "rapport_describe has the type () → (i32), not () → (i64)",
		},
		"rank of another type": {
			guest{edit: retyped(abi.ExportRank, "ii", "I", i64(0))}.bytes(),
			sandbox.ReasonExport, "(i32, i32) → (i64)",
		},
		"initialize of another type": {
			guest{initialize: []byte{}, edit: retyped(abi.ExportInitialize, "i", "", nil)}.bytes(),
			sandbox.ReasonExport, "_initialize",
		},
		"a command": {
			guest{edit: func(m *module) { m.exports = append(m.exports, export{"_start", 0, 0}) }}.bytes(),
			sandbox.ReasonExport, "c-shared",
		},
		"a name of ours": {
			guest{edit: func(m *module) { m.exports = append(m.exports, export{"rapport_ranks", 0, 0}) }}.bytes(),
			sandbox.ReasonExport, "the nearest is rapport_rank",
		},
		"the same export twice": {
			guest{edit: func(m *module) { m.exports = append(m.exports, m.exports[1]) }}.bytes(),
			sandbox.ReasonMalformed, "rapport_abi_1",
		},

		"unknown module":          {guest{imports: []function{{module: "env", name: "abort"}}}.bytes(), sandbox.ReasonImport, "env.abort"},
		"unknown function":        {guest{imports: []function{{module: "rapport", name: "exec"}}}.bytes(), sandbox.ReasonImport, "rapport.exec"},
		"unknown function of it":  {guest{imports: []function{wasiImport("fd_pwn", "i", "i")}}.bytes(), sandbox.ReasonImport, "fd_pwn"},
		"log of another type":     {guest{imports: []function{{module: "rapport", name: "log", params: "ii"}}}.bytes(), sandbox.ReasonImport, "(i32, i32) → (), not (i32, i32, i32) → ()"},
		"fd_write of another one": {guest{imports: []function{wasiImport("fd_write", "iii", "i")}}.bytes(), sandbox.ReasonImport, "fd_write"},

		"initialize traps":       {guest{initialize: unreachable}.bytes(), sandbox.ReasonInit, "unreachable"},
		"describe traps":         {guest{edit: retyped(abi.ExportDescribe, "", "I", unreachable)}.bytes(), sandbox.ReasonManifest, "unreachable"},
		"arena traps":            {guest{arena: unreachable}.bytes(), sandbox.ReasonArena, "unreachable"},
		"configure traps":        {guest{configure: unreachable}.bytes(), sandbox.ReasonInit, "unreachable"},
		"configure refuses":      {guest{configure: i32(7)}.bytes(), sandbox.ReasonInit, "status 7"},
		"configure writes":       {guest{configure: cat(i32(arenaAt), i32(1), i32store(80), i32(0))}.bytes(), sandbox.ReasonInit, "static block"},
		"no arena to be had":     {guest{arena: i32(0)}.bytes(), sandbox.ReasonArena, "no arena"},
		"arena misaligned":       {guest{arena: i32(arenaAt + 8)}.bytes(), sandbox.ReasonArena, "not aligned"},
		"arena out of bounds":    {guest{arena: i32(4*65536 - 64)}.bytes(), sandbox.ReasonArena, "outside"},
		"arena far out":          {guest{arena: i32(-64)}.bytes(), sandbox.ReasonArena, "outside"},
		"manifest out of bounds": {guest{span: abi.PackSpan(4*65536-1, 2)}.bytes(), sandbox.ReasonManifest, "outside"},
		"manifest far out":       {guest{span: abi.PackSpan(1<<32-1, 1<<16)}.bytes(), sandbox.ReasonManifest, "outside"},
		"manifest too long":      {guest{span: abi.PackSpan(0, 1<<16+1)}.bytes(), sandbox.ReasonManifest, "65537"},
	}
	r := newRuntime(t, sandbox.Options{})
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { refused(t, r, c.wasm, c.reason, c.want) })
	}
}

func refused(t *testing.T, r *sandbox.Runtime, wasm []byte, reason sandbox.Reason, want string) {
	t.Helper()
	m, err := r.Compile(context.Background(), wasm)
	bad := new(sandbox.InvalidError)
	if m != nil || !errors.As(err, &bad) {
		t.Fatalf("got %v and the error %v", m, err)
	}
	if bad.Reason != reason || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %q, want %s and %q", bad.Reason, err, reason, want)
	}
}

func TestManifestsThatAreRefused(t *testing.T) {
	edit := func(old, replacement string) string {
		if !strings.Contains(plainManifest, old) {
			t.Fatalf("%s is not in the manifest", old)
		}
		return strings.Replace(plainManifest, old, replacement, 1)
	}
	many := strings.Repeat(`"R",`, 1025)
	r := newRuntime(t, sandbox.Options{})
	for name, c := range map[string]struct{ manifest, want string }{
		"not JSON":            {"name: plain", "JSON"},
		"not UTF-8":           {edit("plain", "pl\xffin"), "UTF-8"},
		"goes on":             {plainManifest + "{}", "goes on"},
		"another ABI":         {edit(`"abi":1`, `"abi":2`), "ABI 2"},
		"no ABI":              {edit(`"abi":1,`, ``), "ABI 0"},
		"unknown member":      {edit(`"profile"`, `"profiles"`), `"profiles"`},
		"bad name":            {edit("plain", "Plain"), `"Plain"`},
		"no version":          {edit(`"version":"1"`, `"version":""`), "no version"},
		"reserved version":    {edit(`"version":"1"`, `"version":"live"`), "live"},
		"long description":    {edit(`"description":""`, `"description":"`+strings.Repeat("x", 1001)+`"`), "1001"},
		"unknown type":        {edit(`"profile":[]`, `"profile":[{"name":"value.x","type":"counter"}]`), `"counter"`},
		"bad field":           {edit(`"profile":[]`, `"profile":[{"name":"arpu","type":"number"}]`), `"arpu"`},
		"field twice":         {edit(`"profile":[]`, `"profile":[{"name":"value.x","type":"number"},{"name":"value.x","type":"flag"}]`), "value.x is declared twice"},
		"bad attribute":       {edit(`"offer":[]`, `"offer":[{"name":"Price","type":"number"}]`), `"Price"`},
		"attribute twice":     {edit(`"channel":[]`, `"channel":[{"name":"cost","type":"number"},{"name":"cost","type":"number"}]`), "cost is declared twice"},
		"unknown column":      {edit("propensity", "propensitys"), "the nearest is propensity"},
		"column twice":        {edit(`"propensity"`, `"value","value"`), "value is declared twice"},
		"default not in":      {edit(`"parameters":[]`, `"parameters":[{"name":"p","default":2,"min":0,"max":1}]`), "0 to 1"},
		"infinite":            {edit(`"parameters":[]`, `"parameters":[{"name":"p","default":0,"min":0,"max":1e999}]`), "JSON"},
		"parameter twice":     {edit(`"parameters":[]`, `"parameters":[{"name":"p"},{"name":"p"}]`), "p is declared twice"},
		"bad reason":          {edit(`"FIRST"`, `"first"`), `"first"`},
		"reason twice":        {edit(`"FIRST"`, `"SECOND"`), "SECOND is declared twice"},
		"no fuel at all":      {edit(`"reasons"`, `"fuel":{},"reasons"`), "fuel of base 0 and 0 per_candidate"},
		"negative fuel":       {edit(`"reasons"`, `"fuel":{"base":-1,"per_candidate":1},"reasons"`), "fuel of base -1"},
		"too much fuel":       {edit(`"reasons"`, `"fuel":{"base":1000000000001,"per_candidate":1},"reasons"`), "use 0 to 1000000000000"},
		"too much for each":   {edit(`"reasons"`, `"fuel":{"base":1,"per_candidate":1000000001},"reasons"`), "and 0 to 1000000000"},
		"a part of fuel":      {edit(`"reasons"`, `"fuel":{"base":1.5,"per_candidate":1},"reasons"`), "fuel.base"},
		"unknown fuel":        {edit(`"reasons"`, `"fuel":{"base":1,"each":1},"reasons"`), `"each"`},
		"fuel that is huge":   {edit(`"reasons"`, `"fuel":{"base":99999999999999999999},"reasons"`), "fuel.base"},
		"too many of a thing": {edit(`"FIRST",`, many), "1026"},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, r, guest{manifest: c.manifest}.bytes(), sandbox.ReasonManifest, c.want)
		})
	}
}

func TestManifestIsReadWhole(t *testing.T) {
	m := compile(t, newRuntime(t, sandbox.Options{}), plugins.PVCL())
	got := fmt.Sprintf("%+v", *m.Manifest())
	want := "{ABI:1 Name:pvcl Version:1.0.0 Description:Propensity × value × context weight × lever: the standard arbitration. " +
		"Profile:[] Offer:[] Channel:[] Candidate:[propensity value weight lever] " +
		"Parameters:[{Name:value_weight Default:1 Min:0 Max:1}] Reasons:[] Probability:false Fuel:<nil>}"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if len(m.Digest()) != 64 {
		t.Errorf("digest %s", m.Digest())
	}
}

// What does not fit is named, all of it, with what was perhaps meant.
func TestCheckNamesWhatDoesNotFit(t *testing.T) {
	manifest := `{"abi":1,"name":"choosy","version":"2","description":"",
		"profile":[{"name":"value.arpo","type":"number"},{"name":"tag.high_traffic","type":"number"},{"name":"value.arpu","type":"number"}],
		"offer":[{"name":"prize","type":"number"},{"name":"data","type":"text"},{"name":"price","type":"number"}],
		"channel":[{"name":"speed","type":"number"},{"name":"cost","type":"number"}],
		"candidate":[],"parameters":[{"name":"reach","default":1,"min":0,"max":2}],"reasons":[]}`
	r := newRuntime(t, sandbox.Options{})
	m := compile(t, r, guest{manifest: manifest}.bytes())
	c, sc := fixture(t, 10)
	sc.Strategy = &catalog.StrategyUse{Name: "choosy", Parameters: map[string]float64{"reech": 1, "reach": 3}}
	want := []string{
		"it reads the profile field value.arpo, which the schema does not have; the nearest is value.arpu",
		"it reads the profile field tag.high_traffic as a number, and in the schema it is a flag",
		"it reads the offer attribute prize, which no offer of the scenario has; the nearest is price",
		"it reads the offer attribute data as a text, and for offer offer_0 it is a flag",
		"it reads the channel attribute speed, which no channel of the scenario has",
		"the scenario sets the parameter reach to 3; it may be 0 to 2",
		"the scenario sets the parameter reech, which it does not have; the nearest is reach",
	}
	got := m.Check(c, sc)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	_, err := m.Bind(context.Background(), c, sc, sandbox.PoolOptions{Size: 1})
	unfit := new(sandbox.UnfitError)
	if !errors.As(err, &unfit) || len(unfit.Problems) != len(want) || !strings.Contains(err.Error(), "strategy choosy 2 does not fit scenario inbound: it reads") {
		t.Errorf("error %v", err)
	}

	c.Schema, err = profilestore.NewSchema([]profilestore.Source{{ID: "bi"}}, []profilestore.Field{
		{Name: "value.arpo", Type: profilestore.TypeCounter, Batch: "bi"},
		{Name: "tag.high_traffic", Type: profilestore.TypeNumber, Batch: "bi"},
		{Name: "value.arpu", Type: profilestore.TypeNumber, Batch: "bi"},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Offers[9].Attributes["prize"] = profilestore.Number(1)
	for i := range c.Offers {
		c.Offers[i].Attributes["data"] = profilestore.Text("x")
	}
	c.Channels[1].Attributes["speed"] = profilestore.Number(2)
	sc.Strategy = nil
	if got := m.Check(c, sc); len(got) > 0 {
		t.Errorf("it fits, and Check says %v", got)
	}
}
