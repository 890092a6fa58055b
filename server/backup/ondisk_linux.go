package backup

import (
	"io/fs"
	"syscall"
)

// onDiskOf returns how the file system knows a file.
func onDiskOf(info fs.FileInfo) *onDisk {
	on := &onDisk{Bytes: info.Size(), Modified: info.ModTime().UnixNano()}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		on.Changed, on.Number = s.Ctim.Nano(), s.Ino
	}
	return on
}
