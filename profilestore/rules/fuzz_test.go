package rules

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"rapport/profilestore"
)

// FuzzCompile compiles whatever text it is given: no panic, no long time, every
// error with a place inside the text; what compiles can be evaluated, as cel-go does, and
// its conditions, compiled again from their canonical text, are the same ones.
func FuzzCompile(f *testing.F) {
	for _, x := range []string{
		"profile.value.a > 5 && profile.tag.f", "has(context.n) || !context.f", "[1, 2].exists(x, x == profile.value.b)",
		`profile.general.s.matches("^a+$")`, "now - profile.service.w < days(7)", `{"a": 1}[profile.general.t] > 0.5`,
		"(((((", "a.b.c{", `"\u00e9" == profile.general.s`, "[[[[]]]] == []", "1 / 0 > 1", "!!!true", "`a`.b", "profile.general.s.split(\"\").all(x, x != \"\")",
		"profile.tag.f ? 1 : 2.5", "-9223372036854775808 < profile.value.a", "size(\"é\") == 1",
	} {
		f.Add(x)
	}
	schema := propertySchema(f)
	env, err := NewEnv(schema, propertyContext)
	if err != nil {
		f.Fatal(err)
	}
	customer := make(values, len(schema.Fields()))
	customer[0], customer[5] = profilestore.Number(2), profilestore.Text("aaé")
	in := Inputs{Profile: customer}
	f.Fuzz(func(t *testing.T, expr string) {
		watch := time.AfterFunc(5*time.Second, func() { panic(fmt.Sprintf("takes too long: %q", expr)) })
		defer watch.Stop()
		b := env.NewTable()
		r, err := b.Add(expr)
		if err != nil {
			checkMistakes(t, expr, err)
			return
		}
		table := b.Build()
		e := table.NewEvaluation()
		e.Reset(in)
		e.Evaluate(r)
		for _, i := range r.Conditions() {
			a := &table.atoms[i]
			if got, want := a.evaluate(&e.vars, &e.frame), run(a.prog, &e.vars); got != want {
				t.Errorf("%q: %s, but cel-go says %s of %q", expr, got, want, a.text)
			}
			if len(table.Condition(int(i))) > MaxBytes {
				continue
			}
			again, err := b.Add(table.Condition(int(i)))
			if err != nil {
				var all CompileErrors
				if errors.As(err, &all) && strings.Contains(all.Error(), "nested") {
					continue // the printed form has more parentheses
				}
				t.Fatalf("%q became %q: %v", expr, table.Condition(int(i)), err)
			}
			if len(again.atoms) != 1 || again.atoms[0] != i {
				t.Errorf("%q became %q, which is another condition", expr, table.Condition(int(i)))
			}
		}
	})
}

func checkMistakes(t *testing.T, expr string, err error) {
	t.Helper()
	var all CompileErrors
	if !errors.As(err, &all) || len(all) == 0 || len(all) > maxErrors {
		t.Fatalf("%q: %T %v", expr, err, err)
	}
	lines := strings.Split(expr, "\n")
	for _, m := range all {
		if m.Line < 1 || m.Line > len(lines) || m.Column < 1 || m.Column > utf8.RuneCountInString(lines[m.Line-1])+2 || m.Message == "" {
			t.Errorf("%q: %d:%d %q", expr, m.Line, m.Column, m.Message)
		}
	}
}
