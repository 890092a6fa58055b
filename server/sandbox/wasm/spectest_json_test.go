package wasm_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// A script of the specification's tests, as wast2json wrote it: modules, and what
// is said about them and their functions. The format is described at
// https://github.com/WebAssembly/wabt/blob/main/docs/wast2json.md

type specScript struct {
	Source   string        `json:"source_filename"`
	Commands []specCommand `json:"commands"`
}

// specCommand is one line of a script. Which fields are set depends on the type.
type specCommand struct {
	Type       string      `json:"type"`
	Line       int         `json:"line"`
	Name       string      `json:"name"`        // of a module, by which commands of this script find it
	As         string      `json:"as"`          // of a register, by which modules import from it
	Filename   string      `json:"filename"`    // of a module
	ModuleType string      `json:"module_type"` // "text", or "binary", which may be left out
	Text       string      `json:"text"`        // what the specification calls the error
	Action     specAction  `json:"action"`
	Expected   []specValue `json:"expected"`
}

// specAction calls an exported function or reads an exported global.
type specAction struct {
	Type   string      `json:"type"` // "invoke" or "get"
	Module string      `json:"module"`
	Field  string      `json:"field"`
	Args   []specValue `json:"args"`
}

// specValue is an argument or an expected result: one value, or the lanes of a
// vector. No lanes are any value of the type, and null of the type refnull.
type specValue struct {
	Type     string    `json:"type"`
	LaneType string    `json:"lane_type"`
	Lanes    specLanes `json:"value"`
}

type specLanes []string

// UnmarshalJSON reads a string as the only lane.
func (l *specLanes) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		return json.Unmarshal(b, (*[]string)(l))
	}
	*l = make(specLanes, 1)
	return json.Unmarshal(b, &(*l)[0])
}

// words returns the value as wazero passes it: two words for a vector, else one.
func (v specValue) words() ([]uint64, error) {
	lane, width, err := v.shape()
	if err != nil {
		return nil, err
	}
	if v.Type != "v128" {
		if len(v.Lanes) != 1 {
			return nil, fmt.Errorf("%d lanes of %s, want 1", len(v.Lanes), v.Type)
		}
		bits, err := laneBits(lane, width, v.Lanes[0])
		return []uint64{bits}, err
	}
	if len(v.Lanes) != 128/width {
		return nil, fmt.Errorf("%d lanes of %s, want %d", len(v.Lanes), lane, 128/width)
	}
	words := make([]uint64, 2)
	for i, text := range v.Lanes {
		bits, err := laneBits(lane, width, text)
		if err != nil {
			return nil, err
		}
		words[i*width/64] |= bits << (i * width % 64)
	}
	return words, nil
}

// size returns how many words the value takes.
func (v specValue) size() int {
	if v.Type == "v128" {
		return 2
	}
	return 1
}

// matches says whether a result, of size words, is what a script expects: bit for
// bit, and one of a class where it expects a class of NaN.
func (v specValue) matches(words []uint64) (bool, error) {
	lane, width, err := v.shape()
	if err != nil {
		return false, err
	}
	if len(v.Lanes) == 0 {
		return v.Type != "refnull" || words[0] == 0, nil
	}
	if v.Type == "v128" && len(v.Lanes) != 128/width {
		return false, fmt.Errorf("%d lanes of %s, want %d", len(v.Lanes), lane, 128/width)
	}
	mask := uint64(math.MaxUint64) >> (64 - width)
	for i, text := range v.Lanes {
		got := words[i*width/64] >> (i * width % 64) & mask
		switch text {
		case "nan:canonical":
			// The sign is free.
			if got&(mask>>1) != canonicalNaN(width) {
				return false, nil
			}
		case "nan:arithmetic":
			// So is what comes after the payload's first bit.
			if quiet := canonicalNaN(width); got&quiet != quiet {
				return false, nil
			}
		default:
			want, err := laneBits(lane, width, text)
			if err != nil || got != want {
				return false, err
			}
		}
	}
	return true, nil
}

// canonicalNaN is the positive one: the exponent's bits and the payload's first.
func canonicalNaN(width int) uint64 {
	if width == 32 {
		return 0x7fc00000
	}
	return 0x7ff8000000000000
}

// shape returns the type of a lane and its bits.
func (v specValue) shape() (lane string, width int, err error) {
	lane = v.Type
	if lane == "v128" {
		lane = v.LaneType
	}
	switch lane {
	case "i8":
		return lane, 8, nil
	case "i16":
		return lane, 16, nil
	case "i32", "f32":
		return lane, 32, nil
	case "i64", "f64", "externref", "funcref", "refnull":
		return lane, 64, nil
	}
	return "", 0, fmt.Errorf("value of type %q, lanes of type %q: not one of core 2.0", v.Type, v.LaneType)
}

// laneBits reads a number, which the suite gives as the decimal of its bits, or a
// reference. wazero's null is 0, so reference n is n+1.
func laneBits(lane string, width int, text string) (uint64, error) {
	switch {
	case strings.HasSuffix(lane, "ref") && text == "null":
		return 0, nil
	case lane == "funcref":
		return 0, fmt.Errorf("function reference %q: only null can be written", text)
	case lane == "externref":
		n, err := strconv.ParseUint(text, 10, 63)
		return n + 1, err
	case strings.HasPrefix(text, "-"):
		n, err := strconv.ParseInt(text, 10, width)
		return uint64(n) & (math.MaxUint64 >> (64 - width)), err
	default:
		return strconv.ParseUint(text, 10, width)
	}
}
