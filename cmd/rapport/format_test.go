package main

import (
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	rapportv1 "rapport/server/api/rapport/v1"
)

func TestFormatNumber(t *testing.T) {
	for _, test := range []struct {
		f    float64
		want string
	}{
		{29.85, "29.85"},
		{0, "0"},
		{-0.1, "-0.1"},
		{1e21, "1000000000000000000000"},
		{1e-7, "0.0000001"},
		{12345678.9, "12345678.9"},
	} {
		if got := formatNumber(test.f); got != test.want {
			t.Errorf("formatNumber(%g) = %q, want %q", test.f, got, test.want)
		}
	}
}

func TestFormatScore(t *testing.T) {
	for _, test := range []struct {
		f    float64
		want string
	}{
		{0, "0"},
		{1, "1"},
		{5.4, "5.4"},
		{0.123456789, "0.123457"},
		{123456.789, "123457"},
		{12345678.9, "12345679"},
		{-2.5, "-2.5"},
		{0.00001234, "1.234e-05"},
		{math.Inf(1), "+Inf"},
	} {
		if got := formatScore(test.f); got != test.want {
			t.Errorf("formatScore(%g) = %q, want %q", test.f, got, test.want)
		}
	}
}

func TestFormatTime(t *testing.T) {
	at := time.Date(2026, 3, 1, 8, 0, 0, 250_000_000, time.FixedZone("", 8*3600))
	if got, want := formatTime(timestamppb.New(at)), "2026-03-01T00:00:00.25Z"; got != want {
		t.Errorf("formatTime = %q, want %q", got, want)
	}
	if got := formatTime(nil); got != none {
		t.Errorf("formatTime(nil) = %q, want %q", got, none)
	}
}

func TestParseTime(t *testing.T) {
	got, err := parseTime("2026-03-01T08:00:00+08:00")
	if err != nil || formatTime(got) != "2026-03-01T00:00:00Z" {
		t.Errorf("parseTime = %v, %v", formatTime(got), err)
	}
	for _, text := range []string{"", "2026-03-01", "2026-03-01T08:00:00", "yesterday"} {
		if _, err := parseTime(text); err == nil || !strings.Contains(err.Error(), "2026-03-01T00:00:00Z") {
			t.Errorf("parseTime(%q): the error %v does not show how to write it", text, err)
		}
	}
}

func TestFormatEnum(t *testing.T) {
	for _, test := range []struct {
		enum protoreflect.Enum
		want string
	}{
		{rapportv1.Reason_REASON_NOT_ELIGIBLE, "not eligible"},
		{rapportv1.ValueOrigin_VALUE_ORIGIN_BATCH_AND_EVENTS, "batch and events"},
		{rapportv1.DegradationKind_DEGRADATION_KIND_NO_TIME_TO_RANK, "no time to rank"},
		{rapportv1.Reason(99), "99"}, // of a newer server
	} {
		if got := formatEnum(test.enum); got != test.want {
			t.Errorf("formatEnum(%v) = %q, want %q", test.enum, got, test.want)
		}
	}
}

func TestFormatBytes(t *testing.T) {
	for _, test := range []struct {
		n    int64
		want string
	}{
		{0, "0 B"},
		{999, "999 B"},
		{1000, "1.0 kB"},
		{9949, "9.9 kB"},
		{9950, "10 kB"},
		{999_499, "999 kB"},
		{999_500, "1.0 MB"},
		{1_800_000, "1.8 MB"},
		{math.MaxInt64, "9.2 EB"},
	} {
		if got := formatBytes(test.n); got != test.want {
			t.Errorf("formatBytes(%d) = %q, want %q", test.n, got, test.want)
		}
	}
}

func TestPlural(t *testing.T) {
	for _, test := range []struct {
		n    int
		noun string
		want string
	}{
		{0, "event", "0 events"},
		{1, "event", "1 event"},
		{2, "event", "2 events"},
		{2, "history", "2 histories"},
	} {
		if got := plural(test.n, test.noun); got != test.want {
			t.Errorf("plural(%d, %q) = %q, want %q", test.n, test.noun, got, test.want)
		}
	}
}

func TestFormatValue(t *testing.T) {
	text := func(s string) *rapportv1.ProfileValue {
		return &rapportv1.ProfileValue{Value: &rapportv1.ProfileValue_Text{Text: s}}
	}
	for _, test := range []struct {
		value *rapportv1.ProfileValue
		want  string
		known bool
	}{
		{&rapportv1.ProfileValue{}, "", false},
		{&rapportv1.ProfileValue{Value: &rapportv1.ProfileValue_Number{Number: 29.85}}, "29.85", true},
		{&rapportv1.ProfileValue{Value: &rapportv1.ProfileValue_Flag{}}, "false", true},
		{&rapportv1.ProfileValue{Value: &rapportv1.ProfileValue_Time{Time: timestamppb.New(time.Unix(0, 0))}}, "1970-01-01T00:00:00Z", true},
		{text("Month-to-month"), "Month-to-month", true},
		{text(""), `""`, true},
		{text(none), `"-"`, true}, // not to be taken for nothing
		{text(" x"), `" x"`, true},
	} {
		got, known := formatValue(test.value)
		if got != test.want || known != test.known {
			t.Errorf("formatValue(%v) = %q, %v; want %q, %v", test.value, got, known, test.want, test.known)
		}
	}
}

func TestContextValue(t *testing.T) {
	for text, want := range map[string]any{
		"42":              42.0,
		"-1.5":            -1.5,
		"true":            true,
		"false":           false,
		`"42"`:            "42",
		"retention":       "retention",
		"":                "",
		"null":            "null",
		"[1]":             "[1]",
		"12 monkeys":      "12 monkeys",
		"2026-03-01T0:0Z": "2026-03-01T0:0Z",
	} {
		if got := contextValue(text).AsInterface(); got != want {
			t.Errorf("contextValue(%q) = %#v, want %#v", text, got, want)
		}
	}
}

func TestParseShare(t *testing.T) {
	for text, want := range map[string]float64{"0": 0, "0%": 0, "1%": 0.01, "0.5%": 0.005, "100%": 1} {
		if got, err := parseShare(text); err != nil || got != want {
			t.Errorf("parseShare(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "1", "0.01", "%", "101%", "-1%", "NaN%", "1 %"} {
		if got, err := parseShare(text); err == nil {
			t.Errorf("parseShare(%q) = %v, want an error", text, got)
		}
	}
}
