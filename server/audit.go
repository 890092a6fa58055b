package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"rapport/profilestore/durable"
)

// maxAuditFile is when the audit log goes on in a new file, so that reading what is
// newest does not read everything.
const maxAuditFile = 4 << 20

// errAuditFailed means that a change could not be recorded, so it was not made.
var errAuditFailed = errors.New("the change can't be recorded in the audit log, so nothing was changed: see the server's log, and whether the disk is full")

// auditLog records who has changed what decisions are made from, in
// DATA/audit/000001.ndjson and so on: a line of JSON a record that begins with the
// checksum of the rest, only ever appended to, each made durable by an fsync before the change that it tells of takes
// effect. So every change has its record, whatever the machine does. The converse
// does not hold: a crash between the two leaves a record of a change that was never
// acknowledged and did not happen. If a change fails after it was recorded, another
// record says so.
//
// A crash can tear the last line, which was never acknowledged then: opening cuts
// it off. A write or fsync that fails leaves a file of which nobody knows what is
// on the disk, so it is not written to again: the next record goes into a new file.
//
// It is safe for concurrent use.
type auditLog struct {
	dir string
	log *slog.Logger

	mu   sync.Mutex
	file *os.File // nil: the next record begins a file
	seq  int      // of the newest file
	size int64    // of file
	next uint64   // the number of the next record

	// grown, if set, is called when a record is durable.
	grown func() error
}

// auditRecord is one change, or that personal data was shown.
type auditRecord struct {
	Number  uint64    `json:"number"`
	Time    time.Time `json:"time"`
	Action  string    `json:"action"`
	Subject string    `json:"subject"` // a kind, or kind/name
	Peer    string    `json:"peer"`
	Agent   string    `json:"agent,omitempty"`
	Before  string    `json:"before,omitempty"`
	After   string    `json:"after,omitempty"`
	Failure string    `json:"failure,omitempty"` // the change before it did not happen, and why
}

// openAudit opens the log in a folder, which is made if it does not exist.
func openAudit(dir string, log *slog.Logger) (*auditLog, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	a := &auditLog{dir: dir, log: log, next: 1}
	files, err := a.files()
	if err != nil || len(files) == 0 {
		return a, err
	}
	a.seq = files[len(files)-1]
	if err := a.openNewest(); err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	// The newest file may be empty: a crash can come before its first record.
	for _, seq := range slices.Backward(files) {
		records, damaged, err := a.read(seq)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("audit log: %w", err), a.close())
		}
		if damaged > 0 {
			a.log.Error("records of the audit log are damaged; the others are shown", "file", a.path(seq), "lines", damaged)
		}
		if n := len(records); n > 0 {
			a.next = records[n-1].Number + 1
			break
		}
	}
	return a, nil
}

// openNewest opens the newest file to append to it, without a line that a crash
// has torn.
func (a *auditLog) openNewest() (err error) {
	name := a.path(a.seq)
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	whole := int64(bytes.LastIndexByte(b, '\n') + 1)
	if torn := int64(len(b)) - whole; torn > 0 {
		a.log.Warn("the last line of the audit log was torn by a crash before it was acknowledged, and is cut off", "file", name, "bytes", torn)
		if err := errors.Join(f.Truncate(whole), f.Sync()); err != nil {
			return err
		}
	}
	if _, err := f.Seek(whole, 0); err != nil {
		return err
	}
	a.file, a.size = f, whole
	return nil
}

func (a *auditLog) path(seq int) string { return filepath.Join(a.dir, fmt.Sprintf("%06d.ndjson", seq)) }

// files returns the numbers of the files, ascending.
func (a *auditLog) files() ([]int, error) {
	entries, err := os.ReadDir(a.dir)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	var numbers []int
	for _, e := range entries {
		var n int
		if _, err := fmt.Sscanf(e.Name(), "%d.ndjson", &n); err == nil && e.Name() == filepath.Base(a.path(n)) {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// append writes a record and returns when it is durable. Number and time are
// filled in. The error wraps errAuditFailed.
func (a *auditLog) append(r auditRecord) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	r.Number, r.Time = a.next, time.Now().UTC().Truncate(time.Microsecond)
	a.next++ // also if it fails: who knows what is on the disk then
	line, err := json.Marshal(r)
	if err == nil {
		err = a.write(sealAudit(line))
	}
	if err != nil {
		a.log.Error("the audit log can't be written, so nothing can be changed", "error", err)
		return fmt.Errorf("%w (%w)", errAuditFailed, withoutPath(err))
	}
	if a.grown != nil {
		if err := a.grown(); err != nil {
			a.log.Error("how long the audit log is can't be noted: if its end is lost, nobody will know", "error", err)
		}
	}
	return nil
}

// auditSum is how a line begins: the CRC-32C of what follows in it.
const auditSum = `{"sum":"%08x",`

var auditTable = crc32.MakeTable(crc32.Castagnoli)

// sealAudit returns the line of a record in JSON.
func sealAudit(record []byte) []byte {
	rest := record[1:]
	line := fmt.Appendf(nil, auditSum, crc32.Checksum(rest, auditTable))
	return append(append(line, rest...), '\n')
}

// unsealAudit returns the record of a line, and false if it is damaged.
func unsealAudit(line []byte) (r auditRecord, ok bool) {
	line = bytes.TrimSuffix(line, []byte("\n"))
	head := len(fmt.Sprintf(auditSum, 0))
	if len(line) < head || !bytes.Equal(line[:head], fmt.Appendf(nil, auditSum, crc32.Checksum(line[head:], auditTable))) {
		return r, false
	}
	err := json.Unmarshal(line, &r)
	return r, err == nil
}

func (a *auditLog) write(line []byte) error {
	if a.file == nil || a.size >= maxAuditFile {
		if err := a.begin(); err != nil {
			return err
		}
	}
	_, err := a.file.Write(line)
	if err == nil {
		err = a.file.Sync()
	}
	if err != nil {
		err = errors.Join(err, a.file.Close())
		a.file = nil
		return err
	}
	a.size += int64(len(line))
	return nil
}

// begin begins a new file.
func (a *auditLog) begin() error {
	if a.file != nil {
		if err := a.file.Close(); err != nil {
			return err
		}
		a.file = nil
	}
	f, err := os.OpenFile(a.path(a.seq+1), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	a.seq++
	if err := durable.SyncDir(a.dir); err != nil {
		return errors.Join(err, f.Close())
	}
	a.file, a.size = f, 0
	return nil
}

// read returns the records of a file, oldest first, and how many lines are none.
// A last line that is torn, or being written, is neither.
func (a *auditLog) read(seq int) (records []auditRecord, damaged int, err error) {
	b, err := os.ReadFile(a.path(seq))
	if err != nil {
		return nil, 0, err
	}
	for line := range bytes.Lines(b) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			continue
		}
		if r, ok := unsealAudit(line); ok {
			records = append(records, r)
		} else {
			damaged++
		}
	}
	return records, damaged, nil
}

// list returns records, newest first, at most so many, and how many lines could
// not be read on the way. A subject without a name stands for all of its kind, an
// empty one for all.
func (a *auditLog) list(subject string, limit int) (records []auditRecord, damaged int, err error) {
	files, err := a.files()
	if err != nil {
		return nil, 0, err
	}
	for _, seq := range slices.Backward(files) {
		of, bad, err := a.read(seq)
		if err != nil {
			return nil, 0, err
		}
		damaged += bad
		for _, r := range slices.Backward(of) {
			if subject == "" || r.Subject == subject || strings.HasPrefix(r.Subject, subject+"/") {
				records = append(records, r)
			}
			if len(records) == limit {
				return records, damaged, nil
			}
		}
	}
	return records, damaged, nil
}

func (a *auditLog) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file == nil {
		return nil
	}
	err := a.file.Close()
	a.file = nil
	return err
}

// asker is who asks for a change: a request of the API.
type asker interface {
	Peer() connect.Peer
	Header() http.Header
}

// maxAgent bounds what a program may call itself.
const maxAgent = 200

// change records a change and makes it. The record is durable before do is called,
// and if do fails another one says so.
func (a *auditLog) change(by asker, action, subject, before, after string, do func() error) error {
	r := recordBy(by, action, subject)
	r.Before, r.After = before, after
	return a.changeBy(r, do)
}

// recordBy returns a record of what somebody does.
func recordBy(by asker, action, subject string) auditRecord {
	agent := by.Header().Get("User-Agent")
	return auditRecord{
		Action: action, Subject: subject,
		Peer: peerName(by.Peer().Addr), Agent: strings.ToValidUTF8(agent[:min(len(agent), maxAgent)], ""),
	}
}

// localPeer is who works on a folder that no server has open.
const localPeer = "local"

// peerName returns an address as it is recorded. No connection comes from port 0:
// that is a call within this process.
func peerName(address string) string {
	if _, port, err := net.SplitHostPort(address); err == nil && port == "0" {
		return localPeer
	}
	return address
}

// changeBy is change for who asks without the API.
func (a *auditLog) changeBy(r auditRecord, do func() error) error {
	if err := a.append(r); err != nil {
		return err
	}
	err := do()
	if err == nil {
		return nil
	}
	r.Failure, r.After = err.Error(), r.Before
	return errors.Join(err, a.append(r))
}

// setGrown sets what is called when a record is durable.
func (a *auditLog) setGrown(grown func() error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.grown = grown
}
