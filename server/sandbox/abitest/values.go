package abitest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"rapport/profilestore"
	"rapport/sdk/abi"
)

// huge is the size from which a number is one that no business has. A score that
// is not finite because of such a number is worth a warning and no more: a product
// of two of them is none.
const huge = 1e15

// longText is how long a text of an offer or channel is tried, in bytes. Those of a
// profile are tried as long as they may be.
const longText = 4 << 10

// now is about when decisions are made, in microseconds since the Unix epoch.
var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMicro()

// values makes the values of profile fields and attributes.
type values struct {
	texts []string // that the strategy may know
	room  int      // for the texts of a profile, in bytes
}

// cents draws a number from 0 to below most, with two decimals.
func cents(random *rand.Rand, most int) float64 { return float64(random.IntN(most*100)) / 100 }

// words are what made-up texts are made of.
var words = [...]string{"gold", "silver", "plan_a", "private", "北京", "Zürich", "web", "x"}

// ordinary draws a value such as businesses have.
func (v *values) ordinary(random *rand.Rand, of string) profilestore.Value {
	switch abi.TypeOf(of) {
	case abi.Number:
		return profilestore.Number(cents(random, 200))
	case abi.Flag:
		return profilestore.Flag(random.IntN(2) == 0)
	case abi.Text:
		if len(v.texts) > 0 && random.IntN(2) == 0 {
			return profilestore.Text(v.texts[random.IntN(len(v.texts))])
		}
		return profilestore.Text(words[random.IntN(len(words))])
	case abi.Time: // from an hour to 10 years ago, each scale as likely
		hours := math.Exp2(random.Float64() * math.Log2(10*365*24))
		return profilestore.Time(now - int64(hours*3600e6))
	case abi.Set:
		elements := make([]string, random.IntN(4))
		for i := range elements {
			elements[i] = v.ordinary(random, abi.Text.String()).Text()
		}
		return set(elements...)
	}
	return profilestore.Unknown()
}

// set returns a set of the elements that can be in one.
func set(elements ...string) profilestore.Value {
	return profilestore.Set(slices.DeleteFunc(elements, func(e string) bool { return profilestore.CheckElement(e) != nil })...)
}

// textLength is how much of the room for texts a value takes.
func textLength(v profilestore.Value) int { return len(v.Text()) + len(v.SetText()) }

// variant is a value to try, and its description.
type variant struct {
	value profilestore.Value
	what  string
	huge  bool
}

// extremes returns the extreme values of a type; long is the greatest length of a
// text.
func (v *values) extremes(of string, long int) []variant {
	var list []variant
	add := func(value profilestore.Value, what string) {
		list = append(list, variant{value, what, value.Kind() == profilestore.KindNumber && math.Abs(value.Number()) >= huge})
	}
	switch abi.TypeOf(of) {
	case abi.Number:
		for _, x := range []float64{0, 1, -1, math.SmallestNonzeroFloat64, -math.SmallestNonzeroFloat64, 1e12, -1e12, 1e308, -1e308} {
			add(profilestore.Number(x), formatNumber(x))
		}
	case abi.Flag:
		add(profilestore.Flag(false), "false")
		add(profilestore.Flag(true), "true")
	case abi.Text:
		for _, s := range append([]string{
			"", "a", " ", "\x00", "\n\t", "büro", "北京市朝阳区", "🐈\u200d⬛", "\U0010FFFF", "\ufeffbom", "مرحبا", "e\u0301", `"'\<>&%s`,
		}, v.texts...) {
			add(profilestore.Text(s), strconv.QuoteToASCII(s))
		}
		add(profilestore.Text(strings.Repeat("x", long)), fmt.Sprintf("a text of %d times \"x\"", long))
		add(profilestore.Text(strings.Repeat("🐈", long/4)), fmt.Sprintf("a text of %d times U+1F408", long/4))
	case abi.Time:
		for _, year := range []int{1, 1900, 1970, 2000, 2038, 2106, 2262, 9999} {
			add(profilestore.Time(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()), fmt.Sprintf("the year %d", year))
		}
		add(profilestore.Time(now), "the time of the decision")
		add(profilestore.Time(now+1), "a microsecond after the decision")
	case abi.Set:
		add(set(), "an empty set")
		add(set("a"), "a set of \"a\"")
		add(set("a", "ab", "b"), "a set of \"a\", \"ab\" and \"b\"")
		add(set("北京市朝阳区", "büro", " "), "a set of texts that are not ASCII")
		for _, s := range v.texts {
			add(set(s), "a set of "+strconv.QuoteToASCII(s))
		}
		many := make([]string, 0, long/4)
		for i := range cap(many) { // each takes three bytes and a separator
			many = append(many, fmt.Sprintf("%03x", i))
		}
		add(set(many...), fmt.Sprintf("a set of %d texts", len(many)))
	}
	return list
}

// formatNumber writes a number as the test for extremes calls it.
func formatNumber(x float64) string {
	switch math.Abs(x) {
	case math.SmallestNonzeroFloat64:
		return fmt.Sprintf("%g, the least above 0 but for the sign", x)
	case 0:
		if math.Signbit(x) {
			return "−0"
		}
	}
	return strconv.FormatFloat(x, 'g', -1, 64)
}
