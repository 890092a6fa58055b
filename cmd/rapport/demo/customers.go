package demo

import (
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
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
		{"general.household", func(p *person) string { return p.household.id }},
		{"general.household_role", func(p *person) string { return p.household.role }},
		{"general.family_birthdays", func(p *person) string { return strings.Join(p.household.birthdays, ";") }},
		{"general.account", func(p *person) string { return p.account }},
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
		{"marketing.owned", func(p *person) string { return strings.Join(p.owned(), ";") }},
		{"marketing.ringtones", func(p *person) string { return strings.Join(p.ringtones, ";") }},
		{"marketing.follower", func(p *person) string { return flag(p.follower) }},
		{"marketing.enterprise_chat", func(p *person) string { return flag(p.chat) }},
		{"preference.handset_brand", func(p *person) string { return p.handset }},
		{"preference.price_band", func(p *person) string { return unless(p.unknown.band, p.band) }},
		{"preference.persona", func(p *person) string { return p.persona }},
		{"preference.best_hour_from", func(p *person) string { return strconv.Itoa(p.bestHour) }},
		{"preference.best_hour_until", func(p *person) string { return strconv.Itoa(p.bestHour + 2) }},
		{"usage.data_mb", func(p *person) string { return number(p.data, 1) }},
		{"usage.data_quota_mb", func(p *person) string { return number(p.quota, 0) }},
		{"usage.voice_minutes", func(p *person) string { return number(p.voice, 1) }},
		{"usage.messages", func(p *person) string { return strconv.Itoa(p.messages) }},
		{"usage.roaming_days", func(p *person) string { return strconv.Itoa(p.traveldays) }},
		{"usage.international_minutes", func(p *person) string { return number(p.international, 1) }},
		{"usage.trips_hk_macao", func(p *person) string { return hops(p.trips) }},
		{"usage.long_distance_calls", func(p *person) string { return strconv.Itoa(p.firsts.longDistance) }},
		{"usage.calls_12593", func(p *person) string { return strconv.Itoa(p.firsts.prefixed) }},
		{"usage.roaming_in_province", func(p *person) string { return strconv.Itoa(p.firsts.inProvince) }},
		{"usage.roaming_between_provinces", func(p *person) string { return strconv.Itoa(p.firsts.betweenProvinces) }},
		{"location.city", func(p *person) string { return p.city }},
		{"location.roaming", func(p *person) string { return flag(p.roaming) }},
		{"location.work_province", func(p *person) string { return p.workProv }},
		{"tag.vip", func(p *person) string { return flag(p.vip) }},
		{"tag.new_customer", func(p *person) string { return flag(p.tenure < 90) }},
		{"tag.high_traffic", func(p *person) string { return flag(p.data > 15000) }},
		{"tag.high_spend", func(p *person) string { return flag(p.arpu >= 120) }},
		{"tag.frequent_handset_change", func(p *person) string { return flag(p.changes) }},
		{"tag.smartphone_5g", func(p *person) string { return flag(p.fiveG) }},
		{"tag.family_plan", func(p *person) string { return flag(p.family) }},
		{"tag.potential_handset_buyer", func(p *person) string { return flag(p.buyer) }},
		{"tag.off_at_night", func(p *person) string { return flag(p.offAtNight) }},
		{"tag.target_12593", func(p *person) string { return flag(p.target12593) }},
		{"tag.business_traveller", func(p *person) string { return flag(p.traveller) }},
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
		{"occupation", func(p *person) string { return p.occupation }},
		{"foreign_national", func(p *person) string { return flag(p.foreign) }},
		{"account_manager", func(p *person) string { return p.manager }},
		{"do_not_disturb", func(p *person) string { return flag(p.noDisturb) }},
		{"marketing_opt_out", func(p *person) string { return flag(p.optOut) }},
		{"consent_message", func(p *person) string { return flag(p.consent.message) }},
		{"consent_call", func(p *person) string { return flag(p.consent.call) }},
		{"consent_email", func(p *person) string { return flag(p.consent.email) }},
		{"home_province", func(p *person) string { return p.homeProv }},
	},
}

// owned lists all products of a person.
func (p *person) owned() []string {
	list := slices.Clone(p.products)
	for _, x := range []struct {
		has     bool
		product string
	}{
		{p.owns.music, "music_club"},
		{p.owns.video, "video_pass"},
		{p.owns.missedCall, "missed_call_reminder"},
		{p.owns.roamingPack, "data_roaming_pass"},
		{p.owns.broadband, "home_broadband"},
		{p.owns.protection, "device_protection"},
		{p.owns.messagePack, "message_pack_100"},
	} {
		if x.has {
			list = append(list, x.product)
		}
	}
	return list
}

// hops counts journeys by the day on which they began, the latest day first, without
// the zeros at the end.
func hops(days []int) string {
	if len(days) == 0 {
		return ""
	}
	counts := make([]string, days[len(days)-1]+1)
	for i := range counts {
		counts[i] = "0"
	}
	for _, day := range days {
		counts[day] = "1"
	}
	return strings.Join(counts, ";")
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
