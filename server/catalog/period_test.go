package catalog_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"rapport/server/catalog"
)

// TestPeriods: periods follow each other without a gap, also where clocks are changed.
func TestPeriods(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, name := range []string{"UTC", "Asia/Shanghai", "Asia/Kathmandu", "America/New_York", "Europe/Berlin"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		for range 20_000 {
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro() + r.Int64N(3*365*24*3600*1e6)
			for p := catalog.PeriodHour; p <= catalog.PeriodMonth; p++ {
				begin, end := p.Begin(now, zone), p.End(now, zone)
				if begin > now || end <= now || p.Begin(end, zone) != end || p.Begin(end-1, zone) != begin {
					t.Fatalf("%s of %s in %s: %s to %s", p, time.UnixMicro(now).UTC(), name, time.UnixMicro(begin).UTC(), time.UnixMicro(end).UTC())
				}
			}
		}
	}
	if catalog.PeriodTotal.End(5, time.UTC) != 0 || catalog.PeriodTotal.String() != "total" || catalog.PeriodMonth.String() != "month" {
		t.Error("the names of periods")
	}
}
