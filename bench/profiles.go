package bench

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
)

// profiled measures a layer, and writes its profiles if that is asked: of the processor,
// heap, mutexes and blocking, and a trace. All of them slow what is measured down.
func (s *Suite) profiled(ctx context.Context, l Layer) (_ []Record, err error) {
	if s.Profiles == "" {
		return l.measure(s, ctx)
	}
	if err := os.MkdirAll(s.Profiles, 0o750); err != nil {
		return nil, err
	}
	create := func(kind string) (*os.File, error) { return os.Create(filepath.Join(s.Profiles, l.Name+"."+kind)) }
	cpu, err := create("cpu.pprof")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cpu.Close()) }()
	events, err := create("trace")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, events.Close()) }()
	mutexes := runtime.SetMutexProfileFraction(5)
	defer runtime.SetMutexProfileFraction(mutexes)
	runtime.SetBlockProfileRate(10_000)
	defer runtime.SetBlockProfileRate(0)
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nil, err
	}
	if err := trace.Start(events); err != nil {
		pprof.StopCPUProfile()
		return nil, err
	}
	records, err := l.measure(s, ctx)
	trace.Stop()
	pprof.StopCPUProfile()
	for _, kind := range []string{"heap", "mutex", "block"} {
		f, e := create(kind + ".pprof")
		if e == nil {
			e = errors.Join(pprof.Lookup(kind).WriteTo(f, 0), f.Close())
		}
		err = errors.Join(err, e)
	}
	return records, err
}
