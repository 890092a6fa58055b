package rules

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestZones compares times of day by rule with those by package time.
func TestZones(t *testing.T) {
	env, err := NewEnv(propertySchema(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		zone := rapid.SampledFrom([]string{"Asia/Shanghai", "America/New_York", "UTC", "+05:30", "-03:45"}).Draw(t, "zone")
		loc, err := time.LoadLocation(zone)
		if zone[0] == '+' || zone[0] == '-' {
			at, parseErr := time.Parse("-07:00", zone)
			loc, err = at.Location(), parseErr
		}
		if err != nil {
			t.Fatal(err)
		}
		now := time.UnixMicro(rapid.Int64Range(-1e15, 4e15).Draw(t, "now")).In(loc)
		b := env.NewTable()
		r, err := b.Add(fmt.Sprintf("[now.getHours(%[1]q), now.getMinutes(%[1]q), now.getDayOfWeek(%[1]q), now.getMonth(%[1]q), now.getDate(%[1]q)] == [%[2]d, %[3]d, %[4]d, %[5]d, %[6]d]",
			zone, now.Hour(), now.Minute(), now.Weekday(), now.Month()-1, now.Day()))
		if err != nil {
			t.Fatal(err)
		}
		e := b.Build().NewEvaluation()
		e.Reset(Inputs{Now: now.UnixMicro()})
		if got := e.Evaluate(r); got != True {
			t.Fatalf("%s: %s", now, got)
		}
	})
	for _, zone := range []string{"", "Local", "+8:00", "+25:00", "08:00", "Mars/Base"} {
		if _, err := location(zone); err == nil {
			t.Errorf("%q is a zone", zone)
		}
	}
}
