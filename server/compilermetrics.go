package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"rapport/server/sandbox"
)

// observeCompiler registers what there is to say of the processes that compile
// strategies, and of the folder in which compiled ones are kept. counter registers
// a counter.
func observeCompiler(r *sandbox.Runtime, counter func(name, help string, labels prometheus.Labels, f func() float64)) {
	type stats = sandbox.CompilerStats
	add := func(name, help string, labels prometheus.Labels, f func(stats) uint64) {
		counter(name, help, labels, func() float64 { return float64(f(r.CompilerStats())) })
	}
	add("rapport_compiler_processes_total", "Processes that were started to check and compile a strategy.", nil, func(s stats) uint64 { return s.Runs })
	for reason, f := range map[string]func(stats) uint64{
		"refused": func(s stats) uint64 { return s.Refused },
		"cpu":     func(s stats) uint64 { return s.CPU },
		"wall":    func(s stats) uint64 { return s.Wall },
		"memory":  func(s stats) uint64 { return s.Memory },
		"crashed": func(s stats) uint64 { return s.Crashed },
		"failed":  func(s stats) uint64 { return s.Failed },
	} {
		add("rapport_compiler_failures_total", "Strategies that were not compiled: the module is invalid (refused), took too much processor time (cpu), time (wall) or memory, or made the compiler crash; or the process failed for a reason that is not the module's.",
			prometheus.Labels{"reason": reason}, f)
	}
	for result, f := range map[string]func(stats) uint64{
		"hit":     func(s stats) uint64 { return s.Hits },
		"miss":    func(s stats) uint64 { return s.Misses },
		"damaged": func(s stats) uint64 { return s.Damaged },
	} {
		add("rapport_compiler_cache_total", "Strategies looked for among those that are compiled already, by whether they were there, as they had been left.",
			prometheus.Labels{"result": result}, f)
	}
	add("rapport_compiler_cache_evicted_total", "Compiled strategies that were removed to make room for others.", nil, func(s stats) uint64 { return s.Evicted })
}
