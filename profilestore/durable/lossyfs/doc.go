// Package lossyfs is a file system that loses, at a power cut, whatever POSIX lets a file
// system lose. [Disk] is the model, which knows nothing of an operating system; [Mount]
// puts it under a folder by FUSE, on Linux and as root, so that any process can write to
// it. Only tests import it.
//
// What it promises is what fsync(2) does, and no more:
//
//   - The content and the size of a file are durable when an fsync of that file, or an
//     msync of a map of it, has returned. Until then each sector of 512 bytes may be as
//     it was at the last sync or as it is now, and the size any that it has had since.
//   - A name is durable when an fsync of its folder has returned: that a file was made,
//     renamed or removed. An fsync of the file alone does not make its name durable, nor
//     does that of a folder the names of the folders above.
//   - A rename happens wholly or not at all; who is renamed over another is never
//     neither.
//   - Changes of names reach the disk in any order, but not one without another that it
//     builds on, which is of the same name or the same file.
//
// ext4 and XFS keep more. Both write changes of names in the order in which they were
// made, and an fsync of a new file makes the names above it durable as well; ext4 also
// writes the content of a file that is renamed over another before the rename
// (auto_da_alloc). Software that builds on that is right on these file systems and by
// luck; here it fails. What both have been seen to do and this does not: give a file
// blocks that hold what other files held before, and fail an fsync.
package lossyfs
