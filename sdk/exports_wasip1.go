package rapport

import (
	"unsafe"

	"rapport/sdk/abi"
)

// What the host holds pointers to. Go's heap does not move, and these variables
// keep it.
var (
	manifest []byte
	arena    []byte // for the static block and the call frame
)

//go:wasmimport rapport log
func wasmLog(level int32, ptr unsafe.Pointer, size int32)

func hostLog(level Level, line string) {
	wasmLog(int32(level), unsafe.Pointer(unsafe.StringData(line)), int32(len(line))) //nolint:gosec // the host reads it before it returns
}

//go:wasmexport rapport_abi_1
func wasmABI() {}

//go:wasmexport rapport_describe
func wasmDescribe() int64 {
	var err error
	if manifest, err = Describe(); err != nil {
		panic(err.Error())
	}
	return int64(abi.PackSpan(address(manifest), uint32(len(manifest))))
}

//go:wasmexport rapport_arena
func wasmArena(size int32) int32 {
	if size < 0 {
		return 0
	}
	b := abi.NewArena(int(size) + abi.Align)
	skip := -address(b) & (abi.Align - 1)
	arena = b[skip:][:size]
	return int32(address(arena))
}

//go:wasmexport rapport_configure
func wasmConfigure(ptr, size int32) int32 {
	if uint32(ptr) != address(arena) || uint32(size) > uint32(len(arena)) {
		return statusBadStatic
	}
	status := Configure(arena[:size])
	readyMemory()
	return status
}

//go:wasmexport rapport_rank
func wasmRank(size int32) int64 {
	frame := arena[declared.static.FrameAt:]
	return int64(abi.PackStatus(Call(frame[:min(len(frame), int(uint32(size)))])))
}

func address(b []byte) uint32 {
	return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) //nolint:gosec // the host is told where to find b, which a variable keeps
}
