package main

import (
	"encoding/csv"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The boost of an offer is raised from 0 to 50 for the real customers of the telco example:
// another offer is first for those for whom it should be, counted from the file alone, and
// nothing else is different.
func TestSimulateTelco(t *testing.T) {
	if !haveShared(t) {
		t.Skip("it needs ../shared/data")
	}
	const telco = "testdata/telco-churn/"
	file := filepath.Join(shared, "data", "telco-churn-ibm", "Telco-Customer-Churn.csv")
	dir := t.TempDir()
	do := func(args ...string) string {
		t.Helper()
		code, out, stderr := invoke(t, nil, append(args, "--data", filepath.Join(dir, "data"))...)
		if code != 0 {
			t.Fatalf("%v: %s", args, stderr)
		}
		return out
	}
	do("schema", "apply", telco+"schema.yaml")
	do("load", "--source", "crm", "--as-of", "2026-10-01T00:00:00Z", file)
	do("catalog", "publish", telco+"catalog.yaml")
	yaml, err := os.ReadFile(telco + "catalog.yaml")
	if err != nil {
		t.Fatal(err)
	}
	after := filepath.Join(dir, "after.yaml")
	if err := os.WriteFile(after, []byte(strings.Replace(string(yaml), "name: Fiber instead of DSL", "boost: 50", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	var x struct {
		Customers, WinnersChanged string
		Transitions               []struct{ From, To, Decisions string }
	}
	if err := json.Unmarshal([]byte(do("simulate", after, "--touchpoint", "agent.desk", "--all", "--json")), &x); err != nil {
		t.Fatal(err)
	}
	want, customers := fiberFirst(t, file)
	got := make(map[string]int)
	for _, y := range x.Transitions {
		n, err := strconv.Atoi(y.Decisions)
		if err != nil || y.To != "fiber_upgrade" {
			t.Errorf("%+v", y)
		}
		got[y.From] = n
	}
	if x.Customers != strconv.Itoa(customers) || !maps.Equal(got, want) || len(want) < 2 {
		t.Errorf("of %s customers %v; by the file of %d %v", x.Customers, got, customers, want)
	}
	t.Logf("%d customers: %v", customers, want)
}

// fiberFirst returns for how many customers of the file which offer gives way to fiber
// when that scores 27 in place of 18. It knows no more of the catalogue than the offers
// that score more than 18.
func fiberFirst(t *testing.T, file string) (before map[string]int, customers int) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	before = make(map[string]int)
	for _, record := range records[1:] {
		field := func(name string) string {
			for i, header := range records[0] {
				if header == name {
					return strings.TrimSpace(record[i])
				}
			}
			t.Fatalf("no column %s", name)
			return ""
		}
		number := func(name string) float64 {
			n, err := strconv.ParseFloat(field(name), 64)
			if err != nil {
				return -1 // blank: nothing is known
			}
			return n
		}
		customers++
		contract, first, score := field("Contract"), "", 18.0
		for _, o := range []struct {
			offer    string
			score    float64
			eligible bool
		}{
			{"retention_discount", 60, contract == "Month-to-month" && number("MonthlyCharges") > 70},
			{"contract_one_year", 24, contract == "Month-to-month" && number("tenure") >= 6},
			{"contract_two_years", 21, contract == "One year" && number("tenure") >= 12},
			{"loyalty_thanks", 30, contract != "Month-to-month" && number("TotalCharges") >= 4000},
		} {
			if o.eligible && o.score > score {
				first, score = o.offer, o.score
			}
		}
		if field("InternetService") == "DSL" && score > 18 && score < 27 {
			before[first]++
		}
	}
	return before, customers
}
