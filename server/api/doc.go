// Package api holds the API of Rapport: the .proto files under rapport/v1, the one
// schema of catalogue files, wire and documentation, and the Go code generated
// from them beside it.
//
// After a change to a .proto file, run
//
//	go generate ./server/api
//
// The package itself is empty. Its packages rapportv1 and rapportv1connect may be
// imported by server, server/catalog, bench and cmd; the packages below them work
// on types of their own.
package api

//go:generate go run ./generate
