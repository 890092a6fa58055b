package main

import (
	"strings"
	"testing"
	"time"
)

func TestWriteProgress(t *testing.T) {
	for _, test := range []struct {
		done int64
		want string
	}{
		{100, "loading bi: 10%, 5000 rows read, 500 rows/s, about 1m30s left\n"},
		{600, "loading bi: 60%, 5000 rows read, writing them, 500 rows/s, about 7s left\n"},
		{0, "loading bi: 0%, 5000 rows read, 500 rows/s, about 2h46m40s left\n"},
	} {
		var b strings.Builder
		writeProgress(&b, "loading bi", 5000, test.done, 1000, 10*time.Second, 10*time.Second)
		if b.String() != test.want {
			t.Errorf("got %q, want %q", b.String(), test.want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"512MiB": 512 << 20, "1.5GiB": 3 << 29, "2GB": 2_000_000_000, "100 MB": 100_000_000, "0KB": 0} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "512", "MiB", "-1GiB", "1e40GiB", "NaNMB", "1 kb"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}
