package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// versionCmd shows what this binary is.
type versionCmd struct{}

// Help is shown by --help.
func (versionCmd) Help() string {
	return `Examples:

	rapport version
	rapport version --json`
}

// Run prints the version.
func (versionCmd) Run(a *app) error {
	commit, modified := sourceState()
	if a.json {
		return a.printJSON(map[string]any{
			"version": programVersion(), "commit": commit, "modified": modified,
			"go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH,
		})
	}
	_, err := fmt.Fprintf(a.out, "rapport %s (%s, %s/%s)\n", programVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// programVersion is the module's version, or the commit it was built from.
func programVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	commit, modified := sourceState()
	switch {
	case commit == "":
		return "devel"
	case modified:
		return "devel-" + commit[:min(12, len(commit))] + "-modified"
	}
	return "devel-" + commit[:min(12, len(commit))]
}

// sourceState is the commit that the binary was built from, if Go recorded it,
// and whether the files differed from it.
func sourceState() (commit string, modified bool) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", false
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value
		case "vcs.modified":
			modified = s.Value == "true"
		}
	}
	return commit, modified
}
