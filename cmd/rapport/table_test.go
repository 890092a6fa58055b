package main

import (
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	table := newTable("FIELD", ">COUNT", "TEXT")
	table.add("general.contract", 7, "Month-to-month")
	table.add("套餐", 1234, "")
	table.add("x", none, "a\x1b[31mred\nline")
	var b strings.Builder
	if err := table.write(&b); err != nil {
		t.Fatal(err)
	}
	want := `FIELD             COUNT  TEXT
general.contract      7  Month-to-month
套餐               1234
x                     -  a\x1b[31mred\nline
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestShorten(t *testing.T) {
	for _, test := range []struct {
		text  string
		width int
		want  string
	}{
		{"short", 5, "short"},
		{"longer", 5, "long…"},
		{"套餐升级", 8, "套餐升级"},
		{"套餐升级", 6, "套餐…"}, // never half a character
		{"", 3, ""},
	} {
		if got := shorten(test.text, test.width); got != test.want {
			t.Errorf("shorten(%q, %d) = %q, want %q", test.text, test.width, got, test.want)
		}
	}
}
