package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

func shownSettings(t *testing.T, env map[string]string, args ...string) map[string]settingLine {
	t.Helper()
	code, out, stderr := invoke(t, env, append([]string{"config", "--json"}, args...)...)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var lines []settingLine
	if err := json.Unmarshal([]byte(out), &lines); err != nil {
		t.Fatal(err)
	}
	byName := make(map[string]settingLine, len(lines))
	for _, l := range lines {
		byName[l.Name] = l
	}
	return byName
}

func TestSettingsOrigin(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("rapport.yaml", []byte("# ours\nlisten: 127.0.0.1:1\ndeadline: 7ms\ninsecure: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"RAPPORT_DEADLINE": "8ms", "RAPPORT_INSECURE": "false", "RAPPORT_DATA": ""}
	got := shownSettings(t, env, "--insecure", "--cache-entries=-1")
	for _, want := range []settingLine{
		{"server", "http://127.0.0.1:8080", "default"},
		{"data", "", "default"},
		{"listen", "127.0.0.1:1", "file rapport.yaml:2"},
		{"deadline", "8ms", "environment RAPPORT_DEADLINE"},
		{"insecure", "true", "flag --insecure"},
		{"cache-entries", "-1", "flag --cache-entries"},
		{"drain-delay", "1s", "default"},
	} {
		if got[want.Name] != want {
			t.Errorf("got %+v, want %+v", got[want.Name], want)
		}
	}
}

func TestSettingsFile(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, content := range map[string]string{
		"empty.yaml": "", "comment.yaml": "# nothing\n", "list.yaml": "- listen\n", "twice.yaml": "data: a\ndata: b\n",
		"unknown.yaml": "lisen: x\n", "nested.yaml": "listen:\n  port: 1\n", "duration.yaml": "deadline: 5\n",
		"number.yaml": "\ncache_entries: many\n", "flag.yaml": "insecure: maybe\n", "enum.yaml": "log_level: loud\n", "broken.yaml": "data: [\n",
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"empty.yaml":    "",
		"comment.yaml":  "",
		"missing.yaml":  "missing.yaml",
		"list.yaml":     "list.yaml:1:1: write one setting a line",
		"twice.yaml":    "twice.yaml:2:1: data is given twice, first in line 1",
		"unknown.yaml":  `unknown.yaml:1:1: "lisen" is no setting: use cache_entries, data,`,
		"nested.yaml":   "nested.yaml:2:3: listen takes one value",
		"duration.yaml": `duration.yaml:1:11: deadline: "5" is not a duration`,
		"number.yaml":   `number.yaml:2:16: cache_entries: "many" is not a whole number`,
		"flag.yaml":     `flag.yaml:1:11: insecure: "maybe" is not a flag`,
		"enum.yaml":     `enum.yaml:1:12: log_level: "loud" is not one of debug, info, warn, error`,
		"broken.yaml":   "broken.yaml: line",
	} {
		t.Run(name, func(t *testing.T) {
			code, _, stderr := invoke(t, map[string]string{"RAPPORT_CONFIG": name}, "config")
			if want == "" && code == 0 {
				return
			}
			if code != 2 || !strings.Contains(stderr, want) {
				t.Errorf("exit code %d, want 2 with %q:\n%s", code, want, stderr)
			}
		})
	}
}

// A command takes the server or folder that is given most explicitly.
func TestTarget(t *testing.T) {
	flag, variable, file := origin{fromFlag, "--x"}, origin{fromEnvironment, "X"}, origin{fromFile, "f:1"}
	for _, test := range []struct {
		name              string
		target            target
		server, data, err string
	}{
		{"neither", target{}, "http://127.0.0.1:8080", "", ""},
		{"server", target{server: "http://h:1/", serverFrom: flag}, "http://h:1", "", ""},
		{"server without scheme", target{server: "h:1", serverFrom: flag}, "http://h:1", "", ""},
		{"data", target{data: "d", dataFrom: file}, "", "d", ""},
		{"both flags", target{server: "h:1", serverFrom: flag, data: "d", dataFrom: flag}, "", "", "exclude each other"},
		{"flag over environment", target{server: "h:1", serverFrom: variable, data: "d", dataFrom: flag}, "", "d", ""},
		{"environment over file", target{server: "h:1", serverFrom: file, data: "d", dataFrom: variable}, "", "d", ""},
		{"the file of a server", target{server: "h:1", serverFrom: file, data: "d", dataFrom: file}, "http://h:1", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			server, data, err := test.target.choose()
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got %v, want %q", err, test.err)
				}
				return
			}
			if err != nil || server != test.server || data != test.data {
				t.Errorf("got %q, %q, %v; want %q, %q", server, data, err, test.server, test.data)
			}
		})
	}
}
