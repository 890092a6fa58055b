package demo

import (
	"strconv"
	"time"
)

// person is one made-up customer: what the sources write down.
//
// A person is drawn in the order of causes. Age and affluence come first; they
// shape brand, plan and handset; those shape spend and use; contract, tenure and
// complaints shape the churn risk; and the model scores come last. So the
// correlations that a rule relies on are there: long contracts go with tenure and
// low churn, spend with affluence, data use with 5G and youth.
type person struct {
	business   bool
	age        int
	affluence  float64 // a standard normal draw, shifted by age and business
	brand      string
	prepaid    bool
	tenure     int // days
	since      time.Time
	born       time.Time
	credit     string
	suspended  bool
	fiveG      bool
	band       string
	handset    string
	changes    bool // changes handsets often
	family     bool
	vip        bool
	homeCity   string
	city       string
	roaming    bool
	traveldays int

	arpu     float64
	fee      float64
	quota    float64
	balance  float64
	contract string
	end      time.Time // of the contract
	points   int

	data          float64
	voice         float64
	messages      int
	international float64

	complaint    bool
	sensitive    bool
	satisfaction int // 0: never answered
	password     bool
	paper        bool
	calls        int
	lastContact  time.Time
	channel      string

	owns    owned
	scores  scores
	churn   float64
	unknown blanks

	occupation  string
	foreign     bool
	household   household
	account     string
	manager     string
	products    []string // those that have no flag of their own
	ringtones   []string
	follower    bool
	chat        bool
	persona     string
	bestHour    int
	noDisturb   bool
	optOut      bool
	consent     consent
	trips       []int // days before the data's moment on which journeys to Hong Kong or Macao began, ascending
	firsts      firsts
	homeProv    string
	workProv    string
	buyer       bool
	offAtNight  bool
	target12593 bool
	traveller   bool
}

// household is the family plan that a person shares; the zero one is none.
type household struct {
	id, role  string
	birthdays []string // of the others
}

// firsts are how often a person has ever done what may be a first.
type firsts struct {
	longDistance, prefixed, inProvince, betweenProvinces int
}

// consent is by which ways a person agrees to hear of sales.
type consent struct{ message, call, email bool }

// owned are the products that a person has.
type owned struct {
	music, video, missedCall, roamingPack, broadband, protection, messagePack, app bool
}

// scores are the propensities that a model gives a person.
type scores struct {
	data, device, contract, valueAdded float64
}

// blanks are what the sources do not know of a person.
type blanks struct {
	serviceCentre                  bool // it has no row
	age, born, band, credit, home  bool
	dataScore, device, contractual bool
	valueAdded, churn              bool
}

// plans are the operator's plans: monthly fee and data.
var plans = []struct{ fee, mb float64 }{
	{8, 500}, {18, 2048}, {28, 4096}, {38, 8192}, {58, 15360}, {88, 30720}, {128, 51200}, {188, 81920}, {288, 153600},
}

var cities = []option{
	{"Guangzhou", 0.25},
	{"Shenzhen", 0.25},
	{"Foshan", 0.12},
	{"Dongguan", 0.12},
	{"Huizhou", 0.08},
	{"Zhuhai", 0.07},
	{"Shantou", 0.06},
	{"Zhanjiang", 0.05},
}

// draw makes up a customer.
func draw(seed uint64, index int) *person {
	p := drawAlone(seed, index)
	p.joinHousehold(seed, index)
	return p
}

// drawAlone makes up a customer without regard to others.
func drawAlone(seed uint64, index int) *person {
	d := roll(seed, index)
	p := &person{}
	p.drawWho(d)
	p.drawRelation(d)
	p.drawSpend(d)
	p.drawUsage(d)
	p.drawPlaces(d)
	p.drawService(d)
	p.drawProducts(d)
	p.drawScores(d)
	p.drawBlanks(d)
	// What came later is drawn last, so that it changes nothing before.
	p.drawHabits(d)
	p.drawRelations(d, index)
	p.drawConsent(d)
	if index == 0 {
		p.feature()
	}
	return p
}

func (p *person) drawWho(d dice) {
	p.business = d.chance(0.07)
	switch u := d.Float64(); {
	case u < 0.24:
		p.age = 16 + d.below(11)
	case u < 0.82:
		p.age = 27 + d.below(33)
	default:
		p.age = 60 + d.below(25)
	}
	p.affluence = d.normal() + when(p.business, 0.7)
	if !p.business {
		p.affluence += when(p.age < 24, -0.5) + when(p.age >= 35 && p.age < 60, 0.3) + when(p.age >= 60, -0.4)
	}
	switch {
	case !p.business && p.age < 27 && d.chance(0.75):
		p.brand = "youth"
	case p.affluence > 0.9 && d.chance(0.85):
		p.brand = "premium"
	default:
		p.brand = "everyday"
	}
	prepaid := map[string]float64{"youth": 0.72, "everyday": 0.42, "premium": 0.05}[p.brand]
	p.prepaid = !p.business && d.chance(prepaid-mul(0.1, p.affluence))
	p.born = time.Date(AsOf().Year()-p.age, AsOf().Month(), AsOf().Day()-d.below(365), 0, 0, 0, 0, time.UTC)
}

// drawRelation draws how long the customer is with us, and bound by what.
func (p *person) drawRelation(d dice) {
	longest := 15 * 365.0
	if !p.business {
		longest = min(longest, float64(p.age-14)*365)
	}
	u := d.Float64()
	p.tenure = 1 + int(mul(mul(u, 0.35+mul(0.65, u)), longest))
	p.since = AsOf().AddDate(0, 0, -p.tenure)

	p.contract = "none"
	term := 0
	if stays := 0.4 + mul(0.0001, float64(min(p.tenure, 4000))); !p.prepaid && d.chance(stays) {
		p.contract, term = "12_months", 365
		if d.chance(0.35 + mul(0.0001, float64(min(p.tenure, 3500)))) {
			p.contract, term = "24_months", 730
		}
	}
	if term > 0 { // begun at some time since the customer came, ended at most 40 days ago
		begun := d.below(min(p.tenure, term+40))
		p.end = AsOf().AddDate(0, 0, term-begun)
	}
	switch rating := p.affluence + mul(0.0004, float64(p.tenure)) + d.spread(0.8); {
	case rating > 1.6:
		p.credit = "A"
	case rating > 0.5:
		p.credit = "B"
	case rating > -0.5:
		p.credit = "C"
	case rating > -1.4:
		p.credit = "D"
	default:
		p.credit = "E"
	}
	p.suspended = d.chance(0.015 + when(p.prepaid, 0.02) + when(p.credit == "D" || p.credit == "E", 0.02))
}

func (p *person) drawSpend(d dice) {
	p.arpu = d.logNormal(3.7+mul(0.42, p.affluence)+when(p.brand == "premium", 0.5)+when(p.brand == "youth", -0.1)+
		when(p.contract != "none", 0.12)+when(p.prepaid, -0.2), 0.3)
	p.arpu = min(max(p.arpu, 5), 480)
	afford := mul(p.arpu, d.between(0.7, 1.3))
	for _, plan := range plans {
		if p.fee == 0 || plan.fee <= afford {
			p.fee, p.quota = plan.fee, plan.mb
		}
	}
	p.balance = max(mul(p.arpu, d.logNormal(-0.4, 0.8)), 0.5)
	if p.suspended {
		p.balance = d.between(-4, 0.5)
	}
	p.points = int(mul(mul(p.arpu, min(float64(p.tenure)/30, 36)), d.between(0.1, 1)))
	p.vip = p.brand == "premium" && (p.arpu >= 160 || p.tenure > 5*365 && d.chance(0.25))
}

func (p *person) drawUsage(d dice) {
	youth := mul(0.02, float64(35-p.age))
	p.fiveG = d.chance(logistic(0.3 + mul(0.9, p.affluence) + mul(1.6, youth)))
	switch class := p.affluence + when(p.fiveG, 0.6) + d.spread(0.5); {
	case class > 1.1:
		p.band = "high"
	case class > -0.3:
		p.band = "mid"
	default:
		p.band = "low"
	}
	makes := []option{{"A", 0.2}, {"B", 0.35}, {"C", 0.3}, {"", 0.15}}
	if p.band == "high" {
		makes = []option{{"A", 0.5}, {"B", 0.3}, {"C", 0.1}, {"", 0.1}}
	}
	p.handset = d.pick(makes)
	p.changes = d.chance(0.05 + when(p.band == "high", 0.15) + when(p.age < 30, 0.06))

	share := d.logNormal(-1.15+when(p.fiveG, 0.35)+youth, 0.7)
	if share > 1 { // beyond the quota it is slow
		share = 1 + (share-1)/4
	}
	p.data = mul(p.quota, share)
	p.voice = d.logNormal(4.6+mul(0.15, p.affluence)+when(p.business, 0.5), 0.75)
	p.messages = int(d.logNormal(2.5-mul(0.5, youth)+when(p.business, 0.4), 0.95))
	if d.chance(0.08 + when(p.business, 0.1) + when(p.affluence > 1, 0.04)) {
		p.international = d.logNormal(2.6, 0.8)
	}
}

func (p *person) drawPlaces(d dice) {
	p.homeCity = d.pick(cities)
	p.city = p.homeCity
	if d.chance(0.14) {
		p.city = d.pick(cities)
	}
	if d.chance(0.07 + when(p.affluence > 0.8, 0.1) + when(p.business, 0.12)) {
		u := d.Float64()
		p.traveldays = 1 + int(mul(mul(u, u), 24))
		p.roaming = d.chance(0.09)
	}
}

func (p *person) drawService(d dice) {
	p.complaint = d.chance(0.03)
	p.sensitive = d.chance(0.03 + when(p.complaint, 0.35))
	if d.chance(0.45) {
		p.satisfaction = int(min(max(7.6+d.spread(1.6)+when(p.complaint, -3)+when(p.sensitive, -1), 1), 10))
	}
	u := d.Float64()
	p.calls = int(mul(mul(u, u), 4)) + int(when(p.complaint, 1+mul(d.Float64(), 3)))
	switch u := d.Float64(); {
	case p.calls > 0:
		p.lastContact = AsOf().Add(-time.Duration(1+d.below(30*24)) * time.Hour)
	case u < 0.75:
		p.lastContact = AsOf().Add(-time.Duration(24*31+int(mul(mul(u, u), 36*24*40))) * time.Hour)
	}
	if p.lastContact.Before(p.since) {
		p.lastContact = time.Time{}
	}
	p.password = d.chance(0.35 + when(p.tenure > 90, 0.35) + when(p.age < 50, 0.1))
	p.paper = !p.prepaid && d.chance(0.1+when(p.age > 55, 0.4))
	p.family = !p.business && p.age >= 27 && d.chance(0.28)
	switch {
	case d.chance(0.35):
	case p.age < 30:
		p.channel = d.pick([]option{{"app", 0.5}, {"rich_message", 0.25}, {"sms", 0.15}, {"email", 0.1}})
	case p.age < 60:
		p.channel = d.pick([]option{{"sms", 0.35}, {"app", 0.3}, {"email", 0.2}, {"outbound_call", 0.1}, {"store", 0.05}})
	default:
		p.channel = d.pick([]option{{"outbound_call", 0.4}, {"store", 0.3}, {"sms", 0.25}, {"email", 0.05}})
	}
}

func (p *person) drawProducts(d dice) {
	heavy := p.data > 8000
	p.owns = owned{
		music:       d.chance(0.08 + when(p.age < 35, 0.2)),
		video:       d.chance(0.06 + when(heavy, 0.2)),
		missedCall:  d.chance(0.2 + when(p.business, 0.2)),
		roamingPack: p.traveldays > 0 && d.chance(0.3),
		broadband:   !p.business && p.age >= 24 && d.chance(0.3+when(p.family, 0.25)),
		protection:  p.fiveG && d.chance(0.1+when(p.band == "high", 0.2)),
		messagePack: d.chance(0.05 + when(p.messages > 40, 0.3)),
		app:         d.chance(0.25 + when(p.fiveG, 0.25) + when(p.age < 45, 0.2)),
	}
}

func (p *person) drawScores(d dice) {
	ends := p.contract != "none" && p.end.Before(AsOf().AddDate(0, 0, 60))
	free := p.contract == "none" && !p.prepaid
	p.scores = scores{
		data:       logistic(-3.3 + mul(1.8, p.data/p.quota) + when(p.age < 30, 0.3) + d.spread(0.35)),
		device:     logistic(-3.7 + when(p.changes, 1) + when(!p.fiveG, 0.4) + mul(0.15, p.affluence) + d.spread(0.4)),
		contract:   logistic(-3.3 + when(ends, 1.3) + when(free, 0.5) + when(p.prepaid, -0.3) + d.spread(0.4)),
		valueAdded: logistic(-2.9 + when(p.age < 35, 0.6) + when(p.data > 8000, 0.3) + d.spread(0.4)),
	}
	p.churn = logistic(-0.95 - mul(0.00045, float64(min(p.tenure, 3600))) + when(free, 0.7) + when(p.prepaid, 0.3) +
		when(p.contract == "24_months" && !ends, -0.9) + when(ends, 0.5) + when(p.complaint, 1.2) +
		when(p.satisfaction > 0 && p.satisfaction <= 5, 0.8) + when(p.arpu > 90 && p.contract == "none", 0.3) + d.spread(0.75))
}

func (p *person) drawBlanks(d dice) {
	young := p.tenure < 60 // the models know too little
	p.unknown = blanks{
		serviceCentre: d.chance(0.03),
		age:           p.business || d.chance(0.05),
		born:          p.business || d.chance(0.08),
		band:          d.chance(0.07),
		credit:        d.chance(0.05 + when(p.prepaid, 0.5)),
		home:          d.chance(0.03 + when(p.prepaid, 0.08)),
		dataScore:     young || d.chance(0.04),
		device:        young || d.chance(0.06),
		contractual:   young || d.chance(0.04),
		valueAdded:    young || d.chance(0.05),
		churn:         young || d.chance(0.02),
	}
}

// drawHabits draws what the person does and likes, beyond the figures.
func (p *person) drawHabits(d dice) {
	switch {
	case p.business:
		p.occupation = d.pick([]option{{"small_business_owner", 0.6}, {"employee", 0.4}})
	case p.age < 23:
		p.occupation = d.pick([]option{{"student", 0.7}, {"employee", 0.3}})
	case p.age >= 60:
		p.occupation = d.pick([]option{{"retired", 0.8}, {"employee", 0.2}})
	default:
		p.occupation = d.pick([]option{{"employee", 0.75}, {"small_business_owner", 0.15}, {"", 0.1}})
	}
	p.foreign = !p.business && d.chance(0.02)
	switch {
	case p.age >= 60:
		p.persona = d.pick([]option{{"elderly", 0.75}, {"screen_user", 0.1}, {"", 0.15}})
	case p.fiveG:
		p.persona = d.pick([]option{{"screen_user", 0.55}, {"web_surfer", 0.35}, {"", 0.1}})
	default:
		p.persona = d.pick([]option{{"web_surfer", 0.45}, {"screen_user", 0.25}, {"", 0.3}})
	}
	p.bestHour = 9 + d.below(3)
	if !p.business && p.age < 60 {
		p.bestHour = 18 + d.below(3)
	}
	p.noDisturb = d.chance(0.02)
	p.optOut = p.noDisturb || d.chance(0.08)
	p.follower = d.chance(0.2 + when(p.owns.app, 0.3))
	p.chat = d.chance(0.03 + when(p.vip, 0.5))
	p.buyer = d.chance(0.06 + when(p.changes, 0.3))
	p.offAtNight = d.chance(0.08 + when(p.age >= 60, 0.15))
	p.traveller = p.traveldays > 0 && d.chance(0.15+when(p.business, 0.5))

	if d.chance(0.06 + when(p.traveldays > 0, 0.3)) {
		for day := d.below(30); day < 90; day += 1 + d.below(40) {
			p.trips = append(p.trips, day)
		}
	}
	p.firsts.longDistance = int(mul(d.logNormal(1.2, 1.2), min(float64(p.tenure)/365, 4)))
	if p.firsts.longDistance > 0 && d.chance(0.12) {
		p.firsts.prefixed = 1 + d.below(p.firsts.longDistance)
	}
	p.firsts.inProvince = int(mul(d.logNormal(0.3, 0.9), min(float64(p.tenure)/365, 4)))
	p.firsts.betweenProvinces = int(mul(d.logNormal(-0.5, 1), min(float64(p.tenure)/365, 4)))
	p.target12593 = p.firsts.prefixed == 0 && d.chance(0.3)

	if d.chance(0.15 + when(p.age < 30, 0.3)) {
		for range 1 + d.below(4) {
			p.ringtones = append(p.ringtones, d.pick(artists)+"/"+d.pick(titles))
		}
	}
	for _, o := range []option{
		{"mobile_mail", 0.15},
		{"mobile_newspaper", 0.08},
		{"mobile_brokerage", 0.04},
		{"hk_macao_tariff", 0.02 + when(len(p.trips) > 0, 0.2)},
		{"smartphone", 0.1 + when(p.fiveG, 0.7)},
		{"short_number_group", when(p.business, 0.4)},
	} {
		if d.chance(o.share) {
			p.products = append(p.products, o.name)
		}
	}
}

var (
	artists = []option{{"artist_j", 0.4}, {"artist_k", 0.35}, {"artist_l", 0.25}}
	titles  = []option{{"spring", 0.3}, {"river", 0.25}, {"lantern", 0.2}, {"rain", 0.15}, {"home", 0.1}}
)

// drawRelations draws who the person belongs to.
func (p *person) drawRelations(d dice, index int) {
	p.homeProv = "guangdong"
	if d.chance(0.3) {
		p.homeProv = d.pick([]option{{"hunan", 0.45}, {"guangxi", 0.35}, {"fujian", 0.2}})
	}
	p.workProv = "guangdong"
	if d.chance(0.04) {
		p.workProv = p.homeProv
	}
	p.account = "a" + customerID(index)
	if p.business {
		p.account = "b" + strconv.Itoa(firstCustomer+index-index%businessLines)
	}
	if p.vip || p.business && d.chance(0.5) {
		p.manager = "s" + strconv.Itoa(100+d.below(60))
	} else if d.chance(0.3) { // a list from an earlier campaign
		p.manager = "s" + strconv.Itoa(200+d.below(40))
	}
}

const (
	businessLines = 20 // neighbours of which the businesses share an account
	familySize    = 4  // neighbours of which those on a family plan share it
)

// joinHousehold finds the others of the family plan among the neighbours, also those
// that are beyond the end of a file: more customers change no one.
func (p *person) joinHousehold(seed uint64, index int) {
	if !p.family {
		return
	}
	first := index - index%familySize
	p.household = household{id: "f" + strconv.Itoa(firstCustomer+first), role: "main"}
	for i := first; i < first+familySize; i++ {
		if i == index {
			continue
		}
		other := drawAlone(seed, i)
		if !other.family {
			continue
		}
		if i < index {
			p.household.role = "secondary"
		}
		if !other.unknown.born {
			p.household.birthdays = append(p.household.birthdays, other.born.Format("01-02")+" "+customerID(i))
		}
	}
}

// drawConsent draws to what the customer agreed: messages are welcome, calls are not.
func (p *person) drawConsent(d dice) {
	p.consent = consent{message: d.chance(0.75), call: d.chance(0.4), email: d.chance(0.6)}
	if p.optOut {
		p.consent = consent{}
	}
}

// feature makes the person the featured customer: a good one, who uses much, is
// bound by nothing and has few of our services.
func (p *person) feature() {
	*p = person{
		age: 38, brand: "premium", tenure: 7 * 365, since: AsOf().AddDate(-7, 0, 0), born: time.Date(1988, time.May, 17, 0, 0, 0, 0, time.UTC),
		credit: "A", fiveG: true, band: "high", handset: "A", changes: true, family: true, homeCity: "Shenzhen", city: "Shenzhen",
		traveldays: 6, arpu: 158.4, fee: 128, quota: 51200, contract: "none", points: 4210,
		data: 44032.5, voice: 412.3, messages: 18, international: 24.5,
		satisfaction: 8, password: true, calls: 1, lastContact: AsOf().AddDate(0, 0, -12), channel: "app",
		owns:   owned{missedCall: true, broadband: true, app: true},
		scores: scores{data: 0.21, device: 0.11, contract: 0.06, valueAdded: 0.17},
		churn:  0.27,

		consent:    consent{message: true, call: true, email: true},
		occupation: "employee", persona: "screen_user", bestHour: 19, follower: true, account: "a" + customerID(0),
		products: []string{"smartphone"}, ringtones: []string{"artist_j/river", "artist_j/spring"}, trips: []int{12, 47},
		firsts: firsts{longDistance: 41, inProvince: 9, betweenProvinces: 6}, homeProv: "hunan", workProv: "guangdong", traveller: true,
	}
}
