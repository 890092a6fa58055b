package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"rapport/server/decisionlog"
)

// register registers a metric whose value is asked for.
type register func(name, help string, labels prometheus.Labels, f func() float64)

// observeDecisionLog registers the metrics of the decision log.
func observeDecisionLog(l *decisionlog.Log, counter, gauge register) {
	of := func(f func(*decisionlog.Stats) float64) func() float64 {
		return func() float64 {
			stats := l.Stats()
			return f(&stats)
		}
	}
	const written, dropped = "rapport_decision_log_records_total", "rapport_decision_log_dropped_total"
	counter(written, "Decisions written to the log.", nil, of(func(s *decisionlog.Stats) float64 { return float64(s.Written) }))
	for cause, count := range map[string]func(*decisionlog.Stats) uint64{
		"queue_full":  func(s *decisionlog.Stats) uint64 { return s.DroppedQueue },
		"write_error": func(s *decisionlog.Stats) uint64 { return s.DroppedWrite },
		"fault":       func(s *decisionlog.Stats) uint64 { return s.DroppedFault },
	} {
		counter(dropped, "Decisions that were made and are not in the log.", prometheus.Labels{"cause": cause}, of(func(s *decisionlog.Stats) float64 { return float64(count(s)) }))
	}
	counter("rapport_decision_log_written_bytes_total", "Bytes written to the decision log.", nil, of(func(s *decisionlog.Stats) float64 { return float64(s.WrittenBytes) }))
	counter("rapport_decision_log_raw_bytes_total", "Bytes written to the decision log, before they were packed.", nil, of(func(s *decisionlog.Stats) float64 { return float64(s.RawBytes) }))
	const failed = "rapport_decision_log_errors_total"
	counter(failed, "Writes and syncs of the decision log that failed.", prometheus.Labels{"operation": "write"}, of(func(s *decisionlog.Stats) float64 { return float64(s.WriteErrors) }))
	counter(failed, "Writes and syncs of the decision log that failed.", prometheus.Labels{"operation": "sync"}, of(func(s *decisionlog.Stats) float64 { return float64(s.SyncErrors) }))
	counter("rapport_decision_log_damaged_total", "Parts of the decision log's files that could not be read.", nil, of(func(s *decisionlog.Stats) float64 { return float64(s.Damaged) }))
	counter("rapport_decision_log_removed_segments_total", "Files of the decision log that were removed, being too old or too many.", nil, of(func(s *decisionlog.Stats) float64 { return float64(s.Removed) }))
	gauge("rapport_decision_log_failing", "1 if decisions can't be written to the log at present.", nil, of(func(s *decisionlog.Stats) float64 {
		if s.Err != nil {
			return 1
		}
		return 0
	}))
	gauge("rapport_decision_log_records", "Decisions in the log.", nil, of(func(s *decisionlog.Stats) float64 { return float64(s.Records) }))
	gauge("rapport_decision_log_segments", "Files of the decision log.", nil, of(func(s *decisionlog.Stats) float64 { return float64(s.Segments) }))
	gauge("rapport_decision_log_bytes", "Bytes of the decision log's files.", nil, of(func(s *decisionlog.Stats) float64 { return float64(s.Bytes) }))
	gauge("rapport_decision_log_waiting_bytes", "Memory of decisions that wait to be written, by estimate.", nil, of(func(s *decisionlog.Stats) float64 { return float64(s.Waiting) }))
	gauge("rapport_decision_log_oldest_timestamp_seconds", "When the oldest decision in the log was made; 0 if there is none.", nil, of(func(s *decisionlog.Stats) float64 {
		if s.Oldest.IsZero() {
			return 0
		}
		return float64(s.Oldest.UnixMilli()) / 1e3
	}))
}
