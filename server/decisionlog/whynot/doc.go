// Package whynot finds what would bring an offer into a decision that it is not in: the
// smallest sets of changes with which the same decision, made again, has the offer on
// its slate.
//
// Every set that it returns was verified by a replay with exactly its changes, and every
// smaller part of the set by a replay in which the offer is not where it was wanted. What
// it does not return it has not proved impossible: see [Search].
//
// The package is pure, as package decide is: it knows catalogues, inputs of decisions and
// the pipeline, but no protobuf and no store.
package whynot
