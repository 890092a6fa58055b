package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	var err error
	if list := filepath.SplitList(os.Getenv(precompileVariable)); len(list) == 2 {
		err = precompile(context.Background(), list[0], list[1])
	}
	status := m.Run()
	err = errors.Join(err, closeGoGuests())
	if err == nil {
		err = goleak.Find()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = max(status, 1)
	}
	os.Exit(status)
}
