package sandbox_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"rapport/server/sandbox/compilertest"
)

func TestMain(m *testing.M) {
	asChild()
	compilertest.Main(func() int {
		status := m.Run()
		err := closeGoGuests()
		if err == nil {
			err = goleak.Find()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = max(status, 1)
		}
		return status
	})
}
