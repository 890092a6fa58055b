package profilestore_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"rapport/profilestore"
	"rapport/profilestore/memory"
)

// sharedFile returns the path of a file that this repository does not hold. A
// test that needs it is skipped where it is not, except where RAPPORT_REQUIRE
// asks for it.
func sharedFile(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "shared", filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		if strings.Contains(os.Getenv("RAPPORT_REQUIRE"), "shared") {
			t.Fatal("RAPPORT_REQUIRE asks for shared data: ", err)
		}
		t.Skipf("shared/%s is not here", name)
	}
	return path
}

// The real file of a telecom operator: 7,043 customers, 21 columns, 11 of whom
// have a TotalCharges of one space.
func TestLoadTelco(t *testing.T) {
	path := sharedFile(t, "data/telco-churn-ibm/Telco-Customer-Churn.csv")
	field := func(name, column string, kind profilestore.Type, decimals int) profilestore.Field {
		return profilestore.Field{Name: name, Type: kind, Batch: "bi", Column: column, Decimals: decimals}
	}
	const none = profilestore.NoDecimals
	schema, err := profilestore.NewSchema([]profilestore.Source{{ID: "bi", Key: "customerID"}}, []profilestore.Field{
		field("general.gender", "gender", profilestore.TypeText, none),
		field("tag.senior", "SeniorCitizen", profilestore.TypeFlag, none),
		field("tag.partner", "Partner", profilestore.TypeFlag, none),
		field("usage.tenure", "tenure", profilestore.TypeNumber, 0),
		field("general.contract", "Contract", profilestore.TypeText, none),
		field("value.monthly", "MonthlyCharges", profilestore.TypeNumber, 2),
		field("value.total", "TotalCharges", profilestore.TypeNumber, 2),
		field("tag.churned", "Churn", profilestore.TypeFlag, none),
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	report, err := profilestore.Load(context.Background(), profilestore.LoadOptions{
		Dir: dir, Schema: schema, Engine: loadEngine(), Source: "bi", Path: path, AsOf: asOf,
	})
	if err != nil {
		t.Fatal(err)
	}
	if report.Rows != 7043 || report.BadRows != 0 || len(report.UnusedColumns) != 12 || report.Snapshot.Origin != "Telco-Customer-Churn.csv" {
		t.Errorf("%+v", report)
	}
	for _, f := range report.Fields {
		if want := map[string]int64{"value.total": 11}[f.Name]; f.Nulls != want {
			t.Errorf("%s has %d nulls, want %d", f.Name, f.Nulls, want)
		}
	}
	s := openSnapshots(t, dir, schema)
	if _, _, err := s.Activate(t.Context(), "bi", 1); err != nil {
		t.Fatal(err)
	}
	set := s.Acquire()
	defer set.Release()
	value := func(customer, field string) profilestore.Value {
		row, found, err := set.Source(0).Row([]byte("customer:"+customer), nil)
		if err != nil || !found {
			t.Fatal(customer, found, err)
		}
		slot, _ := schema.Lookup(field)
		return set.Source(0).Value(row, slot)
	}
	if v := value("7590-VHVEG", "value.monthly"); v != profilestore.Number(29.85) {
		t.Errorf("monthly charges %v, want 29.85", v)
	}
	if v := value("7590-VHVEG", "general.contract"); v != profilestore.Text("Month-to-month") {
		t.Errorf("contract %v", v)
	}
	for _, customer := range []string{"4472-LVYGI", "3115-CZMZD"} { // tenure 0
		if v := value(customer, "value.total"); v.Known() || value(customer, "usage.tenure") != profilestore.Number(0) {
			t.Errorf("%s has total charges %v", customer, v)
		}
	}
	churned := 0
	for line := range strings.Lines(string(must(os.ReadFile(path)))) {
		customer, _, _ := strings.Cut(line, ",")
		if customer != "customerID" && value(customer, "tag.churned").Flag() {
			churned++
		}
	}
	if churned != 1869 {
		t.Errorf("%d customers churned, want 1,869", churned)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// The same real customers from every format, typed as a program would, are the same
// snapshot.
func TestLoadTelcoFormats(t *testing.T) {
	path := sharedFile(t, "data/telco-churn-ibm/Telco-Customer-Churn.csv")
	field := func(name, column string, kind profilestore.Type, decimals int) profilestore.Field {
		return profilestore.Field{Name: name, Type: kind, Batch: "bi", Column: column, Decimals: decimals}
	}
	const none = profilestore.NoDecimals
	schema, err := profilestore.NewSchema([]profilestore.Source{{ID: "bi", Key: "customerID"}}, []profilestore.Field{
		field("general.contract", "Contract", profilestore.TypeText, none), field("tag.senior", "SeniorCitizen", profilestore.TypeFlag, none),
		field("usage.tenure", "tenure", profilestore.TypeNumber, 0), field("value.monthly", "MonthlyCharges", profilestore.TypeNumber, 2),
		field("value.total", "TotalCharges", profilestore.TypeNumber, 2), field("tag.churned", "Churn", profilestore.TypeFlag, none),
	})
	if err != nil {
		t.Fatal(err)
	}
	content := must(os.ReadFile(path))
	records := must(csv.NewReader(bytes.NewReader(content)).ReadAll())
	place := map[string]int{}
	for i, name := range records[0] {
		place[name] = i
	}
	type customer struct {
		ID       string   `parquet:"customerID" json:"customerID"`
		Contract string   `parquet:"Contract,dict" json:"Contract"`
		Senior   int32    `parquet:"SeniorCitizen" json:"SeniorCitizen"`
		Tenure   int64    `parquet:"tenure" json:"tenure"`
		Monthly  float64  `parquet:"MonthlyCharges" json:"MonthlyCharges"`
		Total    *float64 `parquet:"TotalCharges,optional,zstd" json:"TotalCharges"`
		Churn    bool     `parquet:"Churn" json:"Churn"`
	}
	var rows []customer
	var objects bytes.Buffer
	for _, r := range records[1:] {
		c := customer{
			ID: r[place["customerID"]], Contract: r[place["Contract"]], Senior: int32(must(strconv.Atoi(r[place["SeniorCitizen"]]))),
			Tenure: int64(must(strconv.Atoi(r[place["tenure"]]))), Monthly: must(strconv.ParseFloat(r[place["MonthlyCharges"]], 64)), Churn: r[place["Churn"]] == "Yes",
		}
		if total := strings.TrimSpace(r[place["TotalCharges"]]); total != "" {
			f := must(strconv.ParseFloat(total, 64))
			c.Total = &f
		}
		rows = append(rows, c)
		objects.Write(append(must(json.Marshal(c)), '\n'))
	}
	hashes := map[string]string{}
	for name, content := range map[string][]byte{
		"csv": content, "csv.gz": gzipped(t, content), "ndjson": objects.Bytes(), "ndjson.zst": zstandard(t, objects.Bytes()), "parquet": []byte(parquetFile(t, rows...)),
	} {
		dir := memoryDir(t)
		path := filepath.Join(dir, "telco."+name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		report, err := profilestore.Load(t.Context(), profilestore.LoadOptions{
			Dir: filepath.Join(dir, "snapshots"), Schema: schema, Engine: memory.Generations{}, Source: "bi", Path: path, AsOf: asOf,
		})
		if err != nil {
			t.Fatal(name, err)
		}
		t.Logf("%-10s %7d bytes, %d rows, content %s", name, len(content), report.Rows, report.Snapshot.ContentHash)
		if report.Rows != 7043 || report.BadRows != 0 {
			t.Errorf("%s: %+v", name, report)
		}
		hashes[report.Snapshot.ContentHash] = name
	}
	if len(hashes) != 1 {
		t.Errorf("the formats give different snapshots: %v", hashes)
	}
}
