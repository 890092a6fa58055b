package bench

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// Environment is what figures depend on beside the program.
type Environment struct {
	Processor  string `json:"processor"`
	Processors int    `json:"processors"` // that this process may use
	Memory     int64  `json:"memory"`     // bytes
	System     string `json:"system"`     // its kernel, with the version
	Arch       string `json:"arch"`       // as Go names it, with the level such as v3
	Go         string `json:"go"`
	Disk       string `json:"disk"`  // the file system of the folder for temporary files
	Guest      bool   `json:"guest"` // in a virtual machine
	Race       bool   `json:"race,omitempty"`
	// Revision is of the program, not of the machine.
	Revision string `json:"revision"`
	// Load is how many tasks ran or wanted to when the run began. It is told, not compared.
	Load float64 `json:"load"`
}

// ReadEnvironment returns that of this process.
func ReadEnvironment() Environment {
	e := Environment{
		Processor: "unknown", Processors: runtime.GOMAXPROCS(0), System: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version(),
		Disk: fileSystem(os.TempDir()),
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		e.System += " " + strings.TrimSpace(string(b))
	}
	for name, value := range keyed("/proc/cpuinfo") {
		switch name {
		case "model name":
			e.Processor = value
		case "flags":
			e.Guest = strings.Contains(" "+value+" ", " hypervisor ")
		}
	}
	if kb, err := strconv.ParseInt(strings.TrimSuffix(keyed("/proc/meminfo")["MemTotal"], " kB"), 10, 64); err == nil {
		e.Memory = kb << 10
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		first, _, _ := strings.Cut(string(b), " ")
		e.Load, _ = strconv.ParseFloat(first, 64)
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		modified := false
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				e.Revision = s.Value[:min(12, len(s.Value))]
			case "vcs.modified":
				modified = s.Value == "true"
			case "-race":
				e.Race = s.Value == "true"
			case "GOAMD64", "GOARM64":
				e.Arch += " " + s.Value
			}
		}
		if modified {
			e.Revision += " with changes"
		}
	}
	return e
}

// keyed reads a file of lines "name : value"; the first of a name counts.
func keyed(path string) map[string]string {
	out := make(map[string]string)
	f, err := os.Open(path)
	if err != nil {
		return out
	}
	defer f.Close() //nolint:errcheck // only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if name = strings.TrimSpace(name); out[name] == "" {
			out[name] = strings.TrimSpace(value)
		}
	}
	return out
}

// Unlike returns in which ways two environments differ so that figures can't be compared;
// empty if in none.
func (e *Environment) Unlike(other *Environment) []string {
	var out []string
	differ := func(what string, a, b any) {
		if a != b {
			out = append(out, fmt.Sprintf("%s: %v and %v", what, a, b))
		}
	}
	differ("processor", e.Processor, other.Processor)
	differ("processors", e.Processors, other.Processors)
	differ("memory", formatBytes(float64(e.Memory)), formatBytes(float64(other.Memory)))
	differ("system", e.System, other.System)
	differ("architecture", e.Arch, other.Arch)
	differ("Go", e.Go, other.Go)
	differ("disk", e.Disk, other.Disk)
	differ("virtual machine", e.Guest, other.Guest)
	differ("race detector", e.Race, other.Race)
	return out
}

// String returns the environment in a line.
func (e *Environment) String() string {
	guest := ""
	if e.Guest {
		guest = ", a virtual machine"
	}
	return fmt.Sprintf("%s, %d processors%s, %s memory, %s, %s, %s on %s; load %.1f", e.Processor, e.Processors, guest,
		formatBytes(float64(e.Memory)), e.System, e.Go, e.Arch, e.Disk, e.Load)
}
