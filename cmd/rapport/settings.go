package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// defaultConfigFile is read if it exists and no other is named.
const defaultConfigFile = "rapport.yaml"

// rank says how strong the origin of a setting is.
type rank int

const (
	fromDefault rank = iota
	fromFile
	fromEnvironment
	fromFlag
)

// origin says where the value of a setting comes from.
type origin struct {
	rank rank
	name string // the flag, the variable, or the file with its line
}

func (o origin) String() string {
	switch o.rank {
	case fromFlag:
		return "flag " + o.name
	case fromEnvironment:
		return "environment " + o.name
	case fromFile:
		return "file " + o.name
	case fromDefault:
	}
	return "default"
}

// settings resolves the flags that carry the tag `setting`: flags over RAPPORT_*
// over the configuration file over the default. kong has its own idea of this,
// in which a file beats the environment and nothing remembers who won.
type settings struct {
	env     func(string) (string, bool)
	file    string // the file that was read, if any
	values  map[string]string
	origins map[string]origin
}

func newSettings(env func(string) (string, bool)) *settings {
	return &settings{env: env, values: make(map[string]string), origins: make(map[string]origin)}
}

// variable is the environment variable of a setting.
func variable(name string) string {
	return "RAPPORT_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// key is the name of a setting in the configuration file.
func key(name string) string { return strings.ReplaceAll(name, "-", "_") }

func isSetting(v *kong.Value) bool { return v.Tag != nil && v.Tag.Has("setting") }

// origin returns where the value of a setting comes from.
func (s *settings) origin(name string) origin { return s.origins[name] }

// Validate and Resolve make settings a kong.Resolver.
func (s *settings) Validate(*kong.Application) error { return nil }

// Resolve returns the value that read has found for a flag.
func (s *settings) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if v, ok := s.values[flag.Name]; ok && isSetting(flag.Value) {
		return v, nil
	}
	return nil, nil
}

// read finds the value of each setting of the selected command that no flag
// gives, and checks it, so that a mistake is reported where it was made.
func (s *settings) read(c *kong.Context) error {
	given := make(map[string]string)
	for _, p := range c.Path {
		if p.Flag != nil && !p.Resolved {
			given[p.Flag.Name] = fmt.Sprint(c.FlagValue(p.Flag))
			s.origins[p.Flag.Name] = origin{fromFlag, "--" + p.Flag.Name}
		}
	}
	name, must := given["config"]
	if !must {
		name, must = s.lookup("config")
		if !must {
			name = defaultConfigFile
		}
	}
	entries, err := s.readFile(name, must, allSettings(c.Model.Node))
	if err != nil {
		return err
	}
	for _, p := range c.Path {
		for _, flag := range p.Flags {
			if _, ok := given[flag.Name]; ok || !isSetting(flag.Value) {
				continue
			}
			if v, ok := s.lookup(flag.Name); ok {
				if err := checkValue(flag, v); err != nil {
					return fmt.Errorf("environment %s: %w", variable(flag.Name), err)
				}
				s.values[flag.Name], s.origins[flag.Name] = v, origin{fromEnvironment, variable(flag.Name)}
				continue
			}
			if e, ok := entries[key(flag.Name)]; ok {
				if err := checkValue(flag, e.value); err != nil {
					return fmt.Errorf("%s:%d:%d: %s: %w", name, e.line, e.column, key(flag.Name), err)
				}
				s.values[flag.Name], s.origins[flag.Name] = e.value, origin{fromFile, fmt.Sprintf("%s:%d", name, e.line)}
			}
		}
	}
	return nil
}

// lookup returns a setting from the environment. An empty variable is as good as
// none.
func (s *settings) lookup(name string) (string, bool) {
	v, ok := s.env(variable(name))
	return v, ok && v != ""
}

func allSettings(n *kong.Node) []string {
	var names []string
	for _, flag := range n.Flags {
		if isSetting(flag.Value) {
			names = append(names, key(flag.Name))
		}
	}
	for _, child := range n.Children {
		names = append(names, allSettings(child)...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// checkValue says what is wrong with the text of a value.
func checkValue(flag *kong.Flag, text string) error {
	switch flag.Target.Interface().(type) {
	case time.Duration:
		if _, err := time.ParseDuration(text); err != nil {
			return fmt.Errorf("%q is not a duration: write it as in 5ms or 1m30s", text)
		}
	case int:
		if _, err := strconv.Atoi(text); err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
	case bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("%q is not a flag: write true or false", text)
		}
	}
	if flag.Enum != "" && !flag.EnumMap()[text] {
		return fmt.Errorf("%q is not one of %s", text, strings.ReplaceAll(flag.Enum, ",", ", "))
	}
	return nil
}

// entry is a line of the configuration file.
type entry struct {
	value        string
	line, column int
}

// readFile reads a configuration file: a map from settings to values. A file
// that nobody named need not exist.
func (s *settings) readFile(name string, must bool, known []string) (map[string]entry, error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) && !must {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	s.file = name
	var doc yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(b))
	if err := decoder.Decode(&doc); err != nil {
		if len(bytes.TrimSpace(b)) == 0 || err.Error() == "EOF" {
			return nil, nil
		}
		return nil, fmt.Errorf("%s: %s", name, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		return nil, nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d:%d: write one setting a line, as in `listen: 127.0.0.1:8080`", name, root.Line, root.Column)
	}
	entries := make(map[string]entry, len(root.Content)/2)
	var errs []error
	fail := func(n *yaml.Node, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s:%d:%d: "+format, append([]any{name, n.Line, n.Column}, args...)...))
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		k, v := root.Content[i], root.Content[i+1]
		first, twice := entries[k.Value]
		switch {
		case twice:
			fail(k, "%s is given twice, first in line %d", k.Value, first.line)
		case !slices.Contains(known, k.Value):
			fail(k, "%q is no setting: use %s", k.Value, strings.Join(known, ", "))
		case v.Kind != yaml.ScalarNode:
			fail(v, "%s takes one value", k.Value)
		default:
			entries[k.Value] = entry{v.Value, v.Line, v.Column}
		}
	}
	return entries, errors.Join(errs...)
}
