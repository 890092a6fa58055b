package main

import (
	"strings"

	"github.com/alecthomas/kong"
)

// flagHelp is the help text of a flag or argument, with its default and the
// environment variable of a setting behind it.
func flagHelp(v *kong.Value) string {
	var more []string
	if v.HasDefault && v.Default != "" {
		more = append(more, "default "+v.Default)
	}
	if isSetting(v) || v.Name == "config" {
		more = append(more, "$"+variable(v.Name))
	}
	if len(more) == 0 {
		return v.Help
	}
	return strings.TrimSuffix(v.Help, ".") + " (" + strings.Join(more, ", ") + ")."
}

// helpCommand is the command line that shows the help of what was meant.
func helpCommand(c *kong.Context) string {
	path := c.Model.Name
	for _, p := range c.Path { // a command that needs a subcommand is not selected
		if p.Command != nil {
			path = p.Command.FullPath()
		}
	}
	return path + " --help"
}
