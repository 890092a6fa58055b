package profilestore_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"rapport/profilestore"
	"rapport/profilestore/batchfile"
	"rapport/profilestore/memory"
)

// parquetFile makes a Parquet file of a row for each of some structs.
func parquetFile[T any](t testing.TB, rows ...T) string {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[T](&b)
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

type parquetRow struct {
	Customer string   `parquet:"customer"`
	Balance  *float64 `parquet:"balance,optional"`
	Score    float64  `parquet:"score"`
	Vip      bool     `parquet:"vip"`
	Plan     string   `parquet:"plan,dict"`
	LastCall int64    `parquet:"last_call,timestamp(millisecond)"`
	Region   string   `parquet:"region"`
}

// TestLoadFileTranscripts says what comes of files in other formats than CSV, and of
// several at once.
func TestLoadFileTranscripts(t *testing.T) {
	price := 29.85
	row := parquetRow{"1", &price, 0.5, true, "Gold", 1772323200000, "north"}
	good := parquetFile(t, row, parquetRow{Customer: "msisdn:8613800000002", Plan: "Silver"})
	odd := 12.345
	for _, test := range []struct {
		name   string
		files  map[string]string
		change func(*profilestore.LoadOptions)
		want   string
	}{
		{
			name: "NDJSON",
			files: map[string]string{"a": `{"customer":"1","balance":29.85,"score":1e-7,"vip":true,"plan":"Gold","last_call":"2026-03-01T08:00:00+08:00"}` + "\n\n" +
				` { "plan" : "caf\u00e9 \ud83d\ude00" , "customer" : 2, "region": {"x": [1, "}"]} } ` + "\r\n" +
				`{"customer":3,"balance":null,"score":" 7 ","vip":0}`},
			want: "3 rows, 0 bad, unused region\n" +
				"customer:1 balance=29.85 score=0.0000001 vip=true plan=Gold last_call=2026-03-01T00:00:00Z\n" +
				"customer:2 balance=unknown score=unknown vip=true (blank) plan=café 😀 last_call=unknown\n" +
				"customer:3 balance=unknown score=7 vip=false plan=unknown last_call=unknown",
		},
		{
			name: "NDJSON, big numbers are exact",
			files: map[string]string{"a": `{"customer":1,"balance":90071992547409.92,"score":123456789012345680000,"vip":null,"plan":"x","last_call":null}` + "\n" +
				`{"customer":2,"balance":90071992547409.93,"score":0,"vip":1,"plan":9007199254740993}`},
			want: "a: 1 of 2 rows are bad; nothing was loaded\n" +
				`  line 2: value.balance, column "balance": "90071992547409.93" is too large for a number with 2 decimals: at most 90071992547409.92`,
		},
		{
			name: "NDJSON with mistakes",
			files: map[string]string{"a": `{"customer":1,"balance":"12,5","score":true,"vip":"maybe","plan":["a"],"last_call":1772323200}` + "\n" +
				`{"customer":1.5,"plan":{"a":1},"plan2":1}` + "\n" + `{"customer":true}` + "\n" + `{"balance":1}` + "\n" +
				`{"customer":5,"customer":6}` + "\n" + `{"customer":7,}` + "\n" + `{"customer":8 "plan":"x"}` + "\n" + `[1,2]` + "\n" + `{"customer":9} {"customer":10}` + "\n" +
				`{"customer":11,"plan":"\ud800"}` + "\n" + "{\"customer\":12,\"plan\":\"G\xf6ld\"}\n" + `{"customer":01}` + "\n" + `{"customer":"13"}` + "\n"},
			want: "a: 12 of 13 rows are bad; nothing was loaded\n" +
				`  line 1: general.plan, column "plan": "[\"a\"]" is a list, and the field has one value` + "\n" +
				`  line 1: value.balance, column "balance": "12,5" is not a number: use digits and a decimal point, like -12.5` + "\n" +
				`  line 1: value.score, column "score": "true" is not a number: use digits and a decimal point, like -12.5` + "\n" +
				`  line 1: tag.vip, column "vip": "maybe" is not a flag: use true or false, yes or no, 1 or 0` + "\n" +
				`  line 1: service.last_call, column "last_call": "1772323200" is not a time: use RFC 3339 with offset, like 2026-03-01T08:00:00+08:00, or a date like 2026-03-01, which is its midnight UTC` + "\n" +
				`  line 2: column "customer": "1.5" is no id: give it as a text, or as a whole number without exponent` + "\n" +
				`  line 2: general.plan, column "plan": "{\"a\":1}" is an object: give a text, a number, true or false, a list of them, or null` + "\n" +
				`  line 3: column "customer": "true" is no id: give it as a text` + "\n" +
				`  line 4: column "customer": the customer is missing` + "\n" +
				`  line 5: column "customer": "6" is there twice in the object` + "\n" +
				`  line 6: is not one JSON object: at byte 15: a name in quotes is needed` + "\n" +
				`  line 7: is not one JSON object: at byte 15: a comma or } is needed` + "\n" +
				`  line 8: is not one JSON object: at byte 1: an object is needed, {…}` + "\n" +
				`  line 9: is not one JSON object: at byte 16: something after the object: write one object a line` + "\n" +
				`  line 10: general.plan, column "plan": "\"\\ud800\"" has a \u of half a character: write the other half after it` + "\n" +
				`  line 11: general.plan, column "plan": "G\xf6ld" is not UTF-8: save the file as UTF-8` + "\n" +
				`  line 12: is not one JSON object: at byte 14: a comma or } is needed`,
		},
		{
			name:  "NDJSON, names that no object has",
			files: map[string]string{"a": `{"customer":1,"ballance":2,"score":1,"vip":1}` + "\n"},
			want: "a: the objects do not fit source bi; nothing was loaded\n" +
				`  value.balance, column "balance": is in no object; is "ballance" meant?` + "\n" +
				`  general.plan, column "plan": is in no object; if nobody has a value, write null in one` + "\n" +
				`  service.last_call, column "last_call": is in no object; if nobody has a value, write null in one`,
		},
		{
			name:   "NDJSON, cut off",
			files:  map[string]string{"a": `{"customer":1,"balance":2,"score":1,"vip":1,"plan":null,"last_call":null}` + "\n" + `{"customer":2,"ba`},
			change: func(o *profilestore.LoadOptions) { o.MaxBadRows = 0.9 },
			want:   "a: nothing was loaded\n  line 2: is not one JSON object: it ends too early; it is the last line: the file is cut off",
		},
		{
			name: "JSON array", files: map[string]string{"a": "[\n {\"customer\":1}\n]\n"},
			want: "a: nothing was loaded\n  the file is one JSON array: write one object a line, without brackets and commas around them (jq -c '.[]' does)",
		},
		{name: "NDJSON without rows", files: map[string]string{"a.ndjson": "\n"}, want: "a.ndjson: nothing was loaded\n  there are no rows: every field of source bi would be unknown for everybody; if that is meant, allow an empty file"},
		{name: "gzip", files: map[string]string{"a": string(gzipped(t, []byte(loadHeader+"1,1,1,1,Gold,\n")))}, want: "1 rows, 0 bad\ncustomer:1 balance=1 score=1 vip=true plan=Gold last_call=unknown"},
		{
			name: "a name that is not true", files: map[string]string{"a.parquet.zst": loadHeader + "1,1,1,1,Gold,\n"},
			want: "1 rows, 0 bad\ncustomer:1 balance=1 score=1 vip=true plan=Gold last_call=unknown",
		},
		{
			name: "gzip, cut off", files: map[string]string{"a.gz": string(gzipped(t, []byte(loadHeader+strings.Repeat("1,1,1,1,Gold,\n", 9)))[:60])},
			want: "a.gz: nothing was loaded\n  the file is cut off: its gzip data has no end",
		},
		{
			name: "zstd, damaged", files: map[string]string{"a.zst": string(flipped(zstandard(t, []byte(loadHeader+strings.Repeat("1,1,1,1,Gold,\n", 9))), 50))},
			want: "a.zst: nothing was loaded\n  the file is damaged: its zstd data can't be unpacked: …",
		},
		{
			name: "compressed twice", files: map[string]string{"a.gz": string(gzipped(t, gzipped(t, []byte(loadHeader))))},
			want: "a.gz: nothing was loaded\n  the file is compressed twice: unpack it once",
		},
		{
			name: "a column that is called as other files begin", files: map[string]string{"a": "ORCA,BZhang,customer,balance,score,vip,plan,last_call\n,,1,1,1,1,Gold,\n"},
			want: "1 rows, 0 bad, unused ORCA and BZhang\ncustomer:1 balance=1 score=1 vip=true plan=Gold last_call=unknown",
		},
		{name: "an ORC file", files: map[string]string{"a": "ORC\x00\x01"}, want: "a: nothing was loaded\n  the file is an ORC file: use Parquet, NDJSON or CSV"},
		{name: "a spreadsheet", files: map[string]string{"a.csv": "PK\x03\x04xxxx"}, want: "a.csv: nothing was loaded\n  the file is a ZIP file, or one of a spreadsheet: unpack it, or save it as CSV UTF-8"},
		{
			name: "Parquet", files: map[string]string{"a": good},
			want: "2 rows, 0 bad, unused region\n" +
				"customer:1 balance=29.85 score=0.5 vip=true plan=Gold last_call=2026-03-01T00:00:00Z\n" +
				"msisdn:8613800000002 balance=unknown score=0 vip=false plan=Silver last_call=1970-01-01T00:00:00Z",
		},
		{
			name:  "Parquet with mistakes",
			files: map[string]string{"a": parquetFile(t, row, parquetRow{Customer: "2", Balance: &odd, Plan: "G\xf6ld"}, parquetRow{}, row)},
			want: "a: 3 of 4 rows are bad; nothing was loaded\n" +
				`  row 2: value.balance, column "balance": "12.345" has more decimals than the field's 2: round it, or give the field more` + "\n" +
				`  row 2: general.plan, column "plan": "G\xf6ld" is not UTF-8: save the file as UTF-8` + "\n" +
				`  row 3: column "customer": the customer is missing` + "\n" +
				`  row 4: "customer:1" is already in row 1: keep one row per customer`,
		},
		{
			name: "Parquet, wrong types",
			files: map[string]string{"a": parquetFile(t, struct {
				Customer float64  `parquet:"customer"`
				Balance  bool     `parquet:"balance"`
				Score    []string `parquet:"score,list"`
				Vip      float32  `parquet:"vip"`
				Plan     struct {
					A string `parquet:"a"`
				} `parquet:"plan"`
				LastCall int64 `parquet:"last_calls"`
			}{})},
			want: "a: the columns do not fit source bi; nothing was loaded\n" +
				`  service.last_call, column "last_call": is missing; is "last_calls" meant?` + "\n" +
				`  column "customer": has the Parquet type DOUBLE: a customer is a string or an integer` + "\n" +
				`  value.balance, column "balance": has the Parquet type BOOLEAN: a number is an integer, a decimal, a float, or a string` + "\n" +
				`  value.score, column "score": is a list: a number is an integer, a decimal, a float, or a string` + "\n" +
				`  tag.vip, column "vip": has the Parquet type FLOAT: a flag is a boolean, a string, or an integer 0 or 1` + "\n" +
				`  general.plan, column "plan": is a group of columns: a text is a string, an integer, or a UUID`,
		},
		{
			name: "Parquet, times without zone",
			files: map[string]string{"a": parquetFile(t, struct {
				Customer string  `parquet:"customer"`
				Plan     string  `parquet:"plan"`
				Balance  float64 `parquet:"balance"`
				Score    float64 `parquet:"score"`
				Vip      bool    `parquet:"vip"`
				LastCall int64   `parquet:"last_call,timestamp(millisecond:local)"`
			}{})},
			want: "a: the columns do not fit source bi; nothing was loaded\n" +
				`  service.last_call, column "last_call": has the Parquet type TIMESTAMP(isAdjustedToUTC=false,unit=MILLIS): a time is a timestamp in UTC, a date, or a string`,
		},
		{name: "Parquet, cut off", files: map[string]string{"a": good[:len(good)-9]}, want: "a: nothing was loaded\n  the file begins as a Parquet file and does not end as one: it is cut off"},
		{
			name: "Parquet, a footer that is too large", files: map[string]string{"a": good[:len(good)-8] + string(binary.LittleEndian.AppendUint32(nil, 1<<31)) + "PAR1"},
			want: "a: nothing was loaded\n  the file is damaged: a description of 2147483648 bytes at its end",
		},
		{
			name: "Parquet in gzip", files: map[string]string{"a": string(gzipped(t, []byte(good)))},
			want: "a: nothing was loaded\n  the file is a Parquet file that was compressed as a whole: unpack it first, Parquet is compressed inside",
		},
		{
			name: "another format than was said", files: map[string]string{"a": loadHeader}, change: func(o *profilestore.LoadOptions) { o.Format = batchfile.Parquet },
			want: "a: nothing was loaded\n  is not a Parquet file: these begin with PAR1",
		},
		{
			name: "Parquet, where CSV was said", files: map[string]string{"a": good}, change: func(o *profilestore.LoadOptions) { o.Format = batchfile.CSV },
			want: "a: nothing was loaded\n  the file is a Parquet file, not CSV",
		},
		{
			name: "several, and customers who are in two of them",
			files: map[string]string{
				"a": "plan,customer,balance,score,vip,last_call\nGold,1,1,1,1,\n", "b": loadHeader + "2,2,2,0,x,\n1,,,,,\n",
				"c": `{"customer":2,"balance":null,"score":null,"vip":null,"plan":null,"last_call":null}`, "d": good,
			},
			change: func(o *profilestore.LoadOptions) { o.MaxBadRows = 0.5 },
			want: "3 rows, 3 bad, unused region\n" +
				`bad: b, line 3: "customer:1" is already on line 2 of a: keep one row per customer` + "\n" +
				`bad: c, line 1: "customer:2" is already on line 2 of b: keep one row per customer` + "\n" +
				`bad: d, row 1: "customer:1" is already on line 2 of a: keep one row per customer` + "\n" +
				"customer:1 balance=1 score=1 vip=true plan=Gold last_call=unknown\n" +
				"customer:2 balance=2 score=2 vip=false plan=x last_call=unknown\n" +
				"msisdn:8613800000002 balance=unknown score=0 vip=false plan=Silver last_call=1970-01-01T00:00:00Z",
		},
		{
			name: "several with mistakes, all of their headers at once",
			files: map[string]string{
				"a": "customer,balance\n1,1\n", "b": loadHeader + "2,2,2,0,x,\n", "c": "", "d": good[:20],
			},
			want: "a and 3 more: the columns do not fit source bi; nothing was loaded\n" +
				`  a, line 1: value.score, column "score": is missing` + "\n" +
				`  a, line 1: tag.vip, column "vip": is missing` + "\n" +
				`  a, line 1: general.plan, column "plan": is missing` + "\n" +
				`  a, line 1: service.last_call, column "last_call": is missing` + "\n" +
				`  c: the file is empty: the first line has the names of the columns` + "\n" +
				`  d: the file begins as a Parquet file and does not end as one: it is cut off`,
		},
		{
			name: "several with mistakes", files: map[string]string{"a": loadHeader + "1,x,,,,\n", "b": loadHeader + "2,y,,,,\n,,,,,\n"},
			want: "a and 1 more: 3 of 3 rows are bad; nothing was loaded\n" +
				`  a, line 2: value.balance, column "balance": "x" is not a number: use digits and a decimal point, like -12.5` + "\n" +
				`  b, line 2: value.balance, column "balance": "y" is not a number: use digits and a decimal point, like -12.5` + "\n" +
				`  b, line 3: column "customer": the customer is missing`,
		},
		{
			name: "a folder", files: map[string]string{"in/part-0": loadHeader + "1,1,,,,\n", "in/part-1": loadHeader + "2,2,,,,\n", "in/_SUCCESS": "", "in/.part-0.crc": "x"},
			change: func(o *profilestore.LoadOptions) { o.Paths = []string{filepath.Dir(o.Paths[0])} },
			want: "2 rows, 0 bad\ncustomer:1 balance=1 score=unknown vip=true (blank) plan=unknown last_call=unknown\n" +
				"customer:2 balance=2 score=unknown vip=true (blank) plan=unknown last_call=unknown",
		},
		{
			name: "a folder without files", files: map[string]string{"in/_SUCCESS": ""},
			change: func(o *profilestore.LoadOptions) { o.Paths = []string{filepath.Dir(o.Paths[0])} },
			want:   "the folder in has no files",
		},
		{
			name: "a folder in a folder", files: map[string]string{"in/day=1/part-0": loadHeader},
			change: func(o *profilestore.LoadOptions) { o.Paths = []string{filepath.Dir(filepath.Dir(o.Paths[0]))} },
			want:   "in/day=1 is a folder: name it, or the files that are meant",
		},
		{
			name: "the same file twice", files: map[string]string{"a": loadHeader},
			change: func(o *profilestore.LoadOptions) { o.Paths = append(o.Paths, o.Paths[0]) },
			want:   "a is given twice",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := memoryDir(t)
			o := profilestore.LoadOptions{
				Dir: filepath.Join(dir, "snapshots"), Schema: loadSchema(t), Engine: memory.Generations{}, Source: "bi", AsOf: asOf,
			}
			for _, name := range slices.Sorted(maps.Keys(test.files)) {
				path := filepath.Join(dir, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(test.files[name]), 0o600)); err != nil {
					t.Fatal(err)
				}
				o.Paths = append(o.Paths, path)
			}
			if test.change != nil {
				test.change(&o)
			}
			report, err := profilestore.Load(t.Context(), o)
			var got string
			if err != nil {
				got = err.Error()
				if left := strayFiles(t, o.Dir); len(left) > 0 {
					t.Errorf("the load left behind %q", left)
				}
			} else {
				got = describeSnapshot(t, o, report)
			}
			got = strings.ReplaceAll(got, dir+string(filepath.Separator), "")
			if begin, ok := strings.CutSuffix(test.want, "…"); ok && strings.HasPrefix(got, begin) {
				return
			}
			if got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

func flipped(b []byte, i int) []byte {
	b[i] ^= 0x55
	return b
}

// describeSnapshot is describeLoad with the options of the load.
func describeSnapshot(t *testing.T, o profilestore.LoadOptions, report *profilestore.LoadReport) string {
	t.Helper()
	s, err := profilestore.OpenSnapshots(o.Dir, o.Schema, o.Engine, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // in memory
	return describe(t, s, o.Schema, report)
}

// The rows that were left out are in a file, in the order of the input, with all that
// is wrong with them.
func TestLoadRejects(t *testing.T) {
	dir := memoryDir(t)
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	price := 1.005
	o := profilestore.LoadOptions{
		Dir: filepath.Join(dir, "snapshots"), Schema: loadSchema(t), Engine: memory.Generations{}, Source: "bi", AsOf: asOf,
		Rejects: write("rejects", "of before\n"), MaxBadRows: 0.9,
		Paths: []string{
			write("a.csv", loadHeader+"1,x,y,1,Gold,\n2,1.5,-0.25,no,\"Gold, \"\"x\"\"\",2026-03-01\n\"3\",5\" x\n4,1\n5,1,1,1,G\xf6ld,\n"),
			write("b.ndjson", `{"customer":6,"balance":1,"score":null,"vip":null,"plan":null,"last_call":null}`+"\n"+`{"customer":2,"balance":1.25,"score":0.1,"vip":true,"plan":"Gold","last_call":"2026-03-01T00:00:00Z"}`+"\n"+"{"+"\n"+"{}"+"\n"),
			write("c.parquet", parquetFile(t, parquetRow{Customer: "7", Balance: &price, Plan: "x"})),
		},
	}
	type reject struct {
		File     string
		Line     int64
		Row      int64
		Problems []struct{ Field, Column, Value, Reason string }
		Record   string
		Bytes    []byte
	}
	read := func() (lines []string) {
		t.Helper()
		for line := range strings.Lines(string(must(os.ReadFile(o.Rejects)))) {
			var r reject
			d := json.NewDecoder(strings.NewReader(line))
			d.DisallowUnknownFields()
			if err := d.Decode(&r); err != nil {
				t.Fatal(err)
			}
			var reasons []string
			for _, p := range r.Problems {
				reasons = append(reasons, strings.Join([]string{p.Field, p.Column, p.Value, strings.SplitN(p.Reason, ":", 2)[0]}, "|"))
			}
			record := r.Record
			if r.Bytes != nil {
				record = "bytes " + string(r.Bytes)
			}
			lines = append(lines, strings.Join([]string{filepath.Base(r.File), string(rune('0' + r.Line + 10*r.Row)), strings.Join(reasons, " & "), record}, " / "))
		}
		return lines
	}
	want := []string{
		`a.csv / 2 / value.balance|balance|x|is not a number & value.score|score|y|is not a number / 1,x,y,1,Gold,`,
		`a.csv / 4 / |balance||a quote inside a value that does not begin with one / "3",5" x`,
		`a.csv / 5 / |||has 2 values, the header has 6 columns / 4,1`,
		"a.csv / 6 / general.plan|plan|G\ufffdld|is not UTF-8 / bytes 5,1,1,1,G\xf6ld,",
		`b.ndjson / 3 / |||is not one JSON object / {`,
		`b.ndjson / 4 / |customer||the customer is missing / {}`,
		`c.parquet / : / value.balance|balance|1.005|has more decimals than the field's 2 / {"customer":"7","balance":"1.005","score":"0","vip":"false","plan":"x","last_call":"1970-01-01T00:00:00Z"}`,
		`b.ndjson / 2 / ||customer:2|is already on line 3 of ` + dir + `/a.csv / {"balance":1.25,"customer":"customer:2","last_call":"2026-03-01T00:00:00Z","plan":"Gold","score":0.1,"vip":true}`,
	}
	report, err := profilestore.Load(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if got := read(); !slices.Equal(got, want) || report.BadRows != 8 || report.Rows != 2 {
		t.Errorf("%d rows, %d bad, rejects:\n%s\nwant:\n%s", report.Rows, report.BadRows, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if info := must(os.Stat(o.Rejects)); info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	// Also if the load is refused, and then in memory for hardly any row too.
	for _, memory := range []int64{0, 1} {
		o.MaxBadRows, o.Memory = 0.5, memory
		if _, err := profilestore.Load(t.Context(), o); err == nil || !strings.Contains(err.Error(), "8 of 10 rows are bad, 50% may be") {
			t.Errorf("got %v", err)
		}
		if got := read(); !slices.Equal(got, want) {
			t.Errorf("rejects of a load that was refused:\n%s", strings.Join(got, "\n"))
		}
	}
	// No file where nothing is bad, and no input is overwritten.
	o.Paths = []string{write("good.csv", loadHeader+"1,1,1,1,Gold,\n")}
	if _, err := profilestore.Load(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(o.Rejects); err == nil {
		t.Error("rejects of a file without bad rows")
	}
	o.Rejects = o.Paths[0]
	if _, err := profilestore.Load(t.Context(), o); err == nil || !strings.HasSuffix(err.Error(), "good.csv is one of the files to load: name another") {
		t.Errorf("got %v", err)
	}
	o.Rejects = filepath.Join(dir, "nowhere", "rejects")
	if _, err := profilestore.Load(t.Context(), o); err == nil || !strings.HasPrefix(err.Error(), "rejects: open ") {
		t.Errorf("got %v", err)
	}
}
