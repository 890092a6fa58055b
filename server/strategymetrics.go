package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"rapport/server/sandbox"
)

// strategyCollector reads at each scrape what the versions of strategies have
// done. Versions come and go, and most of those that are kept do nothing, so it
// has only those that are in service or have done something.
type strategyCollector struct{ strategies *strategies }

func strategyMetric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append([]string{"strategy", "version"}, labels...), nil)
}

var (
	strategyShare     = strategyMetric("rapport_strategy_share", "The share of the customers for whom a version ranks, 0 to 1; in shadow 0.", "stage")
	strategyProblem   = strategyMetric("rapport_strategy_unusable", "1 for a version that is kept and can't be used.")
	strategyRanked    = strategyMetric("rapport_strategy_rankings_total", "Decisions ranked, by version.")
	strategyFuel      = strategyMetric("rapport_strategy_fuel_total", "Fuel used for the decisions ranked, by version: about one unit an instruction.")
	strategyBusy      = strategyMetric("rapport_strategy_busy_total", "Decisions not ranked because no instance came free in time, by version.")
	strategyFaults    = strategyMetric("rapport_strategy_faults_total", "Decisions in which a strategy failed, by kind.", "kind")
	strategySuspended = strategyMetric("rapport_strategy_suspended_total", "Decisions for which a version was not called because it kept failing.")
	strategyBreaker   = strategyMetric("rapport_strategy_breaker_open", "1 while a version that kept failing is suspended: not called, or a call at a time is tried; else 0.")
	shadowCompared    = strategyMetric("rapport_shadow_comparisons_total", "Rankings in shadow that were compared with the live version's.")
	shadowDiffers     = strategyMetric("rapport_shadow_differences_total", "Rankings in shadow that differ from the live version's: in the winner, in the slate, in any score.", "what")
	shadowDropped     = strategyMetric("rapport_shadow_dropped_total", "Decisions that were not compared because the shadow was behind.")
	shadowSuspended   = strategyMetric("rapport_shadow_suspended_total", "Decisions that were not compared because the version in shadow kept failing.")
	shadowFaults      = strategyMetric("rapport_shadow_faults_total", "Rankings in shadow that failed, by kind.", "kind")
	poolInstances     = strategyMetric("rapport_strategy_instances", "Instances of a version, in all scenarios; those that are being closed are among them.")
	poolFree          = strategyMetric("rapport_strategy_instances_free", "Instances of a version that wait for a call.")
	poolReplaced      = strategyMetric("rapport_strategy_instances_replaced_total", "Instances thrown away and made anew: their memory had grown, or their call did not return (fault).", "reason")
	poolMemory        = strategyMetric("rapport_strategy_memory_bytes", "Memory of the instances of a version: the images that they begin with (image), and what they have for themselves alone (private).", "kind")
	poolRescans       = strategyMetric("rapport_strategy_pagemap_reads_total", "Times that the pages were looked for which calls have written.")
)

// Describe sends every description.
func (strategyCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		strategyShare, strategyProblem, strategyRanked, strategyFuel, strategyBusy, strategyFaults, strategySuspended, strategyBreaker,
		shadowCompared, shadowDiffers, shadowDropped, shadowSuspended, shadowFaults,
		poolInstances, poolFree, poolReplaced, poolMemory, poolRescans,
	} {
		to <- d
	}
}

// Collect sends the counts of every version.
func (c strategyCollector) Collect(to chan<- prometheus.Metric) {
	type key struct{ name, version string }
	sent := make(map[key]bool)
	for _, v := range c.strategies.list("") {
		if sent[key{v.name, v.version}] {
			continue // a module in the folder has the version of one that ships
		}
		sent[key{v.name, v.version}] = true
		pools := v.counts.pools.stats()
		m := versionMetrics{to: to, labels: []string{v.name, v.version}, used: pools.instances > 0}
		m.stage(v, c.strategies.release(v.name))
		m.rankings(v.counts)
		m.shadow(v.counts)
		m.pools(pools)
	}
}

// versionMetrics sends what there is to say of a version.
type versionMetrics struct {
	to     chan<- prometheus.Metric
	labels []string
	used   bool // it is released, or a scenario names it
}

func (m *versionMetrics) gauge(d *prometheus.Desc, value float64, labels ...string) {
	m.to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, append(m.labels[:2:2], labels...)...)
}

// counter sends a count, if the version is used or has done something.
func (m *versionMetrics) counter(d *prometheus.Desc, n uint64, labels ...string) {
	if m.used || n > 0 {
		m.to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), append(m.labels[:2:2], labels...)...)
	}
}

// stage says how far the version is in service, and whether it can be called.
func (m *versionMetrics) stage(v *strategyVersion, r release) {
	suspended := false
	if v.problem != nil {
		m.gauge(strategyProblem, 1)
	} else {
		state, _ := v.module.Breaker()
		suspended = state != sandbox.BreakerClosed
	}
	released := true
	switch {
	case r.Live == v.version && r.Candidate != nil:
		m.gauge(strategyShare, 1-r.Candidate.Share/100, "live")
	case r.Live == v.version:
		m.gauge(strategyShare, 1, "live")
	case r.Candidate != nil && r.Candidate.Version == v.version:
		m.gauge(strategyShare, r.Candidate.Share/100, string(r.Candidate.Stage))
	default:
		released = false
	}
	m.used = m.used || released
	switch {
	case suspended:
		m.gauge(strategyBreaker, 1)
	case m.used || v.counts.suspended.Load() > 0:
		m.gauge(strategyBreaker, 0)
	}
}

func (m *versionMetrics) rankings(c *counts) {
	m.counter(strategyRanked, c.ranked.Load())
	m.counter(strategyFuel, c.fuel.Load())
	m.counter(strategyBusy, c.busy.Load())
	m.counter(strategySuspended, c.suspended.Load())
	for kind, n := range c.faults.get() {
		m.counter(strategyFaults, n, kind)
	}
}

func (m *versionMetrics) shadow(c *counts) {
	s := &c.shadow
	m.counter(shadowCompared, s.comparisons.Load())
	m.counter(shadowDiffers, s.winner.Load(), "winner")
	m.counter(shadowDiffers, s.slate.Load(), "slate")
	m.counter(shadowDiffers, s.score.Load(), "score")
	m.counter(shadowDropped, s.dropped.Load())
	m.counter(shadowSuspended, s.suspended.Load())
	for kind, n := range s.faults.get() {
		m.counter(shadowFaults, n, kind)
	}
}

func (m *versionMetrics) pools(p poolStats) {
	if p.instances > 0 {
		m.gauge(poolInstances, float64(p.instances))
		m.gauge(poolFree, float64(p.free))
		m.gauge(poolMemory, float64(p.image), "image")
		m.gauge(poolMemory, float64(p.private), "private")
	}
	m.counter(poolReplaced, p.grown, "grown")
	m.counter(poolReplaced, p.faulted, "fault")
	m.counter(poolRescans, p.rescans)
}
