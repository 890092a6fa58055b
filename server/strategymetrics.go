package server

import "github.com/prometheus/client_golang/prometheus"

// strategyCollector reads at each scrape what the versions of strategies have
// done. Versions come and go, and most of those that are kept do nothing, so it
// has only those that are in service or have done something.
type strategyCollector struct{ strategies *strategies }

func strategyMetric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append([]string{"strategy", "version"}, labels...), nil)
}

var (
	strategyShare   = strategyMetric("rapport_strategy_share", "The share of the customers for whom a version ranks, 0 to 1; in shadow 0.", "stage")
	strategyProblem = strategyMetric("rapport_strategy_unusable", "1 for a version that is kept and can't be used.")
	strategyRanked  = strategyMetric("rapport_strategy_rankings_total", "Decisions ranked, by version.")
	strategyBusy    = strategyMetric("rapport_strategy_busy_total", "Decisions not ranked because no instance came free in time, by version.")
	strategyFaults  = strategyMetric("rapport_strategy_faults_total", "Decisions in which a strategy failed, by kind.", "kind")
	shadowCompared  = strategyMetric("rapport_shadow_comparisons_total", "Rankings in shadow that were compared with the live version's.")
	shadowDiffers   = strategyMetric("rapport_shadow_differences_total", "Rankings in shadow that differ from the live version's: in the winner, in the slate, in any score.", "what")
	shadowDropped   = strategyMetric("rapport_shadow_dropped_total", "Decisions that were not compared because the shadow was behind.")
	shadowFaults    = strategyMetric("rapport_shadow_faults_total", "Rankings in shadow that failed, by kind.", "kind")
)

// Describe sends every description.
func (strategyCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		strategyShare, strategyProblem, strategyRanked, strategyBusy, strategyFaults,
		shadowCompared, shadowDiffers, shadowDropped, shadowFaults,
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
		send := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
			to <- prometheus.MustNewConstMetric(d, kind, value, append([]string{v.name, v.version}, labels...)...)
		}
		if v.problem != nil {
			send(strategyProblem, prometheus.GaugeValue, 1)
		}
		inService := true
		switch r := c.strategies.release(v.name); {
		case r.Live == v.version && r.Candidate != nil:
			send(strategyShare, prometheus.GaugeValue, 1-r.Candidate.Share/100, "live")
		case r.Live == v.version:
			send(strategyShare, prometheus.GaugeValue, 1, "live")
		case r.Candidate != nil && r.Candidate.Version == v.version:
			send(strategyShare, prometheus.GaugeValue, r.Candidate.Share/100, string(r.Candidate.Stage))
		default:
			inService = false
		}
		counter := func(d *prometheus.Desc, n uint64, labels ...string) {
			if inService || n > 0 {
				send(d, prometheus.CounterValue, float64(n), labels...)
			}
		}
		counter(strategyRanked, v.counts.ranked.Load())
		counter(strategyBusy, v.counts.busy.Load())
		for kind, n := range v.counts.faults.get() {
			counter(strategyFaults, n, kind)
		}
		shadow := &v.counts.shadow
		counter(shadowCompared, shadow.comparisons.Load())
		counter(shadowDiffers, shadow.winner.Load(), "winner")
		counter(shadowDiffers, shadow.slate.Load(), "slate")
		counter(shadowDiffers, shadow.score.Load(), "score")
		counter(shadowDropped, shadow.dropped.Load())
		for kind, n := range shadow.faults.get() {
			counter(shadowFaults, n, kind)
		}
	}
}
