package rules_test

import (
	"fmt"
	"testing"

	"rapport/profilestore"
	"rapport/profilestore/rules"
)

func TestConstants(t *testing.T) {
	schema, err := profilestore.NewSchema([]profilestore.Source{{ID: "bi"}}, []profilestore.Field{
		{Name: "usage.mb", Type: profilestore.TypeNumber, Batch: "bi", Decimals: profilestore.NoDecimals},
		{Name: "general.brand", Type: profilestore.TypeText, Batch: "bi", Decimals: profilestore.NoDecimals},
		{Name: "value.end", Type: profilestore.TypeTime, Batch: "bi", Decimals: profilestore.NoDecimals},
		{Name: "tag.vip", Type: profilestore.TypeFlag, Batch: "bi", Decimals: profilestore.NoDecimals},
	})
	if err != nil {
		t.Fatal(err)
	}
	env, err := rules.NewEnv(schema, nil)
	if err != nil {
		t.Fatal(err)
	}
	for rule, want := range map[string]string{
		"profile.usage.mb > 5000":                                            "[5000] []",
		"profile.usage.mb > 2.0 * 24.0":                                      "[48 2 24] []",
		"profile.usage.mb > -1.5":                                            "[-1.5] []",
		`profile.general.brand in ["a", "b", "a"]`:                           "[a b] []",
		`profile.value.end > timestamp("2026-12-01T00:00:00Z")`:              "[2026-12-01T00:00:00Z 2026-12-01T00:00:00Z] []",
		`profile.value.end - now < duration("720h")`:                         "[720h] [720h0m0s]",
		"profile.value.end - now < days(30)":                                 "[30] [720h0m0s]",
		"profile.tag.vip == true":                                            "[true] []",
		"profile.tag.vip ? profile.usage.mb > 1.0 : profile.usage.mb > 2.0":  "[1 2] []",
		`profile.general.brand.startsWith("x") || profile.usage.mb == 7.0`:   "[x 7] []",
		`["a", "b"].exists(x, x == profile.general.brand && x != "c")`:       "[a b c] []",
		"profile.tag.vip":                                                    "[] []",
		"profile.usage.mb + 1.0 > profile.usage.mb * 3.0 - double(int(4.2))": "[1 3 4 4.2] []",
	} {
		b := env.NewTable()
		r, err := b.Add(rule)
		if err != nil {
			t.Fatalf("%s: %v", rule, err)
		}
		table := b.Build()
		// What a comprehension keeps for itself is no constant of the rule's author, and
		// does no harm.
		var values []profilestore.Value
		for _, v := range table.Constants(0).Values {
			if v.Kind() != profilestore.KindFlag || want == "[true] []" {
				values = append(values, v)
			}
		}
		if got := fmt.Sprint(values, table.Constants(0).Spans); got != want {
			t.Errorf("%s: %s, want %s", rule, got, want)
		}
		// A rule of one condition is that condition.
		if len(r.Conditions()) == 1 {
			e := table.NewEvaluation()
			if e.Evaluate(r) != e.Evaluate(table.Alone(int(r.Conditions()[0]))) {
				t.Errorf("%s: the condition by itself has another outcome", rule)
			}
		}
	}
}
