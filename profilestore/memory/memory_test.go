package memory_test

import (
	"testing"

	"go.uber.org/goleak"

	"rapport/profilestore"
	"rapport/profilestore/memory"
	"rapport/profilestore/storetest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func TestEngine(t *testing.T) {
	var m memory.Memory
	storetest.Run(t, func(t *testing.T, dir string) profilestore.Engine {
		e, err := m.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		return e
	})
}
