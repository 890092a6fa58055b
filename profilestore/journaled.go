package profilestore

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
)

// The first byte of an entry in the journal says what it is.
const (
	eventFormat       = 1
	tabledEventFormat = 3 // the same, with the set of reference table versions before it
)

var errEvent = errors.New("profilestore: event in the journal can't be read")

// encodeEvent appends the journal's form of an event to dst.
func encodeEvent(dst []byte, e *Event) ([]byte, error) {
	if e.Tables == 0 {
		dst = append(dst, eventFormat)
	} else {
		dst = binary.AppendUvarint(append(dst, tabledEventFormat), e.Tables)
	}
	dst = binary.AppendVarint(dst, e.Time)
	dst = binary.AppendVarint(dst, e.Logged)
	for _, s := range [...]string{e.ID, e.Type, e.Identity} {
		dst = binary.AppendUvarint(dst, uint64(len(s)))
		dst = append(dst, s...)
	}
	if len(e.Attributes) == 0 {
		return dst, nil
	}
	attributes, err := json.Marshal(e.Attributes)
	if err != nil {
		return nil, fmt.Errorf("event %.80q: attributes: %w", e.ID, err)
	}
	return append(dst, attributes...), nil
}

// decodeEvent reads what encodeEvent wrote. It keeps nothing of b.
func decodeEvent(b []byte) (*Event, error) {
	e, attributes, err := decodeEventHead(b)
	if err != nil {
		return nil, err
	}
	return e, decodeAttributes(e, attributes)
}

// decodeEventHead reads all but the attributes, and returns the part of b that they are.
func decodeEventHead(b []byte) (e *Event, attributes []byte, err error) {
	if len(b) == 0 {
		return nil, nil, errEvent
	}
	if b[0] != eventFormat && b[0] != tabledEventFormat {
		return nil, nil, fmt.Errorf("%w: format %d is not known to this version of Rapport", errEvent, b[0])
	}
	r := reader{b: b[1:]}
	e = &Event{}
	if b[0] == tabledEventFormat {
		e.Tables = r.uvarint()
	}
	e.Time, e.Logged = r.varint(), r.varint()
	for _, s := range [...]*string{&e.ID, &e.Type, &e.Identity} {
		*s = string(r.bytes(r.count(1)))
	}
	if r.bad {
		return nil, nil, errEvent
	}
	return e, r.b, nil
}

func decodeAttributes(e *Event, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if err := json.Unmarshal(b, &e.Attributes); err != nil {
		return fmt.Errorf("%w: attributes: %w", errEvent, err)
	}
	return nil
}
