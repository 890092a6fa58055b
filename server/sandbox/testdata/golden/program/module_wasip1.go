// Command golden is the golden strategy: as WebAssembly a module, and natively a program
// that ranks the decisions that it reads.
package main

import _ "rapport/server/sandbox/testdata/golden/scoring"

func main() {}
