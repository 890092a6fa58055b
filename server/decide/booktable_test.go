package decide_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// sharedBook is the scenario book, which stands beside the repository.
const sharedBook = "../../../shared/SCENARIOS.md"

// tableRow is a row of the book's table.
type tableRow struct {
	scenario   string
	nearMisses []string
}

var tableID = regexp.MustCompile(`^([A-F][0-9]+)([a-c]?)(?:–([a-c]))?$`)

// readTable reads the table of the book; a row such as B6a–c is three.
func readTable(t *testing.T, text string) map[string]tableRow {
	t.Helper()
	rows := make(map[string]tableRow)
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 6 {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		m := tableID.FindStringSubmatch(cells[0])
		if m == nil {
			continue
		}
		row := tableRow{scenario: cells[1]}
		for part := range strings.SplitSeq(cells[5], ";") {
			if part = strings.TrimSpace(part); part != "" && part != "–" {
				row.nearMisses = append(row.nearMisses, part)
			}
		}
		if m[3] == "" {
			rows[m[1]+m[2]] = row
			continue
		}
		for c := m[2][0]; c <= m[3][0]; c++ {
			rows[m[1]+string(c)] = row
		}
	}
	return rows
}

// readWaiting reads the rows that wait.
func readWaiting(t *testing.T) map[string]string {
	t.Helper()
	content, err := os.ReadFile("testdata/book/waiting.txt")
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(map[string]string)
	for line := range strings.Lines(string(content)) {
		id, why, _ := strings.Cut(strings.TrimSpace(line), " ")
		if id == "" || id == "#" {
			continue
		}
		if waiting[id] = strings.TrimSpace(why); waiting[id] == "" {
			t.Errorf("waiting.txt: %s does not say what it waits for", id)
		}
	}
	return waiting
}

// TestBookIsComplete: every row of the table, with its positive case and each of its near
// misses, is in the folder or waits for something.
func TestBookIsComplete(t *testing.T) {
	content, err := os.ReadFile(sharedBook)
	if err != nil {
		if strings.Contains(os.Getenv("RAPPORT_REQUIRE"), "shared") {
			t.Fatal("RAPPORT_REQUIRE asks for the shared scenario book: ", err)
		}
		t.Skip("shared/SCENARIOS.md is not here")
	}
	table := readTable(t, string(content))
	if len(table) < 50 {
		t.Fatalf("the table has %d rows only: has its form changed?", len(table))
	}
	waiting := readWaiting(t)
	b := newBook(t)
	here := make(map[string]*bookRow)
	paths, err := filepath.Glob("testdata/book/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		row := b.readRow(t, path)
		here[row.id] = row
	}
	nearMisses, positive := 0, 0
	for _, id := range slices.Sorted(maps.Keys(table)) {
		want, row := table[id], here[id]
		switch {
		case row == nil && waiting[id] == "":
			t.Errorf("row %s, %s, is missing", id, want.scenario)
			continue
		case row != nil && waiting[id] != "":
			t.Errorf("row %s is here and in waiting.txt", id)
			continue
		case row == nil:
			continue
		case row.scenario != want.scenario:
			t.Errorf("row %s is called %q, in the book %q", id, row.scenario, want.scenario)
		}
		quoted := make(map[string]bool)
		n := 0
		for _, c := range row.cases {
			if c.positive {
				n++
			}
			if c.nearMiss != "" {
				quoted[c.nearMiss] = true
				if !slices.Contains(want.nearMisses, c.nearMiss) {
					t.Errorf("row %s: the book has no near miss %q", id, c.nearMiss)
				}
			}
		}
		if n == 0 {
			t.Errorf("row %s has no positive case", id)
		}
		positive += n
		for _, miss := range want.nearMisses {
			nearMisses++
			if !quoted[miss] {
				t.Errorf("row %s: the near miss %q is missing", id, miss)
			}
		}
	}
	for id := range here {
		if _, ok := table[id]; !ok {
			t.Errorf("row %s is not in the book", id)
		}
	}
	for id := range waiting {
		if _, ok := table[id]; !ok {
			t.Errorf("waiting.txt: row %s is not in the book", id)
		}
	}
	t.Logf("%d rows of the book: %d here with %d positive cases and %d near misses of the book, %d waiting", len(table), len(here), positive, nearMisses, len(waiting))
}
