package wasm_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/tetratelabs/wazero/api"

	"rapport/server/sandbox/wasm"
)

// TestSpecMutants changes a few bytes of each of the suite's modules, again and
// again: what is read nevertheless must be valid to wazero, as it is and
// rewritten. wazero is not asked about the others: there are some that it would
// take 32 GiB for.
func TestSpecMutants(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 0))
	peer := newPeer(t, api.CoreFeaturesV2)
	files, err := filepath.Glob(filepath.Join(specRoot(t), "v2", "testdata", "*.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b = withoutCustom(b)
		if len(b) < 16 || len(b) > 4<<10 {
			continue
		}
		rounds := 30
		if underRace {
			rounds = 2
		}
		for range rounds {
			mutant := mutate(random, b)
			counts["mutants"]++
			m, err := readSafely(mutant, wasm.DefaultLimits())
			if err != nil {
				var refusal *wasm.Error
				if !errors.As(err, &refusal) || refusal.Offset < 0 || refusal.Offset > len(mutant) {
					t.Fatalf("%s, as %x: %v", filepath.Base(file), mutant, err)
				}
				counts["refused as "+string(refusal.Kind)]++
				continue
			}
			counts["read"]++
			if err := acceptsOriginal(t.Context(), peer, m.Stripped()); err != nil {
				t.Errorf("%s, as %x: read, but wazero refuses it: %v", filepath.Base(file), mutant, err)
				continue
			}
			metered, err := meterSafely(m, random.IntN(2) == 0)
			if err == nil {
				err = acceptsOriginal(t.Context(), peer, metered.Wasm)
			}
			if err != nil {
				t.Errorf("%s, as %x: rewritten, it is no longer valid: %v", filepath.Base(file), mutant, err)
			}
		}
	}
	t.Log(counts)
	if counts["read"]*100 < counts["mutants"] || counts["mutants"] < 5_000 {
		t.Errorf("%d of %d mutants were read: too few to say anything", counts["read"], counts["mutants"])
	}
}

// mutate returns a copy of a module with one to three bytes changed, behind the
// header.
func mutate(random *rand.Rand, b []byte) []byte {
	b = append([]byte(nil), b...)
	for range 1 + random.IntN(3) {
		at := 8 + random.IntN(len(b)-8)
		switch random.IntN(4) {
		case 0:
			b[at] = byte(random.IntN(256))
		case 1:
			b[at] ^= 1 << random.IntN(8)
		case 2:
			b[at] += byte(random.IntN(5)) - 2
		case 3:
			b[at] = b[8+random.IntN(len(b)-8)]
		}
	}
	return b
}

// withoutCustom returns a module without its custom sections. If it is none, it is
// returned as it is.
func withoutCustom(b []byte) []byte {
	if len(b) < 8 {
		return b
	}
	kept := append([]byte(nil), b[:8]...)
	for at := 8; at < len(b); {
		begin, size := at, 0
		for shift := 0; ; shift += 7 {
			if at++; at >= len(b) || shift > 28 {
				return b
			}
			size |= int(b[at]&0x7f) << shift
			if b[at] < 0x80 {
				at++
				break
			}
		}
		if at += size; at > len(b) {
			return b
		}
		if b[begin] != 0 {
			kept = append(kept, b[begin:at]...)
		}
	}
	return kept
}
