// Package backup copies data folders to a folder of backups, also while a server uses
// them, and puts them back.
//
// It knows which files of a data folder there are and in which order they have to be
// copied; it does not know what is in them, and it does not open stores: it imports nothing of
// package server. The command imports it.
//
// # A folder of backups
//
//	RAPPORT-BACKUP         the format
//	backups/ID             what was copied: a line with a checksum, then a [Manifest]
//	objects/ab/abcdef…     pieces of files, by the SHA-256 of their content
//	erased/                who was erased, as the newest backup knows it
//	tmp/                   what is being written
//	lock                   held by whoever writes (alone) or reads (together)
//
// A file is cut into pieces of 4 MiB and each is stored once, whichever backups and files
// have it. So a second backup copies what has changed: of a file that has only grown its
// last piece, of one that was renamed nothing. Nothing is ever changed in place, and links
// are not needed. A file whose size, times and number on the disk are those of the last
// backup is not even read.
//
// Pieces are made durable before the manifest that names them, and the manifest is written
// last, in one step: before that there is no backup, and what one that was killed had
// copied is found by the next.
//
// # What is copied, and in which order
//
// Everything but what follows from the rest: the delta records (a view of the journal),
// compiled strategies, locks, what is set aside or being written. A file that this package
// does not know is copied.
//
// A server goes on meanwhile, so files are copied at different moments. What is put
// together from them must be a state that the server could have found after a crash.
// Two kinds of relations decide the order:
//
//  1. What must not be ahead of another is copied before it. The counts of evidence and a
//     base of delta records name a place in the journal, and the ledger ends a promise when the journal has the contact
//     ("for a moment both count, never neither"): both before the journal. Who was erased
//     must never be behind: last of all.
//  2. What names another is copied before what it names, which is then there: it is made
//     first, never changed, and not removed while backuplock is held. So the decision log
//     goes before catalogues, schemas, strategies and tables; the journal before the sets of
//     table versions; snapshots before the schema; within a folder the file that says what
//     is current before the folder is listed. The audit log names everything that has
//     changed, but is written before each change: a change without its record must not be,
//     so it is the last but for erasures.
//
// So: files that are not known (they may be views of the journal), the decision log,
// evidence, base, ledger, journal, tables, snapshots, catalogues, strategies, schema, keys,
// audit, format, erasures. Of the journal's last file that much is copied as has whole
// groups, of the audit log whole lines.
//
// What was acknowledged before the backup began was in its file by then, so it is in the
// copy; later events may be, each whole.
//
// All this is done twice. The first round takes the bulk, however long that is; the second
// finds nearly everything copied already and takes seconds, and only it is the backup: the
// files that belong together are copied close to each other.
package backup
