package author

import (
	"fmt"
	"os"
	"path/filepath"
)

// goVersion is the oldest version of Go that builds the SDK. A test compares it
// with go.mod.
const goVersion = "1.26.0"

var golang = &Language{
	ID: "go", Title: "Go", Source: "strategy.go",
	Marks: []string{"go.mod"},
	Tools: []*Tool{goTool},
	files: map[string]string{
		"strategy.go":             "template/go/strategy.go",
		"strategy_test.go":        "template/go/strategy_test.go",
		"README.md":               "template/go/README.md",
		"go.mod":                  "\nmodule strategy/my_strategy\n\ngo " + goVersion + "\n\nrequire rapport v0.0.0\n\n// The SDK is not published: this is the copy that the project carries.\nreplace rapport => ./rapport\n",
		"rapport/go.mod":          "\nmodule rapport\n\ngo " + goVersion + "\n",
		"rapport/sdk":             ".",
		"rapport/sdk/abi":         "abi",
		"rapport/sdk/rapporttest": "rapporttest",
		"rapport/sdk/ABI.md":      "ABI.md",
		"cases":                   "template/cases",
		".gitignore":              "\n/strategy.wasm\n",
	},
	environment: []string{"GOOS=wasip1", "GOARCH=wasm", "GOWORK=off", "CGO_ENABLED=0"},
	steps: func(b *build) ([][]string, error) {
		command := append(b.tool(goTool), "build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false")
		if !b.Names {
			command = append(command, "-ldflags=-s -w")
		}
		return [][]string{append(command, "-o", b.out, ".")}, nil
	},
}

var c = &Language{
	ID: "c", Title: "C", Source: "strategy.c",
	Marks: []string{"*.c"},
	Tools: []*Tool{clangTool, wasmLDTool},
	files: map[string]string{
		"strategy.c":    "template/c/strategy.c",
		"README.md":     "template/c/README.md",
		"sdk/rapport.h": "c/rapport.h",
		"sdk/ABI.md":    "ABI.md",
		"cases":         "template/cases",
		".gitignore":    "\n/strategy.wasm\n",
	},
	steps: func(b *build) ([][]string, error) {
		sources, err := filepath.Glob(filepath.Join(b.project.Dir, "*.c"))
		if err != nil {
			return nil, err
		}
		if len(sources) != 1 {
			return nil, fmt.Errorf("%d files *.c in %s: a strategy in C is one source file, which may include others", len(sources), b.project.Dir)
		}
		command := append(b.tool(clangTool), "--target=wasm32", "-std=c11", "-O2", "-msimd128", "-ffp-contract=off", "-nostdlib",
			"-Wall", "-Wextra", "-fuse-ld="+b.tool(wasmLDTool)[0], "-Wl,--no-entry", "-Wl,-z,stack-size=8192")
		if !b.Names {
			command = append(command, "-Wl,--strip-all")
		}
		return [][]string{append(command, "-o", b.out, filepath.Base(sources[0]))}, nil
	},
}

var assemblyScript = &Language{
	ID: "assemblyscript", Title: "AssemblyScript", Source: "strategy.ts",
	Marks: []string{"package.json"},
	Tools: []*Tool{nodeTool, ascTool},
	files: map[string]string{
		"strategy.ts":       "template/assemblyscript/strategy.ts",
		"README.md":         "template/assemblyscript/README.md",
		"package.json":      "assemblyscript/package.json",
		"package-lock.json": "assemblyscript/package-lock.json",
		"tsconfig.json":     "\n{\n  \"extends\": \"assemblyscript/std/assembly.json\",\n  \"include\": [\"./*.ts\", \"./sdk/*.ts\"]\n}\n",
		"sdk":               "assemblyscript/assembly",
		"sdk/ABI.md":        "ABI.md",
		"cases":             "template/cases",
		".gitignore":        "\n/strategy.wasm\n/node_modules/\n",
	},
	steps: func(b *build) ([][]string, error) {
		command := append(b.tool(ascTool), "strategy.ts", "--baseDir", ".", "-O3", "--runtime", "stub",
			"--exportStart", "_initialize", "--use", "abort=sdk/rapport/abort")
		if b.Names {
			command = append(command, "--debug")
		}
		return [][]string{append(command, "-o", b.out)}, nil
	},
}

var rust = &Language{
	ID: "rust", Title: "Rust", Source: "strategy.rs",
	Marks: []string{"Cargo.toml"},
	Tools: []*Tool{rustcTool},
	files: map[string]string{
		"strategy.rs":    "template/rust/strategy.rs",
		"README.md":      "template/rust/README.md",
		"Cargo.toml":     "\n[package]\nname = \"my_strategy\"\nversion = \"0.1.0\"\nedition = \"2021\"\npublish = false\n\n[lib]\npath = \"strategy.rs\"\ncrate-type = [\"cdylib\"]\n\n# The SDK is not published: this is the copy that the project carries.\n[dependencies]\nrapport = { path = \"sdk\" }\n\n[profile.dev]\npanic = \"abort\"\n\n[profile.release]\npanic = \"abort\"\n",
		"sdk/Cargo.toml": "rust/Cargo.toml",
		"sdk/src":        "rust/src",
		"sdk/ABI.md":     "ABI.md",
		"cases":          "template/cases",
		".gitignore":     "\n/strategy.wasm\n/target/\n/Cargo.lock\n",
	},
	steps: func(b *build) ([][]string, error) {
		here, err := filepath.Abs(b.project.Dir)
		if err != nil {
			return nil, err
		}
		rlib := filepath.Join("target", "librapport.rlib")
		if err := os.MkdirAll(filepath.Join(b.project.Dir, "target"), 0o777); err != nil { //nolint:gosec // a project is for its author to share, by the umask
			return nil, err
		}
		command := func(kind string, more ...string) []string {
			return append(append(b.tool(rustcTool), "--edition", "2021", "--target", "wasm32-unknown-unknown", "--crate-type", kind,
				"-C", "opt-level=3", "-C", "panic=abort", "-C", "codegen-units=1",
				"--remap-path-prefix", here+"=."), more...) // names of files are in messages of panics
		}
		strategy := command("cdylib", "--crate-name", "strategy", "-C", "lto", "-C", "link-arg=-zstack-size=65536", "--extern", "rapport="+rlib)
		if !b.Names {
			strategy = append(strategy, "-C", "strip=symbols")
		}
		return [][]string{
			command("rlib", "--crate-name", "rapport", "-o", rlib, filepath.Join("sdk", "src", "lib.rs")),
			append(strategy, "-o", b.out, "strategy.rs"),
		}, nil
	},
}
