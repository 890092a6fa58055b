package sandbox

// CompilerStats are counts since the runtime was made.
type CompilerStats struct {
	Runs    uint64 // compiler processes started
	Refused uint64 // that found something wrong with the module
	CPU     uint64 // that were killed for the processor time that they took
	Wall    uint64 // that were killed for taking too long
	Memory  uint64 // that ended for want of memory
	Crashed uint64 // that ended in another way which is the module's fault
	Failed  uint64 // that ended in a way which is not, or could not be started

	Hits    uint64 // modules that were compiled already
	Misses  uint64 // modules that were not
	Damaged uint64 // modules that were, but not as they had been left
	Evicted uint64 // compiled modules that were removed to make room
}

// CompilerStats returns counts, each true at some moment of the call. A process that
// ends well is in Runs alone.
func (r *Runtime) CompilerStats() CompilerStats {
	p, c := r.compiler, r.cache
	return CompilerStats{
		Runs: p.runs.Load(), Refused: p.refused.Load(), CPU: p.byCPU.Load(), Wall: p.byWall.Load(),
		Memory: p.byMemory.Load(), Crashed: p.crashed.Load(), Failed: p.failed.Load(),
		Hits: c.hits.Load(), Misses: c.misses.Load(), Damaged: c.damaged.Load(), Evicted: c.evicted.Load(),
	}
}
