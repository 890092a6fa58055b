package rapport

import (
	"strings"
	"testing"

	"rapport/sdk/abi"
)

// Declarations are global, so mistakes in them are tried on a copy.
func TestMistakesInDeclarationsAreNamedTogether(t *testing.T) {
	kept := declared
	defer func() { declared = kept }()
	declared = strategy{}
	Number("value.arpu")
	Text("value.arpu")
	OfferNumber("price")
	OfferFlag("price")
	Parameter("p", 0, 0, 1)
	Parameter("p", 0, 0, 1)
	Budget(0, 0)
	_, err := Describe()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"profile field value.arpu is declared as number and as text",
		"offer attribute price is declared as number and as flag",
		"parameter p is declared twice",
		"rapport.Budget: use 0 to 10¹² and 0 to 10⁹, not both 0",
		"rapport.Name is not called",
		"rapport.Rank is not called",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
	declared = strategy{manifest: abi.Manifest{Name: "x"}, rank: func(*Decision) {}}
	Name("y", "1", "")
	Rank(func(*Decision) {})
	Budget(1, 2)
	Budget(3, 4)
	if _, err := Describe(); err == nil || !strings.Contains(err.Error(), "rapport.Name is called twice; rapport.Rank is called twice; rapport.Budget is called twice") {
		t.Errorf("error %v", err)
	}
}
