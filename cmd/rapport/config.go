package main

import (
	"cmp"
	"fmt"

	"github.com/alecthomas/kong"

	"rapport/server"
)

// configCmd shows the settings. It has every flag that is a setting, so what it
// prints is what another command with the same flags, in the same place, would
// use.
type configCmd struct {
	serverFlags
}

// Help is shown by --help.
func (configCmd) Help() string {
	return `A setting is a flag, else a variable RAPPORT_NAME, else a line of the configuration file, else its
default. The file is YAML, with _ for - in names:

	data: /var/lib/rapport
	listen: 127.0.0.1:9000
	deadline: 10ms

Examples:

	rapport config
	rapport config --config /etc/rapport.yaml --json
	RAPPORT_DEADLINE=10ms rapport config`
}

// settingLine is what is printed of one setting.
type settingLine struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Origin string `json:"origin"`
}

// Run prints every setting.
func (cmd *configCmd) Run(c *kong.Context, a *app) error {
	if a.target.server == "" && a.target.data == "" {
		cmd.defaultServer(c)
	}
	lines := []settingLine{}
	for _, flags := range [][]*kong.Flag{c.Model.Flags, c.Selected().Flags} {
		for _, flag := range flags {
			if isSetting(flag.Value) {
				lines = append(lines, settingLine{flag.Name, fmt.Sprint(flag.Target.Interface()), a.settings.origin(flag.Name).String()})
			}
		}
	}
	if a.json {
		return a.printJSON(lines)
	}
	t := newTable("SETTING", "VALUE", "ORIGIN")
	for _, l := range lines {
		if l.Value == "" {
			l.Value = none
		}
		t.add(l.Name, l.Value, l.Origin)
	}
	if err := t.write(a.out); err != nil {
		return err
	}
	// That no folder is given is no mistake here.
	if _, err := cmd.config(cmp.Or(a.target.data, none), &a.strategies, a.err); err != nil {
		return fmt.Errorf("a server can't use these settings: %w", err)
	}
	return nil
}

// defaultServer shows which server commands use when nothing says where to work.
func (*configCmd) defaultServer(c *kong.Context) {
	for _, flag := range c.Model.Flags {
		if flag.Name == "server" {
			flag.Target.SetString("http://" + server.DefaultListen)
		}
	}
}
