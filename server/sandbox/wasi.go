package sandbox

import (
	"context"
	"encoding/binary"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"
)

// wasiFunc is a function of WASI preview 1 as strategies get it: of the exact
// type, and inert. There are no files, arguments and environment variables;
// clocks and random numbers come from the frame. Compilers' runtimes import
// these functions whether they need them or not.
type wasiFunc struct {
	params, results string
	call            func(h *host, mem api.Memory, p []uint64) errno
}

// errno is a result of WASI.
type errno uint32

// The results that strategies see.
const (
	errnoOK    errno = 0
	errnoBadF  errno = 8
	errnoFault errno = 21
	errnoNoSys errno = 52
)

func (f wasiFunc) function() api.GoModuleFunc {
	return func(ctx context.Context, mod api.Module, stack []uint64) {
		h := hostOf(ctx)
		h.charge(priceHostCall)
		n := f.call(h, mod.Memory(), stack)
		if f.results != "" {
			stack[0] = uint64(n)
		}
	}
}

// badFile answers everything that is about a file.
func badFile(*host, api.Memory, []uint64) errno { return errnoBadF }

// nothing succeeds.
func nothing(*host, api.Memory, []uint64) errno { return errnoOK }

// noSystem answers what does not exist here.
func noSystem(*host, api.Memory, []uint64) errno { return errnoNoSys }

// wasi is the whole of WASI preview 1.
var wasi = map[string]wasiFunc{
	"args_get":                {"ii", "i", nothing},
	"args_sizes_get":          {"ii", "i", wasiNone},
	"clock_res_get":           {"ii", "i", wasiResolution},
	"clock_time_get":          {"iIi", "i", wasiTime},
	"environ_get":             {"ii", "i", nothing},
	"environ_sizes_get":       {"ii", "i", wasiNone},
	"fd_advise":               {"iIIi", "i", badFile},
	"fd_allocate":             {"iII", "i", badFile},
	"fd_close":                {"i", "i", badFile},
	"fd_datasync":             {"i", "i", badFile},
	"fd_fdstat_get":           {"ii", "i", wasiFileStatus},
	"fd_fdstat_set_flags":     {"ii", "i", badFile},
	"fd_fdstat_set_rights":    {"iII", "i", badFile},
	"fd_filestat_get":         {"ii", "i", badFile},
	"fd_filestat_set_size":    {"iI", "i", badFile},
	"fd_filestat_set_times":   {"iIIi", "i", badFile},
	"fd_pread":                {"iiiIi", "i", badFile},
	"fd_prestat_dir_name":     {"iii", "i", badFile},
	"fd_prestat_get":          {"ii", "i", badFile},
	"fd_pwrite":               {"iiiIi", "i", badFile},
	"fd_read":                 {"iiii", "i", badFile},
	"fd_readdir":              {"iiiIi", "i", badFile},
	"fd_renumber":             {"ii", "i", badFile},
	"fd_seek":                 {"iIii", "i", badFile},
	"fd_sync":                 {"i", "i", badFile},
	"fd_tell":                 {"ii", "i", badFile},
	"fd_write":                {"iiii", "i", wasiWrite},
	"path_create_directory":   {"iii", "i", badFile},
	"path_filestat_get":       {"iiiii", "i", badFile},
	"path_filestat_set_times": {"iiiiIIi", "i", badFile},
	"path_link":               {"iiiiiii", "i", badFile},
	"path_open":               {"iiiiiIIii", "i", badFile},
	"path_readlink":           {"iiiiii", "i", badFile},
	"path_remove_directory":   {"iii", "i", badFile},
	"path_rename":             {"iiiiii", "i", badFile},
	"path_symlink":            {"iiiii", "i", badFile},
	"path_unlink_file":        {"iii", "i", badFile},
	"poll_oneoff":             {"iiii", "i", wasiPoll},
	"proc_exit":               {"i", "", wasiExit},
	"proc_raise":              {"i", "i", noSystem},
	"random_get":              {"ii", "i", wasiRandom},
	"sched_yield":             {"", "i", nothing},
	"sock_accept":             {"iii", "i", badFile},
	"sock_recv":               {"iiiiii", "i", badFile},
	"sock_send":               {"iiiii", "i", badFile},
	"sock_shutdown":           {"ii", "i", badFile},
}

// done turns the success of a memory access into an errno.
func done(ok bool) errno {
	if !ok {
		return errnoFault
	}
	return errnoOK
}

// wasiNone answers that there are no arguments or variables, in no bytes.
func wasiNone(_ *host, mem api.Memory, p []uint64) errno {
	return done(mem.WriteUint32Le(uint32(p[0]), 0) && mem.WriteUint32Le(uint32(p[1]), 0))
}

func wasiResolution(_ *host, mem api.Memory, p []uint64) errno {
	return done(mem.WriteUint64Le(uint32(p[1]), 1000))
}

// wasiTime answers the frame's time for the real-time clock (0 while the module
// is made ready), and a clock that stands still for all others.
func wasiTime(h *host, mem api.Memory, p []uint64) errno {
	nanos := h.monotonic
	if uint32(p[0]) == 0 {
		nanos = h.now * 1000
	}
	return done(mem.WriteUint64Le(uint32(p[2]), uint64(nanos)))
}

// wasiFileStatus answers that descriptors 0 to 2 are terminals.
func wasiFileStatus(_ *host, mem api.Memory, p []uint64) errno {
	if uint32(p[0]) > 2 {
		return errnoBadF
	}
	stat := [24]byte{2}
	return done(mem.Write(uint32(p[1]), stat[:]))
}

// maxVectors is how many pieces of one fd_write are looked at; each is a record of
// vectorSize bytes, and costs priceVector.
const (
	maxVectors  = 1024
	vectorSize  = 8
	priceVector = 10
)

// wasiWrite keeps what is written to descriptors 1 and 2, up to a limit, and
// says that all was written.
func wasiWrite(h *host, mem api.Memory, p []uint64) errno {
	if fd := uint32(p[0]); fd != 1 && fd != 2 {
		return errnoBadF
	}
	vectors, ok := mem.Read(uint32(p[1]), min(uint32(p[2]), maxVectors)*vectorSize)
	if !ok {
		return errnoFault
	}
	written := uint32(0)
	for ; len(vectors) > 0; vectors = vectors[vectorSize:] {
		text, ok := mem.Read(binary.LittleEndian.Uint32(vectors), binary.LittleEndian.Uint32(vectors[4:]))
		if !ok {
			return errnoFault
		}
		h.charge(priceVector)
		h.chargeBytes(min(len(text), maxConsole))
		written += uint32(len(text))
		h.console = append(h.console, text[:min(len(text), maxConsole-len(h.console))]...)
	}
	return done(mem.WriteUint32Le(uint32(p[3]), written))
}

// Sizes and places of WASI's subscription and event records.
const (
	subscriptionSize = 48
	eventSize        = 32
	maxSubscriptions = 64
)

// wasiPoll answers at once that everything has happened. For a subscription to a
// clock, the one that stands still moves on by its timeout, so that a runtime
// that sleeps wakes up.
func wasiPoll(h *host, mem api.Memory, p []uint64) errno {
	n := uint32(p[2])
	if n > maxSubscriptions {
		return errnoNoSys
	}
	in, ok := mem.Read(uint32(p[0]), n*subscriptionSize)
	out, ok2 := mem.Read(uint32(p[1]), n*eventSize)
	if !ok || !ok2 {
		return errnoFault
	}
	for ; len(in) > 0; in, out = in[subscriptionSize:], out[eventSize:] {
		kind := in[8]
		clock, timeout, absolute := in[16], int64(binary.LittleEndian.Uint64(in[24:])), in[40]&1 != 0
		if kind == 0 && clock != 0 && timeout > 0 {
			if absolute {
				timeout = max(0, timeout-h.monotonic)
			}
			h.monotonic += timeout
		}
		var event [eventSize]byte
		copy(event[:8], in[:8]) // what the subscriber calls it
		event[10] = kind
		copy(out, event[:])
	}
	return done(mem.WriteUint32Le(uint32(p[3]), n))
}

// wasiExit ends the call: a strategy that ends is at fault, whatever the status.
func wasiExit(_ *host, _ api.Memory, p []uint64) errno { panic(sys.NewExitError(uint32(p[0]))) }

// wasiRandom answers with the stream of SplitMix64 from the frame's seed.
func wasiRandom(h *host, mem api.Memory, p []uint64) errno {
	b, ok := mem.Read(uint32(p[0]), uint32(p[1]))
	// A number takes a few multiplications.
	h.charge(int64(len(b)))
	for len(b) > 0 {
		h.random += 0x9E3779B97F4A7C15
		z := h.random
		z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
		z = (z ^ z>>27) * 0x94D049BB133111EB
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], z^z>>31)
		b = b[copy(b, word[:]):]
	}
	return done(ok)
}
