package badger_test

import (
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"rapport/profilestore"
	"rapport/profilestore/badger"
	"rapport/profilestore/storetest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestEngine(t *testing.T) {
	storetest.Run(t, func(t *testing.T, dir string) profilestore.Engine {
		e, err := badger.Open(dir, badger.Options{MemTableSize: 8 << 20, Logger: silent()})
		if err != nil {
			t.Fatal(err)
		}
		return e
	})
}
