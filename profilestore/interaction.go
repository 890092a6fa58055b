package profilestore

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The reserved event types. Their attributes, each a text and optional unless said:
//
//   - channel, touchpoint: how and where, such as sms and web.home.banner. One slate that
//     is spread over several touchpoints of a channel has them all, joined by +.
//   - offer, group, class: what it was about, if that was one item.
//   - items: if it was about several, a list of objects with offer, group and class.
//   - outcome: of an outcome event only, and needed there: a name like presented,
//     clicked, accepted, rejected, or one of the sender's own.
//
// Such an event goes into the customer's interaction history, and through the rules
// of the schema like any other.
const (
	// ContactEvent is one slate delivered to a customer in one channel at one time,
	// however many items it has.
	ContactEvent = "contact"
	// OutcomeEvent is what came of one.
	OutcomeEvent = "outcome"
)

const (
	// MaxItems is how many items one contact or outcome can have.
	MaxItems = 100
	// MaxNameBytes is the greatest length of the name of an offer, group, class,
	// channel or touchpoint in an interaction.
	MaxNameBytes = 128
	// MaxTouchpoints is how many touchpoints one contact or outcome can have.
	MaxTouchpoints = 50
)

// JoinTouchpoints adds a touchpoint to those of an interaction, unless it is there.
func JoinTouchpoints(joined, touchpoint string) string {
	switch {
	case joined == "":
		return touchpoint
	case HasTouchpoint(joined, touchpoint):
		return joined
	}
	return joined + "+" + touchpoint
}

// HasTouchpoint reports whether a touchpoint is among those of an interaction.
func HasTouchpoint(joined, touchpoint string) bool {
	if joined == touchpoint {
		return true
	}
	for more := strings.Contains(joined, "+"); more; {
		var name string
		if name, joined, more = strings.Cut(joined, "+"); name == touchpoint {
			return true
		}
	}
	return false
}

var outcomeName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// Item is a part of a slate. Names that are not known are empty.
type Item struct{ Offer, Group, Class string }

func (x Item) compare(y Item) int {
	return cmp.Or(cmp.Compare(x.Offer, y.Offer), cmp.Compare(x.Group, y.Group), cmp.Compare(x.Class, y.Class))
}

// Interaction is a contact or an outcome.
type Interaction struct {
	Time                int64  // when it happened, microseconds since the Unix epoch
	Outcome             string // empty for a contact
	Channel, Touchpoint string // empty where not known; several touchpoints are joined by +
	Items               []Item // ascending, each once
}

// interactionOf returns the interaction that an event is, false if it is of no
// reserved type. An error is an *EventError that names the attribute.
func interactionOf(e *Event) (x Interaction, is bool, err error) {
	if e.Type != ContactEvent && e.Type != OutcomeEvent {
		return x, false, nil
	}
	fail := func(format string, args ...any) (Interaction, bool, error) {
		return Interaction{}, true, &EventError{ID: e.ID, Message: e.Type + " event: attribute " + fmt.Sprintf(format, args...)}
	}
	x.Time = e.Time
	for _, a := range [...]struct {
		name string
		into *string
	}{{"channel", &x.Channel}, {"touchpoint", &x.Touchpoint}, {"outcome", &x.Outcome}} {
		if *a.into, err = nameAttribute(e.Attributes, a.name); err != nil {
			return fail("%v", err)
		}
	}
	switch {
	case e.Type == ContactEvent && x.Outcome != "":
		return fail("outcome: a contact has none, it comes with an event of type %s", OutcomeEvent)
	case e.Type == OutcomeEvent && x.Outcome == "":
		return fail("outcome is missing: what came of the contact, such as presented, clicked, accepted or rejected")
	case e.Type == OutcomeEvent && !outcomeName.MatchString(x.Outcome):
		return fail("outcome: %.80q is not the name of an outcome: use a-z, 0-9 and _, beginning with a letter, at most 64", x.Outcome)
	}
	one, err := itemOf(e.Attributes)
	if err != nil {
		return fail("%v", err)
	}
	list, err := itemsOf(e.Attributes["items"])
	switch {
	case err != nil:
		return fail("items%v", err)
	case list != nil && one != Item{}:
		return fail("items stands beside offer, group or class: give one item by the latter, or several by items")
	case list != nil:
		x.Items = list
	case one != Item{}:
		x.Items = []Item{one}
	}
	return x, true, nil
}

// itemsOf reads the attribute items, nil where there is none. An error begins with
// the place in the list.
func itemsOf(attribute any) ([]Item, error) {
	if attribute == nil {
		return nil, nil
	}
	list, ok := attribute.([]any)
	switch {
	case !ok:
		return nil, errors.New(": must be a list of objects with offer, group and class")
	case len(list) == 0:
		return nil, errors.New(": is an empty list: leave it out, or say what was offered")
	case len(list) > MaxItems:
		return nil, fmt.Errorf(": has %d items: at most %d", len(list), MaxItems)
	}
	items := make([]Item, len(list))
	for i, element := range list {
		object, ok := element.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("[%d]: must be an object with offer, group and class", i)
		}
		item, err := itemOf(object)
		if err != nil {
			return nil, fmt.Errorf("[%d].%w", i, err)
		}
		if item == (Item{}) {
			return nil, fmt.Errorf("[%d]: has neither offer nor group nor class", i)
		}
		items[i] = item
	}
	slices.SortFunc(items, Item.compare)
	return slices.Compact(items), nil
}

func itemOf(attributes map[string]any) (item Item, err error) {
	if item.Offer, err = nameAttribute(attributes, "offer"); err != nil {
		return item, err
	}
	if item.Group, err = nameAttribute(attributes, "group"); err != nil {
		return item, err
	}
	item.Class, err = nameAttribute(attributes, "class")
	return item, err
}

// nameAttribute reads a name, "" where the attribute is absent or null.
func nameAttribute(attributes map[string]any, name string) (string, error) {
	v := attributes[name]
	if v == nil {
		return "", nil
	}
	s, ok := v.(string)
	switch {
	case !ok:
		return "", fmt.Errorf("%s: must be a text", name)
	case s == "":
		return "", fmt.Errorf("%s: is empty: leave it out where there is none", name)
	case name == "touchpoint" && strings.Contains(s, "+"):
		if n := strings.Count(s, "+") + 1; n > MaxTouchpoints || len(s) > n*(MaxNameBytes+1) {
			return "", fmt.Errorf("%s: joins %d names in %d bytes: at most %d names of %d bytes", name, n, len(s), MaxTouchpoints, MaxNameBytes)
		}
	case len(s) > MaxNameBytes:
		return "", fmt.Errorf("%s: has %d bytes: at most %d", name, len(s), MaxNameBytes)
	}
	if !printableName(s) {
		return "", fmt.Errorf("%s: %.80q must be printable UTF-8 without spaces at its ends", name, s)
	}
	return s, nil
}

func printableName(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f { // rare in names
			return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl) && strings.TrimSpace(s) == s
		}
	}
	return true
}
