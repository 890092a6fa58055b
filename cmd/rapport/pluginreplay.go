package main

import (
	"context"
	"time"

	rapportv1 "rapport/server/api/rapport/v1"
)

type pluginReplayCmd struct {
	pluginModule
	ID        string `name:"id" help:"One decision, by its id." placeholder:"ID"`
	Since     string `help:"The decisions since then: a time, or a span before now such as 1h or 7d." placeholder:"T"`
	Until     string `help:"The decisions before then." placeholder:"T"`
	Customer  string `help:"The decisions for this customer: NAMESPACE:ID, or ID for customer:ID." placeholder:"ID"`
	All       bool   `help:"All decisions that are kept."`
	Limit     int64  `help:"At most so many, the latest; 0: all." default:"0" placeholder:"N"`
	SaveCase  string `help:"With --id: write what was ranked to this file, as a case with all that this build reads; see rapport plugin test." placeholder:"FILE"`
	InsteadOf string `help:"Let it rank in the place of the strategy of this name, not of its own; \"builtin\" is the arbitration where a scenario names none." placeholder:"NAME"`
	Examples  int32  `help:"How many decisions with another answer are shown." default:"5" placeholder:"N"`
	Signature string `help:"Its signature, for a server that wants one; FILE.sig if there is one." placeholder:"FILE"`
}

// Help is shown by --help.
func (pluginReplayCmd) Help() string {
	return `Builds the strategy and makes decisions of the server's log again with it, in the place of the one of its
name or of --instead-of: it says how many answers have another winner, which, and what that changes in
expected value. Nothing is uploaded, kept or affected. A decision for which the log has not what the
strategy reads is counted, with the reason.

Examples:

	rapport plugin replay --since 1h
	rapport plugin replay --all --instead-of pvcl --data DATA
	rapport plugin replay next_step.wasm --since 7d --examples 20
	rapport plugin replay --id 01ARZ3NDEKTSV4RRFFQ69G5FAV --save-case cases/one.yaml`
}

// Run replays decisions through a build.
func (cmd *pluginReplayCmd) Run(ctx context.Context, a *app) error {
	replay := replayCmd{ID: cmd.ID, Since: cmd.Since, Until: cmd.Until, Customer: cmd.Customer, All: cmd.All, Limit: cmd.Limit, Examples: cmd.Examples, SaveCase: cmd.SaveCase}
	request, err := replay.request(time.Now())
	if err != nil {
		return err
	}
	file, err := cmd.load(ctx, a)
	if err != nil {
		return err
	}
	request.Module, request.InsteadOf = file.wasm, cmd.InsteadOf
	if request.Signature, err = readSignature(cmd.Signature, file.file); err != nil {
		return err
	}
	replay.With = file.file // it is a what-if: nobody expects the same bits
	return replay.replay(ctx, a, request, func(s *rapportv1.ReplaySummary) {
		if cmd.InsteadOf == "" && s.GetDecisions() > 0 && s.GetIdentical() == s.GetDecisions() {
			writef(a.err, "every answer is the same to the last bit: if no scenario names this strategy, say in whose place it is to rank, as in --instead-of pvcl\n")
		}
	})
}
