package crashtest_test

import (
	"fmt"
	"strings"
	"time"
)

// batchCustomers is how many customers of each event lane are in the files of batch
// sources.
const batchCustomers = 400

const schemaYAML = `
sources: [{id: bi, retain: 2}, {id: crm, retain: 2}]
tables: [{id: area}]
fields:
  - {name: value.wave, type: number, batch: bi}
  - {name: value.balance, type: number, batch: bi, events: {on: 'event.type == "use"', set: event.mb}}
  - {name: usage.mb, type: counter, batch: bi, decimals: 0, events: {on: 'event.type == "use"', add: event.mb}}
  - {name: usage.week_mb, type: counter, window: 7d, events: {on: 'event.type == "use"', add: event.mb}}
  - {name: usage.seen, type: set, events: {on: 'event.type == "use"', add: event.tag}}
  - {name: general.wave, type: number, batch: crm}
  - {name: location.area, type: text, events: {on: 'event.type == "use"', set: area(event.cell)}}
`

// The capacities and the contact policy that capLane counts.
const (
	seatOffers = 12
	seatsMax   = 20
	visitsMax  = 3
)

// catalogOf returns a catalogue that says which it is.
func catalogOf(wave int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `
channels:
  - {id: web, direction: inbound, hold: 1h}
  - {id: kiosk, direction: inbound, hold: 48h}
touchpoints:
  - {id: web.home, channel: web, slots: 2}
  - {id: web.wave, channel: web}
  - {id: kiosk.seats, channel: kiosk}
offers:
  - {id: wave, group: wave, class: service, propensity: {start: 0.5}, treatments: [{channel: web, content: 'wave %d in {{area("c7", "area-0")}}'}]}
  - {id: news, group: home, class: marketing, propensity: {start: 0.5}, treatments: [{channel: web, content: x}]}
  - {id: film, group: home, class: marketing, propensity: {start: 0.4}, treatments: [{channel: web, content: x}]}
`, wave)
	for i := range seatOffers {
		fmt.Fprintf(&b, "  - {id: seat%d, group: seats, class: marketing, propensity: {start: 0.5}, treatments: [{channel: kiosk, content: x}]}\n", i)
	}
	b.WriteString(`
scenarios:
  - {id: home, touchpoints: [web.home], groups: [home], strategy: {name: pvcl}}
  - {id: wave, touchpoints: [web.wave], groups: [wave]}
  - {id: seats, touchpoints: [kiosk.seats], groups: [seats]}
contact_policies:
`)
	fmt.Fprintf(&b, "  - {id: visits, count: contact, max: %d, within: 2d, channels: [kiosk]}\ncapacities:\n", visitsMax)
	for i := range seatOffers {
		fmt.Fprintf(&b, "  - {id: seat%d, max: %d, per: total, offers: [seat%d]}\n", i, seatsMax, i)
	}
	return b.String()
}

// batchFile is a file of a source of which every row says which file it is from.
func batchFile(source string, wave int) string {
	var b strings.Builder
	column := map[string]string{"bi": "customer,value.wave,value.balance,usage.mb", "crm": "customer,general.wave"}[source]
	fmt.Fprintln(&b, column)
	for lane := range 2 {
		for i := range batchCustomers {
			fmt.Fprintf(&b, "e%d-%d,%d", lane, i, wave)
			if source == "bi" {
				fmt.Fprintf(&b, ",%d,%d", batchValue(wave), batchValue(wave))
			}
			fmt.Fprintln(&b)
		}
	}
	return b.String()
}

// batchValue is the balance and the use that a file of the source bi says everybody has.
func batchValue(wave int) int { return 1_000_000 * wave }

// tableFile is a reference table of which every row says which file it is from.
func tableFile(wave int) string {
	var b strings.Builder
	b.WriteString("cell,area\n")
	for i := range 300 {
		fmt.Fprintf(&b, "c%d,area-%d\n", i, wave)
	}
	return b.String()
}

// dawn is the as-of time of the first file. Events happen between it and now.
func dawn() time.Time { return time.Now().Add(-12 * time.Hour).Truncate(time.Hour) }
