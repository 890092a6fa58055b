package decisionlog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"runtime/debug"
	"time"

	"github.com/klauspost/compress/zstd"
)

// blockBytes is the size at which a block is ended. zstd finds little more in longer
// ones, and who looks for one record unpacks a whole one.
const blockBytes = 256 << 10

// frame is a frame that is to be written.
type frame struct {
	header
	b       []byte // header and hashes, and the packed block
	waiters []*waiter
	sync    bool // the file is to be synced after it
}

// packer makes frames of decisions.
type packer struct {
	l      *Log
	w      *BlockWriter
	zip    *zstd.Encoder
	r      Record // reused
	raw    []byte
	hashes []byte
	ids    span
}

func newPacker() (*packer, error) {
	// One thread and one block at a time, with a window that a block fits in; CRC-32C of
	// our own covers the header too.
	zip, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), zstd.WithWindowSize(2*blockBytes))
	return &packer{w: NewBlockWriter(), zip: zip, ids: noSpan}, err
}

// run packs until the log is closed.
func (p *packer) run() {
	l := p.l
	defer close(l.frames)
	var tick <-chan time.Time
	if l.o.SyncEvery > 0 {
		t := time.NewTicker(l.o.SyncEvery)
		defer t.Stop()
		tick = t.C
	}
	for {
		due, stop := false, false
		select {
		case <-l.wake:
		case <-tick:
			due = true
		case <-l.stop:
			stop = true
		}
		p.pack()
		if due {
			p.end(nil, true)
			l.tell()
		}
		if stop {
			return // Close has put a waiter on the queue last
		}
	}
}

// pack takes what waits and puts it into blocks.
func (p *packer) pack() {
	l := p.l
	l.mu.Lock()
	batch := l.queue
	l.queue, l.spare, l.fresh = l.spare, nil, 0
	l.mu.Unlock()
	var done int64
	for i := range batch {
		x := &batch[i]
		if x.wait != nil {
			l.release(done)
			done = 0
			p.end(x.wait, x.wait.sync)
			continue
		}
		p.add(x)
		done += x.size
		*x = item{} // what it held need not wait for the rest
		if p.w.Size() >= blockBytes {
			l.release(done)
			done = 0
			p.end(nil, false)
		}
	}
	p.forget()
	clear(batch)
	l.mu.Lock()
	l.waiting -= done
	if cap(batch) <= maxSpareItems {
		l.spare = batch[:0]
	}
	l.mu.Unlock()
}

func (l *Log) release(bytes int64) {
	l.mu.Lock()
	l.waiting -= bytes
	l.mu.Unlock()
}

// forget lets go of the memory of the last decision.
func (p *packer) forget() {
	clear(p.r.Values[:cap(p.r.Values)])
	clear(p.r.At[:cap(p.r.At)])
	p.r = Record{Values: p.r.Values[:0], Loads: p.r.Loads[:0], At: p.r.At[:0], Evidence: p.r.Evidence}
}

// add encodes a decision. One that makes the program panic is counted and left out; the
// block is as it was, since a record enters it whole.
func (p *packer) add(x *item) {
	id := x.id()
	defer func() {
		if e := recover(); e != nil {
			p.l.fault(fmt.Errorf("decision %s can't be encoded: %v", id, e), debug.Stack(), loss{1, noSpan.plus(int64(id.Time()))})
		}
	}()
	r := x.r
	if r == nil {
		r = &p.r
		x.d.Record(r)
	}
	p.w.Add(r)
	p.hashes = binary.LittleEndian.AppendUint32(p.hashes, shortHash(r.Hash))
	p.ids = p.ids.plus(int64(id.Time()))
}

// shortHash is what a frame has of the hash of a customer.
func shortHash(hash uint64) uint32 { return uint32(hash ^ hash>>32) }

// end ends the block and sends it on. Without records nothing is written, unless there
// are losses to tell of.
func (p *packer) end(w *waiter, sync bool) {
	l := p.l
	f := &frame{sync: sync}
	if w != nil {
		f.waiters = append(f.waiters, w)
	}
	l.mu.Lock()
	f.lost, l.lost = l.lost, noLoss
	l.mu.Unlock()
	f.kind, f.records, f.ids = frameBlock, uint32(p.w.Len()), p.ids
	if f.records > 0 || !f.lost.empty() {
		p.fill(f)
	}
	p.w.Reset()
	p.hashes, p.ids = p.hashes[:0], noSpan
	for {
		select {
		case l.frames <- f:
			return
		default:
		}
		select {
		case l.frames <- f:
			return
		case <-time.After(time.Second): // a disk that is stuck should be heard of
			l.tell()
		}
	}
}

// fill makes the bytes of a frame, all but what depends on its file.
func (p *packer) fill(f *frame) {
	l := p.l
	defer func() {
		if e := recover(); e != nil {
			l.fault(fmt.Errorf("a block can't be packed: %v", e), debug.Stack(), loss{uint64(f.records), f.ids})
			f.records, f.ids, f.b = 0, noSpan, nil
		}
	}()
	select {
	case f.b = <-l.spares:
	default:
	}
	p.raw = p.w.AppendTo(p.raw[:0])
	if len(p.raw) > maxRaw {
		panic(fmt.Sprintf("it has %d bytes", len(p.raw)))
	}
	var empty [headerBytes]byte
	f.b = append(append(f.b[:0], empty[:]...), p.hashes...)
	head := len(f.b)
	f.b = p.zip.EncodeAll(p.raw, f.b)
	f.raw, f.packed = uint32(len(p.raw)), uint32(len(f.b)-head)
	f.sum = crc32.Checksum(f.b[head:], castagnoli)
	if cap(p.raw) > 4*blockBytes {
		p.raw = nil
	}
}

// fault notes a mistake in the program by which decisions were lost.
func (l *Log) fault(err error, stack []byte, x loss) {
	l.mu.Lock()
	first := l.counts.DroppedFault == 0
	l.counts.DroppedFault += x.n
	l.lost = l.lost.with(x)
	l.failed(err)
	l.mu.Unlock()
	if first {
		l.o.Logger.Error("the decision log met a mistake in the program", "error", err, "stack", string(stack))
	}
}

// failed notes what went wrong.
func (l *Log) failed(err error) { l.counts.LastErr, l.counts.LastErrAt = err, l.o.Now() }

// tell says in the server's log that decisions are not kept: at once, then every minute
// as long as it goes on.
func (l *Log) tell() {
	l.mu.Lock()
	s := l.counts
	dropped := s.Dropped()
	now := l.o.Now()
	if since := now.Sub(l.toldAt); dropped == l.told || l.told > 0 && since >= 0 && since < time.Minute {
		l.mu.Unlock()
		return
	}
	more := dropped - l.told
	l.told, l.toldAt = dropped, now
	l.mu.Unlock()
	l.o.Logger.Error("decisions are made but not kept", "dir", l.o.Dir, "dropped", more,
		"queue_full", s.DroppedQueue, "not_written", s.DroppedWrite, "not_encoded", s.DroppedFault, "error", s.LastErr)
}
