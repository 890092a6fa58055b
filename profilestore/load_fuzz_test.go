package profilestore_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"rapport/profilestore"
	"rapport/profilestore/memory"
)

// FuzzCSV loads arbitrary files: what comes of it is a snapshot or an error that
// says what is wrong with the file.
func FuzzCSV(f *testing.F) {
	f.Add([]byte(loadHeader + "1,29.85,0.1,yes,Gold,2026-03-01T08:00:00+08:00\n2,,,,,\n"))
	f.Add([]byte("\xef\xbb\xbfcustomer,balance,score,vip,plan,last_call\r\n1,-1e2,1,0,\"a \"\"b\"\"\nc\",2026-03-01\r\n"))
	f.Add([]byte(loadHeader + "1,1,1,1,\"x"))
	f.Add([]byte(loadHeader + "1,x,1\n1,1,1,1,1,1\n1,,,,,"))
	f.Add([]byte("\xff\xfe"))
	f.Fuzz(func(t *testing.T, file []byte) {
		dir := memoryDir(t)
		engine := memory.Generations{}
		path := filepath.Join(dir, "bi.csv")
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		report, err := profilestore.Load(t.Context(), profilestore.LoadOptions{
			Dir: dir, Schema: loadSchema(t), Engine: engine, Source: "bi", Path: path, AsOf: asOf, MaxBadRows: 0.5,
		})
		if err != nil {
			if bad := (*profilestore.LoadError)(nil); !errors.As(err, &bad) || len(bad.Problems) == 0 {
				t.Errorf("%q: %v", file, err)
			}
			return
		}
		s, err := profilestore.OpenSnapshots(dir, loadSchema(t), engine, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close() //nolint:errcheck // in memory
		if info, _, err := s.Activate(t.Context(), "bi", report.Snapshot.Generation); err != nil || info.Rows != report.Rows || info.Rows == 0 {
			t.Errorf("%q: %+v, %v", file, info, err)
		}
	})
}
