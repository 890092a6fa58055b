// Package decisionlog remembers decisions: what each was made from and what came of it.
//
// A decision is a pure function, so its inputs are enough to make it again. A [Record]
// holds them, with the answer, in a few hundred bytes: [Log] keeps records in files,
// [Record.Inputs] puts the decision before package decide again as it was, and a replay
// compares the two answers bit by bit. Explanations and what-ifs are the same machinery
// with other inputs.
//
// The package knows catalogues, profiles and the pipeline. Where versions of catalogues,
// schemas and strategies are kept is for package server to know; see [Sources].
package decisionlog
