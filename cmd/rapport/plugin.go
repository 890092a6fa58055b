package main

// pluginCmd is for those who write strategies. It needs neither a server nor a data
// folder.
type pluginCmd struct {
	New   pluginNewCmd   `cmd:"" help:"Make a project that builds and tests without network."`
	Build pluginBuildCmd `cmd:"" help:"Build the module of a project."`
	Check pluginCheckCmd `cmd:"" help:"Check that a module is a strategy that a server can rely on."`
}

// Help is shown by --help.
func (pluginCmd) Help() string {
	return `For authors of strategies. These commands need neither a server nor a data folder; to use a module that
is ready, see rapport strategy.`
}
