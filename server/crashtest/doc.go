// Package crashtest breaks servers and looks whether they have kept what they promised.
//
// It has no code but tests. They start real server processes, work with them over the
// network, stop them in the middle of it, and start them again on what is left:
//
//	TestKill       kill -9; what was written is there, what was under way is not
//	TestPowerCut   the power fails; of an ext4 file system only what has reached the disk is there
//	TestLossyDisk  the power fails on a file system that keeps no more than POSIX promises
//
// What is done is in lanes, one for each kind of work: events, outcomes, loads and so on.
// A lane does one thing after another and knows what was acknowledged and what was in
// doubt, that is: asked for, and not answered when the server died. After a restart it
// demands that everything acknowledged is there once, that of what was in doubt each is
// there wholly or not at all, and nothing else. All lanes work at the same time. To have
// another kind of work tested, write a lane and name it in newWorld.
//
// How a server is stopped and what is then left is a disk's matter; see the type disk.
// Package lossyfs is what loses
// unsynced writes.
package crashtest
