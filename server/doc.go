// Package server is the decision server: it opens a data folder, keeps the
// current catalogue, snapshots and strategies in service, and answers the API
// over Connect, gRPC, gRPC-Web and JSON, with health, readiness and metrics
// beside it.
//
// It puts the rooms together and owns none of their work: profiles are package
// profilestore's, catalogues package catalog's, decisions package decide's,
// strategies package sandbox's. The commands in cmd are its only users, besides
// the benchmarks.
package server
