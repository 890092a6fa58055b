package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"rapport/profilestore"
	"rapport/server/decide"
	"rapport/server/evidence"
)

// budget is the server time that a decision may take at p99.
const budget = time.Millisecond

// metrics are the server's own. Counts that the rooms keep themselves are read
// when they are scraped.
type metrics struct {
	registry     *prometheus.Registry
	decisions    *prometheus.CounterVec
	decideTime   prometheus.Histogram
	overBudget   prometheus.Counter
	degradations *prometheus.CounterVec
	candidates   *prometheus.CounterVec
	syncTime     prometheus.Histogram
	syncEvents   prometheus.Histogram
	errors       *prometheus.CounterVec
	identities   *prometheus.CounterVec
	blocked      prometheus.Counter
	outcomes     *prometheus.CounterVec
	unreserved   prometheus.Counter

	whyNot, whyNotReplays prometheus.Counter
}

// latencyBuckets are for scrapers that do not take native histograms; they have
// a bound at the budget.
var latencyBuckets = []float64{10e-6, 20e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 50e-3, 0.1, 1}

func newMetrics() *metrics {
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: buckets,
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
		})
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		registry:     prometheus.NewRegistry(),
		decisions:    counters("rapport_decisions_total", "Decisions made, by scenario and by what ranked.", "scenario", "ranked_by"),
		decideTime:   histogram("rapport_decision_seconds", "Server time of a decision, from the decoded request to the response message.", latencyBuckets),
		overBudget:   prometheus.NewCounter(prometheus.CounterOpts{Name: "rapport_decisions_over_budget_total", Help: "Decisions that took more than the budget of 1 ms of server time."}),
		degradations: counters("rapport_degradations_total", "Steps down that decisions took, by kind.", "kind"),
		candidates:   counters("rapport_candidates_total", "Candidates of decisions, by what became of them.", "reason"),
		syncTime:     histogram("rapport_journal_sync_seconds", "Time to make a group of events durable.", latencyBuckets),
		syncEvents:   histogram("rapport_journal_group_events", "Events made durable by one fsync.", []float64{1, 2, 5, 10, 20, 50, 100, 200, 512}),
		errors:       counters("rapport_rpc_errors_total", "Requests answered with an error, by procedure and code.", "procedure", "code"),
		identities:   counters("rapport_identity_changes_total", "Changes of identities asked for, by operation and result: changed, unchanged (it was so already), or why it was refused.", "op", "result"),
		outcomes:     counters("rapport_outcomes_total", "Reports of outcomes, by what became of them: accepted, duplicate, or why they were refused.", "result"),
		unreserved:   prometheus.NewCounter(prometheus.CounterOpts{Name: "rapport_decisions_unreserved_total", Help: "Decisions that offered nothing that is limited, because contacts could not be reserved."}),
		blocked:      prometheus.NewCounter(prometheus.CounterOpts{Name: "rapport_decisions_blocked_identity_total", Help: "Decisions for an identity that means nobody, made without a profile."}),

		whyNot:        prometheus.NewCounter(prometheus.CounterOpts{Name: "rapport_whynot_searches_total", Help: "Searches for what would bring an offer in."}),
		whyNotReplays: prometheus.NewCounter(prometheus.CounterOpts{Name: "rapport_whynot_replays_total", Help: "Replays that these searches made."}),
	}
	m.registry.MustRegister(m.decisions, m.decideTime, m.overBudget, m.degradations, m.candidates, m.syncTime, m.syncEvents, m.errors, m.identities, m.blocked, m.outcomes, m.unreserved, m.whyNot, m.whyNotReplays,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// decided counts a decision.
func (m *metrics) decided(scenario string, a *decide.Answer, took time.Duration) {
	m.decisions.WithLabelValues(scenario, a.RankedBy.Name).Inc()
	m.decideTime.Observe(took.Seconds())
	if took > budget {
		m.overBudget.Inc()
	}
	for _, d := range a.Degradations {
		m.degradations.WithLabelValues(degradationName(d.Step)).Inc()
	}
	for reason, n := range a.Funnel {
		if n > 0 {
			m.candidates.WithLabelValues(reasonName(decide.Reason(reason))).Add(float64(n))
		}
	}
}

// observe registers what is read from the rooms at each scrape.
func (m *metrics) observe(s *Server) {
	m.registry.MustRegister(strategyCollector{s.strategies}, contactCollector{s})
	counter := func(name, help string, labels prometheus.Labels, f func() float64) {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, f))
	}
	gauge := func(name, help string, labels prometheus.Labels, f func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, f))
	}
	counter("rapport_admission_refused_total", "Decisions refused because the server was overloaded.", nil, func() float64 { return float64(s.admission.refused.Load()) })
	counter("rapport_scrubbed_bytes_total", "Bytes of snapshots and delta records that were read in the background and compared with what was sealed.", nil, func() float64 { return float64(s.scrub.bytes.Load()) })
	gauge("rapport_damaged_files", "Files that the last reading in the background found damaged.", nil, func() float64 { return float64(s.scrub.found.Load()) })
	gauge("rapport_sources_set_aside", "Sources whose current snapshot is damaged, so that decisions are made without it.", nil, func() float64 { return float64(len(s.store.Snapshots().Problems())) })
	gauge("rapport_admission_waiting", "Decisions that wait to be made.", nil, func() float64 { return float64(s.admission.waiting.Load()) })
	if s.decisionLog != nil {
		observeDecisionLog(s.decisionLog, counter, gauge)
	}
	learned := func(f func(evidence.Stats) float64) func() float64 {
		return func() float64 { return f(s.learning.counter.Stats()) }
	}
	gauge("rapport_evidence_counts", "Counts of what came of offers, by offer, channel and outcome.", nil, learned(func(x evidence.Stats) float64 { return float64(x.Counts) }))
	gauge("rapport_evidence_unknown_counts", "Counts of offers, channels or outcomes that the catalogue in service does not name.", nil, learned(func(x evidence.Stats) float64 { return float64(x.Unknown) }))
	counter("rapport_evidence_left_total", "Presentations and outcomes not counted, because there are too many counts that the catalogue does not name.", nil, learned(func(x evidence.Stats) float64 { return float64(x.Left) }))
	counter("rapport_evidence_save_failures_total", "Times that what propensities are learned from could not be saved.", nil, learned(func(x evidence.Stats) float64 { return float64(x.Failures) }))
	gauge("rapport_evidence_unsaved_entries", "Entries of the journal that a restart would read again for what came of offers.", nil, learned(func(x evidence.Stats) float64 { return float64(x.Position - x.Saved) }))
	const events = "rapport_events_total"
	counter(events, "Events received, by outcome.", prometheus.Labels{"outcome": "accepted"}, func() float64 { return float64(s.store.Stats().Accepted) })
	counter(events, "Events received, by outcome.", prometheus.Labels{"outcome": "duplicate"}, func() float64 { return float64(s.store.Stats().Duplicates) })
	counter(events, "Events received, by outcome.", prometheus.Labels{"outcome": "refused"}, func() float64 { return float64(s.store.Stats().Refused) })
	const cache = "rapport_profile_reads_total"
	counter(cache, "Profiles read, by whether the hot cache had them.", prometheus.Labels{"cache": "hit"}, func() float64 { return float64(s.store.Stats().CacheHits) })
	counter(cache, "Profiles read, by whether the hot cache had them.", prometheus.Labels{"cache": "miss"}, func() float64 { return float64(s.store.Stats().CacheMisses) })
	const fates, fatesHelp = "rapport_event_fates_total", "Accepted events, and changes of fields by them, that did not come in time and in order; see profilestore.Stats."
	for fate, count := range map[string]func(profilestore.Stats) uint64{
		"late":             func(x profilestore.Stats) uint64 { return x.Late },
		"out_of_order":     func(x profilestore.Stats) uint64 { return x.OutOfOrder },
		"future":           func(x profilestore.Stats) uint64 { return x.Future },
		"refused_future":   func(x profilestore.Stats) uint64 { return x.RefusedFuture },
		"change_overtaken": func(x profilestore.Stats) uint64 { return x.Superseded },
		"change_too_late":  func(x profilestore.Stats) uint64 { return x.TooLate },
	} {
		counter(fates, fatesHelp, prometheus.Labels{"fate": fate}, func() float64 { return float64(count(s.store.Stats())) })
	}
	counter("rapport_delta_pruned_total", "Cells, set elements and moves dropped from delta records.", nil, func() float64 { return float64(s.store.Stats().Pruned) })
	gauge("rapport_journal_next", "The sequence number that the next event will get.", nil, func() float64 { return float64(s.store.Stats().JournalNext) })
	journal := func(f func(profilestore.JournalStats) float64) func() float64 {
		return func() float64 { return f(s.store.JournalStats()) }
	}
	gauge("rapport_journal_first", "The sequence number of the oldest event that the journal still has.", nil, journal(func(x profilestore.JournalStats) float64 { return float64(x.First) }))
	gauge("rapport_journal_files", "Files of the journal.", nil, journal(func(x profilestore.JournalStats) float64 { return float64(x.Files) }))
	gauge("rapport_journal_bytes", "Bytes of the journal.", nil, journal(func(x profilestore.JournalStats) float64 { return float64(x.Bytes) }))
	counter("rapport_journal_removed_files_total", "Files of the journal that were removed because they were older than journal-retain.", nil, journal(func(x profilestore.JournalStats) float64 { return float64(x.Removed) }))
	counter("rapport_journal_retain_failures_total", "Times that old files of the journal could not be removed.", nil, journal(func(x profilestore.JournalStats) float64 { return float64(x.RetainFailures) }))
	gauge("rapport_base_position", "The event up to which the base stands for the journal, 0 without a base.", nil, journal(func(x profilestore.JournalStats) float64 { return float64(x.Base) }))
	gauge("rapport_checkpoint_behind_entries", "Events that a restart would apply again.", nil, func() float64 { x := s.store.Stats(); return float64(x.JournalNext - 1 - x.Checkpoint) })
	gauge("rapport_checkpoint_seconds", "How long the last checkpoint took.", nil, func() float64 { return s.store.Stats().CheckpointTook.Seconds() })
	counter("rapport_checkpoints_total", "Checkpoints of the delta records.", nil, func() float64 { return float64(s.store.Stats().Checkpoints) })
	counter("rapport_checkpoint_failures_total", "Checkpoints that could not be made; they are tried again.", nil, func() float64 { return float64(s.store.Stats().CheckpointFailures) })
	gauge("rapport_ready", "1 if the server is ready.", nil, func() float64 {
		if len(s.notReady()) == 0 {
			return 1
		}
		return 0
	})
	gauge("rapport_catalog_version", "The catalogue version in service, 0 if none.", nil, func() float64 {
		if l := s.live.Load(); l != nil {
			return float64(l.compiled.Version)
		}
		return 0
	})
	observeCompiler(s.runtime, counter)
	for i, name := range s.store.Schema().TableNames() {
		labels := prometheus.Labels{"table": name}
		gauge("rapport_table_version", "The version of the reference table in force, 0 if nothing is loaded.", labels, func() float64 { return float64(s.tables.InForce(i).Version) })
		gauge("rapport_table_rows", "Keys in the version of the reference table in force.", labels, func() float64 { return float64(s.tables.InForce(i).Rows) })
	}
	for i, source := range s.store.Schema().Sources() {
		labels := prometheus.Labels{"source": source.ID}
		of := func(f func(generation, asOf int64) float64) func() float64 {
			return func() float64 {
				set := s.store.Snapshots().Acquire()
				defer set.Release()
				if snap := set.Source(i); snap != nil {
					return f(snap.Generation(), snap.AsOf())
				}
				return 0
			}
		}
		gauge("rapport_snapshot_generation", "The snapshot in use, by source; 0 if none.", labels, of(func(generation, _ int64) float64 { return float64(generation) }))
		gauge("rapport_snapshot_as_of_seconds", "The as-of time of the snapshot in use, by source, in Unix seconds; 0 if none.", labels, of(func(_, asOf int64) float64 { return float64(asOf) / 1e6 }))
		gauge("rapport_snapshot_age_seconds", "How long ago the as-of time of the snapshot in use was, by source; 0 if none is.", labels, of(func(_, asOf int64) float64 { return time.Since(time.UnixMicro(asOf)).Seconds() }))
		gauge("rapport_snapshot_stale", "1 if the snapshot in use is older than the schema allows its source.", labels, of(func(_, asOf int64) float64 {
			if s.isStale(source.ID, asOf) {
				return 1
			}
			return 0
		}))
	}
}
