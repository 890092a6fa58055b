package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"

	"golang.org/x/term"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// console is where a command reads and writes: results go to out, everything
// else to err.
type console struct {
	in       io.Reader
	out, err io.Writer
}

// isTerminal reports whether a person is watching w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// messageJSON returns a message as JSON in the spelling of the API, with zero
// values present, so that scripts need not guess what an absent name means.
// protojson inserts random spaces; json.Compact takes them out again.
func messageJSON(m proto.Message) ([]byte, error) {
	b, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	var compact bytes.Buffer
	err = json.Compact(&compact, b)
	return compact.Bytes(), err
}

// printMessage prints one response as indented JSON.
func (c console) printMessage(m proto.Message) error {
	b, err := messageJSON(m)
	if err != nil {
		return err
	}
	return c.printJSON(json.RawMessage(b))
}

// printJSON prints a value as indented JSON.
func (c console) printJSON(v any) error {
	encoder := json.NewEncoder(c.out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// printLine prints a value as one line of JSON.
func (c console) printLine(v any) error {
	encoder := json.NewEncoder(c.out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}
