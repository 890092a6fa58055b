package profilestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"rapport/profilestore/batchfile"
)

// maxMerged is how many runs are merged at once, if memory allows it.
const maxMerged = 256

// merger goes over the rows of several cursors in the order of their keys. It is a
// binary heap: that a row moves through costs a few comparisons of keys, beside the
// hundreds of values of the row.
type merger struct {
	heap []*loadCursor
	// moved says that the first cursor's row has been taken.
	moved bool
}

func newMerger(cursors []*loadCursor) (*merger, error) {
	m := &merger{}
	for _, c := range cursors {
		err := c.next()
		if errors.Is(err, io.EOF) {
			continue
		}
		if err != nil {
			return nil, err
		}
		m.heap = append(m.heap, c)
		for i := len(m.heap) - 1; i > 0; {
			up := (i - 1) / 2
			if !m.heap[i].less(m.heap[up]) {
				break
			}
			m.heap[i], m.heap[up] = m.heap[up], m.heap[i]
			i = up
		}
	}
	return m, nil
}

// next returns the cursor that is at the next row, until the call after; or io.EOF.
func (m *merger) next() (*loadCursor, error) {
	if m.moved {
		if err := m.heap[0].next(); errors.Is(err, io.EOF) {
			last := len(m.heap) - 1
			m.heap[0] = m.heap[last]
			m.heap = m.heap[:last]
		} else if err != nil {
			return nil, err
		}
		m.down()
	}
	if len(m.heap) == 0 {
		return nil, io.EOF
	}
	m.moved = true
	return m.heap[0], nil
}

// down puts the first cursor where it belongs.
func (m *merger) down() {
	for i := 0; ; {
		least := 2*i + 1
		if least >= len(m.heap) {
			return
		}
		if right := least + 1; right < len(m.heap) && m.heap[right].less(m.heap[least]) {
			least = right
		}
		if !m.heap[least].less(m.heap[i]) {
			return
		}
		m.heap[i], m.heap[least] = m.heap[least], m.heap[i]
		i = least
	}
}

// merge returns what goes over all rows in the order of their keys. Runs that are too
// many to be read at once are first made fewer.
func (l *loader) merge(ctx context.Context) (*merger, error) {
	var runs []spillRun
	for _, w := range l.workers {
		runs = append(runs, w.runs...)
		w.runs = nil
	}
	most := max(4, min(maxMerged, int(l.o.Memory/8/runMemory)))
	for len(runs) > most {
		run, err := l.mergeRuns(ctx, runs[:most])
		if err != nil {
			return nil, err
		}
		runs = append(runs[most:], run)
	}
	var cursors []*loadCursor
	for _, w := range l.workers {
		cursors = append(cursors, w.rows.cursor())
	}
	for _, run := range runs {
		cursors = append(cursors, l.spill.cursor(run))
	}
	return newMerger(cursors)
}

// mergeRuns makes one run of several.
func (l *loader) mergeRuns(ctx context.Context, runs []spillRun) (spillRun, error) {
	var cursors []*loadCursor
	for _, run := range runs {
		cursors = append(cursors, l.spill.cursor(run))
	}
	m, err := newMerger(cursors)
	if err != nil {
		return spillRun{}, err
	}
	n := 0
	return l.spill.writeRows(func() (int, []byte, error) {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return 0, nil, ctx.Err()
		}
		c, err := m.next()
		if err != nil {
			return 0, nil, err
		}
		return c.owner, c.row, nil
	})
}

// customers goes over the rows of a merger and passes over all but the first of each
// customer, which it reports.
type customers struct {
	l       *loader
	m       *merger
	at      loadPlace // of the row before
	key     []byte    // likewise
	started bool
}

// next returns the cursor at the first row of the next customer, or io.EOF.
func (c *customers) next() (*loadCursor, error) {
	for {
		row, err := c.m.next()
		if err != nil {
			return nil, err
		}
		if c.started && bytes.Equal(row.key, c.key) {
			c.l.duplicate(row, c.at)
			continue
		}
		c.started = true
		c.key, c.at = append(c.key[:0], row.key...), row.at
		return row, nil
	}
}

// duplicate counts a row whose customer has one already.
func (l *loader) duplicate(row *loadCursor, first loadPlace) {
	l.bad++
	l.rows.uncount(row.packed)
	p := l.parts[row.at.part]
	where := LoadProblem{Line: first.line, Row: l.parts[first.part].format == batchfile.Parquet}
	if first.part != row.at.part {
		where.File = l.parts[first.part].path
	}
	problem := LoadProblem{
		Line: row.at.line, Row: p.format == batchfile.Parquet, Value: string(row.key),
		Message: fmt.Sprintf("is already %s: keep one row per customer", on(where)),
	}
	if len(l.parts) > 1 {
		problem.File = p.path
	}
	l.problems.add(row.at, problem)
	if l.rejects != nil {
		l.rejects.duplicate(p, problem, l.rows.object(l.columns[0].Name, row))
	}
}

// on says where a row is, as part of a sentence.
func on(p LoadProblem) string {
	what := "on line"
	if p.Row {
		what = "in row"
	}
	if p.File != "" {
		return fmt.Sprintf("%s %d of %s", what, p.Line, p.File)
	}
	return fmt.Sprintf("%s %d", what, p.Line)
}

// countDuplicates finds the rows whose customer has one already, for the report of a
// load that is refused.
func (l *loader) countDuplicates(ctx context.Context) error {
	m, err := l.merge(ctx)
	if err != nil {
		return err
	}
	return l.drain(ctx, &customers{l: l, m: m})
}

// drain goes over what is left.
func (l *loader) drain(ctx context.Context, c *customers) error {
	for n := 1; ; n++ {
		if _, err := c.next(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
	}
}
