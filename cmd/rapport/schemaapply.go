package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"connectrpc.com/connect"

	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
)

type schemaApplyCmd struct {
	File      string `arg:"" help:"The schema: a YAML file."`
	Check     bool   `help:"Only say what the schema would change, and what would be lost; exit 1 if anything would."`
	AllowLoss bool   `help:"Install it although values of retained snapshots could not be read any more, or the catalogue or a strategy in use does not fit it."`
}

// Help is shown by --help.
func (schemaApplyCmd) Help() string {
	return `The data folder is made if it does not exist; no server may have it open. Mistakes are printed as
FILE:LINE:COLUMN and change nothing.

A new field that events feed has all events since the journal began; one of a batch source is unknown
until the next load of that source. A schema under which something would be lost is refused, and what it
is listed: values of snapshots that are kept, which a field that is gone or has another source does not
read any more; whole snapshots, because a field is of another type than their values; and the rules and
strategies in use. --allow-loss installs it all the same: no file is changed, so the schema of before
brings it all back.

--check changes nothing, and asks a running server too.

Examples:

	rapport schema apply --data DATA schema.yaml
	rapport schema apply --check schema.yaml
	rapport schema apply --data DATA --allow-loss schema.yaml`
}

// Run installs the schema, or says what it would change.
func (cmd *schemaApplyCmd) Run(ctx context.Context, a *app) error {
	ask := false
	if cmd.Check {
		url, _, err := a.target.choose()
		if err != nil {
			return err
		}
		ask = url != ""
	}
	data := ""
	if !ask {
		var err error
		if data, err = a.target.folder("the schema is part of a data folder"); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(cmd.File)
	if err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	if ask {
		return cmd.ask(ctx, a, text)
	}
	config := server.Config{Data: data, Logger: a.logger(), Version: programVersion()}
	if err := a.strategies.apply(&config); err != nil {
		return err
	}
	report, err := server.ApplySchema(ctx, config, server.SchemaFile{Name: cmd.File, YAML: text, Check: cmd.Check, AllowLoss: cmd.AllowLoss})
	if lost, ok := errors.AsType[*server.SchemaLossError](err); ok {
		return fmt.Errorf("%w\nload the sources again and change the catalogue first, or give --allow-loss", lost)
	}
	if err != nil {
		return err
	}
	r := &rapportv1.CheckSchemaResponse{SchemaId: report.ID, Before: report.Before, Losses: report.Losses}
	for _, c := range report.Changes {
		r.Changes = append(r.Changes, &rapportv1.SchemaChange{Kind: string(c.Kind), Name: c.Name, What: c.What})
	}
	return cmd.print(a, r, data)
}

// ask asks a server.
func (cmd *schemaApplyCmd) ask(ctx context.Context, a *app, text []byte) error {
	return a.call(ctx, func(c *clients) error {
		r, err := c.register.CheckSchema(ctx, connect.NewRequest(&rapportv1.CheckSchemaRequest{Name: cmd.File, Content: string(text)}))
		if err != nil {
			return err
		}
		if len(r.Msg.GetProblems()) > 0 {
			a.printProblems(r.Msg.GetProblems())
			return errReported
		}
		return cmd.print(a, r.Msg, "")
	})
}

// print says what a schema changes, or has changed.
func (cmd *schemaApplyCmd) print(a *app, r *rapportv1.CheckSchemaResponse, data string) error {
	changed := r.GetSchemaId() != r.GetBefore()
	lost := cmd.Check && len(r.GetLosses()) > 0
	if a.json {
		err := a.printJSON(struct {
			SchemaID string                    `json:"schemaId"`
			Before   string                    `json:"before"`
			Changed  bool                      `json:"changed"` // it was installed
			Changes  []*rapportv1.SchemaChange `json:"changes"`
			Losses   []string                  `json:"losses"`
		}{r.GetSchemaId(), r.GetBefore(), changed && !cmd.Check, append([]*rapportv1.SchemaChange{}, r.GetChanges()...), append([]string{}, r.GetLosses()...)})
		if err == nil && lost {
			err = errReported
		}
		return err
	}
	if r.GetBefore() != "" && changed {
		t := newTable("CHANGE", "NAME", "WHAT")
		for _, c := range r.GetChanges() {
			t.add(c.GetKind(), c.GetName(), c.GetWhat())
		}
		if err := t.write(a.out); err != nil {
			return err
		}
		writef(a.out, "\n")
	}
	for i, loss := range r.GetLosses() {
		if i == 0 {
			writef(a.err, "lost:\n")
		}
		writef(a.err, "  %s\n", printable(loss))
	}
	what := "schema %s is installed in %s\n"
	switch {
	case lost:
		writef(a.out, "schema %s was not installed; it would be refused without --allow-loss\n", r.GetSchemaId())
		return errReported
	case cmd.Check && !changed:
		writef(a.out, "schema %s is installed already\n", r.GetSchemaId())
		return nil
	case cmd.Check:
		writef(a.out, "schema %s could be installed; nothing would be lost\n", r.GetSchemaId())
		return nil
	case !changed:
		what = "schema %s was installed already in %s\n"
	}
	_, err := fmt.Fprintf(a.out, what, r.GetSchemaId(), data)
	return err
}
