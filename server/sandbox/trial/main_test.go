package trial_test

import (
	"testing"

	"rapport/server/sandbox/compilertest"
)

func TestMain(m *testing.M) { compilertest.Main(m.Run) }
