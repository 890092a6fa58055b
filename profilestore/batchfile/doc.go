// Package batchfile reads the records of batch files: CSV, NDJSON and Parquet, the
// first two also compressed with gzip or zstd. Whatever the format, a value comes out
// as the text that a CSV file would have for it, so that behind this package there is
// one way in which values are understood.
//
// It knows nothing of schemas, customers and snapshots: package profilestore does,
// which is its only user.
package batchfile
