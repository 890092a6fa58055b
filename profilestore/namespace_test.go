package profilestore_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"rapport/profilestore"
)

// stateField is a field for schemas whose fields do not matter.
var stateField = []profilestore.Field{{
	Name: "general.state", Type: profilestore.TypeText, Decimals: profilestore.NoDecimals,
	Events: &profilestore.EventRule{On: "true", Set: "event.state"},
}}

func TestNamespaces(t *testing.T) {
	without, err := profilestore.NewSchema(nil, stateField)
	if err != nil {
		t.Fatal(err)
	}
	// The id that this schema had before there were namespaces.
	if without.ID() != "e7da8582b80b99ac" {
		t.Errorf("a schema without namespaces has the id %s", without.ID())
	}
	if why, blocked := without.BlockedIdentity("msisdn:0"); blocked {
		t.Errorf("without namespaces, msisdn:0 is blocked: %s", why)
	}
	schema, err := profilestore.NewSchema(nil, stateField,
		profilestore.Namespace{ID: "customer", Max: 1},
		profilestore.Namespace{ID: "msisdn", Max: 5, Holding: 90 * 24 * time.Hour, Blocked: []string{"0", "unknown", "99999*", "***"}},
		profilestore.Namespace{ID: "cookie", Weak: true, Description: "of the web site"},
	)
	if err != nil {
		t.Fatal(err)
	}
	b, err := schema.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	again, err := profilestore.ParseSchema(b)
	if err != nil || again.ID() != schema.ID() || len(again.Namespaces()) != 3 {
		t.Fatalf("%s\nread back is %v, %v", b, again, err)
	}
	if n, place, ok := again.Namespace("msisdn"); !ok || place != 1 || n.Max != 5 || n.Holding != 90*24*time.Hour {
		t.Errorf("msisdn: %+v, %d, %v", n, place, ok)
	}
	if n, place, ok := again.Namespace("imei"); ok || place != 3 || n.ID != "imei" || n.Max != 0 || n.Weak {
		t.Errorf("one that is not declared: %+v, %d, %v", n, place, ok)
	}
	for identity, by := range map[string]string{
		"msisdn:0": `"0"`, "msisdn:UnKnown": `"UnKnown"`, "msisdn:99999": `"99999*"`, "msisdn:999991": `"99999*"`,
		"msisdn:***": `"***"`, "msisdn:**1": `"***"`,
		"msisdn:00": "", "msisdn:": "", "msisdn:9999": "", "msisdn:*": "", "msisdn:unknown1": "",
		"customer:0": "", "cookie:unknown": "", "imei:unknown": "", "unknown": "",
		"msisdn:" + strings.Repeat("9", 300): "",
	} {
		why, blocked := again.BlockedIdentity(identity)
		if blocked != (by != "") || blocked && !strings.HasPrefix(why, by+" means nobody in namespace msisdn") {
			t.Errorf("%s: %v, %s", identity, blocked, why)
		}
	}
	if n := testing.AllocsPerRun(100, func() { again.BlockedIdentity("msisdn:86139000000UNKNOWN") }); n != 0 {
		t.Errorf("an identity that is not blocked costs %v allocations", n)
	}
}

func TestNamespaceMistakes(t *testing.T) {
	many := make([]profilestore.Namespace, 65)
	for i := range many {
		many[i].ID = "n" + strings.Repeat("x", i%30) + string(rune('a'+i/30))
	}
	if _, err := profilestore.NewSchema(nil, stateField, many...); err == nil || err.Error() != "namespaces: there are 65: at most 64" {
		t.Error(err)
	}
	_, err := profilestore.NewSchema(nil, stateField,
		profilestore.Namespace{ID: "a", Max: 9, Holding: time.Second, Blocked: make([]string, 1001)},
		profilestore.Namespace{ID: "a", Max: -1, Holding: -time.Hour, Blocked: []string{"", "*", "a:1", "x", "X", "\x01*", strings.Repeat("x", 255)}},
		profilestore.Namespace{ID: "A B", Holding: 4000 * 24 * time.Hour},
	)
	mistakes, ok := errors.AsType[profilestore.SchemaErrors](err)
	if !ok {
		t.Fatal(err)
	}
	want := []string{
		"namespaces[0].max: 9 is out of range", "namespaces[0].holding: 1s is not a whole number of minutes", "namespaces[0].blocked: there are 1001",
		`namespaces[1].id: namespace "a" is declared twice, first as namespaces[0]`,
		"namespaces[1].max: -1 is out of range", "namespaces[1].holding: -1h is out of range: at most 3650d",
		"namespaces[1].blocked[0]: it is empty", "namespaces[1].blocked[1]: * alone", `namespaces[1].blocked[2]: "a:1" begins with the namespace`,
		`namespaces[1].blocked[4]: "X" is listed twice, first as blocked[3]`,
		"namespaces[1].blocked[5]: no identity could be blocked by it", "namespaces[1].blocked[6]: no identity could be blocked by it",
		`namespaces[2].id: "A B" is not a namespace`, "namespaces[2].holding: 4000d is out of range",
	}
	if len(mistakes) != len(want) {
		t.Errorf("%d mistakes, not %d:\n%v", len(mistakes), len(want), err)
	}
	for i, m := range mistakes {
		if i < len(want) && !strings.HasPrefix(m.Error(), want[i]) {
			t.Errorf("mistake %d: %s, not %s", i, m, want[i])
		}
	}
}
