//go:build !wasip1

// Command golden is the golden strategy: as WebAssembly a module, and natively a program
// that ranks the decisions that it reads.
package main

import (
	"encoding/gob"
	"fmt"
	"io"
	"os"
	"time"

	"rapport/sdk/rapporttest"
	_ "rapport/server/sandbox/testdata/golden/scoring"
)

func main() {
	if err := rank(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "golden:", err)
		os.Exit(1)
	}
}

// rank answers each decision with its results, both in gob.
func rank(in io.Reader, out io.Writer) error {
	gob.Register(time.Time{})
	gob.Register([]string{})
	var decisions []rapporttest.Decision
	if err := gob.NewDecoder(in).Decode(&decisions); err != nil {
		return err
	}
	results := make([][]rapporttest.Result, len(decisions))
	for i, d := range decisions {
		var err error
		if results[i], err = rapporttest.Rank(d); err != nil {
			return fmt.Errorf("decision %d: %w", i, err)
		}
	}
	return gob.NewEncoder(out).Encode(results)
}
