package profilestore_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rapport/profilestore"
)

const loadHeader = "customer,balance,score,vip,plan,last_call\n"

// TestLoadTranscripts says what comes of files: the rows, or the error.
func TestLoadTranscripts(t *testing.T) {
	for _, test := range []struct {
		name   string
		file   string
		change func(*profilestore.LoadOptions)
		want   string
	}{
		{
			name: "values",
			file: "customer,balance,score,vip,plan,last_call\n" +
				"1,29.85,0.1,yes,Gold,2026-03-01T08:00:00+08:00\n" +
				"msisdn:8613800000002,-0.01,-1.5e-7,0,\"Silver, with \"\"more\"\"\",2026-02-28\n" +
				"3, , ,,  ,\n",
			want: "3 rows, 0 bad\n" +
				"customer:1 balance=29.85 score=0.1 vip=true plan=Gold last_call=2026-03-01T00:00:00Z\n" +
				"customer:3 balance=unknown score=unknown vip=true (blank) plan=unknown last_call=unknown\n" +
				"msisdn:8613800000002 balance=-0.01 score=-0.00000015 vip=false plan=Silver, with \"more\" last_call=2026-02-28T00:00:00Z",
		},
		{
			name: "other forms of values",
			file: loadHeader + "1,+1,1.,TRUE,é,2026-03-01T00:00:00.123456Z\n2,007.5,.5,t,x,\n3,1e2,-0,Y,x,\n4,0.500,1E+3,No,x,\n5,90071992547409.92,1,F,x,\n6,-.5,1,n,x,\n",
			want: "6 rows, 0 bad\n" +
				"customer:1 balance=1 score=1 vip=true plan=é last_call=2026-03-01T00:00:00.123456Z\n" +
				"customer:2 balance=7.5 score=0.5 vip=true plan=x last_call=unknown\n" +
				"customer:3 balance=100 score=0 vip=true plan=x last_call=unknown\n" +
				"customer:4 balance=0.5 score=1000 vip=false plan=x last_call=unknown\n" +
				"customer:5 balance=90071992547409.92 score=1 vip=false plan=x last_call=unknown\n" +
				"customer:6 balance=-0.5 score=1 vip=false plan=x last_call=unknown",
		},
		{
			name: "byte order mark, CRLF, other columns, any order, no last line end",
			file: "\xef\xbb\xbfregion,plan,customer,vip,score, balance ,last_call,\r\nnorth,Gold,1,1,2,3,,x\r\n\r\nsouth,Gold,2,1,2,3,,x",
			want: "2 rows, 0 bad, unused region and \n" +
				"customer:1 balance=3 score=2 vip=true plan=Gold last_call=unknown\n" +
				"customer:2 balance=3 score=2 vip=true plan=Gold last_call=unknown",
		},
		{
			name: "bad values",
			file: loadHeader + "1,\"12,5\",NaN,maybe,Gold,yesterday\n2,12.345,0x10,1,Gold,2026-13-01\n3,1_000,Inf,1,Gold,2026-03-01 08:00:00\n4,1e300,1e400,1,Gold,2026-03-01T08:00:00\n5,1,1,1,Gold,\n",
			want: "bi.csv: 4 of 5 rows are bad; nothing was loaded\n" +
				`  line 2: value.balance, column "balance": "12,5" is not a number: use digits and a decimal point, like -12.5` + "\n" +
				`  line 2: value.score, column "score": "NaN" is not a number: use digits and a decimal point, like -12.5` + "\n" +
				`  line 2: tag.vip, column "vip": "maybe" is not a flag: use true or false, yes or no, 1 or 0` + "\n" +
				`  line 2: service.last_call, column "last_call": "yesterday" is not a time: use RFC 3339 with offset, like 2026-03-01T08:00:00+08:00, or a date like 2026-03-01, which is its midnight UTC` + "\n" +
				`  line 3: value.balance, column "balance": "12.345" has more decimals than the field's 2: round it, or give the field more` + "\n" +
				`  line 3: value.score, column "score": "0x10" is not a number: use digits and a decimal point, like -12.5` + "\n" +
				`  line 3: service.last_call, column "last_call": "2026-13-01" is not a time: use RFC 3339 with offset, like 2026-03-01T08:00:00+08:00, or a date like 2026-03-01, which is its midnight UTC` + "\n" +
				`  line 4: value.balance, column "balance": "1_000" is not a number: use digits and a decimal point, like -12.5` + "\n" +
				`  line 4: value.score, column "score": "Inf" is not a number: use digits and a decimal point, like -12.5` + "\n" +
				`  line 4: service.last_call, column "last_call": "2026-03-01 08:00:00" is not a time: use RFC 3339 with offset, like 2026-03-01T08:00:00+08:00, or a date like 2026-03-01, which is its midnight UTC` + "\n" +
				`  line 5: value.balance, column "balance": "1e300" is too large for a number with 2 decimals: at most 90071992547409.92` + "\n" +
				`  line 5: value.score, column "score": "1e400" is too large for a number` + "\n" +
				`  line 5: service.last_call, column "last_call": "2026-03-01T08:00:00" is not a time: use RFC 3339 with offset, like 2026-03-01T08:00:00+08:00, or a date like 2026-03-01, which is its midnight UTC`,
		},
		{
			name: "bad texts",
			file: loadHeader + "1,,,,G\xf6ld,\n2,,,," + strings.Repeat("x", 4097) + ",\n",
			want: "bi.csv: 2 of 2 rows are bad; nothing was loaded\n" +
				`  line 2: general.plan, column "plan": "G\xf6ld" is not UTF-8: save the file as UTF-8` + "\n" +
				`  line 3: general.plan, column "plan": "` + strings.Repeat("x", 80) + `…" is too long: a text has at most 4096 bytes`,
		},
		{
			name: "bad customers",
			file: loadHeader + ",,,,,\nMSISDN:1,,,,,\n" + strings.Repeat("9", 300) + ",,,,,\n",
			want: "bi.csv: 3 of 3 rows are bad; nothing was loaded\n" +
				`  line 2: column "customer": the customer is missing` + "\n" +
				`  line 3: column "customer": identity "MSISDN:1": namespace "MSISDN": use a-z, 0-9 and _, beginning with a letter, at most 32` + "\n" +
				`  line 4: column "customer": identity "` + strings.Repeat("9", 80) + `"… has 309 bytes: at most 256 with the namespace`,
		},
		{
			name: "duplicates",
			file: loadHeader + "1,,,,,\n2,,,,,\ncustomer:1,,,,,\n1,,,,,\n",
			want: "bi.csv: 2 of 4 rows are bad; nothing was loaded\n" +
				`  line 4: "customer:1" is already on line 2: keep one row per customer` + "\n" +
				`  line 5: "customer:1" is already on line 2: keep one row per customer`,
		},
		{
			name:   "a share of bad rows is allowed",
			file:   loadHeader + "1,x,,,,\n2,1,,,,\n2,2,,,,\n3,3,,,,\n",
			change: func(o *profilestore.LoadOptions) { o.MaxBadRows = 0.5 },
			want: "2 rows, 2 bad\n" +
				`bad: line 2: value.balance, column "balance": "x" is not a number: use digits and a decimal point, like -12.5` + "\n" +
				`bad: line 4: "customer:2" is already on line 3: keep one row per customer` + "\n" +
				"customer:2 balance=1 score=unknown vip=true (blank) plan=unknown last_call=unknown\n" +
				"customer:3 balance=3 score=unknown vip=true (blank) plan=unknown last_call=unknown",
		},
		{
			name:   "more bad rows than the share",
			file:   loadHeader + "1,x,,,,\n2,1,,,,\n3,1,,,,\n",
			change: func(o *profilestore.LoadOptions) { o.MaxBadRows = 0.3 },
			want: "bi.csv: 1 of 3 rows are bad, 30% may be; nothing was loaded\n" +
				`  line 2: value.balance, column "balance": "x" is not a number: use digits and a decimal point, like -12.5`,
		},
		{
			name: "only the first problems are listed",
			file: loadHeader + strings.Repeat("1,x,,,,\n", 25),
			want: "bi.csv: 25 of 25 rows are bad; nothing was loaded\n" + func() string {
				var b strings.Builder
				for line := range 20 {
					fmt.Fprintf(&b, "  line %d: value.balance, column \"balance\": \"x\" is not a number: use digits and a decimal point, like -12.5\n", line+2)
				}
				return b.String()
			}() + "  and 5 more",
		},
		{
			name: "bad quotes",
			file: loadHeader + "1,,,,5\" screen,\n2,,,,\"Gold\"er,\n3,1,,,,\n",
			want: "bi.csv: 2 of 3 rows are bad; nothing was loaded\n" +
				`  line 2: column "plan": a quote inside a value that does not begin with one: put the value in quotes, and double the quotes in it` + "\n" +
				`  line 3: column "plan": something after the closing quote: double the quotes inside a value`,
		},
		{
			name: "wrong number of values",
			file: loadHeader + "1,12,5,,,Gold,\n2,,,,,\n",
			want: "bi.csv: 1 of 2 rows are bad; nothing was loaded\n" +
				"  line 2: has 7 values, the header has 6 columns: check its commas and quotes",
		},
		{
			name:   "cut off in a row",
			file:   loadHeader + "1,1,1,1,Gold,\n2,1,1",
			change: func(o *profilestore.LoadOptions) { o.MaxBadRows = 0.9 },
			want:   "bi.csv: nothing was loaded\n  line 3: has 3 values, the header has 6 columns: check its commas and quotes; it is the last line: the file is cut off",
		},
		{
			name:   "cut off in a row, with a line end",
			file:   loadHeader + "1,1,1,1,Gold,\n2,1,1\n",
			change: func(o *profilestore.LoadOptions) { o.MaxBadRows = 0.9 },
			want:   "bi.csv: nothing was loaded\n  line 3: has 3 values, the header has 6 columns: check its commas and quotes; it is the last line: the file is cut off",
		},
		{
			name:   "cut off in quotes",
			file:   loadHeader + "1,1,1,1,Gold,\n2,1,1,1,\"Go",
			change: func(o *profilestore.LoadOptions) { o.MaxBadRows = 0.9 },
			want:   "bi.csv: nothing was loaded\n" + `  line 3: column "plan": the file ends inside quotes: it is cut off, or a quote is not closed`,
		},
		{name: "empty", file: "", want: "bi.csv: nothing was loaded\n  the file is empty: the first line has the names of the columns"},
		{
			name: "header only", file: loadHeader,
			want: "bi.csv: nothing was loaded\n  there are no rows below the header: every field of source bi would be unknown for everybody; if that is meant, allow an empty file",
		},
		{name: "header only, allowed", file: loadHeader, change: func(o *profilestore.LoadOptions) { o.AllowEmpty = true }, want: "0 rows, 0 bad"},
		{
			name: "missing columns",
			file: "Customer,ballance,score,VIP,plan,region\n1,,,,,\n",
			want: "bi.csv: the header does not fit source bi; nothing was loaded\n" +
				`  line 1: column "customer": is missing; it holds the customer; is "Customer" meant?` + "\n" +
				`  line 1: value.balance, column "balance": is missing; is "ballance" meant?` + "\n" +
				`  line 1: tag.vip, column "vip": is missing; is "VIP" meant?` + "\n" +
				`  line 1: service.last_call, column "last_call": is missing`,
		},
		{
			name: "duplicate columns",
			file: "customer,balance,score,vip,plan,last_call,plan,vip\n1,,,,,,,\n",
			want: "bi.csv: the header does not fit source bi; nothing was loaded\n" +
				`  line 1: column "plan": is there twice, as number 5 and 7` + "\n" +
				`  line 1: column "vip": is there twice, as number 4 and 8`,
		},
		{
			name: "other separator", file: "customer;balance;score;vip;plan;last_call\n1;;;;;\n",
			change: func(o *profilestore.LoadOptions) { o.Source = "service" },
			want: "bi.csv: the header does not fit source service; nothing was loaded\n" +
				`  line 1: column "msisdn": is missing; it holds the customer; the columns are separated by ";": separate them by commas` + "\n" +
				`  line 1: usage.calls, column "calls": is missing; the columns are separated by ";": separate them by commas`,
		},
		{name: "UTF-16", file: "\xff\xfec\x00u\x00", want: "bi.csv: nothing was loaded\n" + `  the file is UTF-16, not UTF-8: save it as "CSV UTF-8"`},
		{
			name: "unknown source", file: loadHeader, change: func(o *profilestore.LoadOptions) { o.Source = "Bi" },
			want: `the schema has no source "Bi", only bi, service, unused`,
		},
		{
			name: "source without fields", file: loadHeader, change: func(o *profilestore.LoadOptions) { o.Source = "unused" },
			want: "no field of the schema is fed by source unused",
		},
		{
			name: "as-of time missing", file: loadHeader, change: func(o *profilestore.LoadOptions) { o.AsOf = 0 },
			want: "the as-of time is missing: give the time before which the batch job saw everything",
		},
		{
			name: "as-of time between cells", file: loadHeader, change: func(o *profilestore.LoadOptions) { o.AsOf += int64(time.Minute / time.Microsecond) },
			want: "the as-of time 2026-03-01T02:01:00Z is not a whole quarter of an hour: counters are kept in cells of 15m0s, so a snapshot can only begin where a cell does; use the last quarter before the batch job ran",
		},
		{
			name: "ingest cut between cells", file: loadHeader, change: func(o *profilestore.LoadOptions) { o.IngestCut = o.AsOf + 1 },
			want: "the ingest cut 2026-03-01T02:00:00.000001Z is not a whole quarter of an hour: counters are kept in cells of 15m0s, so a snapshot can only begin where a cell does; use the last quarter before the batch job ran",
		},
		{
			name: "as-of time in the future", file: loadHeader, change: func(o *profilestore.LoadOptions) { o.Now = o.AsOf - 1 },
			want: "the as-of time 2026-03-01T02:00:00Z is in the future: what happens until then would count as seen by the batch job, and be lost",
		},
		{name: "share out of range", file: loadHeader, change: func(o *profilestore.LoadOptions) { o.MaxBadRows = 1.5 }, want: "a share of 1.5 bad rows: use 0 to 1"},
		{name: "too few to retain", file: loadHeader, change: func(o *profilestore.LoadOptions) { o.Retain = 1 }, want: "1 snapshots to retain: a rollback needs at least 2"},
		{name: "no such file", file: loadHeader, change: func(o *profilestore.LoadOptions) { o.Path = filepath.Join(o.Dir, "bi.csv") }, want: "open bi.csv: no such file or directory"},
		{name: "a device", file: loadHeader, change: func(o *profilestore.LoadOptions) { o.Path = os.DevNull }, want: os.DevNull + " is not a file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "snapshots")
			var folder string
			report, err := loadFile(t, dir, test.file, func(o *profilestore.LoadOptions) {
				if test.change != nil {
					test.change(o)
				}
				if o.Path != os.DevNull {
					folder = filepath.Dir(o.Path)
				}
			})
			var got string
			if err != nil {
				got = err.Error()
				if folder != "" {
					got = strings.ReplaceAll(got, folder+string(filepath.Separator), "")
				}
				if left := strayFiles(t, dir); len(left) > 0 {
					t.Errorf("the load left behind %q", left)
				}
			} else {
				got = describeLoad(t, dir, report)
			}
			if got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}
