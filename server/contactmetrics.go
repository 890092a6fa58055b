package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rapport/server/ledger"
)

// contactCollector reads at each scrape what the ledger holds, and how full the
// capacities and channels of the catalogue in service are. The others are not its
// labels, so what was once published does not stay.
type contactCollector struct{ s *Server }

func contactMetric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	ledgerPending      = contactMetric("rapport_ledger_pending_contacts", "Contacts that decisions have promised and of which nothing was reported yet.")
	ledgerReservations = contactMetric("rapport_ledger_reservations", "Reservations that have not expired.")
	ledgerCustomers    = contactMetric("rapport_ledger_customers", "Customers with pending contacts, or being decided for.")
	ledgerPlaces       = contactMetric("rapport_ledger_reserved_places", "Places of capacities that are reserved.")
	ledgerReserved     = contactMetric("rapport_ledger_reserved_total", "Reservations made.")
	ledgerExpired      = contactMetric("rapport_ledger_expired_total", "Reservations that ended with nothing reported, or with places given back.")
	ledgerOutcomes     = contactMetric("rapport_ledger_outcomes_total", "Outcomes by what they did to a reservation: committed, unchanged, late (it had expired), or unknown (there was none, as where nothing is limited).", "result")
	ledgerRefused      = contactMetric("rapport_ledger_places_refused_total", "Times that a capacity had no place left.")
	ledgerStepsBack    = contactMetric("rapport_ledger_clock_steps_back_total", "Times that the clock stepped back by more than a reservation lasts.")
	ledgerFailures     = contactMetric("rapport_ledger_write_failures_total", "Writes and syncs of the ledger that failed.")
	ledgerWritable     = contactMetric("rapport_ledger_writable", "0 while the ledger can't be written, and nothing that is limited is offered.")
	ledgerBytes        = contactMetric("rapport_ledger_bytes", "Bytes in the files of the ledger, and of them those that are needed.", "what")
	capacityPlaces     = contactMetric("rapport_capacity_places", "Places in the present period of each capacity of the catalogue in service: free, reserved (as of the last second), and taken for good.", "capacity", "state")
	channelLoad        = contactMetric("rapport_channel_load", "The load of a channel, as it was reported last; 0 where no report holds.", "channel")
)

// Describe implements prometheus.Collector.
func (contactCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		ledgerPending, ledgerReservations, ledgerCustomers, ledgerPlaces, ledgerReserved, ledgerExpired, ledgerOutcomes, ledgerRefused,
		ledgerStepsBack, ledgerFailures, ledgerWritable, ledgerBytes, capacityPlaces, channelLoad,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c contactCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	now := time.Now()
	readings := c.s.ledger.Readings() // gives back what has expired of them, so it goes before Stats
	x := c.s.ledger.Stats()
	gauge(ledgerPending, float64(x.Pending))
	gauge(ledgerReservations, float64(x.Reservations))
	gauge(ledgerCustomers, float64(x.Customers))
	gauge(ledgerPlaces, float64(x.Places))
	counter(ledgerReserved, x.Reserved)
	counter(ledgerExpired, x.Expired)
	counter(ledgerOutcomes, x.Committed, ledger.Committed.String())
	counter(ledgerOutcomes, x.Unchanged, ledger.Unchanged.String())
	counter(ledgerOutcomes, x.Late, ledger.Late.String())
	counter(ledgerOutcomes, x.Unknown, ledger.Unknown.String())
	counter(ledgerRefused, x.Refused)
	counter(ledgerStepsBack, x.StepsBack)
	counter(ledgerFailures, x.Failures)
	writable := 1.0
	if x.Failure != nil {
		writable = 0
	}
	gauge(ledgerWritable, writable)
	gauge(ledgerBytes, float64(x.Bytes), "written")
	gauge(ledgerBytes, float64(x.LiveBytes), "needed")
	c.collectCatalog(now, readings, gauge)
}

// collectCatalog says how full the capacities and channels of the catalogue are.
func (c contactCollector) collectCatalog(now time.Time, readings []ledger.Reading, gauge func(*prometheus.Desc, float64, ...string)) {
	l := c.s.acquire()
	if l == nil {
		return
	}
	defer c.s.release(l)
	for i, r := range capacityReadings(l.compiled, readings, c.s.now().UnixMicro()) {
		x := &l.compiled.Capacities[i]
		gauge(capacityPlaces, float64(max(x.Max-r.Taken-r.Reserved, 0)), x.ID, "free")
		gauge(capacityPlaces, float64(r.Reserved), x.ID, "reserved")
		gauge(capacityPlaces, float64(r.Taken), x.ID, "taken")
	}
	for channel, load := range c.s.loads.of(l.compiled, now) {
		gauge(channelLoad, load, l.compiled.Channels[channel].ID)
	}
}
