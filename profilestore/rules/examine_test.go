package rules_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/rules"
)

var examined = time.Date(2026, 11, 7, 0, 0, 0, 0, time.UTC)

// TestExamine lists what is found in conditions, and what is not.
func TestExamine(t *testing.T) {
	env := examineEnv(t)
	for _, x := range [][]string{
		{`profile.value.arpu > 5 && profile.value.arpu < 30`},
		{`profile.tag.heavy`},
		{`profile.tag.heavy || profile.value.arpu > 5`},
		{`profile.tag.heavy && !profile.tag.vip`},
		{`profile.value.arpu >= 5 && profile.value.arpu <= 5`},
		{`profile.value.arpu < 5 || profile.value.arpu > 30`},
		{`profile.general.tier in ["a", "b"] && profile.general.tier != "a"`},
		{`profile.value.arpu > profile.value.balance && profile.value.balance > profile.value.arpu`}, // needs algebra
		{`now - profile.value.since > days(30) && now - profile.value.since < days(60)`},
		{`now < timestamp("2026-12-31T00:00:00Z")`},
		{`has(profile.value.arpu) || profile.tag.heavy`},
		{`profile.tag.hevy`},
		{``},
		{`profile.marketing.owned.exists(x, x == "a" && x == "b")`}, // within exists is not looked

		{`true`, `1:1 constant: it is always true`},
		{`1 > 2`, `1:1 constant: it is always false`},
		{`profile.tag.heavy || true`, `1:1 constant: it is always true`},
		{`profile.tag.heavy && 1 == 2`, `1:1 constant: it is always false`},
		{`!(profile.tag.heavy || 2 > 1)`, `1:1 constant: it is always false`},
		{`profile.value.arpu in []`, `1:1 constant: it is always false`},
		{`profile.tag.heavy && true`, `1:22 constant: true is always true: leave it out`},
		{"profile.tag.heavy\n  || (profile.tag.vip && \"a\" == \"b\")", `2:7 constant: profile.tag.vip && "a" == "b" is always false: leave it out`},
		{`true ? profile.tag.heavy : profile.tag.vip`, `1:1 constant: true is always true`},

		{`profile.value.arpu > 5 && profile.value.arpu < 3`, `1:27 profile.value.arpu < 3.0 contradicts profile.value.arpu > 5.0`},
		{`5 < profile.value.arpu && 3 > profile.value.arpu`, `1:27 3.0 > profile.value.arpu contradicts 5.0 < profile.value.arpu`},
		{`profile.value.arpu > 5 && profile.value.arpu <= 5`, `1:27 profile.value.arpu <= 5.0 contradicts profile.value.arpu > 5.0`},
		{`profile.value.arpu == 5 && profile.value.arpu > 7`, `1:28 profile.value.arpu > 7.0 contradicts profile.value.arpu == 5.0`},
		{`profile.tag.heavy && !profile.tag.heavy`, `1:23 !profile.tag.heavy contradicts profile.tag.heavy`},
		{`profile.tag.heavy == true && profile.tag.heavy != true`, `1:30 profile.tag.heavy != true contradicts profile.tag.heavy == true`},
		{`profile.general.tier == "a" && profile.general.tier == "b"`, `1:32 profile.general.tier == "b" contradicts profile.general.tier == "a"`},
		{
			`profile.general.tier in ["a", "b"] && profile.general.tier != "a" && profile.general.tier != "b"`,
			`1:70 profile.general.tier != "b" contradicts profile.general.tier in ["a", "b"] && profile.general.tier != "a"`,
		},
		{`"x" in profile.marketing.owned && !("x" in profile.marketing.owned)`, `1:37 !("x" in profile.marketing.owned) contradicts "x" in profile.marketing.owned`},
		{
			`profile.value.arpu > profile.value.balance && !(profile.value.arpu > profile.value.balance)`,
			`1:49 !(profile.value.arpu > profile.value.balance) contradicts profile.value.arpu > profile.value.balance`,
		},
		{`has(profile.value.arpu) && !has(profile.value.arpu)`, `1:32 !has(profile.value.arpu) contradicts has(profile.value.arpu)`},
		{
			`profile.tag.heavy || (profile.value.arpu > 5 && profile.tag.vip && profile.value.arpu < 3)`,
			`1:68 profile.value.arpu < 3.0 contradicts profile.value.arpu > 5.0`,
		},
		{
			`profile.value.arpu > 5 && !(profile.value.arpu > 3 || profile.tag.vip)`,
			`1:29 !(profile.value.arpu > 3.0) contradicts profile.value.arpu > 5.0`,
		},
		{
			`now - profile.value.since > days(60) && now - profile.value.since < days(30)`,
			`1:41 now - profile.value.since < days(30) contradicts now - profile.value.since > days(60)`,
		},
		{`profile.tag.heavy && now < timestamp("2026-01-31T00:00:00Z")`, `1:22 now < timestamp("2026-01-31T00:00:00Z") is never true again`},
		{`now <= timestamp("2026-01-31T00:00:00Z")`, `1:1 now <= timestamp("2026-01-31T00:00:00Z") is never true again`},
		{`profile.tag.heavy || now < timestamp("2026-01-31T00:00:00Z")`, `1:22 now < timestamp("2026-01-31T00:00:00Z") is never true again`},
		{`profile.value.arpu > 5 || profile.value.arpu <= 5`, `1:27 constant: with what is before it, profile.value.arpu <= 5.0 makes the whole always true`},
		{`profile.tag.heavy || !profile.tag.heavy`, `1:23 constant: with what is before it, profile.tag.heavy makes the whole always true`},
		{`profile.general.tier != "a" || profile.general.tier != "b"`, `1:32 constant: with what is before it, profile.general.tier != "b" makes the whole always true`},
	} {
		var got []string
		for _, f := range env.NewExaminer(examined).Examine(x[0]) {
			constant := ""
			if f.Constant {
				constant = "constant: "
			}
			got = append(got, fmt.Sprintf("%d:%d %s%s", f.Line, f.Column, constant, f.Message))
		}
		if a, b := strings.Join(got, "\n"), strings.Join(x[1:], "\n"); a != b {
			t.Errorf("%s:\ngot  %s\nwant %s", x[0], a, b)
		}
	}
}

// TestContradict gives conditions of a group, an offer and a treatment.
func TestContradict(t *testing.T) {
	env := examineEnv(t)
	group := `profile.tag.heavy && profile.value.arpu > 5`
	for _, x := range []struct {
		conditions []string
		at         int
		want       string
	}{
		{[]string{group, `profile.value.arpu > 10`, ``}, 0, ""},
		{[]string{group, ``, `profile.value.arpu < 3`}, 2, "1:1 profile.value.arpu < 3.0 contradicts profile.value.arpu > 5.0"},
		{[]string{group, `profile.tag.vip && !profile.tag.heavy`}, 1, "1:21 !profile.tag.heavy contradicts profile.tag.heavy"},
		{[]string{`profile.tag.heavy && !profile.tag.heavy`, `profile.tag.vip`}, 0, ""}, // by itself
		{[]string{group, `profile.tag.hevy`}, 0, ""},
	} {
		at, f, found := env.NewExaminer(examined).Contradict(x.conditions...)
		got := ""
		if found {
			got = fmt.Sprintf("%d:%d %s", f.Line, f.Column, f.Message)
		}
		if got != x.want || at != x.at {
			t.Errorf("%q: %d %s, want %d %s", x.conditions, at, got, x.at, x.want)
		}
	}
}

func examineEnv(t testing.TB) *rules.Env {
	t.Helper()
	return newEnv(t, schemaOf(t, batch("value.arpu", "number"), batch("value.balance", "number"), batch("value.since", "time"),
		batch("tag.heavy", "flag"), batch("tag.vip", "flag"), batch("general.tier", "text"), batch("marketing.owned", "set")))
}

// TestFindingsAreTrue holds what is found in random conditions against all customers of
// a grid: conditions that contradict each other hold for none of them together, and one
// that is always true or false is so for all.
func TestFindingsAreTrue(t *testing.T) {
	schema := schemaOf(t, batch("value.arpu", "number"), batch("general.tier", "text"), batch("tag.heavy", "flag"))
	env := newEnv(t, schema)
	var grid []profile
	for arpu := -0.5; arpu < 3; arpu += 0.5 {
		for _, tier := range []string{"a", "b", "c"} {
			for _, heavy := range []bool{false, true} {
				grid = append(grid, profile{profilestore.Number(arpu), profilestore.Text(tier), profilestore.Flag(heavy)})
			}
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	var condition func(depth int) string
	condition = func(depth int) string {
		n := rnd.IntN(3)
		if depth > 0 && rnd.IntN(3) > 0 {
			op := []string{"&&", "||"}[rnd.IntN(2)]
			s := "(" + condition(depth-1) + " " + op + " " + condition(depth-1) + ")"
			return strings.Repeat("!", rnd.IntN(2)) + s
		}
		switch rnd.IntN(8) {
		case 0:
			return strings.Repeat("!", rnd.IntN(2)) + "profile.tag.heavy"
		case 1:
			return fmt.Sprintf("profile.general.tier %s %q", []string{"==", "!="}[rnd.IntN(2)], "abc"[n:n+1])
		case 2:
			return fmt.Sprintf("profile.general.tier in [%q, %q]", "abc"[n:n+1], "ab"[n/2:n/2+1])
		case 3:
			return []string{"true", "false", "1 > 2"}[n]
		case 4:
			return fmt.Sprintf("%d %s profile.value.arpu", n, []string{"<", "<=", ">", ">=", "==", "!="}[rnd.IntN(6)])
		}
		return fmt.Sprintf("profile.value.arpu %s %d", []string{"<", "<=", ">", ">=", "==", "!="}[rnd.IntN(6)], n)
	}
	found := make(map[string]int)
	examiner := env.NewExaminer(examined)
	for range 1500 {
		list := make([]string, 1+rnd.IntN(3))
		b := env.NewTable()
		var all []rules.Rule
		for i := range list {
			list[i] = condition(rnd.IntN(3))
			r, err := b.Add(list[i])
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, r)
		}
		both := rules.All(all...)
		e := b.Build().NewEvaluation()
		count := func(r rules.Rule) (n int) {
			for _, p := range grid {
				e.Reset(rules.Inputs{Profile: p})
				if e.Evaluate(r) == rules.True {
					n++
				}
			}
			return n
		}
		if _, f, ok := examiner.Contradict(list...); ok {
			found["contradictions"]++
			if n := count(both); n > 0 {
				t.Fatalf("%q: %s, but it holds for %d", list, f.Message, n)
			}
		} else if count(both) == 0 {
			found["not found, though nobody fulfils it"]++
		}
		for _, f := range examiner.Examine(list[0]) {
			if n := count(all[0]); strings.HasPrefix(f.Message, "it is always") {
				found[f.Message]++
				if n != map[bool]int{true: len(grid)}[strings.HasSuffix(f.Message, "true")] {
					t.Fatalf("%s: %s, but it holds for %d of %d", list[0], f.Message, n, len(grid))
				}
			}
		}
	}
	t.Log(found)
	for _, what := range []string{"contradictions", "it is always true", "it is always false"} {
		if found[what] < 50 {
			t.Errorf("%s: %d times only", what, found[what])
		}
	}
}
