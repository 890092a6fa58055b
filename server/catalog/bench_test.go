package catalog_test

import (
	"fmt"
	"strings"
	"testing"

	"rapport/server/catalog"
)

// BenchmarkCompile compiles a catalogue of 1000 offers, each with a rule of three
// conditions that it shares with others.
func BenchmarkCompile(b *testing.B) {
	var text strings.Builder
	text.WriteString("channels: [{id: web, direction: inbound}, {id: sms, direction: outbound}]\n" +
		"touchpoints: [{id: web.home, channel: web, slots: 3}, {id: sms, channel: sms}]\n" +
		"scenarios: [{id: in, touchpoints: [web.home]}, {id: out, touchpoints: [sms]}]\noffers:\n")
	for i := range 1000 {
		fmt.Fprintf(&text, "  - {id: offer%d, group: g%d, class: marketing, value: %d, propensity: {field: marketing.propensity_data, start: 0.05}, "+
			"eligible: 'profile.value.arpu > %d && profile.usage.data_mb > %d && profile.tag.heavy', "+
			"treatments: [{channel: web, content: text%d}, {channel: sms, content: text%d}]}\n", i, i%7, i%40, i%20, 10*(i%30), i, i)
	}
	files := []catalog.File{{Name: "c.yaml", Content: []byte(text.String())}}
	schema := testSchema(b)
	b.ReportAllocs()
	for b.Loop() {
		c, _, problems := catalog.Compile(files, schema, nil)
		if len(problems) > 0 {
			b.Fatal(problems[0])
		}
		b.ReportMetric(float64(c.Rules.Conditions()), "conditions")
	}
}
