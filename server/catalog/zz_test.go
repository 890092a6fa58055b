package catalog
import ("testing";"strings";"runtime";"time";"rapport/profilestore";"fmt")
func TestMem(t *testing.T) {
	s, _ := profilestore.NewSchema([]profilestore.Source{{ID:"bi"}}, []profilestore.Field{{Name:"value.a",Type:"number",Batch:"bi"}})
	for _, c := range []string{
		"offers: [" + strings.Repeat("1,", 1<<20-10) + "]",
		"offers: [{treatments: [" + strings.Repeat("{},", 1<<19-10) + "]}]",
		"offers: [{treatments: [" + strings.Repeat("{},", 19000) + "]}]",
		"offers: [" + strings.Repeat("{},", 1<<19-10) + "]",
		"scenarios: [{touchpoints: [" + strings.Repeat("a,", 1<<20-10) + "]}]",
		"channels: [{attributes: {" + func() string { var b strings.Builder; for i := range 500000 { fmt.Fprintf(&b, "a%d: 1,", i) }; return b.String() }() + "}}]",
		"offers: [{" + func() string { var b strings.Builder; for i := range 500000 { fmt.Fprintf(&b, "a%d: 1,", i) }; return b.String() }() + "}]",
		"offers:\n" + strings.Repeat("  - {id: aaaaaaaa, group: g, class: care, propensity: {start: 1}, eligible: profile.x, treatments: [{channel: ivr, content: A}]}\n", 65000),
	} {
		t0 := time.Now(); var m0, m1 runtime.MemStats; runtime.GC(); runtime.ReadMemStats(&m0)
		_, _, p := Compile([]File{{"f", []byte(c)}}, s, nil)
		runtime.ReadMemStats(&m1)
		t.Log(len(c), len(p), time.Since(t0), (m1.TotalAlloc-m0.TotalAlloc)>>20, "MB total", m1.Sys>>20, "sys")
	}
}
