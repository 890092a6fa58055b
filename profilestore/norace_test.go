//go:build !race

package profilestore_test

const underRace = false
