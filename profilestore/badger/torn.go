package badger

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// removeEmpty removes logs that have no byte. Badger makes a log's file, then gives it
// its size, then writes; when the power fails between the first two, the name may be there
// alone, and Badger opens no more ("Create a new file"). Nothing is lost with it.
func removeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("badger: %w", err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".mem") && !strings.HasSuffix(e.Name(), ".vlog") {
			continue
		}
		info, err := e.Info()
		if err == nil && info.Size() == 0 {
			err = os.Remove(filepath.Join(dir, e.Name()))
		}
		if err != nil {
			return fmt.Errorf("badger: %w", err)
		}
	}
	return nil
}
