package badger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	bdb "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/ristretto/v2/z"
)

// A folder that was not closed in order has tables that are not sealed yet. A damaged one
// can end the process that opens it: with a nil pointer in one of Badger's goroutines, or
// by SIGBUS. So it is opened by another process first, this program started anew.

// checkerVariable is in the environment of such a process: the folder.
const checkerVariable = "RAPPORT_STORE_CHECK"

// IsChecker reports whether this process was started to open a folder of delta records
// for another. Then main calls [CheckerMain] and nothing else.
func IsChecker() bool { return os.Getenv(checkerVariable) != "" }

// checkerTime is how long such a process may take.
const checkerTime = 5 * time.Minute

// inChild opens what is not sealed in another process.
func (c *checked) inChild(ctx context.Context, command []string) error {
	if c.fresh || c.closed && !c.unknown || len(command) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkerTime)
	defer cancel()
	var out, complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // the command is the operator's
	cmd.Env = []string{checkerVariable + "=" + c.dir, "GOTRACEBACK=none"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(strings.Join(c.tables, "\n")), &out, &complaint
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("badger: opening %s in another process: %w", c.dir, ctx.Err())
	case !errors.As(err, &exit):
		return fmt.Errorf("badger: opening %s in another process: %w", c.dir, err)
	}
	// Its last line is the file that it was at, then what was wrong.
	text := strings.TrimSpace(out.String())
	text = text[strings.LastIndexByte(text, '\n')+1:]
	name, reason, said := strings.Cut(text, ": ")
	if !said {
		reason = fmt.Sprintf("opening it ended another process (%v): %.200s", err, firstLine(complaint.String()))
	}
	return &DamagedError{File: filepath.Join(c.dir, name), Reason: reason}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// CheckerMain is the whole of a process for which [IsChecker] holds. It opens the tables
// whose names come from stdin, with all their blocks, and then the folder, read-only. It
// returns the exit code.
func CheckerMain(stdin io.Reader, stdout io.Writer) int {
	dir := os.Getenv(checkerVariable)
	names, err := io.ReadAll(stdin)
	if err != nil {
		return 1
	}
	for name := range strings.FieldsSeq(string(names)) {
		// If this is the last line, the process has ended at that file.
		_, _ = fmt.Fprintln(stdout, name)
		if err := checkTable(filepath.Join(dir, name)); err != nil {
			_, _ = fmt.Fprintf(stdout, "%s: is not as it was written: %s\n", name, firstLine(err.Error()))
			return 1
		}
	}
	_, _ = fmt.Fprintln(stdout, manifestName)
	if err := checkFolder(dir); err != nil {
		_, _ = fmt.Fprintf(stdout, "%s: the folder can't be opened: %s\n", manifestName, firstLine(err.Error()))
		return 1
	}
	return 0
}

func checkTable(path string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%.200v", r)
		}
	}()
	f, err := z.OpenMmapFile(path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	t, err := table.OpenTable(f, table.Options{ChkMode: options.OnTableAndBlockRead, Compression: options.None, BlockSize: 4 << 10})
	if err != nil {
		return err
	}
	return t.Close(-1)
}

func checkFolder(dir string) error {
	db, err := bdb.OpenManaged(deltaOptions(dir, Options{MemTableSize: defaultMemTable, Compactors: 2}, nil).WithReadOnly(true))
	if err != nil && strings.Contains(err.Error(), bdb.ErrTruncateNeeded.Error()) { // it is not wrapped
		return nil // a log has an end that is cut off when the folder is used
	}
	if err != nil {
		return err
	}
	return db.Close()
}
