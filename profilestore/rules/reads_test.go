package rules

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"rapport/profilestore"
)

// spy is a profile that notes what is read of it.
type spy struct {
	values
	read map[int]bool
}

func (s spy) Get(slot int) profilestore.Value {
	s.read[slot] = true
	return s.values.Get(slot)
}

// TestReads holds what conditions and formulas say they read against what they do read,
// compiled and on cel-go, and against their outcome: what they do not read can be
// anything.
func TestReads(t *testing.T) {
	schema := agreeSchema(t)
	env, err := NewEnv(schema, agreeContext)
	if err != nil {
		t.Fatal(err)
	}
	conditions, formulas, slots, inputs, tables, clocks, none := 0, 0, 0, 0, 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := newTypedWriter(t)
		b := env.NewTable()
		for range 5 {
			if _, err := b.Add(w.of(aFlag, rapid.IntRange(1, 4).Draw(t, "depth"))); err != nil {
				continue
			}
		}
		table := b.Build()
		for range 5 {
			in := drawAgreeInputs(t, schema)
			other := drawAgreeInputs(t, schema)
			for _, table := range []*Table{table, table.Interpreted()} {
				for i := range table.Conditions() {
					reads := table.Reads(i)
					e := table.NewEvaluation()
					got := evaluateSpied(t, e, Rule{[]int32{int32(i)}}, in, reads)
					if again := evaluateSpied(t, e, Rule{[]int32{int32(i)}}, mix(in, other, reads), reads); got != again {
						t.Fatalf("%s is %s, and %s where what it does not read is another: it reads %+v", table.Condition(i), got, again, reads)
					}
					conditions++
					slots += len(reads.Slots)
					inputs += len(reads.Context)
					tables += len(reads.Tables)
					if reads.Now {
						clocks++
					}
					if fmt.Sprint(reads) == fmt.Sprint(Reads{}) {
						none++
					}
				}
			}
			for _, f := range drawFormulas(env, w) {
				e := table.NewEvaluation()
				e.Reset(in)
				got, err := e.Compute(f.Formula)
				e.Reset(mix(in, other, f.Reads()))
				if again, err2 := e.Compute(f.Formula); got != again || (err == nil) != (err2 == nil) {
					t.Fatalf("%s is %v, and %v where what it does not read is another: it reads %+v", f.expr, got, again, f.Reads())
				}
				formulas++
			}
		}
	})
	t.Logf("%d conditions of %d slots, %d inputs, %d tables, %d times now, %d of nothing; %d formulas", conditions, slots, inputs, tables, clocks, none, formulas)
	if slots == 0 || inputs == 0 || tables == 0 || clocks == 0 || none == 0 || formulas == 0 {
		t.Error("a case never occurred")
	}
}

// evaluateSpied evaluates a rule and checks that it reads no field but those it says.
func evaluateSpied(t *rapid.T, e *Evaluation, r Rule, in Inputs, reads Reads) Truth {
	s := spy{values: in.Profile.(values), read: make(map[int]bool)} //nolint:errcheck // it is what was drawn
	in.Profile = s
	e.Reset(in)
	truth := e.Evaluate(r)
	for slot := range s.read {
		if !slices.Contains(reads.Slots, slot) {
			t.Fatalf("slot %d was read, and is not in %+v", slot, reads)
		}
	}
	return truth
}

// mix returns inputs that are in for what is read and other for the rest.
func mix(in, other Inputs, reads Reads) Inputs {
	profile := slices.Clone(other.Profile.(values)) //nolint:errcheck // it is what was drawn
	for _, slot := range reads.Slots {
		profile[slot] = in.Profile.Get(slot)
	}
	context := slices.Clone(other.Context)
	for _, i := range reads.Context {
		context[i] = in.Context[i]
	}
	mixed := make(tableSet, 3)
	for i := range mixed {
		from, _ := other.Tables.(tableSet)
		if slices.Contains(reads.Tables, i) {
			from, _ = in.Tables.(tableSet)
		}
		if i < len(from) {
			mixed[i] = from[i]
		}
	}
	out := Inputs{Profile: profile, Context: context, Tables: mixed, Now: other.Now}
	if reads.Now {
		out.Now = in.Now
	}
	return out
}

// TestReadsOf shows what some expressions read.
func TestReadsOf(t *testing.T) {
	env, err := NewEnv(agreeSchema(t), agreeContext)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		expr string
		want Reads
	}{
		{"profile.value.b > 1 || profile.value.a > 1 || profile.value.b < 0", Reads{Slots: []int{0, 1}}},
		{"has(profile.tag.f) ? context.f : now > profile.service.w", Reads{Slots: []int{3, 8}, Context: []int{1}, Now: true}},
		{"profile.marketing.m.exists(x, x == profile.general.s)", Reads{Slots: []int{5, 10}}},
		{`kind(area(profile.general.s), profile.general.t) == "x"`, Reads{Slots: []int{5, 6}, Tables: []int{1, 2}}},
		{"1 < 2", Reads{}},
	} {
		b := env.NewTable()
		if _, err := b.Add(c.expr); err != nil {
			t.Fatal(err)
		}
		if got := b.Build().Reads(0); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s reads %+v, want %+v", c.expr, got, c.want)
		}
	}
	text, err := env.Text(`profile.general.t + string(context.n)`)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := text.Reads(), (Reads{Slots: []int{6}, Context: []int{0}}); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s reads %+v, want %+v", text, got, want)
	}
}
