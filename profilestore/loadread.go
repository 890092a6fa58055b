package profilestore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"rapport/profilestore/batchfile"
)

// maxReaders bounds the workers; finding the records keeps up with about as many.
const maxReaders = 16

// readBatch is a stretch of records on its way to a worker.
type readBatch struct {
	*batchfile.Batch
	part   *loadPart
	file   *batchfile.File
	number int64 // of all batches, from 0
}

// readWorker parses records into rows of its own, and spills them when all workers'
// together are more than there is memory for.
type readWorker struct {
	l        *loader
	rows     *loadRows
	problems loadProblems
	bad      int64
	cut      map[int]LoadProblem // by part: the last record that may be incomplete
	part     *loadPart           // that decoder is for
	decoder  *batchfile.Decoder
	found    []LoadProblem // with the present record
	rejects  []byte        // of the present batch
	held     int64         // bytes, as far as the others know
	runs     []spillRun
	err      error
}

// newWorker returns a worker. full and pool are shared by all.
func (l *loader) newWorker(full []atomic.Bool, pool *chunkPool) *readWorker {
	w := &readWorker{l: l, rows: newLoadRows(l.fields), cut: make(map[int]LoadProblem)}
	w.rows.full, w.rows.pool, w.rows.owner = full, pool, len(l.workers)+1
	return w
}

// parse takes the records of a batch apart.
func (w *readWorker) parse(b readBatch) {
	if w.part != b.part {
		w.closeDecoder()
		w.part, w.decoder = b.part, b.file.NewDecoder()
	}
	w.rejects = w.rejects[:0]
	for i := range b.Len() {
		r := w.decoder.Decode(b.Batch, i)
		w.found = w.found[:0]
		whole := true
		for _, p := range r.Problems {
			whole = whole && p.Column >= 0
			w.found = append(w.found, w.l.problem(b.part, p))
			if p.Cut {
				w.cut[b.part.index] = w.found[len(w.found)-1]
			}
		}
		var key string
		if whole {
			key = w.identity(r)
			w.rows.parse(r, w)
		}
		if len(w.found) == 0 {
			w.rows.add(loadPlace{b.part.index, r.Line}, key)
			continue
		}
		w.bad++
		for _, p := range w.found {
			w.problems.add(loadPlace{b.part.index, r.Line}, p)
		}
		if w.l.rejects != nil {
			w.rejects = appendReject(w.rejects, b.part, r.Line, w.found, w.decoder.Raw(b.Batch, i))
		}
	}
	w.l.rejects.write(b.number, w.rejects)
}

// badValue notes what is wrong with a value of the present record.
func (w *readWorker) badValue(r *batchfile.Record, column int, value []byte, message string) {
	for _, p := range r.Problems {
		if p.Column == column {
			return // the format has said something of it already
		}
	}
	w.found = append(w.found, w.l.problem(w.part, batchfile.Problem{
		Line: r.Line, Column: column, Value: string(value[:min(len(value), 100)]), Message: message,
	}))
}

// identity returns the customer of a record.
func (w *readWorker) identity(r *batchfile.Record) string {
	value := string(bytes.TrimSpace(r.Values[0]))
	if value == "" {
		w.badValue(r, 0, nil, "the customer is missing")
		return ""
	}
	key, err := ParseIdentity(value)
	if err != nil {
		w.badValue(r, 0, nil, err.Error())
	}
	return key
}

func (w *readWorker) closeDecoder() {
	if w.decoder != nil {
		w.decoder.Close()
	}
	w.decoder, w.part = nil, nil
}

// writeMemory is what a load takes beside its rows: the tables that an engine has in the
// making, batches on their way, the program itself.
const writeMemory = 192 << 20

// readLimit is how many bytes of rows may be in memory. What is left is garbage that is
// not yet collected.
func (l *loader) readLimit() int64 { return max(l.o.Memory/8, (l.o.Memory-writeMemory)/4*3) }

// run parses batches until there are no more, and then sorts what is in memory.
func (w *readWorker) run(ready <-chan readBatch, empty chan<- *batchfile.Batch, held *atomic.Int64, stop func()) {
	share := w.l.readLimit() / int64(2*min(runtime.GOMAXPROCS(0), maxReaders))
	for b := range ready {
		if w.err != nil {
			continue
		}
		w.parse(b)
		select {
		case empty <- b.Batch:
		default:
		}
		size := w.rows.bytes()
		if all := held.Add(size - w.held); all > w.l.readLimit() && w.rows.held() > share {
			var run spillRun
			w.rows.sort()
			if run, w.err = w.l.spill.write(w.rows); w.err != nil {
				stop()
				continue
			}
			w.runs = append(w.runs, run)
			w.rows.clear()
			held.Add(w.rows.bytes() - size)
			size = w.rows.bytes()
		}
		w.held = size
	}
	w.closeDecoder()
	w.rows.sort()
}

// read reads the files into rows: sorted ones in memory and sorted runs in files. This
// goroutine finds the records; as many others as there are processors take them apart,
// which is nearly all of the work.
func (l *loader) read(ctx context.Context) error {
	var running sync.WaitGroup
	var held atomic.Int64
	ready, empty := make(chan readBatch), make(chan *batchfile.Batch, 2*maxReaders)
	full, pool := make([]atomic.Bool, len(l.fields)), new(chunkPool)
	reading, stop := context.WithCancel(ctx)
	defer stop()
	send := func(b readBatch) {
		select {
		case ready <- b: // somebody waits for it
			return
		default:
		}
		if len(l.workers) < min(runtime.GOMAXPROCS(0), maxReaders) {
			w := l.newWorker(full, pool)
			l.workers = append(l.workers, w)
			running.Go(func() { w.run(ready, empty, &held, stop) })
		}
		ready <- b
	}
	files, err := l.findRecords(reading, send, empty)
	close(ready)
	running.Wait()
	for _, w := range l.workers {
		if w.err != nil {
			return w.err
		}
	}
	if err != nil {
		return err
	}
	l.rows = newLoadRows(l.fields)
	for _, w := range l.workers {
		for part, p := range w.cut {
			if p.Line == l.parts[part].last {
				p.Message += "; it is the last line: the file is cut off"
				return l.fail(p)
			}
		}
		l.bad += w.bad
		l.problems.merge(&w.problems)
		l.rows.absorb(w.rows)
	}
	if err := l.checkMet(files); err != nil {
		return err
	}
	if l.tooMany() {
		if err := l.countDuplicates(ctx); err != nil { // to say all that is wrong at once
			return err
		}
	}
	return l.checkRows()
}

// findRecords finds the records of the files and sends them in batches.
func (l *loader) findRecords(ctx context.Context, send func(readBatch), empty <-chan *batchfile.Batch) ([]*batchfile.File, error) {
	var files []*batchfile.File
	done, number := int64(0), int64(0)
	for _, p := range l.parts {
		file, err := batchfile.Open(p.path, p.format)
		if err != nil {
			return nil, l.partError(p, err)
		}
		if err := l.findIn(ctx, p, file, done, &number, send, empty); err != nil {
			return nil, l.partError(p, err)
		}
		done += p.size
		l.progress(done)
		files = append(files, file)
	}
	return files, ctx.Err()
}

// findIn is findRecords in one file, with so many bytes read before.
func (l *loader) findIn(ctx context.Context, p *loadPart, file *batchfile.File, done int64, number *int64, send func(readBatch), empty <-chan *batchfile.Batch) error {
	defer file.Close()
	if bad := file.Want(l.columns); len(bad) > 0 {
		return &batchfile.Error{Problem: bad[0]} // it is another file by now
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		var b *batchfile.Batch
		select {
		case b = <-empty:
		default:
			b = batchfile.NewBatch()
		}
		err := file.Next(b)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		p.rows += int64(b.Len())
		l.total += int64(b.Len())
		p.last = b.LastLine()
		send(readBatch{b, p, file, *number})
		*number++
		l.progress(done + file.Read())
	}
}
