package whynot

import (
	"fmt"
	"slices"
	"strings"

	"rapport/profilestore/rules"
	"rapport/server/catalog"
)

// NotThereError means that an offer can't be on a slate whatever changes: it does not
// compete there, or there is no such thing. Its text says why, with the nearest name.
type NotThereError struct {
	Field string // of the question: offer, touchpoint or channel
	Why   string
}

func (e *NotThereError) Error() string { return e.Why }

func notThere(field, format string, args ...any) error {
	return &NotThereError{field, fmt.Sprintf(format, args...)}
}

func didYouMean(name string, names []string) string {
	if near := rules.Nearest(name, names); near != "" {
		return ": did you mean " + near + "?"
	}
	return ""
}

// Touchpoint returns the touchpoint that a question is about, by its place in
// Compiled.Touchpoints: that which it names, or the only one of a channel at which the
// offer competes. touchpoint or channel may be empty, not both. among are the touchpoints
// that come into question; nil: all.
func Touchpoint(c *catalog.Compiled, offer, touchpoint, channel string, among []int) (int, error) {
	var names, ids []string
	for i := range c.Touchpoints {
		names = append(names, c.Touchpoints[i].ID)
	}
	for i := range c.Channels {
		ids = append(ids, c.Channels[i].ID)
	}
	if channel != "" && !slices.Contains(ids, channel) {
		return 0, notThere("channel", "catalogue version %d has no channel %q%s", c.Version, channel, didYouMean(channel, ids))
	}
	if among != nil {
		names = names[:0]
		for _, i := range among {
			names = append(names, c.Touchpoints[i].ID)
		}
	}
	if touchpoint != "" {
		i, ok := c.Touchpoint(touchpoint)
		switch {
		case !ok:
			return 0, notThere("touchpoint", "catalogue version %d has no touchpoint %q%s", c.Version, touchpoint, didYouMean(touchpoint, names))
		case among != nil && !slices.Contains(among, i):
			return 0, notThere("touchpoint", "the decision was not about touchpoint %s: it was about %s", touchpoint, strings.Join(names, ", "))
		case channel != "" && c.Channels[c.Touchpoints[i].Channel].ID != channel:
			return 0, notThere("channel", "touchpoint %s is in channel %s, not in %s", touchpoint, c.Channels[c.Touchpoints[i].Channel].ID, channel)
		}
		return i, nil
	}
	var fit []int
	var why error
	for _, name := range names {
		i, _ := c.Touchpoint(name)
		if channel != "" && c.Channels[c.Touchpoints[i].Channel].ID != channel {
			continue
		}
		if _, err := Locate(c, i, offer); err != nil {
			why = err
			continue
		}
		fit = append(fit, i)
	}
	switch {
	case len(fit) == 1:
		return fit[0], nil
	case len(fit) == 0 && why != nil:
		return 0, why
	case len(fit) == 0:
		return 0, notThere("channel", "there is no touchpoint in channel %s here", channel)
	}
	names = names[:0]
	for _, i := range fit {
		names = append(names, c.Touchpoints[i].ID)
	}
	return 0, notThere("touchpoint", "say at which touchpoint: %s competes at %s", offer, strings.Join(names, ", "))
}

// Locate returns an offer that competes at a touchpoint, by its place in Compiled.Offers.
func Locate(c *catalog.Compiled, touchpoint int, offer string) (int, error) {
	t := &c.Touchpoints[touchpoint]
	names := make([]string, len(c.Offers))
	for i := range c.Offers {
		names[i] = c.Offers[i].ID
	}
	o := slices.Index(names, offer)
	if o < 0 {
		return 0, notThere("offer", "catalogue version %d has no offer %q%s", c.Version, offer, didYouMean(offer, names))
	}
	if t.Scenario < 0 {
		return 0, notThere("touchpoint", "no scenario answers for touchpoint %s: nothing can be offered there", t.ID)
	}
	if placeOf(c, t, o) >= 0 {
		return o, nil
	}
	s := c.Scenarios[t.Scenario]
	var channels []string
	inChannel := false
	for i := range s.Candidates {
		if x := &s.Candidates[i]; x.Offer == o {
			channels = append(channels, c.Channels[x.Channel].ID)
			inChannel = inChannel || x.Channel == t.Channel
		}
	}
	switch {
	case len(channels) == 0:
		return 0, notThere("offer", "offer %s does not compete in scenario %s, which answers for touchpoint %s", offer, s.ID, t.ID)
	case inChannel:
		return 0, notThere("touchpoint", "touchpoint %s does not show the format of the treatment of offer %s in channel %s", t.ID, offer, c.Channels[t.Channel].ID)
	}
	return 0, notThere("channel", "offer %s has no treatment in channel %s, where touchpoint %s is; in scenario %s it has one in %s",
		offer, c.Channels[t.Channel].ID, t.ID, s.ID, strings.Join(slices.Compact(slices.Sorted(slices.Values(channels))), ", "))
}
