package main

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
)

const (
	watchLook   = time.Second     // between two looks into the folder
	watchSettle = 2 * time.Second // without a change before a file is taken
	watchRetry  = 5 * time.Second // before the server is tried again

	doneFolder    = "done"
	refusedFolder = "refused"
)

// feed sends the files of a folder, as they come.
//
// A file is known by its name alone, and what has been done with it by where it is:
// there is no state besides. It is moved when everything in it has been acknowledged, so
// one that was being sent when the feed was killed is sent again, and ids make that
// harmless.
type feed struct {
	cmd   *ingestCmd
	app   *app
	dir   string
	seen  map[string]seenFile
	tried bool // the server could not be reached, and that was said
}

// seenFile is how a file was when it was looked at.
type seenFile struct {
	size  int64
	mod   time.Time
	since time.Time // it has been like that
}

// fedFile is what became of a file.
type fedFile struct {
	File       string  `json:"file"`
	Accepted   int64   `json:"accepted"`
	Duplicates int64   `json:"duplicates"`
	Refused    int64   `json:"refused"`
	Bad        string  `json:"bad,omitempty"` // why it could not be read to its end
	Seconds    float64 `json:"seconds"`
}

// badFileError is why a file can't be read.
type badFileError struct{ err error }

func (e *badFileError) Error() string { return e.err.Error() }
func (e *badFileError) Unwrap() error { return e.err }

// watch runs the feed until ctx ends.
func (cmd *ingestCmd) watch(ctx context.Context, a *app) error {
	f := &feed{cmd: cmd, app: a, dir: cmd.Watch, seen: make(map[string]seenFile)}
	unlock, err := f.open()
	if err != nil {
		return err
	}
	defer unlock()
	if cmd.Once {
		return a.call(ctx, func(c *clients) error { return f.once(ctx, c) })
	}
	url, data, err := a.target.choose()
	if err != nil {
		return err
	}
	err = a.call(ctx, func(c *clients) error {
		if !a.json {
			writef(a.out, "watching %s for %s\n", f.dir, cmp.Or(url, data))
		}
		for {
			pause, err := f.look(ctx, c)
			if err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause):
			}
		}
	})
	if ctx.Err() != nil { // it was told to stop, and what was under way is sent again
		return nil
	}
	return err
}

// open makes the folders and keeps a second feed out.
func (f *feed) open() (unlock func(), err error) {
	if info, err := os.Stat(f.dir); err != nil {
		return nil, fmt.Errorf("--watch: %w", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("--watch: %s is no folder", f.dir)
	}
	for _, sub := range []string{doneFolder, refusedFolder} {
		if err := os.MkdirAll(filepath.Join(f.dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("--watch: %w", err)
		}
	}
	lock, err := os.OpenFile(filepath.Join(f.dir, ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--watch: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = errors.New("another process watches it")
		}
		return nil, fmt.Errorf("--watch %s: %w", f.dir, err)
	}
	return func() { _ = lock.Close() }, nil
}

// look sends what is ready, and returns when to look again.
func (f *feed) look(ctx context.Context, c *clients) (pause time.Duration, err error) {
	names, err := f.ready(time.Now())
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		switch _, err := f.send(ctx, c, name); {
		case ctx.Err() != nil:
			return 0, nil //nolint:nilerr // what was under way is sent again
		case err != nil:
			if !f.tried {
				writef(f.app.err, "%s: %v; it waits and is tried again every %v\n", name, err, watchRetry)
			}
			f.tried = true
			return watchRetry, nil
		}
		f.tried = false
	}
	return watchLook, nil
}

// once sends the files that are there.
func (f *feed) once(ctx context.Context, c *clients) error {
	names, err := f.names()
	if err != nil {
		return err
	}
	flawed := false
	for _, name := range names {
		sent, err := f.send(ctx, c, name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		flawed = flawed || sent.Bad != "" || sent.Refused > 0
	}
	if flawed {
		return errReported
	}
	return nil
}

// names returns the files to be sent, in order.
func (f *feed) names() ([]string, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, fmt.Errorf("--watch: %w", err)
	}
	var names []string
	for _, e := range entries {
		if name := e.Name(); e.Type().IsRegular() && isFeedFile(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// isFeedFile reports whether a file of this name is one of events that is complete.
func isFeedFile(name string) bool {
	plain := strings.TrimSuffix(strings.TrimSuffix(name, ".gz"), ".zst")
	switch filepath.Ext(plain) {
	case ".ndjson", ".jsonl", ".json":
		return !strings.HasPrefix(name, ".")
	}
	return false
}

// ready returns the files that have not changed for a while, in order, up to the first
// that has: later ones wait for it.
func (f *feed) ready(now time.Time) ([]string, error) {
	names, err := f.names()
	if err != nil {
		return nil, err
	}
	seen := make(map[string]seenFile, len(names))
	var ready []string
	waiting := false
	for _, name := range names {
		info, err := os.Stat(filepath.Join(f.dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("--watch: %w", err)
		}
		x, ok := f.seen[name]
		if !ok || x.size != info.Size() || !x.mod.Equal(info.ModTime()) {
			x = seenFile{info.Size(), info.ModTime(), now}
		}
		seen[name] = x
		// One that was moved in has not changed for longer than it is here.
		settled := now.Sub(x.since) >= watchSettle || ok && now.Sub(x.mod) >= watchSettle
		if waiting = waiting || !settled; !waiting {
			ready = append(ready, name)
		}
	}
	f.seen = seen
	return ready, nil
}

// send sends a file and moves it. An error is one of the server, or of moving: the file
// stays then.
func (f *feed) send(ctx context.Context, c *clients, name string) (*fedFile, error) {
	started := time.Now()
	total := &fedFile{File: name}
	refused := &refusedLines{path: filepath.Join(f.dir, refusedFolder, "."+name+".new")}
	defer refused.drop()
	send := func(ctx context.Context, batch []eventLine) (ingested, error) { return sendEvents(ctx, c, batch) }
	err := inOrder(ctx, f.cmd.Concurrency, fileBatches(filepath.Join(f.dir, name)), send, func(b ingested) error {
		total.Accepted += b.Accepted
		total.Duplicates += b.Duplicates
		total.Refused += int64(len(b.Refused))
		return refused.write(b.Refused)
	})
	bad, isBad := errors.AsType[*badFileError](err)
	if err != nil && !isBad {
		return nil, err
	}
	plain := strings.TrimSuffix(strings.TrimSuffix(name, ".gz"), ".zst")
	if err := refused.keep(free(filepath.Join(f.dir, refusedFolder, plain))); err != nil {
		return nil, err
	}
	folder := doneFolder
	if isBad {
		total.Bad, folder = bad.Error(), refusedFolder
	}
	to := free(filepath.Join(f.dir, folder, name))
	if isBad {
		if err := writeWhole(to+".reason", []byte(total.Bad+"\n")); err != nil {
			return nil, err
		}
	}
	if err := os.Rename(filepath.Join(f.dir, name), to); err != nil {
		return nil, err
	}
	total.Seconds = time.Since(started).Seconds()
	return total, f.print(total)
}

func (f *feed) print(total *fedFile) error {
	if f.app.json {
		return f.app.printLine(total)
	}
	if total.Bad != "" {
		writef(f.app.err, "%s\n", printable(fmt.Sprintf("%s: %s: moved to %s", total.File, total.Bad, refusedFolder)))
	}
	_, err := fmt.Fprintf(f.app.out, "%s: %d accepted, %d duplicate, %d refused in %v\n", printable(total.File), total.Accepted, total.Duplicates, total.Refused,
		time.Duration(total.Seconds*float64(time.Second)).Round(time.Millisecond))
	return err
}

// refusedLines are the lines of a file that were refused, on their way to one of their
// own: a file may be of the wrong kind as a whole.
type refusedLines struct {
	path string // as long as it is written
	file *os.File
	out  *bufio.Writer
}

func (r *refusedLines) write(lines []refusal) (err error) {
	if len(lines) == 0 {
		return nil
	}
	if r.file == nil {
		if r.file, err = os.OpenFile(r.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
			return err
		}
		r.out = bufio.NewWriter(r.file)
	}
	for i := range lines {
		b, err := json.Marshal(lines[i])
		if err != nil {
			return err
		}
		if _, err := r.out.Write(append(b, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// keep gives the file its name, if there is any.
func (r *refusedLines) keep(name string) error {
	if r.file == nil {
		return nil
	}
	err := errors.Join(r.out.Flush(), r.file.Close())
	r.file = nil
	if err != nil {
		return err
	}
	return os.Rename(r.path, name)
}

// drop removes the file if it was not kept.
func (r *refusedLines) drop() {
	if r.file != nil {
		_ = r.file.Close()
		_ = os.Remove(r.path)
	}
}

// writeWhole writes a file that is there as a whole or not at all.
func writeWhole(path string, content []byte) error {
	temporary := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(temporary, content, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

// free returns a path at which there is nothing: this one, or with a number behind it.
func free(path string) string {
	for n, tried := 2, path; ; n++ {
		if _, err := os.Lstat(tried); errors.Is(err, os.ErrNotExist) {
			return tried
		}
		tried = fmt.Sprintf("%s.%d", path, n)
	}
}

// fileBatches reads a file, which may be compressed. Its errors are *badFileError.
func fileBatches(path string) iter.Seq2[[]eventLine, error] {
	return func(yield func([]eventLine, error) bool) {
		fail := func(err error) { yield(nil, &badFileError{err}) }
		file, err := os.Open(path)
		if err != nil {
			fail(err)
			return
		}
		defer func() { _ = file.Close() }()
		var in io.Reader = bufio.NewReaderSize(file, 256<<10)
		switch filepath.Ext(path) {
		case ".gz":
			in, err = gzip.NewReader(in)
		case ".zst":
			var d *zstd.Decoder
			if d, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(64<<20)); err == nil {
				defer d.Close()
				in = d
			}
		}
		if err != nil {
			fail(err)
			return
		}
		parse := func(line int64, text []byte) eventLine {
			e := parseEvent(line, text)
			e.text = strings.TrimRight(string(text), "\r\n")
			return e
		}
		for batch, err := range lineBatches(in, filepath.Base(path), ingestBatch, parse) {
			if err != nil {
				fail(err)
				return
			}
			if !yield(batch, nil) {
				return
			}
		}
	}
}
