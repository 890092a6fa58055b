package rules

import (
	"fmt"
	"strings"
	"testing"

	"rapport/profilestore"
)

// compilerInputs are a customer of whom everything is known.
func compilerInputs() Inputs {
	return Inputs{
		Profile: values{
			profilestore.Number(1.5), profilestore.Number(2), profilestore.Number(3), profilestore.Flag(true), profilestore.Flag(false),
			profilestore.Text("Gold, old"), profilestore.Text("7"), profilestore.Text("héllo"), profilestore.Time(1e15), profilestore.Time(2e15),
			profilestore.Set("gold", "old", "silver"), profilestore.Set("a"),
		},
		Context: []profilestore.Value{
			profilestore.Number(1), profilestore.Flag(true), profilestore.Text("x"), profilestore.Time(0), profilestore.Set("b"),
		},
		Now: 1_767_225_600_000_000,
	}
}

// TestCompiledAllocatesNothing: what is compiled is evaluated without an allocation, but
// for a number, a time or a duration in a text that is none, whose error is made.
func TestCompiledAllocatesNothing(t *testing.T) {
	env, err := NewEnv(agreeSchema(t), agreeContext)
	if err != nil {
		t.Fatal(err)
	}
	in := compilerInputs()
	for expr, want := range map[string]float64{
		`profile.value.a > 1 && profile.tag.f || !profile.tag.g`:                                0,
		`profile.value.a * 2 + profile.value.b / 3 - 1 >= 0`:                                    0,
		`(profile.tag.f ? profile.value.a : profile.value.b) in [1, 1.5, profile.value.b]`:      0,
		`profile.general.s in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "Gold, old"]`:       0,
		`profile.general.s.startsWith("G") && profile.general.s.contains("old")`:                0,
		`profile.general.s.matches("^(G|g).*d$")`:                                               0,
		`profile.general.s.lowerAscii().replace("gold", "x").trim() == "x, old"`:                0,
		`profile.general.s + ": " + string(profile.value.a) == "Gold, old: 1.5"`:                0,
		`profile.general.u.substring(1, 3).charAt(0) == "é"`:                                    0,
		`profile.general.u.indexOf("l") == 2 && profile.general.u.lastIndexOf("l") == 3`:        0,
		`profile.general.s.split(", ").exists(x, x == "old")`:                                   0,
		`"gold" in profile.marketing.m && size(profile.marketing.m) == 3`:                       0,
		`profile.marketing.m.filter(x, x.endsWith("old")).map(x, size(x)) == [4, 3]`:            0,
		`profile.marketing.m.all(x, profile.marketing.n.exists_one(y, x + y != "golda"))`:       0,
		`profile.marketing.m[1] == "old" && {"gold": 1.5}["gold"] == profile.value.a`:           0,
		`now - profile.service.w < days(7) || profile.service.w + duration("1h") > now`:         0,
		`now.getHours("Asia/Shanghai") + now.getDayOfWeek("+05:30") > 8`:                        0,
		`int(profile.general.t) % 2 == 1 && double(profile.general.t) == 7`:                     0,
		`string(profile.service.w).startsWith("2001") && string(now - profile.service.w) != ""`: 0,
		`bool(string(profile.tag.f)) && has(profile.value.a) && has(context.n)`:                 0,
		`[1, 2].exists(x, x == profile.value.b) && context.m == ["b"]`:                          0,
		`timestamp("2020-01-01T00:00:00Z") > timestamp(int(profile.value.a))`:                   0,

		// What cel-go reads or what does not exist costs.
		`int(profile.general.s) > 0`:                  2,
		`timestamp(string(profile.service.w)) == now`: 1,
	} {
		b := env.NewTable()
		r, err := b.Add(expr)
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		table := b.Build()
		if n, all := table.Compiled(); n != all {
			t.Errorf("%s: %d of %d conditions compiled", expr, n, all)
		}
		e := table.NewEvaluation()
		got := testing.AllocsPerRun(100, func() {
			e.Reset(in)
			e.Evaluate(r)
		})
		if got != want {
			t.Errorf("%s: %g allocations, want %g", expr, got, want)
		}
		if truth := e.Evaluate(r); truth == Unknown {
			t.Errorf("%s: %s: nothing was computed", expr, truth)
		}
	}
}

// TestCompiledEdges: what is easily got wrong in Go, with what cel-go says of it.
func TestCompiledEdges(t *testing.T) {
	env, err := NewEnv(agreeSchema(t), agreeContext)
	if err != nil {
		t.Fatal(err)
	}
	long := `"` + strings.Repeat("gold", 500) + `"`
	many := make([]string, 700)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	list := "[" + strings.Join(many, ", ") + "]"
	deep := strings.Repeat("(", 30) + "profile.value.a" + strings.Repeat(" + 1)", 30) + " > 30"
	chain := "profile.value.a > 1" + strings.Repeat(" || profile.value.b > 5", 150)
	for _, c := range []struct {
		expr string
		want Truth
	}{
		{`-9223372036854775808 / (int(profile.value.b) - 3) == 0`, Failed},
		{`-9223372036854775808 % (int(profile.value.b) - 3) == 0`, Failed},
		{`-(-9223372036854775808 + int(profile.value.b) - 2) == 0`, Failed},
		{`9223372036854775807 + int(profile.value.b) > 0`, Failed},
		{`9223372036854775807 * int(profile.value.b) > 0`, Failed},
		{`-9223372036854775808 * (int(profile.value.b) - 3) > 0`, Failed},
		{`int(profile.value.b) / (int(profile.value.b) - 2) == 0`, Failed},
		{`profile.value.b / (profile.value.b - 2) > 1e308`, True},
		{`double("NaN") == double("NaN")`, False},
		{`double("NaN") != double("NaN")`, True},
		{`!(double("NaN") < profile.value.a) && !(double("NaN") >= profile.value.a)`, True},
		{`profile.value.a - profile.value.a + double("NaN") in [double("NaN")]`, False},
		{`int(double("NaN") * profile.value.a) == 0`, Failed},
		{`int(profile.value.a * 1e300) == 0`, Failed},
		{`0.0 == -0.0 * profile.value.a && -0.0 * profile.value.a in [0.0, 1, 2, 3, 4, 5, 6, 7, 8, 9]`, True},
		{`size(profile.general.u) == 5 && size("日本" + profile.general.t) == 3`, True},
		{`timestamp("9999-12-31T23:59:59Z") + duration("1s") > now`, Failed},
		{`timestamp("0001-01-01T00:00:00Z") - duration("1ns") < now`, Failed},
		{`timestamp("9999-12-31T23:59:59Z") - timestamp("0001-01-01T00:00:00Z") > days(1)`, Failed},
		{`duration("2562047h47m16.854775807s") + duration("1ns") > days(1)`, Failed},
		{`string(timestamp("2026-01-31T18:00:00+08:00")) == "2026-01-31T18:00:00+08:00"`, True},
		{long + `.contains(profile.general.s.lowerAscii().substring(0, 4))`, True},
		{`profile.general.s.matches("^(((G+)+)+)+x$")`, False},
		{`int(profile.value.b) in ` + list, True},
		{`profile.value.b in ` + list, True},
		{list + `.exists(x, x == 699)`, True},
		{deep, True},
		{chain, True},
		{`profile.general.s in []`, False},
		{`context.f in []`, False}, // which is unknown here
		{`context.f && 1 / (int(profile.value.b) - 2) > 0`, Unknown},
		{`1 / (int(profile.value.b) - 2) > int(context.w)`, Failed},
		{`int(context.w) > 1 / (int(profile.value.b) - 2)`, Unknown},
		{`int(context.w) == 1 / (int(profile.value.b) - 2)`, Failed},
		{`[0, 1].filter(x, x == 0 ? 1 / x > 0 : context.f) == [0]`, Unknown}, // the last that is wrong counts
		{`[1, 0].filter(x, x == 0 ? 1 / x > 0 : context.f) == [0]`, Failed},
		{`[0, 1].map(x, x == 0 ? 1 / x > 0 : context.f) == [true]`, Failed}, // the first
		{`[1, 0].map(x, x == 0 ? 1 / x > 0 : context.f) == [true]`, Unknown},
		{`[0, 1].exists_one(x, x == 0 ? 1 / x > 0 : context.f)`, Unknown},
		{`[0, 1].exists(x, x == 0 ? 1 / x > 0 : context.f)`, Unknown},
		{`[1, 0].exists(x, x == 0 ? 1 / x > 0 : context.f)`, Unknown},
		{`context.m[1 / (int(profile.value.b) - 2)] == "b"`, Failed}, // the index comes before the field
		{`[context.s][1 / (int(profile.value.b) - 2)] == "b"`, Unknown},
		{`profile.general.s in "g".charAt(2).split(",")`, Failed}, // a constant that is none
		{`profile.general.s == "g".charAt(2)`, Failed},
		{`profile.value.a > double(1 / (1 - 1))`, Failed},
		{`double(1 / (1 - 1)) < profile.value.a`, Failed},
	} {
		b := env.NewTable()
		r, err := b.Add(c.expr)
		if err != nil {
			t.Errorf("%.200s: %v", c.expr, err)
			continue
		}
		table := b.Build()
		if n, all := table.Compiled(); n != all {
			t.Errorf("%.200s: %d of %d conditions compiled", c.expr, n, all)
		}
		e := table.NewEvaluation()
		in := compilerInputs()
		in.Context = in.Context[:1]
		e.Reset(in)
		if got := e.Evaluate(r); got != c.want {
			t.Errorf("%.200s: %s, want %s", c.expr, got, c.want)
		}
		for _, i := range r.Conditions() {
			if got, want := table.atoms[i].evaluate(&e.vars, &e.frame), run(table.atoms[i].prog, &e.vars); got != want {
				t.Errorf("%.200s: %s, but cel-go says %s", table.Condition(int(i)), got, want)
			}
		}
	}
}

// oddly is a profile whose values are of other kinds than its fields.
type oddly struct{}

func (oddly) Get(int) profilestore.Value { return profilestore.Text("\xff") }

// TestGivingUp: what code does not expect while it runs, cel-go decides.
func TestGivingUp(t *testing.T) {
	env, err := NewEnv(agreeSchema(t), agreeContext)
	if err != nil {
		t.Fatal(err)
	}
	in := compilerInputs()
	profile := in.Profile.(values) //nolint:errcheck // it is
	profile[5], profile[10] = profilestore.Text("\xffx"), bigSet(900)
	for expr, want := range map[string]Truth{
		`profile.general.s.charAt(1) == "x"`:                                         True,
		`profile.general.s.lowerAscii() == "\ufffdx"`:                                True,
		`profile.general.s.indexOf("x") == 1`:                                        True,
		`profile.marketing.m.exists(x, profile.marketing.m.exists(y, x == "q" + y))`: Failed, // the limit of cost
		`profile.marketing.m.exists(x, x == "p9")`:                                   True,
		`size(profile.marketing.m + profile.marketing.m + profile.marketing.m + profile.marketing.m + profile.marketing.m) == 4500`: True,
	} {
		b := env.NewTable()
		r, err := b.Add(expr)
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		table := b.Build()
		e := table.NewEvaluation()
		e.Reset(in)
		if got := e.Evaluate(r); got != want {
			t.Errorf("%s: %s, want %s", expr, got, want)
		}
		if n, _ := table.Compiled(); n != 1 || !e.frame.gaveUp {
			t.Errorf("%s: %d compiled, gave up: %t", expr, n, e.frame.gaveUp)
		}
		e.Reset(Inputs{Profile: oddly{}})
		if got, want := e.Evaluate(r), run(table.atoms[0].prog, &e.vars); got != want {
			t.Errorf("%s of a text: %s, but cel-go says %s", expr, got, want)
		}
	}
}

// TestCompiledSegments: what stands for a segment's name is compiled too. Comprehensions
// never stand deeper in it than the code has memory for.
func TestCompiledSegments(t *testing.T) {
	env, err := NewEnv(agreeSchema(t), agreeContext)
	if err != nil {
		t.Fatal(err)
	}
	with, mistakes := env.WithVocabulary(Vocabulary{Segments: []Segment{{ID: "near", When: "[1, 2].exists(x, [1, 2].exists(y, x + y > profile.value.b))"}}})
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	b := with.NewTable()
	r, err := b.Add("segment.near && profile.value.a > 1")
	if err != nil {
		t.Fatal(err)
	}
	table := b.Build()
	e := table.NewEvaluation()
	e.Reset(compilerInputs())
	if n, all := table.Compiled(); n != 2 || all != 2 || e.Evaluate(r) != True {
		t.Errorf("%s, %d of %d conditions compiled", e.Evaluate(r), n, all)
	}
	if _, err := b.Add("[1, 2].exists(z, segment.near)"); err == nil || !strings.Contains(err.Error(), "within each other") {
		t.Errorf("three within each other: %v", err)
	}
}
