// Package bench measures Rapport as ratios against a limit: the same work done
// the fastest way there is, in the same run. Machines are shared and their speed
// drifts, so an absolute time says little; what is measured in turn, a little of
// one and a little of the other, drifts together.
//
// It holds the harness ([Compare]) and the layers that are measured. Nothing
// imports it but commands; flags and printing to terminals are theirs.
package bench
