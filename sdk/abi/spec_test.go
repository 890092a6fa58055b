package abi_test

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"rapport/sdk/abi"
)

var update = flag.Bool("update", false, "write the dumps of the worked example into ABI.md")

const (
	specification = "../ABI.md"
	cHeader       = "../c/rapport.h"
)

func u32(b []byte, at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }

// checkSpecification compares a dump with the block of that name in ABI.md.
func checkSpecification(t *testing.T, name, got string) {
	t.Helper()
	text := read(t, specification)
	begin, end := "<!-- dump "+name+" -->\n```text\n", "```\n"
	i := strings.Index(text, begin)
	if i < 0 {
		t.Fatalf("%s has no dump %s", specification, name)
	}
	i += len(begin)
	n := strings.Index(text[i:], end)
	if text[i:i+n] == got {
		return
	}
	if *update {
		if err := os.WriteFile(specification, []byte(text[:i]+got+text[i+n:]), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("%s: the dump %s is not what package abi makes; go test -update writes it:\n%s", specification, name, got)
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// member is a field of a struct in the C header.
type member struct {
	name     string
	at, size int
}

// cStruct reads the layout of a struct from the C header.
func cStruct(t *testing.T, name string) []member {
	t.Helper()
	_, text, ok := strings.Cut(read(t, cHeader), "struct "+name+" {\n")
	if !ok {
		t.Fatalf("%s has no struct %s", cHeader, name)
	}
	text, _, _ = strings.Cut(text, "};")
	var members []member
	at := 0
	for line := range strings.Lines(text) {
		kind, names, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		size := map[string]int{"rapport_u32": 4, "rapport_u64": 8, "rapport_i64": 8}[kind]
		if size == 0 {
			t.Fatalf("%s: can't read %q", cHeader, line)
		}
		for n := range strings.SplitSeq(strings.TrimSuffix(names, ";"), ",") {
			n = strings.TrimSpace(n)
			count := 1
			if array := regexp.MustCompile(`^(\w+)\[(\d+)\]$`).FindStringSubmatch(n); array != nil {
				n = array[1]
				count, _ = strconv.Atoi(array[2])
			}
			members = append(members, member{n, at, size * count})
			at += size * count
		}
	}
	return members
}

// The specification's tables and the C header say the same about both headers.
func TestSpecificationAgreesWithTheCHeader(t *testing.T) {
	row := regexp.MustCompile("(?m)^\\| (\\d+) \\| (u32|u64|i64)(?:\\[(\\d+)\\])? \\| `(\\w+)` \\|")
	tables := strings.Split(read(t, specification), "\n## ")
	for heading, name := range map[string]string{"The static block": "rapport_static", "The call frame": "rapport_frame"} {
		var got []member
		for _, section := range tables {
			if !strings.HasPrefix(section, heading) {
				continue
			}
			for _, m := range row.FindAllStringSubmatch(section, -1) {
				at, _ := strconv.Atoi(m[1])
				size := map[string]int{"u32": 4, "u64": 8, "i64": 8}[m[2]]
				if m[3] != "" {
					n, _ := strconv.Atoi(m[3])
					size *= n
				}
				got = append(got, member{m[4], at, size})
			}
		}
		if want := cStruct(t, name); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("ABI.md, %s:\n %v\n%s:\n %v", heading, got, cHeader, want)
		}
	}
}

// The C header and package abi say the same.
func TestCHeaderAgreesWithThePackage(t *testing.T) {
	defined := make(map[string]int64)
	for _, m := range regexp.MustCompile(`(?m)^#define (RAPPORT_\w+) \(?(-?\w+?)u?\)?$`).FindAllStringSubmatch(read(t, cHeader), -1) {
		v, err := strconv.ParseInt(m[2], 0, 64)
		if err != nil {
			t.Fatalf("%s: %s: %v", cHeader, m[0], err)
		}
		defined[m[1]] = v
	}
	for name, want := range map[string]int64{
		"RAPPORT_ABI": abi.Version, "RAPPORT_ALIGN": abi.Align,
		"RAPPORT_STATIC_MAGIC": abi.StaticMagic, "RAPPORT_FRAME_MAGIC": abi.FrameMagic,
		"RAPPORT_LOG_DEBUG": abi.LevelDebug, "RAPPORT_LOG_INFO": abi.LevelInfo,
		"RAPPORT_LOG_WARN": abi.LevelWarn, "RAPPORT_LOG_ERROR": abi.LevelError,
	} {
		if got, ok := defined[name]; !ok || got != want {
			t.Errorf("%s: %s is %#x, want %#x", cHeader, name, got, want)
		}
	}
	static, f := workedExample()
	s, err := abi.ParseStatic(static)
	if err != nil {
		t.Fatal(err)
	}
	checkHeader(t, "rapport_static", static, abi.StaticHeader, map[string]int{
		"magic": abi.StaticMagic, "version": 1, "header_size": abi.StaticHeader, "size": s.Size,
		"candidates": 3, "parameters": 1, "offer_columns": 2, "channel_columns": 1,
		"strings_size": len(s.Strings), "frame_at": s.FrameAt, "frame_capacity": s.FrameCapacity, "reserved": 0,
	})
	checkHeader(t, "rapport_frame", f.Bytes(), abi.FrameHeader, map[string]int{
		"magic": abi.FrameMagic, "version": 1, "header_size": abi.FrameHeader, "size": f.Size,
		"candidates": 2, "profile": 3, "columns": 2, "strings_size": f.Texts,
		"now": int(f.Now()), "seed": int(f.Seed()),
		"presence_at": f.PresenceAt, "cells_at": f.CellsAt, "strings_at": f.StringsAt, "index_at": f.IndexAt,
		"columns_at": f.ColumnsAt, "output_at": f.ScoreAt, "output_size": f.Size - f.ScoreAt,
		"score_at": f.ScoreAt, "reason_at": f.ReasonAt, "veto_at": f.VetoAt, "reserved": 0,
	})
}

func checkHeader(t *testing.T, name string, b []byte, size int, want map[string]int) {
	t.Helper()
	end := 0
	for _, m := range cStruct(t, name) {
		end = m.at + m.size
		w, ok := want[m.name]
		if !ok {
			continue
		}
		got := int(u32(b, m.at))
		if m.size == 8 && m.name != "reserved" {
			got = int(binary.LittleEndian.Uint64(b[m.at:]))
		}
		if got != w {
			t.Errorf("%s.%s at %d is %d, want %d", name, m.name, m.at, got, w)
		}
	}
	if end != size {
		t.Errorf("%s is %d bytes, the header %d", name, end, size)
	}
}
