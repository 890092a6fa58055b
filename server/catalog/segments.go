package catalog

import (
	"errors"
	"slices"
	"strings"

	"rapport/profilestore/rules"
)

// addSegments adds the segments and begins the table of rules, which know them.
func (c *compiler) addSegments() *rules.TableBuilder {
	messages := c.message.GetSegments()
	list := make([]rules.Segment, len(messages))
	seen := make(map[string]int)
	declared := make([]bool, len(messages))
	for i, m := range messages {
		list[i] = rules.Segment{ID: m.GetId(), When: m.GetWhen()}
		declared[i] = c.declare(seen, "segments", i, "id", "segment", m.GetId())
	}
	env, mistakes := c.rulesEnv().WithSegments(list)
	mistaken := make(map[int]bool, len(mistakes))
	for n, x := range mistakes {
		mistaken[x.Segment] = true
		from := c.origins["segments"][x.Segment]
		if path := from.path + ".when"; n < maxProblems && !from.doc.suppressed(path) {
			from.doc.failScalar(path, x.Errors)
		}
	}
	c.env = env
	table := env.NewTable()
	for i, m := range messages {
		if !declared[i] || mistaken[i] {
			continue
		}
		when, err := table.Add(m.GetWhen())
		if errs, ok := errors.AsType[rules.CompileErrors](err); ok {
			from := c.origins["segments"][i]
			from.doc.failScalar(from.path+".when", errs)
			continue
		}
		c.out.Segments = append(c.out.Segments, Segment{ID: m.GetId(), Description: m.GetDescription(), Owner: m.GetOwner(), Text: m.GetWhen(), When: when})
	}
	return table
}

// lostSegment reports whether mistakes may come of segments that could not be read,
// which was said.
func (c *compiler) lostSegment(mistakes rules.CompileErrors) bool {
	return c.lost["segments"] && slices.ContainsFunc(mistakes, func(m *rules.CompileError) bool {
		return strings.HasPrefix(m.Message, "there is no segment.") || strings.HasPrefix(m.Message, `there is no "segment"`)
	})
}

// Segment returns the place of a segment in Segments, or false.
func (c *Compiled) Segment(id string) (int, bool) {
	for i := range c.Segments {
		if c.Segments[i].ID == id {
			return i, true
		}
	}
	return 0, false
}
