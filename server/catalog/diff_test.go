package catalog_test

import (
	"fmt"
	"strings"
	"testing"

	"rapport/server/catalog"
)

func TestDiff(t *testing.T) {
	parse := func(content string) []catalog.File {
		return []catalog.File{{Name: "c.yaml", Content: []byte(content)}}
	}
	before, err := catalog.Parse(parse(`
clock: {zone: Asia/Shanghai}
channels: [{id: sms, direction: outbound, quiet_hours: {from: "21:00", until: "09:00"}}, {id: web, direction: inbound, attributes: {a: 1, b: "x, y: z"}}]
contact_policies: [{id: week, count: contact, max: 2, within: 7d, channels: [sms]}]
scenarios: [{id: s, touchpoints: [web], strategy: {name: pvcl, parameters: {value_weight: 1}}}, {id: gone, touchpoints: [sms]}]
decision_tables:
  - id: tier
    inputs: [profile.a, profile.b]
    rows: [{when: ['> 5', '-'], result: gold}, {when: ['> 3', '-'], result: silver}, {when: ['> 2', '-'], result: tin}, {when: ['-', true], result: last}]
  - {id: shrinks, inputs: [profile.a], rows: [{when: ['1'], result: 1}, {when: ['2'], result: 2}, {when: ['3'], result: 3}], default: 4}
labels: [{when: profile.a > 5, label: A}, {when: profile.b, label: B}]
offers:
  - {id: same, group: g, class: care, propensity: {start: 1}, treatments: [{channel: web, content: A}]}
  - {id: a, group: g, class: care, value: 3, propensity: {start: 0.1}, treatments: [{channel: web, content: A}, {channel: sms, content: B}]}
  - {id: old, group: g, class: care, propensity: {start: 1}, treatments: [{channel: web, content: "say \"A\": b"}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	after, err := catalog.Parse(parse(`
clock: {zone: UTC}
control_group: {percent: 5}
channels: [{id: web, direction: inbound, attributes: {a: 2, b: "x, y: z"}}, {id: sms, direction: outbound, quiet_hours: {from: "20:00", until: "09:00"}, hold: 2h}]
contact_policies: [{id: week, count: contact, max: 3, within: 7d, channels: [sms, web]}]
scenarios: [{id: s, touchpoints: [web], strategy: {name: pvcl, parameters: {value_weight: 2}}}]
decision_tables:
  - id: tier
    inputs: [profile.a, profile.b]
    rows: [{when: ['> 5', '-'], result: gold}, {when: ['> 4', '-'], result: silver}, {when: ['> 2', '-'], result: lead}, {when: ['> 1', '-'], result: clay}, {when: ['-', true], result: last}]
  - {id: shrinks, inputs: [profile.a], rows: [{when: ['1'], result: 1}, {when: ['3'], result: 3}], default: 5}
labels: [{when: profile.b, label: B2, not: C}]
offers:
  - {id: a, group: h, class: care, propensity: {start: 0.2, start_evidence: 40}, owned: '"a" in x', treatments: [{channel: web, content: A2}, {channel: app, content: C}]}
  - {id: same, group: g, class: care, propensity: {start: 1}, treatments: [{channel: web, content: A}]}
  - {id: new, group: g, class: care, propensity: {start: 1}, treatments: [{channel: web, content: A}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, c := range catalog.Diff(before, after) {
		fmt.Fprintf(&b, "%s %s %s: %s => %s\n", c.List, c.ID, c.Path, c.Before, c.After)
	}
	want := `channels web attributes: {"a": 1, "b": "x, y: z"} => {"a": 2, "b": "x, y: z"}
channels sms quiet_hours.from: "21:00" => "20:00"
channels sms hold:  => "2h"
offers a group: "g" => "h"
offers a value: 3 => 
offers a propensity.start: 0.1 => 0.2
offers a propensity.start_evidence:  => 40
offers a treatments[web].content: "A" => "A2"
offers a treatments[app]:  => {"channel": "app", "content": "C"}
offers a treatments[sms]: {"channel": "sms", "content": "B"} => 
offers a owned:  => "\"a\" in x"
offers new :  => {"id": "new", "group": "g", "class": "care", "propensity": {"start": 1}, "treatments": [{"channel": "web", "content": "A"}]}
offers old : {"id": "old", "group": "g", "class": "care", "propensity": {"start": 1}, "treatments": [{"channel": "web", "content": "say \"A\": b"}]} => 
scenarios s strategy.parameters: {"value_weight": 1} => {"value_weight": 2}
scenarios gone : {"id": "gone", "touchpoints": ["sms"]} => 
decision_tables tier rows[1].when: ["> 3", "-"] => ["> 4", "-"]
decision_tables tier rows[2].result: "tin" => "lead"
decision_tables tier rows[3]:  => {"when": ["> 1", "-"], "result": "clay"}
decision_tables shrinks rows[1]: {"when": ["2"], "result": 2} => 
decision_tables shrinks default: 4 => 5
labels profile.b label: "B" => "B2"
labels profile.b not:  => "C"
labels profile.a > 5 : {"when": "profile.a > 5", "label": "A"} => 
contact_policies week max: 2 => 3
contact_policies week channels: ["sms"] => ["sms", "web"]
clock  zone: "Asia/Shanghai" => "UTC"
control_group  :  => {"percent": 5}
`
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if same := catalog.Diff(after, after); len(same) > 0 {
		t.Errorf("a catalogue differs from itself: %v", same)
	}
}
