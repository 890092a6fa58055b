package server

import (
	"errors"
	"testing"

	"connectrpc.com/connect"

	"rapport/profilestore"
	"rapport/server/catalog"
)

const maskedSchema = `
sources: [{id: bi}]
fields:
  - {name: general.name, type: text, batch: bi, personal: true}
  - {name: value.balance, type: number, batch: bi}
`

func readMaskedSchema(t *testing.T, yaml string) *profilestore.Schema {
	t.Helper()
	schema, problems := catalog.ReadSchema("schema.yaml", []byte(yaml))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return schema
}

func TestMaskIdentity(t *testing.T) {
	hide, show := &mask{}, &mask{revealed: true}
	for in, want := range map[string]string{
		"customer:7590-VHVEG":  "customer:75•••",
		"msisdn:8613800138000": "msisdn:86•••",
		"customer:p1":          "customer:•••", // a third of it would be too much
		"customer:12345":       "customer:1•••",
		"email:李小龙李小龙李小@x.cn":  "email:李小•••",
		"customer:":            "customer:•••",
		"":                     "",
	} {
		if got := hide.identity(in); got != want {
			t.Errorf("%q is shown as %q, want %q", in, got, want)
		}
		if got := show.identity(in); got != in {
			t.Errorf("revealed, %q is shown as %q", in, got)
		}
	}
}

func TestMaskValues(t *testing.T) {
	schema := readMaskedSchema(t, maskedSchema)
	// What is personal today was not when it was decided, and the other way round.
	before := readMaskedSchema(t, `
sources: [{id: bi}]
fields:
  - {name: general.name, type: text, batch: bi}
  - {name: value.balance, type: number, batch: bi, personal: true}
  - {name: value.gone, type: number, batch: bi}
`)
	now := &mask{schemas: []*profilestore.Schema{schema}}
	then := now.under(before)
	for _, c := range []struct {
		m           *mask
		field, want string
	}{
		{now, "general.name", masked},
		{now, "value.balance", "5"},
		{now, "value.gone", masked}, // nobody knows what it is
		{then, "general.name", masked},
		{then, "value.balance", masked},
		{then, "value.gone", "5"},
		{&mask{}, "value.balance", masked},
		{&mask{revealed: true}, "general.name", "5"},
	} {
		if got := c.m.value(c.field, profilestore.Number(5)); got != c.want {
			t.Errorf("%s is shown as %q, want %q", c.field, got, c.want)
		}
		if got := c.m.value(c.field, profilestore.Unknown()); got != "unknown" {
			t.Errorf("%s, which is not known, is shown as %q", c.field, got)
		}
	}
	if len(now.schemas) != 1 || now.under(schema) != now {
		t.Error("the mask was changed by that for a decision")
	}
}

func TestMaskTexts(t *testing.T) {
	schema := readMaskedSchema(t, maskedSchema)
	compiled, _, problems := catalog.Compile([]catalog.File{{Name: "c.yaml", Content: []byte(`
channels: [{id: web, direction: inbound}]
touchpoints: [{id: web.home, channel: web, slots: 1}]
offers:
  - {id: a, group: g, class: care, value: 1, propensity: {start: 0.1}, treatments: [{channel: web, content: "Dear {{profile.general.name}}"}]}
  - {id: b, group: g, class: care, value: 1, propensity: {start: 0.1}, treatments: [{channel: web, content: "You have {{profile.value.balance}}"}]}
scenarios: [{id: s, touchpoints: [web.home]}]
`)}}, schema, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	m := &mask{schemas: []*profilestore.Schema{schema}}
	candidates := compiled.Scenarios[0].Candidates
	for i, want := range []string{"Dear {{profile.general.name}}", "computed"} {
		if got := m.text("computed", candidates[i].Content, compiled); got != want {
			t.Errorf("%s is shown as %q, want %q", candidates[i].Content, got, want)
		}
	}
	if got := m.text("computed", nil, nil); got != masked {
		t.Errorf("a text of a template that is not known is shown as %q", got)
	}
	if got := (&mask{revealed: true}).text("computed", candidates[0].Content, compiled); got != "computed" {
		t.Errorf("revealed, it is shown as %q", got)
	}
}

func TestReveal(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := InstallSchema(dir, "schema.yaml", []byte(maskedSchema)); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Config{Data: dir, RevealPersonal: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	by := connect.NewRequest(&struct{}{})
	if m, err := s.masking(by, false, "decision/1"); err != nil || m.revealed {
		t.Errorf("not asked for: revealed %v, %v", m.revealed, err)
	}
	if m, err := s.masking(by, true, "decision/1"); err != nil || !m.revealed {
		t.Errorf("asked for and allowed: %v", err)
	}
	records, _, err := s.audit.list("decision/1", 10)
	if err != nil || len(records) != 1 || records[0].Action != "reveal" {
		t.Errorf("the audit log has %+v, %v", records, err)
	}
	s.config.RevealPersonal = false
	if _, err := s.masking(by, true, "decision/2"); !errors.Is(err, errRevealForbidden) {
		t.Errorf("asked for and not allowed: %v", err)
	}
	if records, _, err := s.audit.list("decision/2", 10); err != nil || len(records) != 0 {
		t.Errorf("what was refused has left %+v, %v", records, err)
	}
}
