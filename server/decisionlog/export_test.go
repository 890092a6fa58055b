package decisionlog

import "context"

// AddRecord adds a record as Add does a decision.
func (l *Log) AddRecord(r *Record, size int64) { l.add(item{r: r, size: size}) }

// Write returns when what was added before can be found; nothing is synced for it.
func (l *Log) Write(ctx context.Context) error { return l.await(ctx, false) }

// Retain removes what is too old or too much, as is otherwise done now and then.
func (l *Log) Retain() { l.retain() }

// EstimateOf is how much of the queue a decision takes.
func EstimateOf(d *Decision) int64 { return sizeOf(d) }
