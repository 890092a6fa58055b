package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	rapportv1 "rapport/server/api/rapport/v1"
)

func rpcError(t *testing.T, code connect.Code, message string, details ...proto.Message) error {
	t.Helper()
	e := connect.NewError(code, errors.New(message))
	for _, m := range details {
		d, err := connect.NewErrorDetail(m)
		if err != nil {
			t.Fatal(err)
		}
		e.AddDetail(d)
	}
	return e
}

func TestPrintError(t *testing.T) {
	invalid := rpcError(t, connect.CodeInvalidArgument, "the request is malformed",
		&errdetails.ErrorInfo{Reason: "INVALID_ARGUMENT", Domain: "rapport"},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: "context.age", Description: "it must be a number"},
			{Description: "of the whole"},
		}})
	repeated := rpcError(t, connect.CodeInvalidArgument, "context.age: it must be a number",
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "context.age", Description: "it must be a number"}}})
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"plain", errors.New("no such file"), "rapport: no such file\n"},
		{"several lines", errors.New("a.csv: bad\n  line 3: x\nline 4: y"), "rapport: a.csv: bad\n  line 3: x\n  line 4: y\n"},
		{"control characters", errors.New("a\x1b[2Jb"), "rapport: a\\x1b[2Jb\n"},
		{
			"violations", invalid,
			"rapport: the request is malformed (invalid_argument, INVALID_ARGUMENT)\n  context.age: it must be a number\n  of the whole\n",
		},
		{"violation that the message has", repeated, "rapport: context.age: it must be a number (invalid_argument)\n"},
		{"wrapped", fmt.Errorf("x.wasm: %w", rpcError(t, connect.CodeNotFound, "gone")), "rapport: x.wasm: gone (not_found)\n"},
		{
			"retry", rpcError(t, connect.CodeResourceExhausted, "busy", &errdetails.RetryInfo{RetryDelay: durationpb.New(50 * time.Millisecond)}),
			"rapport: busy (resource_exhausted)\n  try again in 50ms\n",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var b strings.Builder
			printError(&b, test.err)
			if b.String() != test.want {
				t.Errorf("got\n%s\nwant\n%s", b.String(), test.want)
			}
		})
	}
}

// What does not speak the API must be told apart from a server that refuses.
func TestUnreachable(t *testing.T) {
	website := httptest.NewServer(http.NotFoundHandler())
	defer website.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	html := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<p>hello"))
	}))
	defer html.Close()
	for _, test := range []struct{ name, url, want string }{
		{"nothing listens", gone.URL, "no server at " + gone.URL + ": start one with `rapport serve`, or give --data DIR"},
		{"another server", website.URL, "what answers at " + website.URL + " is not a Rapport server"},
		{"a web page", html.URL, "what answers at " + html.URL + " is not a Rapport server"},
		{"no such host", "http://no-such-host.invalid", "no connection to http://no-such-host.invalid"},
		{"TLS to a server without", strings.Replace(website.URL, "http:", "https:", 1), "no connection to https:"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := dial(test.url)
			_, err := c.profiles.GetProfile(t.Context(), connect.NewRequest(&rapportv1.GetProfileRequest{Customer: "x"}))
			if got := describe(err); !strings.Contains(got, test.want) {
				t.Errorf("got %q, want it to contain %q", got, test.want)
			}
			if err := c.close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestUnreachableKeepsCancellation(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := dial("http://127.0.0.1:1")
	_, err := c.profiles.GetProfile(ctx, connect.NewRequest(&rapportv1.GetProfileRequest{Customer: "x"}))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the cancellation", err)
	}
}
