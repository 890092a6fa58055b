package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// maxNesting is how deeply messages may be nested: event attributes are the only
// ones that nest at all.
const maxNesting = 64

// binaryCodec and jsonCodec are Connect's own codecs with a limit to nesting, and
// JSON without the random white space of protojson, so that equal messages have
// equal bytes.
type (
	binaryCodec struct{}
	jsonCodec   struct{ name string }
)

func asMessage(m any) (proto.Message, error) {
	if p, ok := m.(proto.Message); ok {
		return p, nil
	}
	return nil, fmt.Errorf("%T is not a protobuf message", m)
}

func (binaryCodec) Name() string   { return "proto" }
func (binaryCodec) IsBinary() bool { return true }

func (c binaryCodec) Marshal(m any) ([]byte, error) { return c.MarshalAppend(nil, m) }

func (binaryCodec) MarshalAppend(dst []byte, m any) ([]byte, error) {
	p, err := asMessage(m)
	if err != nil {
		return nil, err
	}
	return proto.MarshalOptions{}.MarshalAppend(dst, p)
}

func (binaryCodec) MarshalStable(m any) ([]byte, error) {
	p, err := asMessage(m)
	if err != nil {
		return nil, err
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(p)
}

func (binaryCodec) Unmarshal(b []byte, m any) error {
	p, err := asMessage(m)
	if err != nil {
		return err
	}
	return proto.UnmarshalOptions{RecursionLimit: maxNesting}.Unmarshal(b, p)
}

func (c jsonCodec) Name() string { return c.name }
func (jsonCodec) IsBinary() bool { return false }

func (jsonCodec) Marshal(m any) ([]byte, error) {
	p, err := asMessage(m)
	if err != nil {
		return nil, err
	}
	b, err := protojson.Marshal(p)
	if err != nil {
		return nil, err
	}
	out := bytes.NewBuffer(b[:0])
	if err := json.Compact(out, b); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func (c jsonCodec) MarshalStable(m any) ([]byte, error) { return c.Marshal(m) }

func (jsonCodec) Unmarshal(b []byte, m any) error {
	p, err := asMessage(m)
	if err != nil {
		return err
	}
	if len(b) == 0 {
		return errors.New("an empty body is not a JSON object: send at least {}")
	}
	// Unknown names are refused: a misspelt field must not be silently ignored.
	return protojson.UnmarshalOptions{RecursionLimit: maxNesting}.Unmarshal(b, p)
}

// codecs returns the options that install the codecs.
func codecs() []connect.HandlerOption {
	return []connect.HandlerOption{
		connect.WithCodec(binaryCodec{}),
		connect.WithCodec(jsonCodec{name: "json"}),
		connect.WithCodec(jsonCodec{name: "json; charset=utf-8"}),
	}
}
