package sandbox_test

import (
	"context"
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"rapport/sdk/abi"
	"rapport/server/sandbox"
)

// Every function of WASI preview 1 that wazero has can be imported, by the same
// type, and by no other.
func TestWASIIsWholeAndExact(t *testing.T) {
	ctx := context.Background()
	w := wazero.NewRuntime(ctx)
	theirs, err := wasi_snapshot_preview1.NewBuilder(w).Compile(ctx)
	if err != nil {
		t.Fatal(err)
	}
	spell := func(types []byte) (s string) {
		for _, v := range types {
			s += map[byte]string{0x7f: "i", 0x7e: "I"}[v]
		}
		return s
	}
	r := newRuntime(t, sandbox.Options{})
	for name, f := range theirs.ExportedFunctions() {
		params, results := spell(f.ParamTypes()), spell(f.ResultTypes())
		compile(t, r, guest{imports: []function{wasiImport(name, params, results)}}.bytes())
		wrong := guest{imports: []function{wasiImport(name, params+"i", results)}}.bytes()
		refused(t, r, wrong, sandbox.ReasonImport, name)
	}
	if n := len(theirs.ExportedFunctions()); n < 45 {
		t.Errorf("wazero has only %d functions", n)
	}
	if err := w.Close(ctx); err != nil {
		t.Error(err)
	}
}

// call0 calls the only import with arguments, scores its result and what is at
// scratchAt + 512.
func call0(name, params string, args ...[]byte) guest {
	result := cat(cat(args...), call(0), f64convert)
	memory := cat(i32(scratchAt+512), i64load(0), f64convertI)
	return guest{
		imports: []function{wasiImport(name, params, "i")},
		score:   cat(result, f64(math.MaxUint32+1), []byte{0xa2}, memory, f64add), // f64.mul
	}
}

// WASI does what ABI.md says.
func TestWASIIsInert(t *testing.T) {
	const out = scratchAt + 512
	r := newRuntime(t, sandbox.Options{})
	for name, c := range map[string]struct {
		guest  guest
		errno  float64
		memory uint64
	}{
		"real time":       {call0("clock_time_get", "iIi", i32(0), i64(0), i32(out)), 0, 1_772_366_400_000_000_000},
		"monotonic time":  {call0("clock_time_get", "iIi", i32(1), i64(0), i32(out)), 0, 1},
		"clock to far":    {call0("clock_time_get", "iIi", i32(1), i64(0), i32(-4)), 21, 0},
		"resolution":      {call0("clock_res_get", "ii", i32(0), i32(out)), 0, 1000},
		"arguments":       {call0("args_sizes_get", "ii", i32(out), i32(out+4)), 0, 0},
		"environment":     {call0("environ_sizes_get", "ii", i32(out), i32(out+4)), 0, 0},
		"no such file":    {call0("fd_write", "iiii", i32(3), i32(0), i32(0), i32(out)), 8, 0},
		"no input":        {call0("fd_read", "iiii", i32(0), i32(0), i32(0), i32(out)), 8, 0},
		"no folder":       {call0("fd_prestat_get", "ii", i32(3), i32(out)), 8, 0},
		"no opening":      {call0("path_open", "iiiiiIIii", i32(3), i32(0), i32(0), i32(0), i32(0), i64(0), i64(0), i32(0), i32(out)), 8, 0},
		"no socket":       {call0("sock_accept", "iii", i32(3), i32(0), i32(out)), 8, 0},
		"a terminal":      {call0("fd_fdstat_get", "ii", i32(1), i32(out)), 0, 2},
		"not a terminal":  {call0("fd_fdstat_get", "ii", i32(3), i32(out)), 8, 0},
		"no signal":       {call0("proc_raise", "i", i32(9)), 52, 0},
		"yield":           {call0("sched_yield", ""), 0, 0},
		"poll":            {call0("poll_oneoff", "iiii", i32(scratchAt), i32(scratchAt+256), i32(2), i32(out)), 0, 2},
		"poll far out":    {call0("poll_oneoff", "iiii", i32(-8), i32(scratchAt), i32(2), i32(out)), 21, 0},
		"poll very many":  {call0("poll_oneoff", "iiii", i32(0), i32(0), i32(-1), i32(out)), 52, 0},
		"write far out":   {call0("fd_write", "iiii", i32(1), i32(-8), i32(1), i32(out)), 21, 0},
		"random far out":  {call0("random_get", "ii", i32(0), i32(-1)), 21, 0},
		"random nothing":  {call0("random_get", "ii", i32(0), i32(0)), 0, 0},
		"write of a lot ": {call0("fd_write", "iiii", i32(1), i32(scratchAt), i32(-1), i32(out)), 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := bind(t, r, c.guest.bytes(), 1, sandbox.PoolOptions{Size: 1})
			q := simple(1)
			rank(t, s, q)
			if want := c.errno*(math.MaxUint32+1) + float64(c.memory); q.Score[0] != want {
				t.Errorf("got errno %v and %v, want %v and %v", math.Floor(q.Score[0]/(math.MaxUint32+1)), q.Score[0], c.errno, c.memory)
			}
			if err := s.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

// Random numbers are those of the seed, in every call.
func TestWASIRandomIsOfTheSeed(t *testing.T) {
	g := guest{
		imports: []function{wasiImport("random_get", "ii", "i")},
		before:  cat(i32(scratchAt), i32(12), call(0), drop),
		score:   cat(i32(scratchAt), i32load(8), f64convert),
	}
	s := bind(t, newRuntime(t, sandbox.Options{}), g.bytes(), 1, sandbox.PoolOptions{Size: 1})
	q := simple(1)
	for range 3 {
		for _, seed := range []uint64{0, 1, 1 << 63} {
			q.Seed = seed
			rank(t, s, q)
			if want := float64(uint32(splitMix(seed, 2))); q.Score[0] != want {
				t.Errorf("seed %d: %v, want %v", seed, q.Score[0], want)
			}
		}
	}
}

// splitMix is number n of SplitMix64, after Steele, Lea and Flood, "Fast
// splittable pseudorandom number generators", 2014.
func splitMix(seed uint64, n int) (z uint64) {
	for range n {
		seed += 0x9E3779B97F4A7C15
		z = seed
		z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
		z = (z ^ (z >> 27)) * 0x94D049BB133111EB
		z ^= z >> 31
	}
	return z
}

// The static block and the frame are what sdk/abi reads: a guest that answers
// with the bytes of its frame shows them.
func TestFrameIsAsSpecified(t *testing.T) {
	const n = 3
	manifest := `{"abi":1,"name":"mirror","version":"1","profile":[{"name":"value.arpu","type":"number"},{"name":"tag.high_traffic","type":"flag"},
		{"name":"general.customer_type","type":"text"},{"name":"general.customer_since","type":"time"}],"candidate":["lever","value"]}`
	// A score is a number, and any 4 bytes are one: the frame is read 4 bytes at a
	// time, from a different place in each call, which the seed says.
	place := cat(get(localFrame), get(localFrame), i32load(40), i32add)
	s := bind(t, newRuntime(t, sandbox.Options{}), guest{manifest: manifest, score: cat(place, i32load(0), f64convert)}.bytes(), 9, sandbox.PoolOptions{Size: 1})
	q := simple(n)
	q.Candidates = []int32{2, 5, 8}
	q.Profile = profile{slotARPU: numberOf(29.85), slotSegment: textOf("gold"), slotJoined: timeOf(-5)}
	size := abi.FrameShape{Candidates: n, Profile: 4, Columns: 2, Texts: 4}.Layout().Size
	b := abi.NewArena(size)
	for at := 0; at < size; at += 4 {
		q.Seed = uint64(at)
		rank(t, s, q)
		binary.LittleEndian.PutUint32(b[at:], uint32(q.Score[0]))
	}
	f, err := abi.ParseFrame(b)
	if err != nil {
		t.Fatal(err)
	}
	if f.Now() != q.Now || !slices.Equal(f.Index(), []uint32{2, 5, 8}) || !slices.Equal(f.Column(0), q.Lever) || !slices.Equal(f.Column(1), q.Value) {
		t.Errorf("frame %+v", f)
	}
	if got := f.Presence()[0]; got != 0b1101 {
		t.Errorf("presence %b", got)
	}
	c := f.Cells()
	if text, _ := abi.TextAt(f.Strings(), c[2]); c[0] != abi.NumberCell(29.85) || c[1] != 0 || text != "gold" || int64(c[3]) != -5 {
		t.Errorf("cells %#x", c)
	}
}
