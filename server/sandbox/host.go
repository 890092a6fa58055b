package sandbox

import (
	"context"
	"errors"
	"log/slog"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"rapport/sdk/abi"
)

// LogFrom is the attribute that a log record has if a strategy has said it, and not
// the host of one.
const LogFrom = "from"

// fromStrategy is the value of that attribute.
const fromStrategy = "strategy"

// Limits of what one call may log. Lines over them are counted and dropped.
const (
	maxLines    = 32
	maxLine     = 1 << 10
	maxConsole  = 8 << 10
	linesUnkept = "more log lines dropped"
)

// host is what the host functions know of the instance that calls them. It
// travels in the context that every call of the instance is given.
type host struct {
	now       int64  // microseconds since the Unix epoch, as the frame has it
	monotonic int64  // nanoseconds; only poll_oneoff moves it
	random    uint64 // state of the generator behind random_get

	fuel api.MutableGlobal // of the instance; nil before it is there

	words
}

// words are what a guest said in a call.
type words struct {
	lines   []line
	dropped int
	console []byte // what was written to file descriptors 1 and 2
}

// What host functions charge, as no code of the guest's does it for them: a call
// out of WebAssembly and back takes some 100 ns, and a log line an allocation.
const (
	priceHostCall  = 500
	priceHostLine  = 1000
	hostBytesAUnit = 8
)

// errSpent ends a call whose fuel a host function has used up.
var errSpent = errors.New("out of fuel")

// charge takes fuel off what the call has left, and ends the call if it is spent.
func (h *host) charge(units int64) {
	left := int64(h.fuel.Get()) - units
	h.fuel.Set(uint64(left))
	if left < 0 {
		panic(errSpent)
	}
}

// chargeBytes charges for as many bytes as a host function reads or writes.
func (h *host) chargeBytes(n int) { h.charge(int64(n) / hostBytesAUnit) }

// line is a line that the guest logged.
type line struct {
	level slog.Level
	text  string
}

type hostKey struct{}

func hostOf(ctx context.Context) *host {
	h, _ := ctx.Value(hostKey{}).(*host)
	return h
}

// begin makes ready for a call: time and chance come from the frame.
func (h *host) begin(now int64, seed uint64) {
	h.now, h.random = now, seed
	h.monotonic = 1 // Go takes 0 for a broken clock.
	h.forget()
}

// log keeps a line. What it does not keep costs no memory.
func (w *words) log(level slog.Level, text []byte) {
	if len(w.lines) == maxLines {
		w.dropped++
		return
	}
	w.lines = append(w.lines, line{level, clip(string(text), maxLine)})
}

// quiet reports whether the guest said nothing in the last call.
func (w *words) quiet() bool { return len(w.lines) == 0 && len(w.console) == 0 }

// report logs what the guest said in the last call.
func (w *words) report(to *logLimit) {
	for _, l := range w.lines {
		to.write(l.level, l.text, LogFrom, fromStrategy)
	}
	if w.dropped > 0 {
		to.write(slog.LevelWarn, linesUnkept, LogFrom, fromStrategy, "lines", w.dropped)
	}
	if len(w.console) > 0 {
		to.write(slog.LevelInfo, "strategy output", LogFrom, fromStrategy, "output", clip(string(w.console), maxConsole))
	}
	clear(w.lines)
	w.forget()
}

func (w *words) forget() { w.lines, w.dropped, w.console = w.lines[:0], 0, w.console[:0] }

// addHost adds the modules that strategies import from.
func addHost(ctx context.Context, r wazero.Runtime) error {
	b := r.NewHostModuleBuilder(abi.ImportModule)
	b.NewFunctionBuilder().
		WithGoModuleFunction(api.GoModuleFunc(hostLog), valueTypes("iii"), nil).
		Export(abi.ImportLog)
	if _, err := b.Instantiate(ctx); err != nil {
		return err
	}
	b = r.NewHostModuleBuilder(abi.ImportWASI)
	for name, f := range wasi {
		b.NewFunctionBuilder().
			WithGoModuleFunction(f.function(), valueTypes(f.params), valueTypes(f.results)).
			Export(name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

func hostLog(ctx context.Context, mod api.Module, stack []uint64) {
	h, size := hostOf(ctx), min(uint32(stack[2]), maxLine)
	h.charge(priceHostCall + priceHostLine)
	if text, ok := mod.Memory().Read(uint32(stack[1]), size); ok {
		level := slog.Level(int32(stack[0]))
		h.log(max(slog.LevelDebug, min(level, slog.LevelError)), text)
	}
}

// valueTypes spells parameter and result types: i is i32 and I is i64.
func valueTypes(s string) []api.ValueType {
	types := make([]api.ValueType, len(s))
	for i, c := range s {
		types[i] = api.ValueTypeI32
		if c == 'I' {
			types[i] = api.ValueTypeI64
		}
	}
	return types
}

// said ends a message with what the guest logged last, or wrote, if it did.
func (h *host) said() string {
	if len(h.lines) > 0 {
		return ": " + clip(h.lines[len(h.lines)-1].text, maxFaultMessage)
	}
	if len(h.console) > 0 {
		return ": " + clip(string(h.console), maxFaultMessage)
	}
	return ""
}
