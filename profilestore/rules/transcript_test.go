package rules_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/rules"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata")

// profile is a profile by slot.
type profile []profilestore.Value

func (p profile) Get(slot int) profilestore.Value { return p[slot] }

// schemaOf makes a schema of fields that all have a batch source.
func schemaOf(t testing.TB, fields ...profilestore.Field) *profilestore.Schema {
	t.Helper()
	s, err := profilestore.NewSchema([]profilestore.Source{{ID: "bi"}}, fields)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func batch(name string, typ profilestore.Type) profilestore.Field {
	return profilestore.Field{Name: name, Type: typ, Batch: "bi", Decimals: profilestore.NoDecimals}
}

func onEvent(name string, typ profilestore.Type, on, value string) profilestore.Field {
	f := profilestore.Field{Name: name, Type: typ, Decimals: profilestore.NoDecimals, Events: &profilestore.EventRule{On: on}}
	if typ == profilestore.TypeCounter {
		f.Events.Add = value
	} else {
		f.Events.Set = value
	}
	return f
}

// TestTranscripts runs each line of a transcript and compares what it gives
// with the indented lines below it.
func TestTranscripts(t *testing.T) {
	for _, x := range []struct {
		file string
		run  func(line string) string
	}{
		{"testdata/conditions.txt", conditionRunner(t)},
		{"testdata/events.txt", eventRunner(t)},
	} {
		want, err := os.ReadFile(x.file)
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for line := range strings.Lines(string(want)) {
			if strings.HasPrefix(line, "\t") {
				continue
			}
			got.WriteString(line)
			if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			for result := range strings.Lines(x.run(line)) {
				got.WriteString("\t" + strings.TrimSuffix(result, "\n") + "\n")
			}
		}
		switch {
		case *update:
			if err := os.WriteFile(x.file, []byte(got.String()), 0o600); err != nil {
				t.Fatal(err)
			}
		case got.String() != string(want):
			t.Errorf("%s is not what the package says. If it should, run with -update. It says:\n%s", x.file, diff(string(want), got.String()))
		}
	}
}

// diff returns the lines that differ, those of want with - and of got with +.
func diff(want, got string) string {
	var b strings.Builder
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		switch {
		case i >= len(w):
			b.WriteString("+" + g[i] + "\n")
		case i >= len(g):
			b.WriteString("-" + w[i] + "\n")
		case w[i] != g[i]:
			b.WriteString("-" + w[i] + "\n+" + g[i] + "\n")
		}
	}
	return b.String()
}

func conditionRunner(t *testing.T) func(string) string {
	schema := schemaOf(t, batch("value.arpu", "number"), batch("value.credit", "number"), batch("usage.data_mb", "counter"),
		batch("tag.heavy", "flag"), batch("general.tier", "text"), batch("general.in", "text"), batch("service.last_call", "time"))
	env, err := rules.NewEnv(schema, []rules.Input{{Name: "role", Kind: profilestore.KindText}, {Name: "willing", Kind: profilestore.KindFlag}})
	if err != nil {
		t.Fatal(err)
	}
	in := rules.Inputs{
		Profile: profile{
			profilestore.Number(50), profilestore.Unknown(), profilestore.Number(6000), profilestore.Flag(true), profilestore.Text("gold"),
			profilestore.Unknown(), profilestore.Time(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()),
		},
		Context: []profilestore.Value{profilestore.Text("agent")},
		Now:     time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC).UnixMicro(),
	}
	return func(line string) string {
		b := env.NewTable()
		r, err := b.Add(line)
		if err != nil {
			return "mistake at " + strings.ReplaceAll(err.Error(), "\n", "\nmistake at ")
		}
		e := b.Build().NewEvaluation()
		e.Reset(in)
		return e.Evaluate(r).String()
	}
}

func eventRunner(t *testing.T) func(string) string {
	m, err := rules.NewEventMapper(eventSchema(t))
	if err != nil {
		t.Fatal(err)
	}
	fields := eventSchema(t).Fields()
	return func(line string) string {
		var e struct {
			ID, Type   string
			Attributes map[string]any
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return "not JSON: " + err.Error()
		}
		changes, err := m.Map(&profilestore.Event{ID: e.ID, Type: e.Type, Time: 1e15, Attributes: e.Attributes}, nil)
		var out []string
		if err != nil {
			if _, ok := errors.AsType[*rules.EventError](err); !ok {
				return "an error without its type"
			}
			out = append(out, "refused: "+err.Error())
		}
		for _, c := range changes {
			verb := " = "
			if fields[c.Slot].Type == profilestore.TypeCounter {
				verb = " += "
			}
			text := fields[c.Slot].Name + verb + c.Value.String()
			if c.Priority != 0 {
				text += fmt.Sprintf(", priority %d", c.Priority)
			}
			out = append(out, text)
		}
		return strings.Join(out, "\n")
	}
}

func eventSchema(t testing.TB) *profilestore.Schema {
	address := onEvent("general.address", "text", `event.type == "address"`, `event.text`)
	address.Events.Priority = `event.channel == "store" ? 2 : event.rank`
	return schemaOf(t,
		onEvent("value.balance", "number", `event.type == "balance"`, `event.amount`),
		onEvent("value.euros", "number", `event.type == "balance" && has(event.rate)`, `event.amount * event.rate / 100`),
		onEvent("usage.data_mb", "counter", `event.type == "data_session"`, `event.mb`),
		onEvent("usage.sessions", "counter", `event.type in ["data_session", "call"]`, `1`),
		onEvent("usage.big", "counter", `event.type == "data_session" && event.mb > 1000`, `1`),
		onEvent("tag.roaming", "flag", `event.type == "roaming"`, `event.on`),
		onEvent("general.plan", "text", `event.type == "plan" || event.type == "order"`, `event.plan`),
		onEvent("service.last", "time", `true`, `event.time`),
		onEvent("service.due", "time", `event.type == "bill"`, `event.due`),
		onEvent("marketing.note", "text", `event.note.startsWith("!")`, `event.note + event.type`),
		address,
	)
}
