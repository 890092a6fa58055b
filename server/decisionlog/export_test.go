package decisionlog

import (
	"bytes"
	"context"
	"hash/crc32"
	"path/filepath"
	"sync"
)

// AddRecord adds a record as Add does a decision.
func (l *Log) AddRecord(r *Record, size int64) { l.add(item{r: r, size: size}) }

// Write returns when what was added before can be found; nothing is synced for it.
func (l *Log) Write(ctx context.Context) error { return l.await(ctx, false) }

// Retain removes what is too old or too much, as is otherwise done now and then.
func (l *Log) Retain() { l.retain() }

// EstimateOf is how much of the queue a decision takes.
func EstimateOf(d *Decision) int64 { return sizeOf(d) }

// Scan reads a segment as Open and searches do, and returns where its frames with records
// begin and end, all records that can be read, and what is damaged.
func Scan(b []byte, path string) (frames [][2]int64, records []*Record, damage []Damage, tail int64) {
	seq, _, _ := parseSegment(filepath.Base(path))
	c, err := scan(bytes.NewReader(b), path, seq, int64(len(b)), nil)
	if err != nil {
		panic(err) // a reader of bytes does not fail
	}
	unzip, err := testUnzip()
	if err != nil {
		panic(err)
	}
	rd := reader{l: &Log{unzip: unzip}}
	for i := range c.frames {
		f := &c.frames[i]
		frames = append(frames, [2]int64{f.offset, f.offset + f.size()})
		x, err := rd.unpack(bytes.NewReader(b), f)
		if err != nil {
			damage = append(damage, Damage{path, f.offset, f.size(), err.Error()})
			continue
		}
		for k := range x.Len() {
			var r Record
			if err := x.Record(k, &r); err != nil {
				damage = append(damage, Damage{path, f.offset, f.size(), err.Error()})
				continue
			}
			records = append(records, &r)
		}
	}
	for _, x := range c.damage {
		damage = append(damage, x.Damage)
	}
	return frames, records, damage, c.tail
}

var testPacker, testUnzip = sync.OnceValues(newPacker), sync.OnceValues(newUnzip)

// FrameOf returns a frame of any block, packed, that says it has so many records.
func FrameOf(block []byte, packed bool, records, seq uint32) []byte {
	h := header{records: records, raw: uint32(len(block)), ids: noSpan.plus(5), lost: noLoss, seq: seq}
	head := headerBytes + h.hashes()
	b := append([]byte{}, make([]byte, head)...)
	if packed {
		b = append(b, block...)
	} else {
		p, err := testPacker()
		if err != nil {
			panic(err)
		}
		b = p.zip.EncodeAll(block, b)
	}
	h.packed, h.sum = uint32(len(b)-head), crc32.Checksum(b[head:], castagnoli)
	h.put(b)
	return b
}
