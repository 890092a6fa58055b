package backup

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"rapport/profilestore/backuplock"
)

// order is the order in which what is in a data folder is copied; see the package. What is
// not in it comes first.
var order = []string{
	"decisions", "evidence", "base", "ledger", "journal", "tables", "snapshots", "catalog", "strategies",
	"schema", "keys", "audit", "FORMAT", "erasures",
}

// derived is what is left out because it follows from the rest, or is of the server that
// has the folder open.
var derived = []string{"deltas", "wasm-cache", "quarantine", "ballast", "LOCK", "INVENTORY", "INVENTORY.copy", backuplock.Name, restoringFile}

// isLeftOut reports whether a name, at the top or deeper, is of something that is not
// copied.
func isLeftOut(name string) bool {
	if !strings.Contains(name, "/") && slices.Contains(derived, name) {
		return true
	}
	switch path.Ext(name) {
	case ".tmp", ".new", ".lock":
		return true
	}
	return false
}

// pointers are files that name others beside or below them: which is the current one, or
// which there are.
var pointers = []string{"CURRENT.json", "HORIZON.json", "CURRENT", "SETS.json", "RELEASE", "LIVE"}

// isPointer reports whether a file in a folder is copied before the folder is listed.
func isPointer(name string) bool {
	return slices.Contains(pointers, strings.TrimSuffix(name, copySuffix))
}

// copySuffix is that of the second copy of a small file.
const copySuffix = ".copy"

// sortSteps puts what is at the top of a data folder into the order in which it is copied.
func sortSteps(names []string) {
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a), slices.Index(order, b)), cmp.Compare(a, b))
	})
}
