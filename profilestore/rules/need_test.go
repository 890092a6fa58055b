package rules_test

import (
	"strings"
	"testing"

	"rapport/profilestore/rules"
)

// needText writes a need in one line.
func needText(n rules.Need) string {
	list := func(of []rules.Need, between string) string {
		parts := make([]string, len(of))
		for i := range of {
			parts[i] = needText(of[i])
		}
		return "(" + strings.Join(parts, between) + ")"
	}
	switch {
	case n.Any != nil:
		return list(n.Any, " or ")
	case n.All != nil:
		return list(n.All, " and ")
	case n.Text != "":
		return "CEL " + n.Text
	case n.Against != "":
		return n.Of + " needs " + n.Words + " [" + n.Against + "]"
	}
	return n.Of + " needs " + n.Words
}

func TestNeedOf(t *testing.T) {
	for condition, want := range map[string]string{
		`profile.usage.data_mb > 5000.0`:                           `profile.usage.data_mb needs > 5000`,
		`profile.usage.data_mb >= 0.5`:                             `profile.usage.data_mb needs ≥ 0.5`,
		`5000.0 < profile.usage.data_mb`:                           `profile.usage.data_mb needs > 5000`,
		`!(profile.usage.data_mb > 5000.0)`:                        `profile.usage.data_mb needs ≤ 5000`,
		`profile.value.balance < -2.5`:                             `profile.value.balance needs < -2.5`,
		`profile.value.balance > context.price`:                    `profile.value.balance needs > context.price [context.price]`,
		`profile.value.balance > profile.value.debt`:               `profile.value.balance needs > value.debt [profile.value.debt]`,
		`profile.value.balance > context.price + 5.0`:              `profile.value.balance needs > context.price + 5 [context.price]`,
		`profile.value.a >= 0.8 * profile.value.b`:                 `profile.value.a needs ≥ 0.8 × value.b [profile.value.b]`,
		`profile.value.a >= 2.0 * (profile.value.b - 1.0)`:         `profile.value.a needs ≥ 2 × (value.b − 1) [profile.value.b]`,
		`profile.value.a >= profile.value.b + profile.value.c`:     `CEL profile.value.a >= profile.value.b + profile.value.c`,
		`profile.general.contract == "One year"`:                   `profile.general.contract needs "One year"`,
		`profile.general.contract != "One year"`:                   `profile.general.contract needs anything but "One year"`,
		`!(profile.general.contract == "One year")`:                `profile.general.contract needs anything but "One year"`,
		`profile.general.age == 18.0`:                              `profile.general.age needs = 18`,
		`profile.tag.heavy`:                                        `profile.tag.heavy needs true`,
		`!profile.tag.heavy`:                                       `profile.tag.heavy needs false`,
		`profile.tag.heavy == false`:                               `profile.tag.heavy needs false`,
		`profile.tag.heavy != false`:                               `profile.tag.heavy needs true`,
		`has(profile.value.balance)`:                               `profile.value.balance needs to be known`,
		`!has(profile.value.balance)`:                              `profile.value.balance needs not to be known`,
		`"data_10g" in profile.marketing.owned`:                    `profile.marketing.owned needs to have "data_10g"`,
		`!("data_10g" in profile.marketing.owned)`:                 `profile.marketing.owned needs not to have "data_10g"`,
		`context.offer in profile.marketing.owned`:                 `profile.marketing.owned needs to have context.offer [context.offer]`,
		`profile.general.contract in ["a", "b"]`:                   `profile.general.contract needs one of "a", "b"`,
		`!(profile.general.contract in ["a", "b"])`:                `profile.general.contract needs none of "a", "b"`,
		`context.role.startsWith("ret")`:                           `context.role needs to begin with "ret"`,
		`!profile.general.name.matches("^A")`:                      `profile.general.name needs not to match "^A"`,
		`now - profile.general.joined > days(365)`:                 `profile.general.joined needs more than 365 days ago`,
		`!(now - profile.general.joined > days(365))`:              `profile.general.joined needs at most 365 days ago`,
		`now - profile.general.joined < duration("36h")`:           `profile.general.joined needs less than 36 hours ago`,
		`profile.general.ends - now < days(60)`:                    `profile.general.ends needs less than 60 days ahead`,
		`days(60) > profile.general.ends - now`:                    `CEL days(60) > profile.general.ends - now`,
		`profile.general.ends < now + days(30)`:                    `profile.general.ends needs < now + 30 days`,
		`profile.general.ends > timestamp("2026-01-01T00:00:00Z")`: `profile.general.ends needs > 2026-01-01T00:00:00Z`,
		`profile.tag.heavy || profile.usage.data_mb > 5.0`:         `(profile.tag.heavy needs true or profile.usage.data_mb needs > 5)`,
		`!(profile.tag.heavy || profile.usage.data_mb > 5.0)`:      `(profile.tag.heavy needs false and profile.usage.data_mb needs ≤ 5)`,
		`!(profile.tag.a && profile.tag.b && profile.tag.c)`:       `(profile.tag.a needs false or profile.tag.b needs false or profile.tag.c needs false)`,
		`profile.value.a + profile.value.b > 3.0`:                  `CEL profile.value.a + profile.value.b > 3.0`,
		`!(profile.value.a + profile.value.b > 3.0)`:               `CEL !(profile.value.a + profile.value.b > 3.0)`,
		`profile.marketing.owned.exists(x, x == "a")`:              `CEL profile.marketing.owned.exists(x, x == "a")`,
		`profile.tag.a ? profile.tag.b : profile.tag.c`:            `CEL profile.tag.a ? profile.tag.b : profile.tag.c`,
		`this is no CEL`:                                           `CEL this is no CEL`,
	} {
		if got := needText(rules.NeedOf(condition)); got != want {
			t.Errorf("%s\n got %s\nwant %s", condition, got, want)
		}
	}
}
