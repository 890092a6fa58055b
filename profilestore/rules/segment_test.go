package rules

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestSegments compares rules that name segments with the same rules with the segments
// written out: the outcomes are equal, and so are the conditions, which the two share.
func TestSegments(t *testing.T) {
	schema := propertySchema(t)
	env, err := NewEnv(schema, propertyContext)
	if err != nil {
		t.Fatal(err)
	}
	var count [4]int
	nested, twice, macros, apart := 0, 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := writer{t: t, digit: func(n int) string { return fmt.Sprint(n) }}
		var segments []Segment
		var written []string // out, by segment
		// put draws an expression in which segments stand for a field, and the same
		// with them written out.
		put := func(depth int, profileOnly bool) (named, whole string) {
			named = w.flag(depth)
			if profileOnly {
				named = strings.NewReplacer("context.f", "profile.tag.f", "context.n", "profile.value.b").Replace(named)
			}
			whole = named
			if len(segments) > 0 && strings.Contains(named, "profile.tag.g") {
				i := w.pick(len(segments))
				named = strings.ReplaceAll(named, "profile.tag.g", "segment."+segments[i].ID)
				whole = strings.ReplaceAll(whole, "profile.tag.g", "("+written[i]+")")
				if strings.Count(named, "segment.") > 1 {
					twice++
				}
				if strings.Contains(written[i], "exists") {
					macros++
				}
				if profileOnly {
					nested++
				}
			}
			return named, whole
		}
		for i := range 3 {
			named, whole := put(2, true)
			segments, written = append(segments, Segment{ID: fmt.Sprintf("s%d", i), When: named}), append(written, whole)
		}
		rule, whole := put(3, false)
		if len(whole) > MaxBytes || len(written[2]) > MaxBytes {
			t.Skip("too long")
		}
		with, mistakes := env.WithVocabulary(Vocabulary{Segments: segments})
		if len(mistakes) > 0 {
			t.Fatalf("%v: %v", segments, mistakes)
		}
		b := with.NewTable()
		one, err := b.Add(rule)
		if err != nil {
			t.Fatalf("%s with %v: %v", rule, segments, err)
		}
		two, err := b.Add(whole)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(one) != fmt.Sprint(two) {
			apart++ // as where a conversion of numbers is written twice; they agree all the same, see below
		}
		e := b.Build().NewEvaluation()
		for range 4 {
			e.Reset(drawInputs(t, schema))
			x := e.Evaluate(one)
			if y := run(wholeProgram(t, env, whole), &e.vars); x != y {
				t.Fatalf("%s with %v is %s, written out %s", rule, segments, x, y)
			}
			count[x]++
		}
	})
	t.Logf("false %d, true %d, unknown %d, failed %d; segments of segments %d, named twice %d, with macros %d, with other conditions %d",
		count[False], count[True], count[Unknown], count[Failed], nested, twice, macros, apart)
	for truth, n := range count {
		if n == 0 {
			t.Errorf("no rule was ever %s", Truth(truth))
		}
	}
	if all := count[False] + count[True] + count[Unknown] + count[Failed]; apart > 1+all/100 {
		t.Errorf("%d rules have other conditions than written out", apart)
	}
	if nested == 0 || twice == 0 || macros == 0 {
		t.Error("a case never occurred")
	}
}

// TestSegmentMistakes: what is wrong with a segment is said once, at the segment.
func TestSegmentMistakes(t *testing.T) {
	env, err := NewEnv(propertySchema(t), propertyContext)
	if err != nil {
		t.Fatal(err)
	}
	list := []Segment{
		{ID: "good", When: "profile.value.a > 1"},
		{ID: "context", When: "context.f"},
		{ID: "number", When: "profile.value.a"},
		{ID: "empty", When: " "},
		{ID: "self", When: "segment.self && profile.tag.f"},
		{ID: "ring_a", When: "profile.tag.f || segment.ring_b"},
		{ID: "ring_b", When: "segment.ring_c"},
		{ID: "ring_c", When: "!segment.ring_a"},
		{ID: "after", When: "segment.ring_a && segment.number"}, // what they have was said
		{ID: "typo", When: "segment.godo"},
		{ID: "has", When: "has(segment.good)"},
		{ID: "whole", When: "segment && true"},
		{ID: "later", When: "segment.last"},
		{ID: "last", When: "profile.tag.g"},
		{ID: "deep", When: "segment.good.x"},
	}
	with, mistakes := env.WithVocabulary(Vocabulary{Segments: list})
	var got []string
	for _, m := range mistakes {
		got = append(got, list[m.Index].ID+": "+m.Errors.Error())
	}
	want := strings.TrimSpace(`
context: column 1: there is no "context" here: a segment is counted where there is no contact, so it reads profile, now and other segments
number: column 1: a segment must be true or false: this is a number
empty: column 1: a condition is needed
self: column 1: segment self refers to itself: self → self
ring_c: column 1: segment ring_a refers to itself: ring_a → ring_b → ring_c → ring_a
typo: column 9: there is no segment.godo: did you mean segment.good?
has: column 5: a segment has no value that could be missing: write segment.good without has
whole: column 1: segment is no value by itself: name a part of it, such as segment.after
deep: column 14: segment.good is a flag: it has no part "x"`)
	if s := strings.Join(got, "\n"); s != want {
		t.Errorf("got:\n%s\nwant:\n%s", s, want)
	}
	b := with.NewTable()
	if _, err := b.Add("segment.good && segment.number && context.f"); err != nil {
		t.Errorf("a rule with a segment that has a mistake has another one: %v", err)
	}
	if _, err := b.Add("segment.nothing"); err == nil || !strings.Contains(err.Error(), "there is no segment.nothing") {
		t.Errorf("a segment that does not exist: %v", err)
	}
	if _, err := env.NewTable().Add("segment.good"); err == nil || !strings.Contains(err.Error(), "the catalogue declares no segments") {
		t.Errorf("without segments: %v", err)
	}
}

// TestSegmentsTooLarge: segments of segments can't make a condition without end.
func TestSegmentsTooLarge(t *testing.T) {
	env, err := NewEnv(propertySchema(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	list := []Segment{{ID: "s0", When: "profile.value.a > 1 && profile.tag.f"}}
	for i := range 40 {
		list = append(list, Segment{ID: fmt.Sprintf("s%d", i+1), When: fmt.Sprintf("segment.s%[1]d || profile.value.b > %[1]d || segment.s%[1]d", i)})
	}
	_, mistakes := env.WithVocabulary(Vocabulary{Segments: list})
	if len(mistakes) == 0 || !strings.Contains(mistakes[0].Errors.Error(), "more than 4096 parts") {
		t.Errorf("the mistakes are %v", mistakes)
	}
	list = list[:1]
	for i := range 100 {
		list = append(list, Segment{ID: fmt.Sprintf("s%d", i+1), When: fmt.Sprintf("!segment.s%d", i)})
	}
	_, mistakes = env.WithVocabulary(Vocabulary{Segments: list})
	if len(mistakes) == 0 || !strings.Contains(mistakes[0].Errors.Error(), "nested more than 64 deep") {
		t.Errorf("the mistakes are %v", mistakes)
	}
}
