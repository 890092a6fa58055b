package server

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/oklog/ulid/v2"

	"rapport/profilestore"
	"rapport/profilestore/durable"
)

// token is what a placement carries for the report of its outcome: all that is needed
// to record it, so that a report counts when nothing of the decision is remembered.
// Its text is base64url of the encoding and a seal, 16 bytes of HMAC-SHA256 under a key
// of this data folder. It is not encrypted: it holds what the answer says.
type token struct {
	decision            ulid.ULID
	time                int64               // of the decision, microseconds since the Unix epoch
	expires             int64               // when its places are given back, likewise
	customer            string              // the identity by which the customer was known
	channel, touchpoint string              // of the contact
	at                  string              // the touchpoint of the placement
	items               []profilestore.Item // of all placements in the channel
	item                int                 // which of them it is
}

// outcomeTTL is how long after a decision its outcomes are taken.
const outcomeTTL = 90 * 24 * time.Hour

const (
	tokenFormat = 2
	tokenSeal   = 16 // bytes
)

// The reasons to refuse a token.
var (
	errTokenMalformed = errors.New("the token is not one of a placement: send it exactly as the answer had it")
	errTokenForged    = errors.New("the token was not made by this server, or was changed")
	errTokenExpired   = fmt.Errorf("the decision is more than %s ago: its outcomes are no longer taken", profilestore.FormatSpan(outcomeTTL))
)

// tokens makes and reads tokens. It is safe for concurrent use.
type tokens struct{ key []byte }

// openTokens reads the key from DATA/keys/outcomes.key, or makes one. With another
// key, the outcomes of earlier decisions can't be reported any more.
func (d *dataFolder) openTokens() (*tokens, error) {
	name := d.path("keys", "outcomes.key")
	key, err := durable.ReadSealed(name)
	if errors.Is(err, os.ErrNotExist) {
		key = make([]byte, sha256.Size)
		if _, err := rand.Read(key); err != nil {
			return nil, err
		}
		err = durable.WriteSealed(name, key)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("data folder: key of outcome tokens: %w", err)
	case len(key) != sha256.Size:
		return nil, fmt.Errorf("data folder: %s has %d bytes, not %d: put it back, or remove it: then outcomes of earlier decisions can't be reported", name, len(key), sha256.Size)
	}
	return &tokens{key}, nil
}

// seal returns the text of a token.
func (k *tokens) seal(t *token) string {
	b := make([]byte, 0, 128)
	b = append(b, tokenFormat)
	b = append(b, t.decision[:]...)
	b = binary.AppendVarint(b, t.time)
	b = binary.AppendVarint(b, t.expires)
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	text(t.customer)
	text(t.channel)
	text(t.touchpoint)
	text(t.at)
	b = binary.AppendUvarint(b, uint64(t.item))
	b = binary.AppendUvarint(b, uint64(len(t.items)))
	for _, x := range t.items {
		text(x.Offer)
		text(x.Group)
		text(x.Class)
	}
	return base64.RawURLEncoding.EncodeToString(append(b, k.sum(b)...))
}

func (k *tokens) sum(b []byte) []byte {
	mac := hmac.New(sha256.New, k.key)
	_, _ = mac.Write(b) // it never fails
	return mac.Sum(nil)[:tokenSeal]
}

// open reads a token at a time, microseconds since the Unix epoch.
func (k *tokens) open(text string, now int64) (*token, error) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) < tokenSeal+1+len(ulid.ULID{}) || b[0] != tokenFormat {
		return nil, errTokenMalformed
	}
	b, seal := b[:len(b)-tokenSeal], b[len(b)-tokenSeal:]
	if !hmac.Equal(seal, k.sum(b)) {
		return nil, errTokenForged
	}
	// What is sealed was written by seal; nothing in it can be wrong.
	t := &token{}
	r := tokenReader{b[1:]}
	copy(t.decision[:], r.bytes(len(t.decision)))
	t.time, t.expires = r.varint(), r.varint()
	t.customer, t.channel, t.touchpoint, t.at = r.text(), r.text(), r.text(), r.text()
	t.item = int(r.uvarint())
	t.items = make([]profilestore.Item, r.uvarint())
	for i := range t.items {
		t.items[i] = profilestore.Item{Offer: r.text(), Group: r.text(), Class: r.text()}
	}
	if now-t.time > outcomeTTL.Microseconds() {
		return nil, errTokenExpired
	}
	return t, nil
}

// tokenReader takes apart what seal wrote.
type tokenReader struct{ b []byte }

func (r *tokenReader) bytes(n int) []byte {
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *tokenReader) text() string { return string(r.bytes(int(r.uvarint()))) }

func (r *tokenReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	r.b = r.b[n:]
	return v
}

func (r *tokenReader) varint() int64 {
	v, n := binary.Varint(r.b)
	r.b = r.b[n:]
	return v
}
