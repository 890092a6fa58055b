package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestEventBatches(t *testing.T) {
	var in strings.Builder
	for i := range 1234 {
		fmt.Fprintf(&in, `{"id":"e%d","type":"balance","identity":"c1","time":"2026-03-01T00:00:00Z"}`+"\n", i)
	}
	in.WriteString("\n") // passed over
	in.WriteString(`{"id":"last","type":"balance","identity":"c1","time":"2026-03-01T00:00:00Z"}`)
	var sizes []int
	var last eventLine
	for batch, err := range lineBatches(strings.NewReader(in.String()), "events.ndjson", ingestBatch, parseEvent) {
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(batch))
		last = batch[len(batch)-1]
	}
	if got, want := fmt.Sprint(sizes), "[500 500 235]"; got != want {
		t.Errorf("batches of %s, want %s", got, want)
	}
	if last.line != 1236 || last.event.GetId() != "last" || last.err != nil {
		t.Errorf("last event: %+v", last)
	}
}

func TestEventBatchesLongLine(t *testing.T) {
	in := "{}\n" + strings.Repeat("x", maxEventLine+1) + "\n"
	for _, err := range lineBatches(strings.NewReader(in), "events.ndjson", ingestBatch, parseEvent) {
		if err != nil {
			if want := "events.ndjson:2: the line has more than"; !strings.HasPrefix(err.Error(), want) {
				t.Errorf("got %v, want %s…", err, want)
			}
			return
		}
	}
	t.Error("no error")
}

func TestParseEvent(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"good", `{"id":"e","type":"balance","identity":"c1","time":"2026-03-01T00:00:00+08:00","attributes":{"amount":3.5}}`, ""},
		{"no JSON", `id,type`, "not an event: "},
		{"misspelt name", `{"id":"e","typ":"balance"}`, `unknown field "typ"`},
		{"time without offset", `{"id":"e","type":"balance","identity":"c1","time":"2026-03-01T00:00:00"}`, "not an event: "},
		{"nothing in it", `{}`, "id: "},
		{"malformed type", `{"id":"e","type":"Balance","identity":"c1","time":"2026-03-01T00:00:00Z"}`, "type: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := parseEvent(7, []byte(test.text))
			switch {
			case e.line != 7:
				t.Errorf("line %d", e.line)
			case test.want == "" && e.err != nil:
				t.Errorf("got %v, want no error", e.err)
			case test.want != "" && (e.err == nil || !strings.Contains(e.err.Error(), test.want)):
				t.Errorf("got %v, want %q", e.err, test.want)
			case e.err != nil && strings.Contains(e.err.Error(), "proto:"):
				t.Errorf("the error speaks of protobuf: %v", e.err)
			}
		})
	}
}
