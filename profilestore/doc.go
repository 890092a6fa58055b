// Package profilestore keeps the unified view of every customer: batch tags from
// several sources, merged at read with what events have changed since.
//
// It owns the schema of a profile, the batch row, the delta record, the merge of
// the two, and the [Store] that puts them on a journal and an [Engine]. The
// merge is pure; engines only store bytes by key (package badger is the embedded
// one, package memory one for tests). What an event does to a field is said by
// rules (package rules), which reach the store as an [EventMapper]. It also keeps
// contacts and outcomes, the [History] of a customer, by names of offers, channels
// and the like.
//
// What these names mean, it does not know; nor anything of strategies or RPC. It imports
// nothing of package server. Anything above it may import it.
package profilestore
