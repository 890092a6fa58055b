package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
)

// errReported ends a command with exit code 1 when it has already said, in its
// output, what went wrong.
var errReported = errors.New("failed, as reported")

// usageError is a mistake in the command line: exit code 2.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// printError prints an error with everything that helps to mend it, one thing a
// line.
func printError(w io.Writer, err error) {
	lines := strings.Split(strings.TrimRight(describe(err), "\n"), "\n")
	for i, line := range lines {
		if i == 0 {
			line = "rapport: " + line
		} else {
			line = "  " + strings.TrimLeft(line, " ")
		}
		writef(w, "%s\n", printable(line))
	}
}

// describe writes an error in words: for one that came over the API its code,
// reason and field violations follow the message.
func describe(err error) string {
	if unreachable, ok := errors.AsType[*unreachableError](err); ok {
		return unreachable.Error()
	}
	var rpc *connect.Error
	if !errors.As(err, &rpc) {
		return err.Error()
	}
	// What was wrapped around the API's error says which part of the work failed.
	message := rpc.Message()
	if before, ok := strings.CutSuffix(err.Error(), rpc.Error()); ok {
		message = before + message
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s)", message, codeName(rpc))
	for _, line := range details(rpc) {
		if !strings.Contains(message, line) {
			b.WriteString("\n" + line)
		}
	}
	return b.String()
}

// codeName is the code of an error, with the reason if it has one.
func codeName(e *connect.Error) string {
	if r := reason(e); r != "" {
		return e.Code().String() + ", " + r
	}
	return e.Code().String()
}

// reason returns the ErrorInfo reason of an error, or nothing.
func reason(err error) string {
	var rpc *connect.Error
	if !errors.As(err, &rpc) {
		return ""
	}
	for _, d := range rpc.Details() {
		if m, err := d.Value(); err == nil {
			if info, ok := m.(*errdetails.ErrorInfo); ok {
				return info.GetReason()
			}
		}
	}
	return ""
}

// details returns the field violations of an error, one a line, and how long to
// wait if the server says so.
func details(e *connect.Error) []string {
	var lines []string
	for _, d := range e.Details() {
		m, err := d.Value()
		if err != nil {
			continue // of a newer server
		}
		switch m := m.(type) {
		case *errdetails.BadRequest:
			for _, v := range m.GetFieldViolations() {
				lines = append(lines, strings.TrimPrefix(v.GetField()+": "+v.GetDescription(), ": "))
			}
		case *validate.Violations:
			for _, v := range m.GetViolations() {
				lines = append(lines, strings.TrimPrefix(protovalidate.FieldPathString(v.GetField())+": "+v.GetMessage(), ": "))
			}
		case *errdetails.RetryInfo:
			lines = append(lines, "try again in "+m.GetRetryDelay().AsDuration().String())
		}
	}
	return lines
}

// unreachableError means that nothing that speaks the API answers at a URL.
type unreachableError struct {
	url string
	err error
}

func (e *unreachableError) Error() string {
	var rpc *connect.Error
	switch {
	case errors.Is(e.err, syscall.ECONNREFUSED):
		return fmt.Sprintf("no server at %s: start one with `rapport serve`, or give --data DIR to work on a folder without one", e.url)
	case errors.As(e.err, &rpc) && rpc.Code() == connect.CodeUnavailable:
		return fmt.Sprintf("no connection to %s: %s; give the right URL with --server", e.url, rpc.Message())
	}
	return fmt.Sprintf("what answers at %s is not a Rapport server, or one of another version: %v; give the right URL with --server", e.url, e.err)
}

func (e *unreachableError) Unwrap() error { return e.err }

// reachError finds out whether an error of a call means that there is no server.
func reachError(url string, err error) error {
	var rpc *connect.Error
	if !errors.As(err, &rpc) {
		return err
	}
	if connect.IsWireError(err) {
		return err // the server said it
	}
	switch rpc.Code() {
	case connect.CodeUnavailable, // no connection
		connect.CodeUnimplemented, connect.CodeUnknown: // an HTTP status or content type that no server of ours sends
		return &unreachableError{url, err}
	default:
		return err
	}
}

// violations writes what validation found wrong with a message, in one line.
func violations(e *protovalidate.ValidationError) string {
	var parts []string
	for _, v := range e.Violations {
		parts = append(parts, strings.TrimPrefix(protovalidate.FieldPathString(v.Proto.GetField())+": "+v.Proto.GetMessage(), ": "))
	}
	return strings.Join(parts, "; ")
}

// jsonMistake is a protojson error without the prefix, whose spaces vary, and
// without the line, which is always the first.
func jsonMistake(err error) string {
	text := strings.TrimLeft(strings.TrimPrefix(err.Error(), "proto:"), " \u00a0")
	return strings.ReplaceAll(text, "(line 1:", "(column ")
}
