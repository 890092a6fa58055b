package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	rapportv1 "rapport/server/api/rapport/v1"
)

// identityCmd says which identities are the same customer.
type identityCmd struct {
	Link      identityLinkCmd      `cmd:"" help:"Say that two identities are the same customer, or many from a file."`
	Unlink    identityUnlinkCmd    `cmd:"" help:"Take a link back."`
	Separate  identitySeparateCmd  `cmd:"" help:"Say that two identities are not the same customer."`
	Reconcile identityReconcileCmd `cmd:"" help:"Take a separation back."`
	Recycle   identityRecycleCmd   `cmd:"" help:"Say that an identity was given up by its holder."`
	Show      identityShowCmd      `cmd:"" help:"Show all identities of a customer, and what links them."`
}

// Help is shown by --help.
func (identityCmd) Help() string {
	return `A customer is known by identities: a number in the customer system, phone numbers, a cookie. Linked, they
are one customer with one profile, whichever is named. Each keeps its own record, so to take a link back
restores both sides. The namespaces of the schema say what may be linked.`
}

// evidence are the flags of every change.
type evidence struct {
	Reason string `help:"Who says so, by which evidence; for the record, at most 200 bytes." placeholder:"TEXT"`
	At     string `help:"When it became known, as in 2026-03-01T08:00:00+08:00; now if not given." placeholder:"TIME"`
}

func (e *evidence) time() (*timestamppb.Timestamp, error) {
	if e.At == "" {
		return nil, nil //nolint:nilnil // no time is given
	}
	t, err := parseTime(e.At)
	if err != nil {
		return nil, usagef("--at: %v", err)
	}
	return t, nil
}

type identityLinkCmd struct {
	A           string `arg:"" optional:"" help:"One identity: NAMESPACE:ID, or ID for customer:ID."`
	B           string `arg:"" optional:"" help:"The other."`
	File        string `help:"Make every link of this file; - for standard input." placeholder:"FILE"`
	Concurrency int    `help:"Requests to have under way at once, each with up to 1000 links." default:"1" placeholder:"N"`
	evidence
}

// Help is shown by --help.
func (identityLinkCmd) Help() string {
	return `When the command ends well, every link is on disk and seen by the next decision. Made again, a link
changes nothing, so after an interruption send the same file again.

A file is CSV with the columns a and b, and time and reason if there are any; or one JSON object a line
(NDJSON) with the same names:

	a,b,time,reason
	customer:7590,msisdn:8613800138000,2026-03-01T08:00:00+08:00,"sim sale, store 17"

	{"a": "customer:7590", "b": "cookie:9f3c", "reason": "web login"}

Links are made in the order of the file, each by itself. Those that are refused are printed with their
line, the others are made; the exit code is then 1. With a --concurrency of more than 1 it is faster, but
of links that do not fit together it may be the later one that is made.

Examples:

	rapport identity link 7590 msisdn:8613800138000 --reason sim-sale
	rapport identity link --file links.csv
	zcat links.ndjson.gz | rapport identity link --file -`
}

// Run makes the link, or those of the file.
func (cmd *identityLinkCmd) Run(ctx context.Context, a *app) error {
	at, err := cmd.time()
	switch {
	case err != nil:
		return err
	case cmd.File != "" && (cmd.A != "" || cmd.Reason != "" || at != nil):
		return usagef("--file takes no identities, reason or time beside it: they stand in the file")
	case cmd.File != "":
		return cmd.linkFile(ctx, a)
	case cmd.A == "" || cmd.B == "":
		return usagef("give two identities, as in `rapport identity link 7590 msisdn:8613800138000`, or --file FILE")
	}
	return a.call(ctx, func(c *clients) error {
		r, err := c.profiles.LinkIdentities(ctx, connect.NewRequest(&rapportv1.LinkIdentitiesRequest{
			Links: []*rapportv1.IdentityLink{{A: cmd.A, B: cmd.B, Time: at, Reason: cmd.Reason}},
		}))
		if err != nil {
			return err
		}
		return printIdentityResult(a, r.Msg.GetResults(), "linked", "they were linked already")
	})
}

type identityUnlinkCmd struct {
	A string `arg:"" help:"One identity: NAMESPACE:ID, or ID for customer:ID."`
	B string `arg:"" optional:"" help:"The other; without it, every link of the one is taken back."`
	evidence
}

// Help is shown by --help.
func (identityUnlinkCmd) Help() string {
	return `Each side has its own profile again, with what happened while they were linked. They stay one customer if
other links hold them together, and can be linked again: to keep them apart, use separate.

Examples:

	rapport identity unlink 7590 msisdn:8613800138000
	rapport identity unlink cookie:9f3c --reason shared-computer`
}

// Run takes the link back.
func (cmd *identityUnlinkCmd) Run(ctx context.Context, a *app) error {
	already := "they were not linked"
	if cmd.B == "" {
		already = "it had no links"
	}
	return cmd.evidence.unlink(ctx, a, rapportv1.UnlinkAction_UNLINK_ACTION_UNLINK, cmd.A, cmd.B, "unlinked", already)
}

type identitySeparateCmd struct {
	A string `arg:"" help:"One identity: NAMESPACE:ID, or ID for customer:ID."`
	B string `arg:"" help:"The other."`
	evidence
}

// Help is shown by --help.
func (identitySeparateCmd) Help() string {
	return `Takes their link back if there is one, and refuses every link that would make the two one customer, until
they are reconciled.

Examples:

	rapport identity separate 7590 9112 --reason ticket-4711`
}

// Run separates the two.
func (cmd *identitySeparateCmd) Run(ctx context.Context, a *app) error {
	return cmd.evidence.unlink(ctx, a, rapportv1.UnlinkAction_UNLINK_ACTION_SEPARATE, cmd.A, cmd.B, "separated", "they were separated already")
}

type identityReconcileCmd struct {
	A string `arg:"" help:"One identity: NAMESPACE:ID, or ID for customer:ID."`
	B string `arg:"" help:"The other."`
	evidence
}

// Help is shown by --help.
func (identityReconcileCmd) Help() string {
	return `The two can be linked again. Nothing is linked by it.

Examples:

	rapport identity reconcile 7590 9112`
}

// Run takes the separation back.
func (cmd *identityReconcileCmd) Run(ctx context.Context, a *app) error {
	return cmd.evidence.unlink(ctx, a, rapportv1.UnlinkAction_UNLINK_ACTION_RECONCILE, cmd.A, cmd.B, "reconciled", "they were not separated")
}

func (e *evidence) unlink(ctx context.Context, a *app, action rapportv1.UnlinkAction, one, other, done, already string) error {
	at, err := e.time()
	if err != nil {
		return err
	}
	return a.call(ctx, func(c *clients) error {
		r, err := c.profiles.UnlinkIdentities(ctx, connect.NewRequest(&rapportv1.UnlinkIdentitiesRequest{
			Unlinks: []*rapportv1.IdentityUnlink{{A: one, B: other, Action: action, Time: at, Reason: e.Reason}},
		}))
		if err != nil {
			return err
		}
		return printIdentityResult(a, r.Msg.GetResults(), done, already)
	})
}

type identityRecycleCmd struct {
	Identity string `arg:"" help:"The identity: NAMESPACE:ID."`
	Reason   string `help:"Who says so, by which evidence; for the record, at most 200 bytes." placeholder:"TEXT"`
	At       string `help:"When it was given up, as in 2026-03-01T08:00:00+08:00; now if not given." placeholder:"TIME"`
}

// Help is shown by --help.
func (identityRecycleCmd) Help() string {
	return `What happened before stays with the holder, what happens from then on is another customer's. The identity
has no link then, and can't be linked for as long as the schema's holding says. It can't be taken back.

Examples:

	rapport identity recycle msisdn:8613800138000 --at 2026-03-01T00:00:00+08:00`
}

// Run recycles the identity.
func (cmd *identityRecycleCmd) Run(ctx context.Context, a *app) error {
	at, err := (&evidence{At: cmd.At}).time()
	if err != nil {
		return err
	}
	return a.call(ctx, func(c *clients) error {
		r, err := c.profiles.RecycleIdentities(ctx, connect.NewRequest(&rapportv1.RecycleIdentitiesRequest{
			Recyclings: []*rapportv1.IdentityRecycling{{Identity: cmd.Identity, Time: at, Reason: cmd.Reason}},
		}))
		if err != nil {
			return err
		}
		return printIdentityResult(a, r.Msg.GetResults(), "recycled", "it was recycled at that time already")
	})
}

// printIdentityResult prints what became of the one change of a request.
func printIdentityResult(a *app, results []*rapportv1.IdentityResult, done, already string) error {
	if len(results) != 1 {
		return fmt.Errorf("the server has answered one change with %d results", len(results))
	}
	r := results[0]
	if a.json {
		if err := a.printMessage(r); err != nil {
			return err
		}
		if r.GetReason() != "" {
			return errReported
		}
		return nil
	}
	if r.GetReason() != "" {
		return fmt.Errorf("%s (%s)", r.GetMessage(), r.GetReason())
	}
	if !r.GetChanged() {
		done = "nothing to do, " + already
	}
	writef(a.out, "%s\n", done)
	for _, g := range r.GetGroups() {
		writef(a.out, "%s\n", printable(groupLine(g)))
	}
	return nil
}

// groupLine is a customer in a line.
func groupLine(g *rapportv1.IdentityGroup) string {
	names := make([]string, len(g.GetMembers()))
	for i, m := range g.GetMembers() {
		names[i] = m.GetIdentity()
		if m.GetUntil() != nil {
			names[i] += " until " + formatTime(m.GetUntil())
		}
	}
	return fmt.Sprintf("customer %s: %s", g.GetCustomer(), strings.Join(names, ", "))
}

type identityShowCmd struct {
	Identity string `arg:"" help:"Any identity of the customer: NAMESPACE:ID, or ID for customer:ID."`
}

// Help is shown by --help.
func (identityShowCmd) Help() string {
	return `Since is when an identity became this customer's after it had been another's; until is when this customer
gave it up. The epoch is the change of identities that made the customer what it is; decisions name it.

Examples:

	rapport identity show msisdn:8613800138000
	rapport identity show 7590 --json`
}

// Run prints the customer.
func (cmd *identityShowCmd) Run(ctx context.Context, a *app) error {
	return a.call(ctx, func(c *clients) error {
		r, err := c.profiles.GetIdentities(ctx, connect.NewRequest(&rapportv1.GetIdentitiesRequest{Identities: []string{cmd.Identity}}))
		if err != nil {
			return err
		}
		if len(r.Msg.GetResults()) != 1 {
			return fmt.Errorf("the server has answered for %d identities instead of one", len(r.Msg.GetResults()))
		}
		x := r.Msg.GetResults()[0]
		if x.GetGroup() == nil {
			return usagef("%s", x.GetMessage())
		}
		if a.json {
			return a.printMessage(x)
		}
		return printGroup(a, x)
	})
}

func printGroup(a *app, x *rapportv1.ResolvedIdentity) error {
	g := x.GetGroup()
	if x.GetMessage() != "" {
		writef(a.out, "%s\n", printable(x.GetMessage()))
	}
	size := fmt.Sprintf("%d identities", len(g.GetMembers()))
	if len(g.GetMembers()) == 1 {
		size = "one identity"
	}
	writef(a.out, "customer %s: %s, epoch %d\n\n", printable(g.GetCustomer()), size, g.GetEpoch())
	t := newTable("IDENTITY", "SINCE", "UNTIL")
	for _, m := range g.GetMembers() {
		t.add(m.GetIdentity(), formatTime(m.GetSince()), formatTime(m.GetUntil()))
	}
	if err := t.write(a.out); err != nil {
		return err
	}
	if len(g.GetLinks()) > 0 {
		t := newTable("LINK", "WITH", "TIME", "REASON")
		for _, l := range g.GetLinks() {
			t.add(l.GetA(), l.GetB(), formatTime(l.GetTime()), cmp.Or(l.GetReason(), none))
		}
		writef(a.out, "\n")
		if err := t.write(a.out); err != nil {
			return err
		}
	}
	if len(g.GetSeparations()) > 0 {
		t := newTable("SEPARATED", "FROM", "TIME", "REASON")
		for _, s := range g.GetSeparations() {
			t.add(s.GetA(), s.GetB(), formatTime(s.GetTime()), cmp.Or(s.GetReason(), none))
		}
		writef(a.out, "\n")
		return t.write(a.out)
	}
	return nil
}
