// Package explain says why a decision was what it was: for each candidate the first
// thing that removed it, with the values that it saw, and for those that were ranked the
// parts of the score.
//
// An explanation is a replay that is watched. What the pipeline does not keep, such as
// the condition of a rule that was false, is found by asking again what the pipeline
// asked, in its order. So it is true only if the replay is exact; where it can't be, or
// differs, an [Explanation] has what the record says and nothing else.
//
// The package hides nothing: who shows an explanation decides what may be seen of it, by
// the [Show] that it gives. It knows catalogues, the pipeline and its records, and no
// protobuf.
package explain
