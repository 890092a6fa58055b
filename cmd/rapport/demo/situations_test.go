package demo_test

// The rows of the scenario book, as far as a profile decides them: given this of a
// customer, and this having happened, does the condition hold at that moment? Each row
// has its positive case and its near misses. Where a row needs parts beyond the profile
// (what else is on the slate, contact policies, capacity, triggers), only the fields
// and the condition over them are shown here; see withoutFields for rows that need no
// field at all.

import "rapport/profilestore/rules"

const (
	yes     = rules.True
	no      = rules.False
	unknown = rules.Unknown
)

// situation is one customer. Its name is ROW/what, and conditions[ROW] is asked. All
// times are local, of 2026 unless they say the year.
type situation struct {
	name string
	// given is what the sources have of the customer, as FIELD=VALUE with blanks between;
	// ~ is a blank within. Fields that are not named are blank. "-bi" means that the
	// source has no row.
	given string
	// events are lines of a time, a type, and attributes: NAME=VALUE for a number, flag
	// or JSON, NAME:VALUE for a text. They are sent in this order.
	events string
	at     string // the moment of reading; Wednesday 4 November, 10:00, if empty
	fires  rules.Truth
	fields string // as given is: what then is in the profile; a set is {A,B}
}

const (
	// The operator's own time of day and date.
	hour  = `now.getHours("+08:00")`
	month = `now.getMonth("+08:00")`
	day   = `now.getDate("+08:00")`
	year  = `now.getFullYear("+08:00")`

	birthday = `profile.general.customer_type == "individual" && profile.general.brand == "premium"
		&& !profile.general.foreign && !profile.preference.do_not_disturb
		&& (profile.general.birth_date.getMonth() == ` + month + ` && profile.general.birth_date.getDate() == ` + day + `
			|| profile.general.birth_date.getMonth() == 1 && profile.general.birth_date.getDate() == 29
			&& ` + month + ` == 1 && ` + day + ` == 28 && (now + days(1)).getMonth("+08:00") == 2)`

	// tenure counts whole years in its first digit: 5 years and 3 days are 50003, 4 years
	// and 364 days less than 50000.
	tenure = `(` + year + ` * 10000 + ` + month + ` * 100 + ` + day + `
		- profile.general.customer_since.getFullYear() * 10000
		- profile.general.customer_since.getMonth() * 100 - profile.general.customer_since.getDate())`

	traveller = `(profile.tag.vip || profile.tag.high_spend) && profile.tag.business_traveller
		&& profile.location.area == "station" && !profile.preference.marketing_opt_out`

	concert = `size(profile.marketing.ringtones.filter(r, r.startsWith(profile.location.concert + "/"))) >= 3
		&& profile.location.concert_minutes >= 60`

	wants12593 = `profile.usage.calls_12593 == 0 && profile.tag.target_12593`
)

// conditions are what the rows ask of a profile.
var conditions = map[string]string{
	"A1": `profile.value.contract_end > now && profile.value.contract_end <= now + days(60)
		&& profile.preference.handset_brand == "B" && profile.preference.price_band == "high" && profile.preference.channel == "sms"`,
	"A2": `profile.usage.cycle_sessions == 1 && profile.service.quota_started_notices == 0`,
	"A3": `profile.usage.cycle_mb >= 0.8 * profile.usage.data_quota_mb && profile.usage.cycle_mb < profile.usage.data_quota_mb
		&& profile.service.quota_warning_notices == 0`,
	"A4":      `profile.usage.cycle_mb >= profile.usage.data_quota_mb && profile.service.quota_exceeded_notices == 0`,
	"A4.pack": `profile.usage.cycle_mb >= profile.usage.data_quota_mb && !profile.preference.marketing_opt_out && ` + hour + ` >= 9 && ` + hour + ` < 21`,
	"A5a":     `profile.general.suspended && profile.general.payment == "prepaid"`,
	"A5b":     `profile.general.suspended && profile.general.payment == "postpaid" && !(profile.general.credit_class in ["A", "B"])`,
	"A5c":     `profile.general.suspended && profile.general.payment == "postpaid" && profile.general.credit_class in ["A", "B"]`,
	"A6":      `profile.tag.new_customer && !profile.service.password_set && size(profile.marketing.owned) == 0`,
	"A7":      `profile.tag.high_spend && profile.value.arpu >= 120`,
	"A8":      `profile.tag.high_traffic && !("smartphone" in profile.marketing.owned)`,
	"A9": `profile.location.city in ["Guangzhou", "Shenzhen"] && profile.tag.high_traffic && profile.tag.high_spend
		&& profile.tag.frequent_handset_change`,
	"A10": `profile.tag.potential_handset_buyer && profile.preference.handset_brand == "B" && profile.preference.price_band == "mid"
		&& profile.value.arpu >= 80`,
	"A11": `profile.preference.persona == "elderly"`,
	"A12": `profile.marketing.churn_risk >= 0.35 && profile.marketing.churn_risk < 0.6 && !profile.service.complaint_open`,
	"A13": `profile.tag.complaint_sensitive && profile.service.complaint_open`,
	"B1":  `!("mobile_mail" in profile.marketing.owned)`,
	"B2": `profile.general.occupation == "small_business_owner" && profile.general.credit_class == "A"
		&& "p1" in profile.marketing.owned && "p2" in profile.marketing.owned`,
	"B3":  `profile.usage.trips_hk_macao >= 3 && !("hk_macao_tariff" in profile.marketing.owned)`,
	"B4":  `profile.usage.enquiry_calls > 0`,
	"B5":  `profile.tag.off_at_night && !("missed_call_reminder" in profile.marketing.owned) && profile.service.missed_calls > 0`,
	"B6a": `profile.usage.long_distance_calls == 1 && ` + wants12593,
	"B6b": `profile.usage.roaming_in_province == 1 && ` + wants12593,
	"B6c": `profile.usage.roaming_between_provinces == 1 && ` + wants12593,
	"B7":  `(profile.location.broker >= 60 || profile.usage.broker_calls > 0) && !("mobile_brokerage" in profile.marketing.owned)`,
	"B8": `profile.location.area == "metro" && !("mobile_newspaper" in profile.marketing.owned)
		&& ` + hour + ` in [7, 8, 17, 18]`,
	"B9": `profile.location.season != "" && profile.location.area in ["dock", "bus_station"]
		&& profile.location.province == profile.location.home_province
		&& profile.location.work_province != profile.location.home_province`,
	"B10": `profile.location.roaming_place != "" && !(("plan_" + profile.location.roaming_place) in profile.marketing.owned)`,
	"B11": `"mobile_tv" in profile.marketing.pending_orders && profile.marketing.pending_since > now - days(1)`,
	"B12": `"j1" in profile.service.open_jobs
		&& ["call_centre", "sms", "store"].all(step, ("j1/" + step) in profile.service.job_steps)`,
	"B14": `(profile.tag.vip || profile.tag.complaint_sensitive)
		&& (` + hour + ` < profile.preference.best_hour_from || ` + hour + ` >= profile.preference.best_hour_until)`,
	"C1":          `context.willing && !profile.marketing.follower && !profile.marketing.uses_app`,
	"C1.chat":     `context.willing && !profile.marketing.enterprise_chat`,
	"C2":          `profile.service.account_manager == context.staff`,
	"C4":          `profile.marketing.sales_contacts < 2`,
	"C6":          `profile.marketing.follow_store == "store_s"`,
	"C7a":         `profile.marketing.seller == "seller_1"`,
	"C7b":         `profile.marketing.seller == "seller_2"`,
	"C7c":         `!has(profile.marketing.seller) && profile.marketing.dispatch_unit == "unit_7"`,
	"D1a":         `profile.service.counter_business != "" && profile.service.counter_at > now - days(1)`,
	"D1b":         `profile.service.care_open`,
	"D1b.thanks":  `profile.service.store_rating in ["good", "very_good"]`,
	"D1b.counted": `profile.service.unreadable_replies > 0`,
	"E1.store":    `profile.location.nearest_store != ""`,
	"D1c":         `profile.service.still_unhappy && profile.service.care_rounds > 0`,
	"D2a":         birthday,
	"D2b":         birthday,
	"D2c":         `profile.general.family_birthdays.exists(b, b.startsWith(string(now + duration("8h")).substring(5, 10)))`,
	"D3.premium":  `(profile.general.brand == "premium" || profile.tag.vip) && ` + tenure + ` >= 50000`,
	"D3.youth":    `profile.general.brand == "youth" && ` + tenure + ` >= 30000 && ` + tenure + ` < 50000`,
	"D3.everyday": `profile.general.brand == "everyday" && ` + tenure + ` >= 50000`,
	"D4":          `profile.value.points >= 500`,
	"E1.balance":  `profile.value.balance < 10 && profile.location.area == "station"`,
	"E1.reminder": traveller + ` && !("missed_call_reminder" in profile.marketing.owned)`,
	"E1.tariff":   traveller,
	"E2":          concert,
	"E2.club":     concert + ` && !("music_club" in profile.marketing.owned)`,
	// What relates customers to each other.
	"relations": `profile.general.household != "" && profile.general.household_role == "main" && profile.general.account == "b1"
		&& profile.service.counter_store == "store_s"`,
}

// withoutFields are the rows that ask nothing of a profile, and why.
var withoutFields = map[string]string{
	"B13": "channel pressure is a reading of the channel",
	"C3":  "which offers a touchpoint has is the catalogue's",
	"C5":  "approval and priority of messages",
	"C8":  "capacity, and who is certified",
	"C9":  "levels of the catalogue",
	"D5":  "the day alone",
	"F1":  "indicators of a region, not of a customer",
	"F2":  "likewise",
}

const (
	contractB = "preference.handset_brand=B preference.price_band=high value.arpu=180 "
	quota     = "usage.data_quota_mb=1024 "
	trial     = "location.city=Shenzhen "
	night     = "tag.off_at_night=true "
	target    = "tag.target_12593=true "
	worksAway = "location.home_province=hunan location.work_province=guangdong "
	gotone    = "general.customer_type=individual general.brand=premium "
	business  = "tag.vip=true tag.business_traveller=true value.balance=9.99 "
	j3        = "marketing.ringtones=artist_j/spring;artist_j/river;artist_j/rain "
)

var situations = []situation{
	{"A1/ends_in_45_days", contractB + "preference.channel=sms value.contract_end=2026-12-19", "", "", yes, "value.contract_end=2026-12-19T00:00:00Z value.arpu=180"},
	{"A1/ends_in_60_days", contractB + "preference.channel=sms value.contract_end=2027-01-03", "", "", yes, ""},
	{"A1/ends_in_61_days", contractB + "preference.channel=sms value.contract_end=2027-01-04", "", "", no, ""},
	{"A1/has_ended", contractB + "preference.channel=sms value.contract_end=2026-11-03", "", "", no, ""},
	{"A1/other_brand", contractB + "preference.handset_brand=A preference.channel=sms value.contract_end=2026-12-19", "", "", no, ""},
	{"A1/other_band", contractB + "preference.price_band=mid preference.channel=sms value.contract_end=2026-12-19", "", "", no, ""},
	{"A1/prefers_call", contractB + "preference.channel=sms value.contract_end=2026-12-19", "11-03T09:00 preference channel:outbound_call", "", no, "preference.channel=outbound_call"},
	{"A1/no_contract", contractB + "preference.channel=sms", "", "", unknown, "value.contract_end=unknown"},

	{"A2/first_session", quota, "11-04T09:00 data_session mb=1", "", yes, "usage.cycle_mb=1 usage.cycle_sessions=1 service.quota_started_notices=0"},
	{"A2/no_session", quota, "", "", no, "usage.cycle_sessions=0"},
	{"A2/second_session", quota, "11-04T09:00 data_session mb=1\n11-04T09:10 data_session mb=1", "", no, "usage.cycle_mb=2 usage.cycle_sessions=2"},
	{"A2/first_session_sent_twice", quota, "11-04T09:00 data_session id:x mb=1\n11-04T09:00 data_session id:x mb=1", "", yes, "usage.cycle_mb=1"},
	{"A2/told_already", quota, "11-04T09:00 data_session mb=1\n11-04T09:01 contact channel:sms offer:quota_started", "", no, "service.quota_started_notices=1"},
	{"A2/next_cycle", quota, "11-03T09:00 data_session mb=500\n11-03T09:01 contact channel:sms offer:quota_started\n11-04T00:00 billing_cycle\n11-04T09:00 data_session mb=1", "", yes, "usage.cycle_mb=1 usage.cycle_sessions=1 service.quota_started_notices=0"},
	{"A2/late_session_of_the_last_cycle", quota, "11-04T00:00 billing_cycle\n11-03T23:50 data_session mb=7\n11-04T09:00 data_session mb=1", "", yes, "usage.cycle_mb=1"},

	{"A3/crosses_80", quota, "11-04T09:00 data_session mb=800\n11-04T09:10 data_session mb=19.2", "", yes, "usage.cycle_mb=819.2 service.quota_warning_notices=0"},
	{"A3/at_79", quota, "11-04T09:00 data_session mb=808.9", "", no, "usage.cycle_mb=808.9"},
	{"A3/second_crossing", quota, "11-04T09:00 data_session mb=820\n11-04T09:01 contact channel:sms items=[{\"offer\":\"quota_warning\",\"class\":\"service\"},{\"offer\":\"data_10g\",\"class\":\"marketing\"}]\n11-04T09:10 data_session mb=1", "", no, "usage.cycle_mb=821 service.quota_warning_notices=1"},
	{"A3/next_cycle", quota, "11-03T09:00 data_session mb=820\n11-03T09:01 contact channel:sms offer:quota_warning\n11-04T00:00 billing_cycle\n11-04T09:10 data_session mb=820", "", yes, "usage.cycle_mb=820 service.quota_warning_notices=0"},
	{"A3/exceeded", quota, "11-04T09:00 data_session mb=1024", "", no, ""},
	{"A3/no_quota", "", "11-04T09:00 data_session mb=820", "", unknown, ""},

	{"A4/crosses_100", quota, "11-04T09:00 data_session mb=1000\n11-04T09:10 data_session mb=24", "", yes, "usage.cycle_mb=1024"},
	{"A4/just_below", quota, "11-04T09:00 data_session mb=1023.9", "", no, ""},
	{"A4/second_crossing", quota, "11-04T09:00 data_session mb=1024\n11-04T09:01 contact channel:sms offer:quota_exceeded\n11-04T09:10 data_session mb=5", "", no, "service.quota_exceeded_notices=1"},
	{"A4/next_cycle", quota, "11-03T09:00 data_session mb=1024\n11-03T09:01 contact channel:sms offer:quota_exceeded\n11-04T00:00 billing_cycle\n11-04T09:00 data_session mb=1024", "", yes, "service.quota_exceeded_notices=0"},
	{"A4/opted_out", quota + "preference.marketing_opt_out=true", "11-04T09:00 data_session mb=1024", "", yes, ""},
	{"A4.pack/by_day", quota, "11-04T09:00 data_session mb=1024", "", yes, ""},
	{"A4.pack/opted_out", quota, "11-03T09:00 opt_out\n11-04T09:00 data_session mb=1024", "", no, "preference.marketing_opt_out=true"},
	{"A4.pack/opted_in_again", quota + "preference.marketing_opt_out=true", "11-03T09:00 opt_in\n11-04T09:00 data_session mb=1024", "", yes, "preference.marketing_opt_out=false"},
	{"A4.pack/at_23", quota, "11-04T09:00 data_session mb=1024", "11-04T23:00", no, ""},

	{"A5a/suspended", "general.payment=prepaid general.suspended=true", "", "", yes, ""},
	{"A5a/suspended_just_now", "general.payment=prepaid", "11-04T09:59 account_state state:suspended", "", yes, "general.suspended=true"},
	{"A5a/active", "general.payment=prepaid general.suspended=true", "11-04T09:59 account_state state:active", "", no, "general.suspended=false"},
	{"A5a/postpaid", "general.payment=postpaid general.suspended=true", "", "", no, ""},
	{"A5b/low_credit", "general.payment=postpaid general.suspended=true general.credit_class=E", "", "", yes, ""},
	{"A5b/good_credit", "general.payment=postpaid general.suspended=true general.credit_class=B", "", "", no, ""},
	{"A5c/good_credit", "general.payment=postpaid general.suspended=true general.credit_class=A", "", "", yes, ""},
	{"A5c/low_credit", "general.payment=postpaid general.suspended=true general.credit_class=D", "", "", no, ""},
	{"A5c/no_credit_known", "general.payment=postpaid general.suspended=true", "", "", unknown, "general.credit_class=unknown"},
	{"A5c/active", "general.payment=postpaid general.credit_class=A", "", "", no, ""},

	{"A6/new", "tag.new_customer=true", "", "", yes, "marketing.owned={} service.password_set=false"},
	{"A6/password_set", "tag.new_customer=true", "11-04T09:00 password_set", "", no, "service.password_set=true"},
	{"A6/not_new_any_more", "", "", "", no, ""},
	{"A6/has_a_pack", "tag.new_customer=true", "11-04T09:00 order product:data_10g", "", no, "marketing.owned={data_10g}"},

	{"A7/spends_180", "tag.high_spend=true value.arpu=180", "", "", yes, "value.arpu=180"},
	{"A7/spends_300", "tag.high_spend=true value.arpu=300", "", "", yes, "value.arpu=300"},
	{"A7/no_tag", "value.arpu=180", "", "", no, ""},

	{"A8/no_smartphone", "tag.high_traffic=true", "", "", yes, ""},
	{"A8/has_a_smartphone", "tag.high_traffic=true marketing.owned=smartphone", "", "", no, ""},
	{"A8/little_use", "", "", "", no, ""},

	{"A9/in_Shenzhen", trial + "tag.high_traffic=true tag.high_spend=true tag.frequent_handset_change=true", "", "", yes, ""},
	{"A9/no_high_traffic", trial + "tag.high_spend=true tag.frequent_handset_change=true", "", "", no, ""},
	{"A9/no_high_spend", trial + "tag.high_traffic=true tag.frequent_handset_change=true", "", "", no, ""},
	{"A9/no_handset_change", trial + "tag.high_traffic=true tag.high_spend=true", "", "", no, ""},
	{"A9/in_Foshan", trial + "tag.high_traffic=true tag.high_spend=true tag.frequent_handset_change=true", "11-04T09:00 location city:Foshan", "", no, "location.city=Foshan"},
	{"A9/seen_in_a_cell_only", trial + "tag.high_traffic=true tag.high_spend=true tag.frequent_handset_change=true", "11-04T09:00 location cell:460-00-9999", "", yes, "location.city=Shenzhen location.area="},

	{"A10/likely_buyer", "tag.potential_handset_buyer=true preference.handset_brand=B preference.price_band=mid value.arpu=88", "", "", yes, ""},
	{"A10/other_brand", "tag.potential_handset_buyer=true preference.handset_brand=C preference.price_band=mid value.arpu=88", "", "", no, ""},
	{"A10/other_band", "tag.potential_handset_buyer=true preference.handset_brand=B preference.price_band=low value.arpu=88", "", "", no, ""},
	{"A10/no_tag", "preference.handset_brand=B preference.price_band=mid value.arpu=88", "", "", no, ""},

	{"A11/elderly", "preference.persona=elderly", "", "", yes, ""},
	{"A11/web_surfer", "preference.persona=web_surfer", "", "", no, ""},
	{"A11/screen_user", "preference.persona=screen_user", "", "", no, ""},
	{"A11/not_known", "", "", "", unknown, "preference.persona=unknown"},

	{"A12/early_warning", "marketing.churn_risk=0.35", "", "", yes, ""},
	{"A12/below", "marketing.churn_risk=0.3499", "", "", no, ""},
	{"A12/alarm", "marketing.churn_risk=0.6", "", "", no, ""},
	{"A12/complaint_open", "marketing.churn_risk=0.4", "11-04T09:00 complaint_opened", "", no, "service.complaint_open=true"},

	{"A13/complaint_open", "tag.complaint_sensitive=true service.complaint_open=true", "", "", yes, ""},
	{"A13/closed", "tag.complaint_sensitive=true service.complaint_open=true", "11-04T09:00 complaint_closed", "", no, "service.complaint_open=false"},
	{"A13/not_sensitive", "service.complaint_open=true", "", "", no, ""},

	// With loads around the order: TestOwnedAcrossLoads.
	{"B1/does_not_own", "", "", "", yes, "marketing.owned={}"},
	{"B1/just_ordered", "marketing.owned=news", "11-04T09:59 order product:mobile_mail", "", no, "marketing.owned={mobile_mail,news}"},
	{"B1/ordered_and_cancelled", "", "11-04T09:00 order product:mobile_mail\n11-04T09:30 cancel product:mobile_mail", "", yes, "marketing.owned={}"},
	{"B1/cancelled_before_it_arrived", "", "11-04T09:30 cancel product:mobile_mail\n11-04T09:00 order product:mobile_mail", "", yes, "marketing.owned={}"},
	{"B1/no_row", "-bi", "11-04T09:00 order product:mobile_mail", "", unknown, "marketing.owned=unknown"},

	{"B2/small_business_owner", "general.occupation=small_business_owner general.credit_class=A marketing.owned=p1;p2", "", "", yes, "general.occupation=small_business_owner marketing.owned={p1,p2}"},
	{"B2/employee", "general.occupation=employee general.credit_class=A marketing.owned=p1;p2", "", "", no, ""},
	{"B2/one_package", "general.occupation=small_business_owner general.credit_class=A marketing.owned=p1", "", "", no, ""},

	{"B3/three_trips", "usage.trips_hk_macao=1;0;1", "11-02T09:00 roaming_in place:hong_kong scope:abroad", "", yes, "usage.trips_hk_macao=3"},
	{"B3/two_trips", "usage.trips_hk_macao=1", "11-02T09:00 roaming_in place:macao scope:abroad", "", no, "usage.trips_hk_macao=2"},
	{"B3/no_trip", "", "", "", no, "usage.trips_hk_macao=0"},
	{"B3/one_of_them_to_Japan", "usage.trips_hk_macao=1;0;1", "11-02T09:00 roaming_in place:japan scope:abroad", "", no, "usage.trips_hk_macao=2"},
	{"B3/the_first_90_days_ago", "usage.trips_hk_macao=1;1" + zeros(83) + ";1", "", "", yes, "usage.trips_hk_macao=3"},
	{"B3/the_first_longer_ago", "usage.trips_hk_macao=1;1" + zeros(84) + ";1", "", "", no, "usage.trips_hk_macao=2"},
	{"B3/has_the_tariff", "usage.trips_hk_macao=2;0;1", "11-02T09:00 order product:hk_macao_tariff", "", no, "usage.trips_hk_macao=3"},

	{"B4/calls_114", "", "11-04T09:58 call number:114 minutes=1", "", yes, "usage.enquiry_calls=1"},
	{"B4/calls_118114", "", "11-04T09:58 call number:118114 minutes=1", "", yes, ""},
	{"B4/calls_a_travel_agency", "", "11-04T09:58 call number:02061230001 minutes=4", "", yes, ""},
	{"B4/calls_12580_itself", "", "11-04T09:58 call number:12580 minutes=1", "", no, "usage.enquiry_calls=0"},
	{"B4/calls_a_friend", "", "11-04T09:58 call number:13800000001 minutes=1", "", no, ""},
	{"B4/number_hidden", "", "11-04T09:58 call minutes=1", "", no, ""},
	{"B4/second_call_the_same_day", "", "11-04T09:00 call number:114 minutes=1\n11-04T09:58 call number:118114 minutes=1", "", yes, "usage.enquiry_calls=2"}, // that it is capped is for the contact policy
	{"B4/yesterday", "", "11-03T09:44 call number:114 minutes=1", "", no, "usage.enquiry_calls=0"},

	{"B5/three_missed", night, "11-03T23:00 power_off\n11-04T01:00 missed_call\n11-04T02:00 missed_call\n11-04T03:00 missed_call\n11-04T09:59 power_on", "", yes, "service.missed_calls=3"},
	{"B5/three_missed_as_the_network_counts", night, "11-03T23:00 power_off\n11-04T09:59 power_on missed=3", "", yes, "service.missed_calls=3"},
	{"B5/none_missed", night, "11-03T23:00 power_off\n11-04T09:59 power_on", "", no, "service.missed_calls=0"},
	{"B5/none_missed_as_the_network_counts", night, "11-03T23:00 power_off\n11-04T09:59 power_on missed=0", "", no, "service.missed_calls=0"},
	{"B5/next_power_on", night, "11-02T23:00 power_off\n11-03T01:00 missed_call\n11-03T08:00 power_on\n11-03T23:00 power_off\n11-04T09:59 power_on", "", no, "service.missed_calls=0"},
	{"B5/next_power_on_as_the_network_counts", night, "11-03T08:00 power_on missed=3\n11-04T09:59 power_on missed=0", "", no, "service.missed_calls=0"},
	{"B5/missed_that_arrives_late", night, "11-03T23:00 power_off\n11-04T09:59 power_on\n11-04T02:00 missed_call", "", yes, "service.missed_calls=1"},
	{"B5/missed_before_it_was_off", night, "11-03T22:00 missed_call\n11-03T23:00 power_off\n11-04T09:59 power_on", "", no, "service.missed_calls=0"},
	{"B5/owned", night + "marketing.owned=missed_call_reminder", "11-03T23:00 power_off\n11-04T02:00 missed_call\n11-04T09:59 power_on", "", no, "service.missed_calls=1"},
	{"B5/never_off_at_night", "", "11-03T23:00 power_off\n11-04T02:00 missed_call\n11-04T09:59 power_on", "", no, ""},

	{"B6a/first", target, "11-04T09:00 call kind:long_distance minutes=3", "", yes, "usage.long_distance_calls=1 usage.calls_12593=0"},
	{"B6a/second", target, "11-03T09:00 call kind:long_distance minutes=3\n11-04T09:00 call kind:long_distance minutes=3", "", no, "usage.long_distance_calls=2"},
	{"B6a/called_long_ago", target + "usage.long_distance_calls=5", "11-04T09:00 call kind:long_distance minutes=3", "", no, "usage.long_distance_calls=6"},
	{"B6a/through_12593", target, "11-04T09:00 call kind:long_distance via:12593 minutes=3", "", no, "usage.long_distance_calls=1 usage.calls_12593=1"},
	{"B6a/used_12593_before", target + "usage.calls_12593=1", "11-04T09:00 call kind:long_distance minutes=3", "", no, ""},
	{"B6a/local_call", target, "11-04T09:00 call kind:local minutes=3", "", no, "usage.long_distance_calls=0"},
	{"B6a/not_in_the_target_group", "", "11-04T09:00 call kind:long_distance minutes=3", "", no, ""},
	{"B6a/no_row", "-bi", "11-04T09:00 call kind:long_distance minutes=3", "", unknown, "usage.long_distance_calls=unknown"},
	{"B6b/first", target, "11-04T09:00 roaming_in place:Foshan scope:province", "", yes, "usage.roaming_in_province=1 location.roaming_place=Foshan location.roaming=false"},
	{"B6b/second", target, "11-03T09:00 roaming_in place:Foshan scope:province\n11-04T09:00 roaming_in place:Zhuhai scope:province", "", no, "usage.roaming_in_province=2"},
	{"B6b/used_12593_before", target, "11-03T09:00 call kind:long_distance via:12593 minutes=3\n11-04T09:00 roaming_in place:Foshan scope:province", "", no, ""},
	{"B6b/between_provinces", target, "11-04T09:00 roaming_in place:Changsha scope:national", "", no, "usage.roaming_in_province=0"},
	{"B6c/first", target, "11-04T09:00 roaming_in place:Changsha scope:national", "", yes, "usage.roaming_between_provinces=1 location.roaming=false"},
	{"B6c/second", target + "usage.roaming_between_provinces=1", "11-04T09:00 roaming_in place:Changsha scope:national", "", no, "usage.roaming_between_provinces=2"},
	{"B6c/abroad", target, "11-04T09:00 roaming_in place:japan scope:abroad", "", no, "usage.roaming_between_provinces=0 location.roaming=true"},

	{"B7/60_minutes_still_there", "", "11-04T09:00 location cell:460-00-1001", "", yes, "location.broker=60 location.area=broker"},
	{"B7/59_minutes_still_there", "", "11-04T09:01 location cell:460-00-1001", "", no, "location.broker=59"},
	{"B7/60_minutes_and_a_second_ago", "", "11-04T08:59:59 location cell:460-00-1001\n11-04T09:30 location cell:460-00-1002\n11-04T09:59 location cell:460-00-1001", "", yes, ""},
	{"B7/two_stays_of_30_on_two_days", "", "11-03T09:30 location cell:460-00-1001\n11-03T10:00 location cell:460-00-9999\n11-04T09:30 location cell:460-00-1001", "", no, "location.broker=30"},
	{"B7/has_left", "", "11-04T08:00 location cell:460-00-1001\n11-04T09:30 location cell:460-00-9999", "", no, "location.broker=0"},
	{"B7/was_away_for_a_minute", "", "11-04T08:00 location cell:460-00-1001\n11-04T09:30 location cell:460-00-9999\n11-04T09:31 location cell:460-00-1001", "", no, "location.broker=29"},
	{"B7/the_absence_arrives_late", "", "11-04T08:00 location cell:460-00-1001\n11-04T09:31 location cell:460-00-1001\n11-04T09:30 location cell:460-00-9999", "", no, "location.broker=29"},
	{"B7/owned", "marketing.owned=mobile_brokerage", "11-04T08:00 location cell:460-00-1001", "", no, "location.broker=120"},
	{"B7/calls_a_broker", "", "11-04T09:58 call number:02061230002 minutes=2", "", yes, "usage.broker_calls=1 location.broker=0"},
	{"B7/called_a_broker_yesterday", "", "11-03T09:44 call number:02061230002 minutes=2", "", no, "usage.broker_calls=0"},
	{"B7/calls_a_travel_agency", "", "11-04T09:58 call number:02061230001 minutes=2", "", no, "usage.broker_calls=0"},

	{"B8/in_the_morning", "", "11-04T07:58 location cell:460-00-3001", "11-04T08:00", yes, "location.area=metro location.nearest_store=Tianhe~Road~12"},
	{"B8/in_the_evening", "", "11-04T17:58 location cell:460-00-3002", "11-04T18:00", yes, ""},
	{"B8/at_noon", "", "11-04T11:58 location cell:460-00-3001", "11-04T12:00", no, ""},
	{"B8/owned", "marketing.owned=mobile_newspaper", "11-04T07:58 location cell:460-00-3001", "11-04T08:00", no, ""},
	{"B8/not_in_the_metro", "", "11-04T07:58 location cell:460-00-1001", "11-04T08:00", no, ""},
	{"B8/left_the_metro", "", "11-04T07:50 location cell:460-00-3001\n11-04T07:58 location cell:460-00-9999", "11-04T08:00", no, "location.area= location.nearest_store="},

	{"B9/dock", worksAway, "2027-02-01T09:58 location cell:460-00-4001 city:Changsha", "2027-02-01T10:00", yes, "location.season=spring_festival location.province=hunan location.area=dock"},
	{"B9/bus_station", worksAway, "2027-02-01T09:58 location cell:460-00-4002 city:Hengyang", "2027-02-01T10:00", yes, ""},
	{"B9/airport", worksAway, "2027-02-01T09:58 location cell:460-00-5001 city:Changsha", "2027-02-01T10:00", no, "location.area=airport"},
	{"B9/out_of_season", worksAway, "12-01T09:58 location cell:460-00-4001 city:Changsha", "12-01T10:00", no, "location.season="},
	{"B9/first_minute_of_the_season", worksAway, "2027-01-06T00:00 location cell:460-00-4001 city:Changsha", "2027-01-06T00:01", yes, ""},
	{"B9/last_minute_before_it", worksAway, "2027-01-05T23:59 location cell:460-00-4001 city:Changsha", "2027-01-05T23:59", no, ""},
	{"B9/last_minute_of_the_season", worksAway, "2027-04-05T23:59 location cell:460-00-4001 city:Changsha", "2027-04-05T23:59", yes, ""},
	{"B9/first_minute_after_it", worksAway, "2027-04-06T00:00 location cell:460-00-4001 city:Changsha", "2027-04-06T00:00", no, ""},
	{"B9/never_left", "location.home_province=hunan location.work_province=hunan", "2027-02-01T09:58 location cell:460-00-4001 city:Changsha", "2027-02-01T10:00", no, ""},
	{"B9/still_where_the_work_is", worksAway, "2027-02-01T09:58 location cell:460-00-4001 city:Guangzhou", "2027-02-01T10:00", no, "location.province=guangdong"},
	{"B9/home_not_known", "location.work_province=guangdong", "2027-02-01T09:58 location cell:460-00-4001 city:Changsha", "2027-02-01T10:00", unknown, ""},

	{"B10/arrives", "", "11-04T09:58 roaming_in place:japan scope:abroad", "", yes, "location.roaming_place=japan location.roaming=true"},
	{"B10/has_the_plan", "marketing.owned=plan_japan", "11-04T09:58 roaming_in place:japan scope:abroad", "", no, ""},
	{"B10/has_another_plan", "marketing.owned=plan_korea", "11-04T09:58 roaming_in place:japan scope:abroad", "", yes, ""},
	{"B10/back_home", "", "11-03T09:58 roaming_in place:japan scope:abroad\n11-04T09:58 roaming_out", "", no, "location.roaming_place= location.roaming=false"},
	{"B10/never_roamed", "", "", "", unknown, "location.roaming_place=unknown"},

	{"B11/asked_on_wap", "", "11-04T09:58 order_requested product:mobile_tv", "", yes, "marketing.pending_orders={mobile_tv} marketing.owned={}"},
	{"B11/confirmed", "", "11-04T09:50 order_requested product:mobile_tv\n11-04T09:58 order id:wap-1 product:mobile_tv", "", no, "marketing.pending_orders={} marketing.owned={mobile_tv}"},
	{"B11/confirmed_twice", "", "11-04T09:50 order_requested product:mobile_tv\n11-04T09:58 order id:wap-1 product:mobile_tv\n11-04T09:59 order id:wap-1 product:mobile_tv", "", no, "marketing.pending_orders={} marketing.owned={mobile_tv}"},
	{"B11/no_reply_in_a_day", "", "11-03T09:59 order_requested product:mobile_tv", "", no, "marketing.pending_orders={mobile_tv} marketing.owned={}"},
	{"B11/expired", "", "11-03T09:59 order_requested product:mobile_tv\n11-04T09:59 order_expired product:mobile_tv", "", no, "marketing.pending_orders={} marketing.owned={}"},
	{"B11/reply_a_minute_before", "", "11-03T10:01 order_requested product:mobile_tv", "", yes, ""},

	{"B12/all_steps", "", job, "", yes, "service.open_jobs={j1} service.job_steps={j1/call_centre,j1/sms,j1/store}"},
	{"B12/closed", "", job + "\n11-04T09:40 job_closed job:j1", "", no, "service.open_jobs={}"},
	{"B12/step_skipped", "", "11-04T09:00 job_opened job:j1\n11-04T09:01 job_step job:j1 step:call_centre\n11-04T09:30 job_step job:j1 step:store", "", no, "service.open_jobs={j1} service.job_steps={j1/call_centre,j1/store}"},
	{"B12/step_of_another_job", "", "11-04T09:00 job_opened job:j1\n11-04T09:01 job_step job:j1 step:call_centre\n11-04T09:10 job_step job:j2 step:sms\n11-04T09:30 job_step job:j1 step:store", "", no, "service.open_jobs={j1}"},

	{"B14/vip_at_10", "tag.vip=true preference.best_hour_from=19 preference.best_hour_until=21", "", "", yes, ""},
	{"B14/sensitive_at_10", "tag.complaint_sensitive=true preference.best_hour_from=19 preference.best_hour_until=21", "", "", yes, ""},
	{"B14/vip_at_19", "tag.vip=true preference.best_hour_from=19 preference.best_hour_until=21", "", "11-04T19:00", no, ""},
	{"B14/vip_at_2059", "tag.vip=true preference.best_hour_from=19 preference.best_hour_until=21", "", "11-04T20:59", no, ""},
	{"B14/vip_at_21", "tag.vip=true preference.best_hour_from=19 preference.best_hour_until=21", "", "11-04T21:00", yes, ""},
	{"B14/ordinary", "preference.best_hour_from=19 preference.best_hour_until=21", "", "", no, ""},
	{"B14/hours_not_known", "tag.vip=true", "", "", unknown, ""},

	{"C1/neither", "", "", "", yes, ""},
	{"C1/follows", "", "11-04T09:00 follow store:store_s", "", no, "marketing.follower=true"},
	{"C1/follows_no_more", "marketing.follower=true", "11-04T09:00 unfollow", "", yes, "marketing.follower=false"},
	{"C1/has_the_app", "", "11-04T09:00 app_login", "", no, "marketing.uses_app=true"},
	{"C1/unwilling", "", "", "", no, ""},
	{"C1.chat/no_contact_yet", "", "", "", yes, ""},
	{"C1.chat/in_contact", "", "11-04T09:00 enterprise_chat_added", "", no, "marketing.enterprise_chat=true"},
	{"C1.chat/unwilling", "", "", "", no, ""},
	{"C2/on_the_list", "service.account_manager=s100", "", "", yes, ""},
	{"C2/on_another_list", "service.account_manager=s101", "", "", no, ""},
	{"C2/on_no_list", "", "", "", unknown, ""},

	// The cap itself is the contact policy's: only how the count moves.
	{"C4/one_contact", "", "11-03T09:00 contact channel:sms class:marketing", "", yes, "marketing.sales_contacts=1"},
	{"C4/two_contacts", "", "11-03T09:00 contact channel:sms class:marketing\n11-04T08:59 contact channel:outbound_call items=[{\"class\":\"care\"},{\"class\":\"marketing\"}]", "", no, "marketing.sales_contacts=2"},
	{"C4/second_is_care", "", "11-03T09:00 contact channel:sms class:marketing\n11-04T08:59 contact channel:sms class:care", "", yes, "marketing.sales_contacts=1"},
	{"C4/second_by_email", "", "11-03T09:00 contact channel:sms class:marketing\n11-04T08:59 contact channel:email class:marketing", "", yes, "marketing.sales_contacts=1"},
	{"C4/before_the_window_slides", "", "11-03T09:00 contact channel:sms class:marketing\n11-04T08:59 contact channel:sms class:marketing", "11-10T09:00", no, "marketing.sales_contacts=2"},
	{"C4/after_the_window_slid", "", "11-03T09:00 contact channel:sms class:marketing\n11-04T08:59 contact channel:sms class:marketing", "11-10T09:01", yes, "marketing.sales_contacts=1"},

	{"C6/scanned_in_the_store", "", "11-04T09:00 follow store:store_s", "", yes, ""},
	{"C6/another_store_since", "", "11-03T09:00 follow store:store_s\n11-04T09:00 follow store:store_t", "", no, "marketing.follow_store=store_t"},
	{"C6/no_store_known", "", "11-04T09:00 follow", "", unknown, "marketing.follow_store=unknown marketing.follower=true"},
	{"C7a/first_sellers_code", "", "11-03T09:00 follow seller:seller_1", "", yes, ""},
	{"C7a/another_seller_between", "", "11-02T09:00 follow seller:seller_1\n11-03T09:00 contact channel:sms class:marketing seller:seller_3", "", no, "marketing.seller=seller_3"},
	{"C7a/contact_without_a_seller", "", "11-02T09:00 follow seller:seller_1\n11-03T09:00 contact channel:sms class:marketing", "", yes, ""},
	{"C7b/link_after_code", "", "11-02T09:00 follow seller:seller_1\n11-03T09:00 link_opened seller:seller_2", "", yes, ""},
	{"C7b/link_arrives_before_the_code", "", "11-03T09:00 link_opened seller:seller_2\n11-02T09:00 follow seller:seller_1", "", yes, ""},
	{"C7b/code_after_link", "", "11-02T09:00 link_opened seller:seller_2\n11-03T09:00 follow seller:seller_1", "", no, "marketing.seller=seller_1"},
	{"C7c/came_alone", "", "11-03T09:00 order product:broadband\n11-03T10:00 order_dispatched unit:unit_7", "", yes, "marketing.dispatch_unit=unit_7"},
	{"C7c/a_seller_was_there", "", "11-02T09:00 link_opened seller:seller_2\n11-03T10:00 order_dispatched unit:unit_7", "", no, ""},
	{"C7c/not_dispatched", "", "11-03T09:00 order product:broadband", "", unknown, ""},

	{"D1a/business_done", "", "11-04T09:00 counter_done business:broadband store:store_s", "", yes, "service.counter_business=broadband service.counter_at=2026-11-04T01:00:00Z"},
	{"D1a/on_somebodys_behalf", "", "11-04T09:00 counter_done business:broadband store:store_s on_behalf=true", "", unknown, "service.counter_business=unknown"},
	{"D1a/two_days_ago", "", "11-02T09:00 counter_done business:broadband store:store_s", "", no, ""},
	{"D1b/bad", "", "11-04T09:00 store_rating rating:bad", "", yes, "service.store_rating=bad"},
	{"D1b/fair", "", "11-04T09:00 store_rating rating:fair", "", yes, ""},
	{"D1b/complaint", "", "11-04T09:00 store_complaint", "", yes, "service.store_rating=unknown"},
	{"D1b/good", "", "11-04T09:00 store_rating rating:good", "", no, "service.store_rating=good"},
	{"D1b/very_good", "", "11-04T09:00 store_rating rating:very_good", "", no, ""},
	{"D1b/unreadable", "", "11-04T09:00 store_rating rating:??", "", no, "service.unreadable_replies=1 service.store_rating=unknown"},
	{"D1b/not_been_there", "", "11-04T09:00 store_rating rating:not_been_there", "", no, "service.unreadable_replies=0"},
	{"D1b/no_reply", "", "11-04T08:00 counter_done business:broadband store:store_s", "", no, "service.care_open=false"},
	{"D1b/closed", "", "11-03T09:00 store_rating rating:bad\n11-04T09:00 care_closed", "", no, "service.care_open=false"},
	{"D1b.thanks/good", "", "11-04T09:00 store_rating rating:good", "", yes, ""},
	{"D1b.thanks/bad_since", "", "11-03T09:00 store_rating rating:good\n11-04T09:00 store_rating rating:bad", "", no, "service.store_rating=bad"},
	{"D1b.thanks/unreadable", "", "11-04T09:00 store_rating rating:??", "", unknown, ""},
	{"D1b.counted/unreadable", "", "11-04T09:00 store_rating rating:??", "", yes, "service.unreadable_replies=1"},
	{"D1b.counted/not_been_there", "", "11-04T09:00 store_rating rating:not_been_there", "", no, ""},
	{"D1c/still_unhappy", "", "11-02T09:00 store_rating rating:bad\n11-03T09:00 care_call\n11-04T09:00 care_survey answer:unhappy", "", yes, "service.care_rounds=1"},
	{"D1c/happy", "", "11-02T09:00 store_rating rating:bad\n11-03T09:00 care_call\n11-04T09:00 care_survey answer:happy", "", no, ""},
	{"D1c/rated_again_and_not_called_yet", "", "11-02T09:00 store_rating rating:bad\n11-03T09:00 care_call\n11-03T10:00 care_survey answer:unhappy\n11-04T09:00 store_rating rating:bad", "", no, "service.care_rounds=0"},
	{"D1c/happy_after_the_second_round", "", "11-02T09:00 store_rating rating:bad\n11-03T09:00 care_call\n11-03T10:00 care_survey answer:unhappy\n11-03T11:00 care_call\n11-04T09:00 care_survey answer:happy", "", no, "service.care_rounds=2"},

	{"D2a/today", gotone + "general.birth_date=1990-11-04", "", "11-04T09:00", yes, "general.birth_date=1990-11-04T00:00:00Z"},
	{"D2a/just_after_midnight", gotone + "general.birth_date=1990-11-04", "", "11-04T00:01", yes, ""},
	{"D2a/last_minute_before", gotone + "general.birth_date=1990-11-04", "", "11-03T23:59", no, ""},
	{"D2a/tomorrow", gotone + "general.birth_date=1990-11-05", "", "11-04T09:00", no, ""},
	{"D2a/business", "general.customer_type=business general.brand=premium general.birth_date=1990-11-04", "", "11-04T09:00", no, ""},
	{"D2a/do_not_disturb", gotone + "general.birth_date=1990-11-04", "11-01T09:00 do_not_disturb on=true", "11-04T09:00", no, "preference.do_not_disturb=true"},
	{"D2a/disturb_again", gotone + "general.birth_date=1990-11-04 preference.do_not_disturb=true", "11-01T09:00 do_not_disturb on=false", "11-04T09:00", yes, ""},
	{"D2a/foreign_national", gotone + "general.birth_date=1990-11-04 general.foreign=true", "", "11-04T09:00", no, ""},
	{"D2a/other_brand", "general.customer_type=individual general.brand=youth general.birth_date=1990-11-04", "", "11-04T09:00", no, ""},
	{"D2a/29_February_on_the_28th", gotone + "general.birth_date=1992-02-29", "", "2027-02-28T09:00", yes, ""},
	{"D2a/29_February_on_the_28th_of_a_leap_year", gotone + "general.birth_date=1992-02-29", "", "2028-02-28T09:00", no, ""},
	{"D2a/29_February_in_a_leap_year", gotone + "general.birth_date=1992-02-29", "", "2028-02-29T09:00", yes, ""},
	{"D2a/29_February_on_1_March", gotone + "general.birth_date=1992-02-29", "", "2027-03-01T09:00", no, ""},
	{"D2a/28_February_on_the_28th", gotone + "general.birth_date=1992-02-28", "", "2027-02-28T09:00", yes, ""},
	{"D2a/not_known", gotone, "", "11-04T09:00", unknown, ""},
	{"D2b/that_day", gotone + "general.birth_date=1990-11-04", "", "11-04T17:00", yes, ""},
	{"D2b/the_day_after", gotone + "general.birth_date=1990-11-04", "", "11-05T09:00", no, ""},
	{"D2c/another_members", "general.family_birthdays=11-04~10000007;05-17~10000008", "", "11-04T09:00", yes, "general.family_birthdays={05-17~10000008,11-04~10000007}"},
	{"D2c/the_day_before", "general.family_birthdays=11-04~10000007", "", "11-03T09:00", no, ""},
	{"D2c/member_left", "general.family_birthdays=11-04~10000007", "11-02T09:00 member_left birthday:11-04 member:10000007", "11-04T09:00", no, "general.family_birthdays={}"},
	{"D2c/another_member_left", "general.family_birthdays=11-04~10000007;11-04~10000008", "11-02T09:00 member_left birthday:11-04 member:10000007", "11-04T09:00", yes, "general.family_birthdays={11-04~10000008}"},
	{"D2c/member_joined", "", "11-02T09:00 member_joined birthday:11-04 member:10000009", "11-04T09:00", yes, ""},

	{"D3.premium/exactly_5_years", "general.brand=premium general.customer_since=2021-11-04", "", "", yes, ""},
	{"D3.premium/4_years_364_days", "general.brand=premium general.customer_since=2021-11-05", "", "", no, ""},
	{"D3.premium/the_minute_it_becomes_5_years", "general.brand=premium general.customer_since=2021-11-04", "", "11-04T00:00", yes, ""},
	{"D3.premium/the_minute_before", "general.brand=premium general.customer_since=2021-11-04", "", "11-03T23:59", no, ""},
	{"D3.premium/vip_of_another_brand", "general.brand=everyday tag.vip=true general.customer_since=2020-01-01", "", "", yes, ""},
	{"D3.premium/since_29_February_on_the_28th", "general.brand=premium general.customer_since=2020-02-29", "", "2025-02-28T10:00", no, ""},
	{"D3.premium/since_29_February_on_1_March", "general.brand=premium general.customer_since=2020-02-29", "", "2025-03-01T10:00", yes, ""},
	{"D3.youth/exactly_3_years", "general.brand=youth general.customer_since=2023-11-04", "", "", yes, ""},
	{"D3.youth/2_years_364_days", "general.brand=youth general.customer_since=2023-11-05", "", "", no, ""},
	{"D3.youth/4_years_364_days", "general.brand=youth general.customer_since=2021-11-05", "", "", yes, ""},
	{"D3.youth/5_years", "general.brand=youth general.customer_since=2021-11-04", "", "", no, ""},
	{"D3.everyday/5_years", "general.brand=everyday general.customer_since=2021-11-04", "", "", yes, ""},
	{"D3.everyday/3_years", "general.brand=everyday general.customer_since=2023-11-04", "", "", no, ""},
	{"D3.everyday/not_known", "general.brand=everyday", "", "", unknown, ""},

	{"D4/enough", "value.points=500", "", "", yes, ""},
	{"D4/one_short", "value.points=499", "", "", no, ""},
	{"D4/just_earned", "value.points=499", "11-04T09:00 points total=501", "", yes, "value.points=501"},
	{"D4/just_spent", "value.points=900", "11-04T09:00 points total=400", "", no, "value.points=400"},

	{"E1.balance/at_the_station", business, "11-04T09:58 location cell:460-00-2001", "", yes, "location.nearest_store=Station~Square~3 value.balance=9.99"},
	{"E1.balance/fine", business, "11-04T09:00 balance amount=10\n11-04T09:58 location cell:460-00-2001", "", no, "value.balance=10"},
	{"E1.balance/low_value_opted_out", "value.balance=3 preference.marketing_opt_out=true", "11-04T09:58 location cell:460-00-2001", "", yes, ""},
	{"E1.balance/elsewhere", business, "11-04T09:58 location cell:460-00-3001", "", no, ""},
	{"E1.store/near_one", business, "11-04T09:58 location cell:460-00-2001", "", yes, "location.nearest_store=Station~Square~3"},
	{"E1.store/far_from_all", business, "11-04T09:58 location cell:460-00-9999", "", no, "location.nearest_store="},
	{"E1.reminder/at_the_station", business, "11-04T09:58 location cell:460-00-2001", "", yes, ""},
	{"E1.reminder/owned", business + "marketing.owned=missed_call_reminder", "11-04T09:58 location cell:460-00-2001", "", no, ""},
	{"E1.reminder/low_value", "tag.business_traveller=true", "11-04T09:58 location cell:460-00-2001", "", no, ""},
	{"E1.reminder/opted_out", business, "11-04T09:00 opt_out\n11-04T09:58 location cell:460-00-2001", "", no, ""},
	{"E1.tariff/at_the_station", business + "marketing.owned=missed_call_reminder", "11-04T09:58 location cell:460-00-2001", "", yes, ""},
	{"E1.tariff/no_traveller", "tag.vip=true", "11-04T09:58 location cell:460-00-2001", "", no, ""},

	{"E2/stayed_through_it", j3, evening, "11-07T21:10", yes, "location.concert=artist_j location.concert_minutes=100"},
	{"E2/two_ringtones", "marketing.ringtones=artist_j/spring;artist_j/river;artist_k/rain", evening, "11-07T21:10", no, ""},
	{"E2/third_ringtone_just_bought", "marketing.ringtones=artist_j/spring;artist_j/river", evening + "\n11-07T21:08 ringtone artist:artist_j title:home", "11-07T21:10", yes, "marketing.ringtones={artist_j/home,artist_j/river,artist_j/spring}"},
	{"E2/of_another_artist", "marketing.ringtones=artist_k/spring;artist_k/river;artist_k/rain", evening, "11-07T21:10", no, ""},
	{"E2/left_after_20_minutes", j3, "11-07T19:20 location cell:460-00-6001\n11-07T19:40 location cell:460-00-9999", "11-07T21:10", no, "location.concert_minutes=20"},
	{"E2/another_night", j3, "11-06T19:20 location cell:460-00-6001\n11-06T21:00 location cell:460-00-9999", "11-06T21:10", no, "location.concert=unknown location.concert_minutes=0 location.area="},
	{"E2/another_artists_night", j3, "11-14T19:20 location cell:460-00-6001\n11-14T21:00 location cell:460-00-9999", "11-14T21:10", no, "location.concert=artist_k location.concert_minutes=100"},
	{"E2/minutes_of_last_week_do_not_count", "marketing.ringtones=artist_k/spring;artist_k/river;artist_k/rain", evening + "\n11-14T19:20 location cell:460-00-6001\n11-14T19:40 location cell:460-00-9999", "11-14T21:10", no, "location.concert=artist_k location.concert_minutes=20"},
	{"E2/member", j3 + "marketing.owned=music_club", evening, "11-07T21:10", yes, ""},
	{"E2.club/no_member", j3, evening, "11-07T21:10", yes, ""},
	{"E2.club/member", j3 + "marketing.owned=music_club", evening, "11-07T21:10", no, ""},

	{"relations/main_card", "general.household=f1 general.household_role=main general.account=b1", "11-04T09:00 counter_done business:bill store:store_s", "", yes, ""},
	{"relations/joins_a_family", "general.account=b1", "11-03T09:00 family_joined household:f2 role:main\n11-04T09:00 counter_done business:bill store:store_s", "", yes, "general.household=f2"},
	{"relations/leaves_it", "general.household=f1 general.household_role=main general.account=b1", "11-04T09:00 counter_done business:bill store:store_s\n11-04T09:30 family_left", "", no, "general.household= general.household_role="},
}

const (
	job = "11-04T09:00 job_opened job:j1\n11-04T09:01 job_step job:j1 step:call_centre\n" +
		"11-04T09:10 job_step job:j1 step:sms\n11-04T09:30 job_step job:j1 step:store"
	evening = "11-07T19:20 location cell:460-00-6001\n11-07T20:30 location cell:460-00-6001\n11-07T21:00 location cell:460-00-9999"
)
