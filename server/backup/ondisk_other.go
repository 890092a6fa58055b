//go:build !linux

package backup

import "io/fs"

// onDiskOf returns how the file system knows a file.
func onDiskOf(info fs.FileInfo) *onDisk {
	return &onDisk{Bytes: info.Size(), Modified: info.ModTime().UnixNano()}
}
