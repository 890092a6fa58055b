package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"rapport/profilestore/durable"
)

// The file is a magic word with the format's version, then uvarints and texts with their
// length before them: the journal, the position, the last entry counted, how many totals
// there are, and of each, ascending, offer, channel, outcome and count; at the end the
// SHA-256 of all that.
const (
	magic  = "rapport evidence "
	format = '1'
)

// ErrFormat means that the file was written by a later version of Rapport.
var ErrFormat = errors.New("is of a format that this version of Rapport does not know: use the version that wrote it, or remove the file to have it counted anew from the journal")

var errDamaged = errors.New("is damaged")

// Open returns the counts in a file, which need not exist. One that is damaged is as none:
// then all of the journal is counted anew, which the log says. names are what the
// published catalogue has, as for Know.
func Open(file string, names Names, log *slog.Logger) (*Counter, error) {
	c := &Counter{file: file, log: log, totals: make(map[Key]uint64)}
	if c.log == nil {
		c.log = slog.Default()
	}
	b, err := os.ReadFile(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("evidence: %w", err)
	default:
		if err := c.decode(b); errors.Is(err, errDamaged) {
			c.log.Warn("the evidence for propensities is damaged: it is counted anew from the journal, and from the base of the profile store where that begins later", "file", file)
			c.journal = ""
			c.reset()
		} else if err != nil {
			return nil, fmt.Errorf("evidence: %s %w", file, err)
		}
	}
	c.Know(names)
	return c, nil
}

// Save writes the counts into the file, durably, if the position has moved since.
func (c *Counter) Save() error {
	c.saving.Lock()
	defer c.saving.Unlock()
	c.mu.Lock()
	if c.position == c.saved {
		c.mu.Unlock()
		return nil
	}
	position, b := c.position, c.encode()
	c.mu.Unlock()
	err := durable.WriteFile(c.file, b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.failures++
		return fmt.Errorf("evidence: %w", err)
	}
	c.saved = position
	return nil
}

func (c *Counter) encode() []byte {
	b := append([]byte(magic), format)
	text := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	text(c.journal)
	all := c.all()
	for _, n := range [...]uint64{c.position, c.last, uint64(len(all))} {
		b = binary.AppendUvarint(b, n)
	}
	for _, x := range all {
		text(x.Offer)
		text(x.Channel)
		text(x.Outcome)
		b = binary.AppendUvarint(b, x.N)
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func (c *Counter) decode(b []byte) error {
	if !bytes.HasPrefix(b, []byte(magic)) || len(b) < len(magic)+1+sha256.Size {
		return errDamaged
	}
	if b[len(magic)] != format {
		return ErrFormat
	}
	b, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if got := sha256.Sum256(b); !bytes.Equal(got[:], sum) {
		return errDamaged
	}
	r := reader{b: b[len(magic)+1:]}
	c.journal = r.text()
	c.position, c.last = r.uvarint(), r.uvarint()
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		k := Key{r.text(), r.text(), r.text()}
		c.totals[k] = r.uvarint()
	}
	if r.bad || len(r.b) > 0 {
		return errDamaged
	}
	c.saved = c.position
	return nil
}

// reader reads what encode wrote; bad says that something was not there.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uvarint() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) text() string {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}
