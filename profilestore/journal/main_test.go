package journal_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"rapport/profilestore/journal"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDirEnv); dir != "" {
		os.Exit(appendUntilKilled(dir, os.Stdout))
	}
	goleak.VerifyTestMain(m)
}

// testFS writes real files. before is called ahead of each operation and can fail it; all of them are logged as
// "operation file". Unless durable, syncs do nothing: most tests are about what is asked for, not about the disk.
type testFS struct {
	durable bool
	before  func(op, path string) error

	mu  sync.Mutex
	log []string
}

type testFile struct {
	*os.File
	fs *testFS
}

func (fs *testFS) do(op, path string) error {
	fs.mu.Lock()
	fs.log = append(fs.log, op+" "+filepath.Base(path))
	fs.mu.Unlock()
	if fs.before != nil {
		return fs.before(op, path)
	}
	return nil
}

// count returns how many operations start with prefix.
func (fs *testFS) count(prefix string) (n int) {
	for _, l := range fs.ops() {
		if strings.HasPrefix(l, prefix) {
			n++
		}
	}
	return n
}

func (fs *testFS) ops() []string {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return slices.Clone(fs.log)
}

func (fs *testFS) Create(path string) (journal.File, error) {
	return fs.open("create", path, os.O_CREATE|os.O_EXCL)
}

func (fs *testFS) Open(path string) (journal.File, error) { return fs.open("open", path, 0) }

func (fs *testFS) open(op, path string, flag int) (journal.File, error) {
	if err := fs.do(op, path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|flag, 0o600)
	if err != nil {
		return nil, err
	}
	return &testFile{f, fs}, nil
}

func (fs *testFS) Remove(path string) error {
	if err := fs.do("remove", path); err != nil {
		return err
	}
	return os.Remove(path)
}

func (fs *testFS) SyncDir(dir string) error {
	if err := fs.do("syncdir", "dir"); err != nil || !fs.durable {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// errShort makes a write write half and report neither more nor an error.
var errShort = errors.New("short write without error")

func (f *testFile) WriteAt(b []byte, off int64) (int, error) {
	err := f.fs.do("write", f.Name())
	if err == nil {
		return f.File.WriteAt(b, off)
	}
	n, _ := f.File.WriteAt(b[:len(b)/2], off)
	if errors.Is(err, errShort) {
		err = nil
	}
	return n, err
}

func (f *testFile) Truncate(size int64) error {
	if err := f.fs.do("truncate", f.Name()); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *testFile) Sync() error {
	if err := f.fs.do("sync", f.Name()); err != nil || !f.fs.durable {
		return err
	}
	return f.File.Sync()
}

func (f *testFile) Close() error {
	err := f.fs.do("close", f.Name())
	return errors.Join(err, f.File.Close())
}

func mustOpen(t testing.TB, dir string, o journal.Options) *journal.Journal {
	t.Helper()
	if o.FS == nil {
		o.FS = &testFS{}
	}
	j, err := journal.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func mustClose(t testing.TB, j *journal.Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func entries(payloads ...string) []*journal.Entry {
	es := make([]*journal.Entry, len(payloads))
	for i, p := range payloads {
		es[i] = &journal.Entry{Payload: []byte(p)}
	}
	return es
}

func mustAppend(t testing.TB, j *journal.Journal, payloads ...string) uint64 {
	t.Helper()
	first, err := j.Append(context.Background(), entries(payloads...)...)
	if err != nil {
		t.Fatal(err)
	}
	return first
}

// replay returns the payloads from from on, and checks that they are numbered without a gap.
func replay(j *journal.Journal, from uint64) (payloads []string, err error) {
	want := max(from, 1)
	err = j.Replay(context.Background(), from, func(seq uint64, payload []byte) error {
		if seq != want {
			return fmt.Errorf("record %d came where %d was expected", seq, want)
		}
		want++
		payloads = append(payloads, string(payload))
		return nil
	})
	return payloads, err
}

func mustReplay(t testing.TB, j *journal.Journal, from uint64) []string {
	t.Helper()
	payloads, err := replay(j, from)
	if err != nil {
		t.Fatal(err)
	}
	return payloads
}

// wantReplay checks that the journal holds exactly want.
func wantReplay(t testing.TB, j *journal.Journal, want []string) {
	t.Helper()
	got := mustReplay(t, j, 0)
	if !slices.Equal(got, want) {
		t.Fatalf("replayed %d records %.300q, want %d: %.300q", len(got), got, len(want), want)
	}
	if next := j.Next(); next != uint64(len(want))+1 {
		t.Fatalf("Next is %d after %d records", next, len(want))
	}
}

// copyDir copies the files of a journal as a reader sees them now.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func segments(t testing.TB, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.journal"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// naive is an independent reader of one segment file, written from the table in format.go. It returns the records and
// where each group ends.
func naive(b []byte) (first uint64, payloads []string, ends []int, err error) {
	sum := func(bs ...[]byte) uint32 {
		return crc32.Checksum(slices.Concat(bs...), crc32.MakeTable(crc32.Castagnoli))
	}
	u32, u64 := binary.LittleEndian.Uint32, binary.LittleEndian.Uint64
	if len(b) < 32 || string(b[:8]) != "RAPPJRNL" || u32(b[8:]) != 1 || u32(b[12:]) != sum(b[:12], b[16:32]) {
		return 0, nil, nil, errors.New("bad segment header")
	}
	first, id, at := u64(b[16:]), b[24:32], 32
	seq := first
	for at < len(b) {
		if len(b)-at < 20 || string(b[at:at+4]) != "\xf6GRP" || u64(b[at+8:]) != seq ||
			u32(b[at+4:]) != sum(id, b[at:at+4], b[at+8:at+20]) {
			return first, payloads, ends, fmt.Errorf("bad group at %d", at)
		}
		n := u32(b[at+16:])
		at += 20
		for range n {
			if len(b)-at < 8 || len(b)-at-8 < int(u32(b[at:])) {
				return first, payloads, ends, io.ErrUnexpectedEOF
			}
			payload := b[at+8 : at+8+int(u32(b[at:]))]
			if u32(b[at+4:]) != sum(id, binary.LittleEndian.AppendUint64(nil, seq), b[at:at+4], payload) {
				return first, payloads, ends, fmt.Errorf("bad record at %d", at)
			}
			payloads = append(payloads, string(payload))
			at += 8 + len(payload)
			seq++
		}
		ends = append(ends, at)
	}
	return first, payloads, ends, nil
}

// resum makes the checksums of a damaged segment right again as far as its lengths let it be read, so that a fuzzer gets
// behind them.
func resum(b []byte) {
	table := crc32.MakeTable(crc32.Castagnoli)
	put, u32 := binary.LittleEndian.PutUint32, binary.LittleEndian.Uint32
	if len(b) < 32 {
		return
	}
	put(b[12:], crc32.Update(crc32.Checksum(b[:12], table), table, b[16:32]))
	id, at := b[24:32], 32
	for len(b)-at >= 20 {
		copy(b[at:], "\xf6GRP")
		seq, n := binary.LittleEndian.Uint64(b[at+8:]), u32(b[at+16:])
		put(b[at+4:], crc32.Checksum(slices.Concat(id, b[at:at+4], b[at+8:at+20]), table))
		for at += 20; n > 0 && len(b)-at >= 8 && uint64(len(b)-at-8) >= uint64(u32(b[at:])); n-- {
			end := at + 8 + int(u32(b[at:]))
			put(b[at+4:], crc32.Checksum(slices.Concat(id, binary.LittleEndian.AppendUint64(nil, seq), b[at:at+4], b[at+8:end]), table))
			at, seq = end, seq+1
		}
	}
}
