package profilestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
)

const (
	// readBatch is the bytes of records that a worker gets at once.
	readBatch = 256 << 10
	// maxReaders bounds the workers; finding the records keeps up with about as many.
	maxReaders = 16
)

// recordBatch is a stretch of records on its way to a worker.
type recordBatch struct {
	data    []byte
	records []csvRecord // their bytes are in data
}

func (b *recordBatch) add(record csvRecord) {
	begin := len(b.data)
	b.data = append(b.data, record.bytes...)
	record.bytes = b.data[begin:]
	b.records = append(b.records, record)
}

func (b *recordBatch) room(record csvRecord) bool {
	return len(b.records) == 0 || len(b.data)+len(record.bytes) <= cap(b.data)
}

// readWorker parses records into rows of its own.
type readWorker struct {
	l        *loader
	rows     *loadRows
	splitter csvSplitter
	problems loadProblems
	bad      int64
	torn     int64 // the line of the last record that has not as many values as the header
	values   int   // that it has
}

func (w *readWorker) parse(record csvRecord) {
	values := w.splitter.split(record)
	if len(values) != len(w.l.names) {
		w.bad++
		w.torn, w.values = record.line, len(values)
		w.problems.add(LoadProblem{Line: record.line, Message: w.wrongCount()})
		return
	}
	key, problem := w.l.identity(record.line, values)
	if problem != nil {
		w.problems.add(*problem)
	}
	if good := w.rows.parse(record.line, values, &w.problems); !good || problem != nil {
		w.bad++
		return
	}
	w.rows.add(record.line, key)
}

func (w *readWorker) wrongCount() string {
	return fmt.Sprintf("has %d values, the header has %d columns: check its commas and quotes", w.values, len(w.l.names))
}

// identity returns the customer of a record.
func (l *loader) identity(line int64, values [][]byte) (string, *LoadProblem) {
	value := string(bytes.TrimSpace(values[l.key]))
	if value == "" {
		return "", &LoadProblem{Line: line, Column: l.names[l.key], Message: "the customer is missing"}
	}
	key, err := ParseIdentity(value)
	if err != nil {
		return "", &LoadProblem{Line: line, Column: l.names[l.key], Message: err.Error()}
	}
	return key, nil
}

// read reads the file into rows, sorted and without duplicates. This goroutine
// finds the records; as many others as there are processors take them apart, which
// is nearly all of the work.
func (l *loader) read(ctx context.Context, file io.Reader) error {
	c, err := newCSVReader(file)
	if errors.Is(err, errNotUTF8File) {
		return l.fail(0, "%v", err)
	}
	if err != nil {
		return err
	}
	if err := l.readHeader(c); err != nil {
		return err
	}
	var workers []*readWorker
	var running sync.WaitGroup
	ready, empty := make(chan *recordBatch), make(chan *recordBatch, 2*maxReaders)
	send := func(b *recordBatch) {
		select {
		case ready <- b: // somebody waits for it
			return
		default:
		}
		if len(workers) < min(runtime.GOMAXPROCS(0), maxReaders) {
			w := &readWorker{l: l, rows: newLoadRows(l.fields, l.places)}
			workers = append(workers, w)
			running.Go(func() {
				for b := range ready {
					for _, record := range b.records {
						w.parse(record)
					}
					b.data, b.records = b.data[:0], b.records[:0]
					select {
					case empty <- b:
					default:
					}
				}
			})
		}
		ready <- b
	}
	last, err := l.findRecords(ctx, c, send, empty)
	close(ready)
	running.Wait()
	if err != nil {
		return err
	}
	l.rows = newLoadRows(l.fields, l.places)
	var others []*loadRows
	for _, w := range workers {
		if last > 0 && w.torn == last {
			return l.fail(last, "%s; it is the last line: the file is cut off", w.wrongCount())
		}
		l.bad += w.bad
		l.problems.merge(&w.problems)
		others = append(others, w.rows)
	}
	l.rows.absorb(others)
	l.rows.sort()
	l.bad += l.rows.dropDuplicates(&l.problems)
	return l.checkRows()
}

// findRecords finds the records of the file and sends them in batches. It returns
// the line of the last.
func (l *loader) findRecords(ctx context.Context, c *csvReader, send func(*recordBatch), empty <-chan *recordBatch) (last int64, err error) {
	var b *recordBatch
	for {
		record, err := c.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if l.total++; l.total%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			l.progress(c.read)
		}
		last = record.line
		if err != nil {
			if err := l.badRecord(err); err != nil {
				return 0, err
			}
			continue
		}
		if b != nil && !b.room(record) {
			send(b)
			b = nil
		}
		if b == nil {
			select {
			case b = <-empty:
			default:
				b = &recordBatch{data: make([]byte, 0, readBatch)}
			}
		}
		b.add(record)
	}
	if b != nil {
		send(b)
	}
	l.progress(c.read)
	return last, ctx.Err()
}

// badRecord counts a record that is no CSV, or returns an error if nothing can be
// read after it.
func (l *loader) badRecord(err error) error {
	bad, ok := errors.AsType[*csvError](err)
	if !ok {
		return err
	}
	p := LoadProblem{Line: bad.line, Message: bad.message}
	if bad.column < len(l.names) {
		p.Column = l.names[bad.column]
	}
	if bad.fatal {
		return &LoadError{File: l.o.Path, Summary: "nothing was loaded", Problems: []LoadProblem{p}, Count: 1}
	}
	l.bad++
	l.problems.add(p)
	return nil
}
