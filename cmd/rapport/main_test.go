package main

import (
	"cmp"
	"context"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

// invoke runs a command line in this process.
func invoke(t *testing.T, env map[string]string, args ...string) (code int, out, stderr string) {
	t.Helper()
	var o, e strings.Builder
	code = run(t.Context(), args, console{in: strings.NewReader(""), out: &o, err: &e}, func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	})
	return code, o.String(), e.String()
}

// leaves returns the words of every command.
func leaves(n *kong.Node, path []string) [][]string {
	if n.Leaf() {
		return [][]string{path}
	}
	var all [][]string
	for _, child := range n.Children {
		all = append(all, leaves(child, append(slices.Clone(path), child.Name))...)
	}
	return all
}

// Every command has a help text with examples, which are command lines that the
// parser takes.
func TestHelp(t *testing.T) {
	commands := leaves(freshParser(t).Model.Node, nil)
	if len(commands) < 20 {
		t.Fatalf("only %d commands", len(commands))
	}
	for _, words := range commands {
		t.Run(strings.Join(words, " "), func(t *testing.T) {
			code, out, stderr := invoke(t, nil, append(words, "--help")...)
			if code != 0 || stderr != "" {
				t.Fatalf("exit code %d, stderr %q", code, stderr)
			}
			_, examples, found := strings.Cut(out, "Examples:\n\n")
			if !found {
				t.Fatalf("no examples:\n%s", out)
			}
			examples, _, _ = strings.Cut(examples, "\n\n")
			own := 0
			for line := range strings.Lines(examples) {
				if parseExample(t, strings.TrimSpace(line)) == words[0] {
					own++
				}
			}
			if own == 0 {
				t.Errorf("no example of the command itself:\n%s", examples)
			}
		})
	}
}

// freshParser returns a parser: one remembers which flags it has seen.
func freshParser(t *testing.T) *kong.Kong {
	t.Helper()
	var c cli
	parser, err := newParser(t.Context(), &c, console{in: strings.NewReader(""), out: &strings.Builder{}, err: &strings.Builder{}}, newSettings(noEnvironment), func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	return parser
}

// parseExample checks that a line of an example is a command line, or several that pipe
// into each other, and returns the first word of the first command.
func parseExample(t *testing.T, line string) string {
	t.Helper()
	first := ""
	for part := range strings.SplitSeq(line, " | ") {
		at := strings.Index(part, "rapport ")
		if at < 0 {
			continue // zcat, say
		}
		words := strings.Fields(part[at:])[1:]
		if _, err := freshParser(t).Parse(words); err != nil && !strings.Contains(err.Error(), "no such file") {
			t.Errorf("%s: %v", part, err)
		}
		first = cmp.Or(first, words[0])
	}
	if first == "" {
		t.Errorf("an example without rapport: %s", line)
	}
	return first
}

func TestUsage(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		code int
		want string // on stdout or stderr
	}{
		{"nothing", nil, 0, "Usage: rapport <command>"},
		{"no such command", []string{"decied"}, 2, `did you mean "decide"?`},
		{"no such flag", []string{"decide", "--slot", "1", "a", "b"}, 2, `did you mean "--slots"?`},
		{"a group without command", []string{"snapshot"}, 2, `Run "rapport snapshot --help" for help.`},
		{"a missing argument", []string{"snapshot", "activate", "bi"}, 2, `<generation>`},
		{"decide nobody", []string{"decide"}, 2, "give a customer and a touchpoint"},
		{"decide nowhere", []string{"decide", "c1"}, 2, "give a customer and a touchpoint"},
		{"decide twice", []string{"decide", "c1", "a", "--touchpoint", "b"}, 2, "the touchpoint is given twice"},
		{"one and many", []string{"decide", "c1", "--customers", "f", "--touchpoint", "b"}, 2, "no single customer"},
		{"count one", []string{"decide", "c1", "a", "--count-by", "general.x"}, 2, "need --customers"},
		{"time without offset", []string{"decide", "c1", "a", "--time", "2026-03-01T10:00:00"}, 2, "is not a time"},
		{"an outcome of nothing", []string{"outcome", "token"}, 2, "give a token and an outcome"},
		{"an outcome and a file", []string{"outcome", "token", "--file", "f"}, 2, "with --file FILE"},
		{"a list with counts", []string{"decide", "--list", "f", "a", "--count-by", "general.x"}, 2, "need --customers"},
		{"count one contact", []string{"decide", "--customers", "f", "--touchpoint", "a", "--one-contact"}, 2, "use --list FILE"},
		{"a load below nothing", []string{"channel", "load", "web", "--", "-1"}, 2, "a load of -1 is out of range"},
		{"server and data", []string{"decide", "c1", "a", "--server", "http://x", "--data", "d"}, 2, "exclude each other"},
		{"no URL", []string{"decide", "c1", "a", "--server", "ftp://x"}, 2, "is not the URL of a server"},
		{"no folder", []string{"serve"}, 2, "give --data DIR"},
		{"schema without folder", []string{"schema", "apply", "x.yaml"}, 2, "give --data DIR"},
		{"not a folder of ours", []string{"profile", "get", "c1", "--data", "nowhere"}, 1, "nowhere is not a data folder: begin one with `rapport schema apply --data nowhere FILE`"},
		{"other machines", []string{"serve", "--data", "nowhere", "--listen", "0.0.0.0:8080"}, 1, "insecure"},
		{"a share", []string{"load", "--data", "d", "--source", "s", "--as-of", "2026-03-01T00:00:00Z", "--max-bad-rows", "1", "f"}, 2, "is not a share of the rows"},
		{"no such file", []string{"ingest", "nowhere.ndjson"}, 1, "nowhere.ndjson"},
		{"no catalogue file", []string{"catalog", "validate", "nowhere"}, 1, "nowhere"},
		{"no customers", []string{"dev", "--customers", "0"}, 2, "--customers 0 is out of range"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			code, out, stderr := invoke(t, nil, test.args...)
			if code != test.code || !strings.Contains(out+stderr, test.want) {
				t.Errorf("exit code %d, want %d with %q:\n%s%s", code, test.code, test.want, out, stderr)
			}
		})
	}
}

// An interrupted command ends, also while it waits for input, and says so.
func TestInterrupt(t *testing.T) {
	t.Chdir(t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	in, writer := io.Pipe() // nothing ever comes
	defer func() { _ = writer.Close() }()
	var out, stderr strings.Builder
	time.AfterFunc(20*time.Millisecond, cancel)
	code := run(ctx, []string{"ingest", "-", "--server", "http://127.0.0.1:1"}, console{in: in, out: &out, err: &stderr}, noEnvironment)
	if want := "send the same file again"; code != 1 || !strings.Contains(stderr.String(), want) || !strings.HasSuffix(stderr.String(), "rapport: interrupted\n") {
		t.Errorf("exit code %d, want 1 with %q:\n%s", code, want, stderr.String())
	}
}

// Ctrl-C is how dev ends, so it is no failure, and nothing is left.
func TestInterruptDev(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, stderr strings.Builder
	code := run(ctx, []string{"dev", "--listen", "127.0.0.1:0"}, console{in: strings.NewReader(""), out: &out, err: &stderr}, noEnvironment)
	if left, err := os.ReadDir(temp); code != 0 || err != nil || len(left) > 0 {
		t.Errorf("exit code %d, left behind %v, %v:\n%s", code, left, err, stderr.String())
	}
}

func noEnvironment(string) (string, bool) { return "", false }
