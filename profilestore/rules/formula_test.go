package rules_test

import (
	"testing"

	"rapport/profilestore"
	"rapport/profilestore/rules"
)

// TestFormulas: what an expression gives, in which kind, and what is wrong with it.
func TestFormulas(t *testing.T) {
	schema := schemaOf(t, batch("value.balance", "number"), batch("value.credit", "number"), batch("general.name", "text"), batch("tag.heavy", "flag"))
	env, err := rules.NewEnv(schema, []rules.Input{{Name: "place", Kind: profilestore.KindText}})
	if err != nil {
		t.Fatal(err)
	}
	e := env.NewTable().Build().NewEvaluation()
	e.Reset(rules.Inputs{
		Profile: profile{profilestore.Number(1234567.5), profilestore.Unknown(), profilestore.Text("Zoë"), profilestore.Flag(true)},
		Context: []profilestore.Value{profilestore.Text("shop")},
		Now:     1_767_225_600_000_000,
	})
	for _, c := range []struct {
		expr string
		kind profilestore.Kind
		want string // or the mistake, after "!"
	}{
		{`"Your balance is " + decimal(profile.value.balance, 2)`, profilestore.KindText, "Your balance is 1234567.50"},
		{`"Welcome to our " + context.place + ", " + profile.general.name + (profile.tag.heavy ? "!" : ".")`, profilestore.KindText, "Welcome to our shop, Zoë!"},
		{`"You owe " + decimal(profile.value.credit, 2)`, profilestore.KindText, "unknown"},
		{`has(profile.value.credit) ? "You owe " + string(profile.value.credit) : "You owe nothing"`, profilestore.KindText, "You owe nothing"},
		{`profile.value.balance / 2 + 1`, profilestore.KindNumber, "617284.75"},
		{`size(profile.general.name) * 2`, profilestore.KindNumber, "6"},
		{`profile.value.balance > 5 && profile.tag.heavy`, profilestore.KindFlag, "true"},
		{`now + days(7)`, profilestore.KindTime, "2026-01-08T00:00:00Z"},
		{`profile.value.balance / 0`, profilestore.KindNumber, "!rules: a number is needed, got number +Inf"},
		{`double(profile.general.name) + 1`, profilestore.KindNumber, "!rules: type conversion error from 'string' to 'double'"},
		{`profile.value.balance`, profilestore.KindText, "!column 1: a text is needed here, not a number: write string(…) around it"},
		{`profile.general.name`, profilestore.KindNumber, "!column 1: a number is needed here, not a text"},
		{`["a"]`, profilestore.KindSet, "!column 1: an expression can't give a set"},
		{`profile.general.nam`, profilestore.KindText, "!column 17: there is no profile.general.nam: did you mean profile.general.name?"},
		{" ", profilestore.KindText, "!column 1: there is no expression"},
	} {
		f, err := env.CompileValue(c.expr, c.kind)
		got := ""
		if err == nil {
			var v profilestore.Value
			if v, err = e.Compute(f); err == nil {
				got = v.String()
				if f.Kind() != c.kind || v.Known() && v.Kind() != c.kind || !f.Compiled() {
					t.Errorf("%s: a %s of a formula for a %s, compiled: %t", c.expr, v.Kind(), f.Kind(), f.Compiled())
				}
			}
		}
		if err != nil {
			got = "!" + err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.expr, got, c.want)
		}
	}
}

// TestFormulaAllocates a text, and nothing else.
func TestFormulaAllocates(t *testing.T) {
	env := newEnv(t, schemaOf(t, batch("value.balance", "number"), batch("tag.heavy", "flag")))
	e := env.NewTable().Build().NewEvaluation()
	e.Reset(rules.Inputs{Profile: profile{profilestore.Number(12.5), profilestore.Flag(true)}})
	for expr, want := range map[string]float64{
		`"Your balance is " + decimal(profile.value.balance, 2) + (profile.tag.heavy ? "!" : ".")`: 1,
		`"Welcome" + "!"`: 0,
	} {
		f, err := env.CompileValue(expr, profilestore.KindText)
		if err != nil {
			t.Fatal(err)
		}
		if got := testing.AllocsPerRun(100, func() {
			if _, err := e.Compute(f); err != nil {
				t.Error(err)
			}
		}); got != want {
			t.Errorf("%s: %g allocations, want %g", expr, got, want)
		}
	}
}
