package demo

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"time"
)

// firstCustomer is the number of the first customer.
const firstCustomer = 10_000_001

func customerID(index int) string { return strconv.Itoa(firstCustomer + index) }

// WriteCustomers writes one source's file of n customers, 10000001 and on, as CSV
// with a header. The source bi has all of them, service_centre about 97 in 100;
// both tell of the same people. The bytes depend on n and seed alone, and a
// customer on the seed alone.
func WriteCustomers(w io.Writer, source string, n int, seed uint64) error {
	columns, ok := sources[source]
	if !ok {
		return fmt.Errorf("demo: no source %q: use bi or service_centre", source)
	}
	out := csv.NewWriter(w)
	record := make([]string, len(columns))
	for i, c := range columns {
		record[i] = c.name
	}
	if err := out.Write(record); err != nil {
		return fmt.Errorf("demo: customers of %s: %w", source, err)
	}
	for index := range n {
		p := draw(seed, index)
		if source == "service_centre" && p.unknown.serviceCentre {
			continue
		}
		record[0] = customerID(index)
		for i, c := range columns[1:] {
			record[i+1] = c.value(p)
		}
		if err := out.Write(record); err != nil {
			return fmt.Errorf("demo: customers of %s: %w", source, err)
		}
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("demo: customers of %s: %w", source, err)
	}
	return nil
}

// column is a column of a source's file; the first holds the customer.
type column struct {
	name  string
	value func(*person) string
}

// sources are the columns of each source, as schema.yaml names them.
var sources = map[string][]column{
	"bi": {
		{"customer", nil},
		{"general.customer_type", func(p *person) string { return either(p.business, "business", "individual") }},
		{"general.brand", func(p *person) string { return p.brand }},
		{"general.payment", func(p *person) string { return either(p.prepaid, "prepaid", "postpaid") }},
		{"general.age", func(p *person) string { return unless(p.unknown.age, strconv.Itoa(p.age)) }},
		{"general.customer_since", func(p *person) string { return date(p.since) }},
		{"value.arpu", func(p *person) string { return number(p.arpu, 2) }},
		{"value.balance", func(p *person) string { return unless(!p.prepaid, number(p.balance, 2)) }},
		{"value.plan_fee", func(p *person) string { return number(p.fee, 2) }},
		{"value.contract", func(p *person) string { return p.contract }},
		{"value.contract_end", func(p *person) string { return date(p.end) }},
		{"marketing.propensity_data", func(p *person) string { return unless(p.unknown.dataScore, number(p.scores.data, 4)) }},
		{"marketing.propensity_device", func(p *person) string { return unless(p.unknown.device, number(p.scores.device, 4)) }},
		{"marketing.propensity_contract", func(p *person) string { return unless(p.unknown.contractual, number(p.scores.contract, 4)) }},
		{"marketing.propensity_value_added", func(p *person) string { return unless(p.unknown.valueAdded, number(p.scores.valueAdded, 4)) }},
		{"marketing.churn_risk", func(p *person) string { return unless(p.unknown.churn, number(p.churn, 4)) }},
		{"marketing.owns_music", func(p *person) string { return flag(p.owns.music) }},
		{"marketing.owns_video", func(p *person) string { return flag(p.owns.video) }},
		{"marketing.owns_missed_call", func(p *person) string { return flag(p.owns.missedCall) }},
		{"marketing.owns_roaming_pack", func(p *person) string { return flag(p.owns.roamingPack) }},
		{"marketing.owns_broadband", func(p *person) string { return flag(p.owns.broadband) }},
		{"marketing.owns_device_protection", func(p *person) string { return flag(p.owns.protection) }},
		{"marketing.owns_message_pack", func(p *person) string { return flag(p.owns.messagePack) }},
		{"marketing.uses_app", func(p *person) string { return flag(p.owns.app) }},
		{"preference.handset_brand", func(p *person) string { return p.handset }},
		{"preference.price_band", func(p *person) string { return unless(p.unknown.band, p.band) }},
		{"usage.data_mb", func(p *person) string { return number(p.data, 1) }},
		{"usage.data_quota_mb", func(p *person) string { return number(p.quota, 0) }},
		{"usage.voice_minutes", func(p *person) string { return number(p.voice, 1) }},
		{"usage.messages", func(p *person) string { return strconv.Itoa(p.messages) }},
		{"usage.roaming_days", func(p *person) string { return strconv.Itoa(p.traveldays) }},
		{"usage.international_minutes", func(p *person) string { return number(p.international, 1) }},
		{"location.city", func(p *person) string { return p.city }},
		{"location.roaming", func(p *person) string { return flag(p.roaming) }},
		{"tag.vip", func(p *person) string { return flag(p.vip) }},
		{"tag.new_customer", func(p *person) string { return flag(p.tenure < 90) }},
		{"tag.high_traffic", func(p *person) string { return flag(p.data > 15000) }},
		{"tag.high_spend", func(p *person) string { return flag(p.arpu >= 120) }},
		{"tag.frequent_handset_change", func(p *person) string { return flag(p.changes) }},
		{"tag.smartphone_5g", func(p *person) string { return flag(p.fiveG) }},
		{"tag.family_plan", func(p *person) string { return flag(p.family) }},
	},
	"service_centre": {
		{"customer_no", nil},
		{"birth_date", func(p *person) string { return unless(p.unknown.born, date(p.born)) }},
		{"credit_class", func(p *person) string { return unless(p.unknown.credit, p.credit) }},
		{"suspended", func(p *person) string { return flag(p.suspended) }},
		{"loyalty_points", func(p *person) string { return strconv.Itoa(p.points) }},
		{"open_complaint", func(p *person) string { return flag(p.complaint) }},
		{"last_survey_score", func(p *person) string { return unless(p.satisfaction == 0, strconv.Itoa(p.satisfaction)) }},
		{"service_password", func(p *person) string { return flag(p.password) }},
		{"paper_bill", func(p *person) string { return flag(p.paper) }},
		{"hotline_calls_30d", func(p *person) string { return strconv.Itoa(p.calls) }},
		{"last_contact", func(p *person) string { return moment(p.lastContact) }},
		{"preferred_channel", func(p *person) string { return p.channel }},
		{"home_city", func(p *person) string { return unless(p.unknown.home, p.homeCity) }},
		{"complaint_sensitive", func(p *person) string { return flag(p.sensitive) }},
	},
}

func either(condition bool, yes, no string) string {
	if condition {
		return yes
	}
	return no
}

// unless leaves the cell blank if nothing is known.
func unless(unknown bool, s string) string { return either(unknown, "", s) }

func flag(b bool) string { return strconv.FormatBool(b) }

func number(f float64, decimals int) string { return strconv.FormatFloat(f, 'f', decimals, 64) }

// date formats a time as its day, blank if there is none.
func date(t time.Time) string { return unless(t.IsZero(), t.Format(time.DateOnly)) }

// moment formats a time as RFC 3339, blank if there is none.
func moment(t time.Time) string { return unless(t.IsZero(), t.Format(time.RFC3339)) }
