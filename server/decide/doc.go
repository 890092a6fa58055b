// Package decide is the decision: from a customer's profile, a compiled
// catalogue and a ranker to a slate, with a reason for every candidate that is
// not on it.
//
// It is pure: time and randomness come with the request, profiles and rankers
// through small interfaces. It knows no protobuf, HTTP, wazero or Badger; package
// server puts it behind an API, package sandbox ranks for it.
package decide
