// Package traffic offers requests to a server and measures how it answers.
//
// [Offer] is an open loop: requests are due at times that are fixed beforehand, as
// those of customers are, who do not wait for each other. Each is measured from the
// time it was due, not from when it was sent, so that a server that stalls for a
// second shows as many late answers as it would have had customers waiting
// (leaving that out is "coordinated omission"). [Saturate] is a closed loop: so
// many callers, each of whom waits for an answer before asking again. It finds out
// what a server can do at most, and nothing of how long customers wait.
//
// It knows nothing of what is asked: a [Call] is one request. Package bench says
// which; nothing else imports it. It is a leaf.
package traffic
