package main

import (
	"errors"
	"os"
	"testing"

	"rapport/bench"
	"rapport/server/sandbox"
)

func TestMain(m *testing.M) {
	if sandbox.IsCompiler() {
		os.Exit(sandbox.CompilerMain(os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// All make the same decisions, for every customer.
func TestAgree(t *testing.T) {
	c := bench.NewContest(200, 60)
	for _, e := range append(entrants(), entrant{"Rapport", 0, rapport(1000)}) {
		t.Run(e.name, func(t *testing.T) {
			x, err := e.enter(t.Context(), c)
			if missing := (*missingError)(nil); errors.As(err, &missing) && os.Getenv("RAPPORT_REQUIRE_TOOLS") == "" {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := x.Close(); err != nil {
					t.Error(err)
				}
			}()
			if err := agree(t.Context(), c, x); err != nil {
				t.Error(err)
			}
		})
	}
}

// A contender who decides otherwise is not measured.
func TestDiffer(t *testing.T) {
	c, other := bench.NewContest(200, 60), bench.NewContest(200, 60)
	other.Offers[1].Value = 1e6
	x, err := plain(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	if err := agree(t.Context(), c, x); err == nil {
		t.Error("the answers differ, and nothing is said")
	}
}
