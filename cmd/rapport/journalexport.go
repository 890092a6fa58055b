package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"rapport/profilestore"
)

type journalExportCmd struct {
	Out      string `help:"File to write the events to; standard output if not given." placeholder:"FILE"`
	Links    string `help:"File to write the changes of identities to, as lines of JSON." placeholder:"FILE"`
	From     uint64 `help:"Only entries from this number on." placeholder:"N"`
	To       uint64 `help:"Only entries up to this number." placeholder:"N"`
	Since    string `help:"Only what was logged since then: a time, or a span before now such as 1h or 7d." placeholder:"T"`
	Identity string `help:"Only what names this identity." placeholder:"ID"`
}

// Help is shown by --help.
func (journalExportCmd) Help() string {
	return `Writes the events of the journal in the form that rapport ingest takes, in their order, with the times at
which they were logged: sent to another server they make the same profiles, also beside the same batch
loads, since an event that was sent twice counts once there, too. A server may have the data folder open.

Changes of identities go to the file of --links, in their order: a, b, time and reason. Such a line is a
link, which rapport identity link --file takes. One with an op takes it back or says something else: unlink,
separate, reconcile or recycle; those are refused there, and to be made with the commands of that name.

What is written is personal data. A file is made so that only its owner can read it, and must not exist.

Examples:

	rapport journal export --data DATA --out events.ndjson --links links.ndjson
	rapport journal export --data DATA --since 7d --identity 7590-VHVEG
	rapport journal export --data DATA --out events.ndjson
	rapport ingest --server http://127.0.0.1:9000 events.ndjson`
}

// exportedEvent is an event as a line of NDJSON.
type exportedEvent struct {
	ID         string         `json:"id"`
	Type       string         `json:"type"`
	Identity   string         `json:"identity"`
	Time       time.Time      `json:"time"`
	Logged     time.Time      `json:"logged"`
	Attributes map[string]any `json:"attributes,omitempty"`
}

// exportedChange is a change of identities as a line of NDJSON.
type exportedChange struct {
	Op     string    `json:"op,omitempty"` // none for a link
	A      string    `json:"a"`
	B      string    `json:"b,omitempty"`
	Time   time.Time `json:"time"`
	Reason string    `json:"reason,omitempty"`
}

var identityOps = map[profilestore.IdentityOp]string{
	profilestore.OpUnlink: "unlink", profilestore.OpSeparate: "separate", profilestore.OpReconcile: "reconcile", profilestore.OpRecycle: "recycle",
}

var errExported = errors.New("all that was asked for has been exported")

// Run exports.
func (cmd *journalExportCmd) Run(ctx context.Context, a *app) (err error) {
	data, err := a.target.folder("the journal is part of a data folder")
	if err != nil {
		return err
	}
	if err := checkDataFolder(data); err != nil {
		return err
	}
	since := int64(0)
	if at, err := parseSince(cmd.Since, time.Now()); err != nil {
		return usagef("--since: %v", err)
	} else if at != nil {
		since = at.AsTime().UnixMicro()
	}
	if cmd.To > 0 && cmd.To < cmd.From {
		return usagef("--to %d is before --from %d", cmd.To, cmd.From)
	}
	identity := ""
	if cmd.Identity != "" {
		if identity, err = profilestore.ParseIdentity(cmd.Identity); err != nil {
			return usagef("--identity: %v", err)
		}
	}
	events, err := newExport(cmd.Out, a.out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, events.close()) }()
	links := &export{}
	if cmd.Links != "" {
		if links, err = newExport(cmd.Links, nil); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, links.close()) }()
	}
	err = profilestore.ReadJournal(ctx, data, cmd.From, func(e *profilestore.JournalEntry) error {
		switch {
		case cmd.To > 0 && e.Seq > cmd.To:
			return errExported
		case e.Logged() < since, identity != "" && !e.Names(identity):
			return nil
		case e.Event != nil:
			return events.write(exportedEvent{
				ID: e.Event.ID, Type: e.Event.Type, Identity: e.Event.Identity, Attributes: e.Event.Attributes,
				Time: time.UnixMicro(e.Event.Time).UTC(), Logged: time.UnixMicro(e.Event.Logged).UTC(),
			})
		}
		return links.write(exportedChange{Op: identityOps[e.Change.Op], A: e.Change.A, B: e.Change.B, Time: time.UnixMicro(e.Change.Time).UTC(), Reason: e.Change.Reason})
	})
	if err != nil && !errors.Is(err, errExported) {
		return err
	}
	more := ""
	if cmd.Links == "" && links.lines > 0 {
		more = "; --links writes those to a file"
	}
	writef(a.err, "%s and %s of identities%s\n", plural(events.lines, "event"), plural(links.lines, "change"), more)
	return nil
}

// export is where lines are written to; the zero one only counts them.
type export struct {
	file  *os.File // nil: to another writer
	out   *bufio.Writer
	lines uint64
}

// newExport makes a file, or writes to otherwise if no name is given.
func newExport(name string, otherwise io.Writer) (*export, error) {
	if name == "" {
		return &export{out: bufio.NewWriterSize(otherwise, 1<<16)}, nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("%s exists already: name another file", name)
	}
	if err != nil {
		return nil, err
	}
	return &export{file: f, out: bufio.NewWriterSize(f, 1<<16)}, nil
}

func (x *export) write(line any) error {
	x.lines++
	if x.out == nil {
		return nil
	}
	b, err := json.Marshal(line)
	if err == nil {
		_, err = x.out.Write(append(b, '\n'))
	}
	return err
}

func (x *export) close() error {
	err := x.out.Flush()
	if x.file != nil {
		err = errors.Join(err, x.file.Close())
	}
	return err
}
