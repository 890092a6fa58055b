// Package catalog reads what people write: profile schemas and catalogues of
// channels, touchpoints, offers and scenarios.
//
// It parses their YAML files, reports every mistake at once with file, line and
// column, compiles a catalogue into the form that decisions are made from
// ([Compiled]), and keeps the published versions on disk ([Store]). The files'
// one schema are the protobuf messages of the API.
//
// It makes no decisions, runs no strategy and answers no RPC: what strategies
// need is asked through [StrategyChecker]. Package decide and all above it may
// import it.
package catalog
