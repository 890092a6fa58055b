package batchfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// decodeLine decodes one line of NDJSON.
func decodeLine(line []byte, columns ...Column) *Record {
	n := &ndjsonReader{columns: columns}
	d := &Decoder{decoder: n.decoder(), record: Record{Values: make([][]byte, len(columns))}}
	b := NewBatch()
	b.add(record{line: 1, bytes: line})
	return d.Decode(b, 0)
}

// The twin is encoding/json: what it takes for an object is taken, what it refuses is
// refused, and the value of a column is what it says.
func FuzzNDJSON(f *testing.F) {
	for _, seed := range []string{
		`{"a":1,"b":"x"}`, `{"a":null,"b":["p","q"],"c":{"d":[1,{}]}}`, `{"a":-0.5e+7,"a":1}`, `{"a":"\u00e9\ud83d\ude00\ud800\n\/"}`,
		`{"a":tru}`, `{"a":01}`, `{"a":"x`, `{"b":[1,null,true,"s"]}`, ` { "a" : "" } `, `{"a":1}{`, `{}`, `[]`, `{"a":1,}`, "{\"a\":\"\x01\"}", `{"A":1,"b":1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r := decodeLine(line, Column{"a", Text}, Column{"b", Set})
		broken := len(r.Problems) == 1 && r.Problems[0].Column < 0
		object := json.Valid(line) && bytes.HasPrefix(bytes.TrimSpace(line), []byte("{"))
		if strings.Count(string(line), "[")+strings.Count(string(line), "{") > maxDepth {
			return // encoding/json takes deeper ones
		}
		if broken == object {
			t.Fatalf("%q: %+v; encoding/json: %v", line, r.Problems, object)
		}
		if broken || len(r.Problems) > 0 || !utf8.Valid(line) {
			return
		}
		var twin map[string]json.RawMessage
		if err := json.Unmarshal(line, &twin); err != nil {
			t.Fatal(err)
		}
		for i, name := range []string{"a", "b"} {
			if want := twinText(twin[name]); string(r.Values[i]) != want {
				t.Fatalf("%q: %s is %q, encoding/json: %q", line, name, r.Values[i], want)
			}
		}
	})
}

// twinText returns the text of a JSON value as a CSV file has it.
func twinText(raw json.RawMessage) string {
	var v any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return ""
	}
	text := func(v any) string {
		if v == nil {
			return ""
		}
		return fmt.Sprint(v)
	}
	list, ok := v.([]any)
	if !ok {
		return text(v)
	}
	var all []string
	for _, e := range list {
		all = append(all, text(e))
	}
	return strings.Join(all, ";")
}

func TestNDJSONFollowsTheOrderOfMembers(t *testing.T) {
	n := &ndjsonReader{columns: []Column{{"a", Number}, {"b", Text}}}
	d := &Decoder{decoder: n.decoder(), record: Record{Values: make([][]byte, 2)}}
	b := NewBatch()
	lines := []string{`{"a":1,"b":"x"}`, `{"b":"y","a":2}`, `{"c":0,"a":3}`, `{"a":4,"c":0,"b":"z"}`, `{"b":"w"}`}
	for i, line := range lines {
		b.add(record{line: int64(i + 1), bytes: []byte(line)})
	}
	var got []string
	for i := range lines {
		r := d.Decode(b, i)
		got = append(got, fmt.Sprintf("%d:%s,%s%v", r.Line, r.Values[0], r.Values[1], len(r.Problems)))
	}
	if want := "1:1,x0 2:2,y0 3:3,0 4:4,z0 5:,w0"; strings.Join(got, " ") != want {
		t.Errorf("got %s, want %s", strings.Join(got, " "), want)
	}
	met, others := d.decoder.met()
	if !met[0] || !met[1] || len(others) != 1 || others[0] != "c" {
		t.Errorf("met %v and %q", met, others)
	}
}

// BenchmarkNDJSON decodes objects of 300 members, by this decoder and by encoding/json.
func BenchmarkNDJSON(b *testing.B) {
	var columns []Column
	var members []string
	for i := range 300 {
		columns = append(columns, Column{fmt.Sprintf("tag.f%d", i), Number})
		members = append(members, fmt.Sprintf(`"tag.f%d":%d.5`, i, i*80))
	}
	line := []byte("{" + strings.Join(members, ",") + "}")
	b.Run("rapport", func(b *testing.B) {
		b.SetBytes(int64(len(line)))
		n := &ndjsonReader{columns: columns}
		d := &Decoder{decoder: n.decoder(), record: Record{Values: make([][]byte, len(columns))}}
		batch := NewBatch()
		batch.add(record{line: 1, bytes: line})
		for b.Loop() {
			d.Decode(batch, 0)
		}
	})
	b.Run("encoding", func(b *testing.B) {
		b.SetBytes(int64(len(line)))
		for b.Loop() {
			var v map[string]json.Number
			if err := json.Unmarshal(line, &v); err != nil {
				b.Fatal(err)
			}
		}
	})
}
