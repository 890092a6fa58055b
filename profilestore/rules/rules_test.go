package rules_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"rapport/profilestore"
	"rapport/profilestore/rules"
)

// counting is a profile that counts how often it was asked.
type counting struct {
	profile
	asked int
}

func (c *counting) Get(slot int) profilestore.Value {
	c.asked++
	return c.profile.Get(slot)
}

func newEnv(t testing.TB, s *profilestore.Schema) *rules.Env {
	t.Helper()
	env, err := rules.NewEnv(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func TestConditionsAreShared(t *testing.T) {
	env := newEnv(t, schemaOf(t, batch("value.arpu", "number"), batch("tag.heavy", "flag")))
	b := env.NewTable()
	var list []rules.Rule
	for _, x := range []string{
		"profile.value.arpu > 5 && profile.tag.heavy",
		"profile.tag.heavy && profile.value.arpu>5.0",
		"(profile.tag.heavy) && (profile.value.arpu > 5 && profile.tag.heavy)",
		"profile.tag.heavy || profile.value.arpu > 5",
		"",
		"  \n",
	} {
		r, err := b.Add(x)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	table := b.Build()
	if n := table.Conditions(); n != 3 {
		t.Errorf("%d conditions, want 3", n)
	}
	p := &counting{profile: profile{profilestore.Number(6), profilestore.Flag(true)}}
	e := table.NewEvaluation()
	for range 2 {
		p.asked = 0
		e.Reset(rules.Inputs{Profile: p})
		for range 3 {
			for i, r := range list {
				if got := e.Evaluate(r); got != rules.True {
					t.Errorf("rule %d is %s", i, got)
				}
			}
		}
		if p.asked != 2 {
			t.Errorf("the profile was asked %d times, want 2: once for each field", p.asked)
		}
	}
}

func TestNoProfile(t *testing.T) {
	env := newEnv(t, schemaOf(t, batch("tag.heavy", "flag")))
	b := env.NewTable()
	r, err := b.Add("profile.tag.heavy")
	if err != nil {
		t.Fatal(err)
	}
	e := b.Build().NewEvaluation()
	if got := e.Evaluate(r); got != rules.Unknown {
		t.Errorf("without a profile: %s", got)
	}
	if got := e.Evaluate(rules.Rule{}); got != rules.True {
		t.Errorf("the empty rule: %s", got)
	}
}

// TestBuilderGoesOn adds rules after Build: the first table must not see them.
func TestBuilderGoesOn(t *testing.T) {
	env := newEnv(t, schemaOf(t, batch("tag.a", "flag"), batch("tag.b", "flag")))
	b := env.NewTable()
	if _, err := b.Add("profile.tag.a"); err != nil {
		t.Fatal(err)
	}
	first := b.Build()
	if _, err := b.Add("profile.tag.b && profile.tag.missing"); err == nil {
		t.Fatal("no error")
	}
	if _, err := b.Add("profile.tag.b"); err != nil {
		t.Fatal(err)
	}
	if first.Conditions() != 1 || b.Build().Conditions() != 2 {
		t.Errorf("%d and %d conditions, want 1 and 2", first.Conditions(), b.Build().Conditions())
	}
}

func TestCompileErrors(t *testing.T) {
	env := newEnv(t, schemaOf(t, batch("tag.heavy", "flag")))
	_, err := env.NewTable().Add("profile.tag.heavy &&\n  profile.tag.hevy && profile.tag.heavi")
	var all rules.CompileErrors
	var first *rules.CompileError
	if !errors.As(err, &all) || !errors.As(err, &first) || len(all) != 2 || first != all[0] {
		t.Fatalf("%T: %v", err, err)
	}
	if first.Line != 2 || first.Column != 15 || !strings.HasPrefix(first.Error(), "line 2, column 15: ") {
		t.Errorf("%+v", first)
	}
	if _, err := env.NewTable().Add(strings.Repeat(" ", rules.MaxBytes) + "true"); err == nil {
		t.Error("an expression over the limit was taken")
	}
	if _, err := env.NewTable().Add("\xff"); err == nil {
		t.Error("bytes that are not UTF-8 were taken")
	}
}

func TestInputs(t *testing.T) {
	s := schemaOf(t, batch("tag.heavy", "flag"))
	for _, in := range [][]rules.Input{
		{{Name: "a", Kind: profilestore.KindText}, {Name: "a", Kind: profilestore.KindFlag}},
		{{Name: "a"}},
	} {
		if _, err := rules.NewEnv(s, in); err == nil {
			t.Errorf("%v was taken", in)
		}
	}
}

// TestConcurrent evaluates one table from many goroutines, for the race
// detector.
func TestConcurrent(t *testing.T) {
	env := newEnv(t, schemaOf(t, batch("value.a", "number"), batch("value.b", "number")))
	b := env.NewTable()
	var list []rules.Rule
	for i := range 5 {
		r, err := b.Add(fmt.Sprintf("profile.value.a > %d && profile.value.b + %d < 10 && [1, 2].exists(x, x > profile.value.a)", i, i))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	table := b.Build()
	m, err := rules.NewEventMapper(eventSchema(t))
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			e := table.NewEvaluation()
			for i := range 200 {
				e.Reset(rules.Inputs{Profile: profile{profilestore.Number(float64(i % 4)), profilestore.Unknown()}})
				for _, r := range list {
					e.Evaluate(r)
				}
				_, err := m.Map(&profilestore.Event{ID: "e", Type: "data_session", Attributes: map[string]any{"mb": float64(g)}}, nil)
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}

func TestNearest(t *testing.T) {
	names := []string{"profile.usage.data_mb", "profile.usage.voice_min", "ivr", "sms"}
	for name, want := range map[string]string{
		"profile.usage.datamb": "profile.usage.data_mb", "IVR": "ivr", "ivrr": "ivr", "smss": "sms", "mss": "sms",
		"web": "", "": "", "profile.tag.x": "",
	} {
		if got := rules.Nearest(name, names); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", name, got, want)
		}
	}
}
