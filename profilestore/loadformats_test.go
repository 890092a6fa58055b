package profilestore_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"

	"rapport/profilestore"
	"rapport/profilestore/memory"
)

var loadSeeds = flag.Int("loads", 3, "how many random sets of customers TestLoadAnyWay loads in every way")

// formatSchema has a field of every kind of column.
func formatSchema(t testing.TB) *profilestore.Schema {
	t.Helper()
	const none = profilestore.NoDecimals
	field := func(name string, kind profilestore.Type, decimals int) profilestore.Field {
		return profilestore.Field{Name: name, Type: kind, Batch: "bi", Column: strings.SplitN(name, ".", 2)[1], Decimals: decimals}
	}
	hops := field("usage.week", profilestore.TypeCounter, 1)
	hops.Window, hops.Bucket = 7*24*time.Hour, 24*time.Hour
	schema, err := profilestore.NewSchema([]profilestore.Source{{ID: "bi"}}, []profilestore.Field{
		field("value.balance", profilestore.TypeNumber, 2), field("value.score", profilestore.TypeNumber, none),
		field("value.big", profilestore.TypeNumber, 0), field("tag.vip", profilestore.TypeFlag, none),
		field("general.plan", profilestore.TypeText, none), field("general.name", profilestore.TypeText, none),
		field("service.last_call", profilestore.TypeTime, none), field("marketing.owned", profilestore.TypeSet, none),
		hops,
	})
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// A formatRow has the text of each value as a CSV file has it, "" for none; elements of
// lists with semicolons between.
type formatRow map[string]string

var formatColumns = []string{"customer", "balance", "score", "big", "vip", "plan", "name", "last_call", "owned", "week"}

// drawRows draws customers. The first has every value.
func drawRows(r *rand.Rand, n int, cases map[string]int) []formatRow {
	names := []string{"Zoë", "O'Neil, \"Jack\"", "line\nend", "\u2028", "a\\b", "tab\there", "日本", "\U0001F600"}
	var rows []formatRow
	for i, id := range r.Perm(4 * n)[:n] {
		row := formatRow{"customer": strconv.Itoa(id)}
		if r.IntN(8) == 0 {
			row["customer"] = "msisdn:" + strconv.Itoa(8613800000000+id)
		}
		put := func(column, value string) {
			if i == 0 || r.IntN(4) > 0 {
				row[column] = value
				cases[column]++
			}
		}
		cents := r.Int64N(20_000) - 10_000
		if r.IntN(16) == 0 {
			cents = r.Int64N(1<<49) - 1<<48
			cases["wide balance"]++
		}
		put("balance", decimalText(cents, 2))
		put("score", strconv.FormatFloat(r.NormFloat64(), 'f', -1, 64))
		put("big", strconv.FormatInt(1<<53-r.Int64N(9), 10))
		put("vip", strconv.FormatBool(r.IntN(2) == 0))
		put("plan", []string{"Gold", "Silver", "Bronze"}[r.IntN(3)])
		put("name", fmt.Sprintf("%s %d", names[r.IntN(len(names))], id))
		put("last_call", time.UnixMicro(r.Int64N(1<<51)).UTC().Format(time.RFC3339Nano))
		var owned, week []string
		for range 1 + r.IntN(3) {
			owned = append(owned, []string{"mail", "data 10", "télé", "sms"}[r.IntN(4)])
		}
		for range 1 + r.IntN(7) {
			week = append(week, decimalText(r.Int64N(1000), 1))
		}
		put("owned", strings.Join(owned, ";"))
		put("week", strings.Join(week, ";"))
		rows = append(rows, row)
	}
	return rows
}

func decimalText(n int64, decimals int) string {
	return new(big.Rat).SetFrac64(n, int64([]int{1, 10, 100}[decimals])).FloatString(decimals)
}

func writeCSV(r *rand.Rand, rows []formatRow) []byte {
	columns := slices.Clone(formatColumns)
	r.Shuffle(len(columns), func(i, j int) { columns[i], columns[j] = columns[j], columns[i] })
	var b bytes.Buffer
	b.WriteString(strings.Join(columns, ",") + "\n")
	for _, row := range rows {
		for i, c := range columns {
			if i > 0 {
				b.WriteByte(',')
			}
			value := row[c]
			if strings.ContainsAny(value, ",\"\n\r") || r.IntN(8) == 0 {
				value = `"` + strings.ReplaceAll(value, `"`, `""`) + `"`
			}
			b.WriteString(value)
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// typedJSON returns the JSON of a value as a program would write it.
func typedJSON(r *rand.Rand, column, value string) []byte {
	marshal := func(v any) []byte {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(r.IntN(2) == 0)
		if err := e.Encode(v); err != nil {
			panic(err)
		}
		return bytes.TrimSpace(b.Bytes())
	}
	elements := strings.Split(value, ";")
	switch column {
	case "balance", "score", "big", "vip":
		return []byte(value)
	case "customer":
		if _, err := strconv.Atoi(value); err == nil && r.IntN(2) == 0 {
			return []byte(value)
		}
	case "owned":
		if r.IntN(4) > 0 {
			return marshal(elements)
		}
	case "week":
		if r.IntN(4) > 0 {
			return []byte("[" + strings.Join(elements, ", ") + "]")
		}
	}
	return marshal(value)
}

func writeNDJSON(r *rand.Rand, rows []formatRow) []byte {
	var b bytes.Buffer
	for i, row := range rows {
		var members []string
		for _, c := range formatColumns {
			switch value, ok := row[c]; {
			case ok:
				members = append(members, fmt.Sprintf("%q: %s", c, typedJSON(r, c, value)))
			case i == 0 || r.IntN(2) == 0:
				members = append(members, fmt.Sprintf("%q:null", c))
			}
		}
		if r.IntN(4) == 0 {
			r.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		}
		if r.IntN(8) == 0 {
			members = append(members, `"other": {"a": [1, {"b": "]}"}], "c": null}`)
		}
		b.WriteString("{" + strings.Join(members, ",") + "}\n")
	}
	return b.Bytes()
}

// parquetColumns draws a Parquet type for each column.
func parquetColumns(r *rand.Rand, cases map[string]int) map[string]parquet.Node {
	pick := func(column string, nodes ...parquet.Node) parquet.Node {
		i := r.IntN(len(nodes))
		cases[fmt.Sprintf("parquet %s %s", column, nodes[i].String())]++
		n := nodes[i]
		if n.Leaf() && r.IntN(2) == 0 {
			n = parquet.Encoded(n, &parquet.RLEDictionary)
		}
		return parquet.Optional(n)
	}
	text := parquet.String()
	return map[string]parquet.Node{
		"customer":  pick("customer", text, parquet.Leaf(parquet.ByteArrayType)),
		"balance":   pick("balance", text, parquet.Decimal(2, 18, parquet.Int64Type), parquet.Decimal(4, 30, parquet.FixedLenByteArrayType(13)), parquet.Decimal(2, 20, parquet.ByteArrayType)),
		"score":     pick("score", text, parquet.Leaf(parquet.DoubleType)),
		"big":       pick("big", text, parquet.Int(64), parquet.Uint(64), parquet.Leaf(parquet.DoubleType), parquet.Decimal(0, 18, parquet.Int64Type)),
		"vip":       pick("vip", text, parquet.Leaf(parquet.BooleanType), parquet.Int(32)),
		"plan":      pick("plan", text, parquet.Enum()),
		"name":      pick("name", text),
		"last_call": pick("last_call", text, parquet.Timestamp(parquet.Microsecond), parquet.Timestamp(parquet.Nanosecond)),
		"owned":     pick("owned", text, parquet.List(text), parquet.List(parquet.Optional(text)), parquet.Repeated(text)),
		"week":      pick("week", text, parquet.List(parquet.Leaf(parquet.DoubleType)), parquet.List(parquet.Decimal(1, 9, parquet.Int32Type))),
	}
}

// parquetValue makes a Parquet value of a text.
func parquetValue(t testing.TB, kind parquet.Type, value string) parquet.Value {
	scaled := func(decimals int32) *big.Int {
		rat, ok := new(big.Rat).SetString(value)
		if !ok {
			t.Fatalf("%q is no number", value)
		}
		rat.Mul(rat, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(decimals)), nil)))
		return rat.Num()
	}
	if scale := decimalScale(kind); scale >= 0 {
		n, size := scaled(scale), 13
		switch kind.Kind() { //nolint:exhaustive // the kinds that the test writes
		case parquet.Int32:
			return parquet.Int32Value(int32(n.Int64()))
		case parquet.Int64:
			return parquet.Int64Value(n.Int64())
		case parquet.ByteArray:
			size = len(n.Bytes()) + 1
		}
		if n.Sign() < 0 {
			n = new(big.Int).Add(n, new(big.Int).Lsh(big.NewInt(1), uint(8*size)))
		}
		b := n.FillBytes(make([]byte, size))
		if kind.Kind() == parquet.ByteArray {
			return parquet.ByteArrayValue(b)
		}
		return parquet.FixedLenByteArrayValue(b)
	}
	switch kind.Kind() { //nolint:exhaustive // likewise
	case parquet.Boolean:
		return parquet.BooleanValue(value == "true")
	case parquet.Int32:
		return parquet.Int32Value(int32(must(strconv.Atoi(strings.NewReplacer("true", "1", "false", "0").Replace(value)))))
	case parquet.Int64:
		if when, err := time.Parse(time.RFC3339, value); err == nil {
			if strings.Contains(kind.String(), "NANOS") {
				return parquet.Int64Value(when.UnixNano())
			}
			return parquet.Int64Value(when.UnixMicro())
		}
		return parquet.Int64Value(must(strconv.ParseInt(value, 10, 64)))
	case parquet.Double:
		return parquet.DoubleValue(must(strconv.ParseFloat(value, 64)))
	}
	return parquet.ByteArrayValue([]byte(value))
}

func decimalScale(kind parquet.Type) int32 {
	if l := kind.LogicalType(); l != nil && l.Value != nil && strings.HasPrefix(l.String(), "DECIMAL") {
		var precision, scale int32
		if _, err := fmt.Sscanf(l.String(), "DECIMAL(%d,%d)", &precision, &scale); err == nil {
			return scale
		}
	}
	return -1
}

func writeParquet(t testing.TB, r *rand.Rand, rows []formatRow, cases map[string]int) []byte {
	t.Helper()
	group := parquet.Group{}
	maps.Copy(group, parquetColumns(r, cases))
	schema := parquet.NewSchema("rows", group)
	codecs := []parquet.WriterOption{
		parquet.Compression(&parquet.Uncompressed), parquet.Compression(&parquet.Snappy), parquet.Compression(&parquet.Zstd), parquet.Compression(&parquet.Gzip),
	}
	var b bytes.Buffer
	w := parquet.NewGenericWriter[any](&b, schema, codecs[r.IntN(len(codecs))],
		parquet.PageBufferSize(1<<r.IntN(14)+64), parquet.DataPageVersion(1+r.IntN(2)), parquet.MaxRowsPerRowGroup(int64(10+r.IntN(1000))))
	for _, row := range rows {
		var out parquet.Row
		for _, path := range schema.Columns() {
			leaf, _ := schema.Lookup(path...)
			value, ok := row[path[0]]
			top := leaf.MaxDefinitionLevel
			switch {
			case !ok:
				out = append(out, parquet.NullValue().Level(0, 0, leaf.ColumnIndex))
			case leaf.MaxRepetitionLevel > 0:
				for i, element := range strings.Split(value, ";") {
					out = append(out, parquetValue(t, leaf.Node.Type(), element).Level(min(i, 1), top, leaf.ColumnIndex))
				}
			default:
				out = append(out, parquetValue(t, leaf.Node.Type(), value).Level(0, top, leaf.ColumnIndex))
			}
		}
		if _, err := w.WriteRows([]parquet.Row{out}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t testing.TB, b []byte) []byte {
	var out bytes.Buffer
	half := len(b) / 2
	for _, part := range [][]byte{b[:half], b[half:]} { // two members, as cat a.gz b.gz makes
		w := gzip.NewWriter(&out)
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

func zstandard(t testing.TB, b []byte) []byte {
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// snapshotFiles returns everything of a snapshot that does not say when and from what
// it was made.
func snapshotFiles(t testing.TB, dir string, report *profilestore.LoadReport) string {
	t.Helper()
	folder := filepath.Join(dir, "bi", fmt.Sprintf("gen-%d", report.Snapshot.Generation))
	out := report.Snapshot.ContentHash
	for _, name := range []string{"rows/rows", "FIELDS.json"} {
		out += "\n" + string(must(os.ReadFile(filepath.Join(folder, name))))
	}
	return out
}

// The snapshot of the same customers is the same, to the last byte: from any format, in
// one file or several of different formats, in any order, with memory for all rows or
// for hardly any.
func TestLoadAnyWay(t *testing.T) {
	schema := formatSchema(t)
	cases := map[string]int{}
	for seed := range *loadSeeds {
		r := rand.New(rand.NewPCG(uint64(seed), 7))
		rows := drawRows(r, []int{1, 40, 1500, 9000}[seed%4], cases)
		write := func(format string, rows []formatRow) (name string, content []byte) {
			switch format {
			case "csv":
				return "csv", writeCSV(r, rows)
			case "csv.gz":
				return "csv.gz", gzipped(t, writeCSV(r, rows))
			case "csv.zst":
				return "csv.zst", zstandard(t, writeCSV(r, rows))
			case "ndjson":
				return "ndjson", writeNDJSON(r, rows)
			case "ndjson.gz":
				return "json.gz", gzipped(t, writeNDJSON(r, rows))
			}
			return "parquet", writeParquet(t, r, rows, cases)
		}
		formats := []string{"csv", "csv.gz", "csv.zst", "ndjson", "ndjson.gz", "parquet"}
		load := func(what string, memoryBytes int64, parts ...string) string {
			t.Helper()
			dir := memoryDir(t)
			o := profilestore.LoadOptions{
				Dir: filepath.Join(dir, "snapshots"), Schema: schema, Engine: memory.Generations{}, Source: "bi", AsOf: asOf, Memory: memoryBytes,
			}
			from := 0
			for i, format := range parts {
				to := len(rows) * (i + 1) / len(parts)
				ending, content := write(format, rows[from:to])
				path := filepath.Join(dir, fmt.Sprintf("part-%d.%s", i, ending))
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
				o.Paths = append(o.Paths, path)
				from = to
			}
			r.Shuffle(len(o.Paths), func(i, j int) { o.Paths[i], o.Paths[j] = o.Paths[j], o.Paths[i] })
			if r.IntN(2) == 0 && len(parts) > 1 {
				o.Paths = []string{dir + "/parts"}
				cases["folder"]++
				if err := os.Mkdir(o.Paths[0], 0o700); err != nil {
					t.Fatal(err)
				}
				for _, path := range must(filepath.Glob(dir + "/part-*")) {
					if err := os.Rename(path, filepath.Join(o.Paths[0], filepath.Base(path))); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.WriteFile(o.Paths[0]+"/_SUCCESS", nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			report, err := profilestore.Load(t.Context(), o)
			if err != nil {
				t.Fatalf("seed %d, %s: %v", seed, what, err)
			}
			if report.Rows != int64(len(rows)) || report.BadRows != 0 || len(report.Files) != len(parts) {
				t.Errorf("seed %d, %s: %+v", seed, what, report)
			}
			if report.Spilled > 0 {
				cases["spilled"]++
			}
			return snapshotFiles(t, o.Dir, report)
		}
		want := load("one CSV file", 0, "csv")
		check := func(what string, memoryBytes int64, parts ...string) {
			t.Helper()
			if got := load(what, memoryBytes, parts...); got != want {
				t.Errorf("seed %d: from %s the snapshot has %d bytes, not the %d of one CSV file, or others", seed, what, len(got), len(want))
			}
		}
		for _, format := range formats {
			check(format, 0, format)
			check(format+" in 300 kB", 300_000, format)
		}
		var parts []string
		for range min(len(rows), 2+r.IntN(6)) {
			parts = append(parts, formats[r.IntN(len(formats))])
		}
		if len(parts) > 1 {
			check("several files", 0, parts...)
			check("several files in 100 kB", 100_000, parts...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		t.Logf("%5d %s", cases[name], name)
	}
	if cases["spilled"] == 0 {
		t.Error("nothing was ever spilled")
	}
}
