// Package fsck checks a data folder file by file, and repairs what can be repaired: the
// work behind rapport doctor --data.
//
// It knows no format. Every room that keeps files checks its own (profilestore, its
// journal and engine, reftable, catalog, ledger, evidence, decisionlog, sandbox, server);
// here the findings are put together, with what is to be done about each. A finding is
// repaired if something has what was lost: a copy, the journal, or whoever derives the
// file again. Whatever is damaged is moved to the folder quarantine, never removed.
//
// Only cmd imports it.
package fsck
