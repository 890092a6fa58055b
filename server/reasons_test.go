package server_test

import (
	"testing"

	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/decide"
)

// TestReasons: the reasons of decisions are those of the API, by number and name.
func TestReasons(t *testing.T) {
	reasons := decide.Reasons()
	for _, r := range reasons {
		want := "REASON_" + r.String()
		if r == decide.ReasonNone {
			want = "REASON_UNSPECIFIED"
		}
		if got := rapportv1.Reason(r).String(); got != want {
			t.Errorf("reason %d is %s in decisions and %s in the API", r, want, got)
		}
	}
	if n := len(rapportv1.Reason_name); n != len(reasons) {
		t.Errorf("the API has %d reasons, decisions have %d", n, len(reasons))
	}
}
