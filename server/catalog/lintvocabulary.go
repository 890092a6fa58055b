package catalog

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
)

// lintVocabulary looks at decision tables and labels; at segments lintLevels does.
func (l *linter) lintVocabulary() {
	used := l.tablesRead()
	for i, m := range l.message.GetDecisionTables() {
		if !used[m.GetId()] {
			l.warn(lintTableUnused, "decision_tables", i, "id", "no rule, text, segment or other table reads table.%s", m.GetId())
		}
		for _, f := range l.examiner.ExamineTable(i) {
			if f.Row < 0 {
				l.warn(lintTableGap, "decision_tables", i, "rows", "%s", f.Message)
			} else {
				l.warn(lintTableRow, "decision_tables", i, fmt.Sprintf("rows[%d]", f.Row), "%s", f.Message)
			}
		}
	}
	table := l.conditions.Build()
	found := make(map[int32]bool)
	for n := range table.Conditions() {
		for _, i := range table.Labels(n) {
			found[i] = true
		}
	}
	for i, m := range l.message.GetLabels() {
		if found[int32(i)] {
			continue
		}
		advice := ""
		if rule, err := l.conditions.Add(m.GetWhen()); err == nil && len(rule.Conditions()) > 1 {
			advice = ": && joins several conditions, so label each, or name them together as a segment with a label"
		}
		l.warn(lintLabelUnused, "labels", i, "when", "no rule has this condition%s", advice)
	}
}

var readsTable = regexp.MustCompile(`\btable\.([a-z][a-z0-9_]*)`)

// tablesRead returns the ids of the decision tables that something reads.
func (l *linter) tablesRead() map[string]bool {
	used := make(map[string]bool)
	note := func(text string) {
		for _, m := range readsTable.FindAllStringSubmatch(text, -1) {
			used[m[1]] = true
		}
	}
	table := l.conditions.Build()
	for i := range table.Conditions() {
		note(table.Condition(i))
	}
	for _, text := range slices.Collect(maps.Keys(l.texts)) {
		note(text)
	}
	return used
}

// maxSharing is with how many bundles that share an offer another one is compared.
const maxSharing = 50

// lintBundles looks for bundles that share an offer and can be on a slate together: that
// offer is then made twice.
func (l *linter) lintBundles() {
	in := make(map[string][]int) // the bundles of each offer, by their places in the message
	messages := l.message.GetOffers()
	for i, m := range messages {
		at := l.offers[m.GetId()]
		o := &l.out.Offers[at]
		for j, name := range m.GetBundle() {
			for _, other := range in[name] {
				x := l.offers[messages[other].GetId()]
				if !l.together(at, x) || slices.Contains(o.Excludes, x) || o.Exclusive >= 0 && o.Exclusive == l.out.Offers[x].Exclusive {
					continue
				}
				l.warn(lintBundles, "offers", i, fmt.Sprintf("bundle[%d]", j), "%s is in the bundle %s too, and both can be on one slate: name that one in excludes, or give both the same word in exclusive", name, messages[other].GetId())
			}
			if len(in[name]) < maxSharing {
				in[name] = append(in[name], i)
			}
		}
	}
}
