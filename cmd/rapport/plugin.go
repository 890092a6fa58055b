package main

// pluginCmd is for those who write strategies. It needs neither a server nor a data
// folder.
type pluginCmd struct {
	New       pluginNewCmd       `cmd:"" help:"Make a project that builds and tests without network."`
	Build     pluginBuildCmd     `cmd:"" help:"Build the module of a project."`
	Run       pluginRunCmd       `cmd:"" help:"Decide one case: score, reason, fuel, memory, time."`
	Test      pluginTestCmd      `cmd:"" help:"Run all cases, and compare with what they expect."`
	Check     pluginCheckCmd     `cmd:"" help:"Check that it is a strategy that a server can rely on."`
	Bench     pluginBenchCmd     `cmd:"" help:"Measure fuel and time by number of candidates."`
	Languages pluginLanguagesCmd `cmd:"" help:"Measure the same strategy in every language."`
	Profile   pluginProfileCmd   `cmd:"" help:"Say in which functions the fuel goes."`
	Replay    pluginReplayCmd    `cmd:"" help:"Make decisions of the log again with it: what changes."`
	Push      pluginPushCmd      `cmd:"" help:"Build, check and upload it, and put it into service."`
	List      pluginListCmd      `cmd:"" help:"List the strategies of the server, and what they have done."`
	Rollback  pluginRollbackCmd  `cmd:"" help:"Take the last step of a release back."`
}

// Help is shown by --help.
func (pluginCmd) Help() string {
	return `For authors of strategies: from nothing to a strategy in shadow, in five minutes. A strategy is a folder
with a project, which is built first, or a .wasm file.

	rapport plugin new next_step --lang go
	cd next_step
	rapport plugin test`
}
