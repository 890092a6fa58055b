package server

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/profilestore"
	rapportv1 "rapport/server/api/rapport/v1"
)

// timelinePage is how many interactions a page has if the caller does not say.
const timelinePage = 100

// GetTimeline returns a page of a customer's interaction history.
func (s profiles) GetTimeline(ctx context.Context, req *connect.Request[rapportv1.GetTimelineRequest]) (*connect.Response[rapportv1.GetTimelineResponse], error) {
	identity, err := profilestore.ParseIdentity(req.Msg.GetCustomer())
	if err != nil {
		return nil, &argumentError{"customer", err.Error()}
	}
	from, err := parseTimelineToken(req.Msg.GetPageToken())
	if err != nil {
		return nil, &argumentError{"page_token", err.Error()}
	}
	res := &rapportv1.GetTimelineResponse{Customer: identity}
	if why, blocked := s.store.Schema().BlockedIdentity(identity); blocked {
		res.Blocked = why
		return connect.NewResponse(res), nil
	}
	view, err := s.store.View(ctx, identity)
	if err != nil {
		return nil, err
	}
	history := view.At(s.now().UnixMicro()).History()
	filter := interactionFilter(req.Msg.GetFilter())
	res.Older = int32(history.Older())
	res.Contacts, res.Outcomes = countTypes(history, filter)
	if from == nil {
		res.Counts = countMessages(history, filter)
	}
	size := int(req.Msg.GetPageSize())
	if size == 0 {
		size = timelinePage
	}
	var at timelineToken // of the last interaction in the page
	skip := 0
	if from != nil {
		at, skip = *from, from.n
	}
	for x := range history.Recent(filter) {
		if from != nil && x.Time > from.time {
			continue
		}
		if from != nil && x.Time == from.time && skip > 0 {
			skip--
			continue
		}
		if len(res.GetInteractions()) == size {
			res.NextPageToken = at.String()
			break
		}
		if x.Time != at.time || at.n == 0 {
			at = timelineToken{time: x.Time}
		}
		at.n++
		res.Interactions = append(res.Interactions, interactionMessage(&x))
	}
	return connect.NewResponse(res), nil
}

// timelineToken says up to where pages have come: the time of the last interaction,
// and how many of that time there were.
type timelineToken struct {
	time int64 // microseconds
	n    int
}

func (t timelineToken) String() string { return fmt.Sprintf("%d-%d", t.time, t.n) }

// parseTimelineToken returns nil for none.
func parseTimelineToken(s string) (*timelineToken, error) {
	if s == "" {
		return nil, nil //nolint:nilnil // the first page has no token
	}
	i := strings.LastIndexByte(s, '-')
	if i > 0 {
		at, errTime := strconv.ParseInt(s[:i], 10, 64)
		n, err := strconv.ParseUint(s[i+1:], 10, 31)
		if errTime == nil && err == nil && n > 0 {
			return &timelineToken{time: at, n: int(n)}, nil
		}
	}
	return nil, fmt.Errorf("%.80q is not the next_page_token of a page", s)
}

func interactionFilter(m *rapportv1.InteractionFilter) profilestore.InteractionFilter {
	f := profilestore.InteractionFilter{
		Outcome: m.GetOutcome(), Channel: m.GetChannel(), Touchpoint: m.GetTouchpoint(),
		Offer: m.GetOffer(), Group: m.GetGroup(), Class: m.GetClass(),
	}
	switch m.GetType() {
	case rapportv1.InteractionType_INTERACTION_TYPE_CONTACT:
		f.Type = profilestore.Contacts
	case rapportv1.InteractionType_INTERACTION_TYPE_OUTCOME:
		f.Type = profilestore.Outcomes
	case rapportv1.InteractionType_INTERACTION_TYPE_UNSPECIFIED:
	}
	return f
}

func interactionType(outcome string) rapportv1.InteractionType {
	if outcome == "" {
		return rapportv1.InteractionType_INTERACTION_TYPE_CONTACT
	}
	return rapportv1.InteractionType_INTERACTION_TYPE_OUTCOME
}

func interactionMessage(x *profilestore.Interaction) *rapportv1.Interaction {
	m := &rapportv1.Interaction{
		Time: timestamppb.New(time.UnixMicro(x.Time)), Type: interactionType(x.Outcome), Outcome: x.Outcome,
		Channel: x.Channel, Touchpoint: x.Touchpoint,
	}
	for _, item := range x.Items {
		m.Items = append(m.Items, &rapportv1.InteractionItem{Offer: item.Offer, Group: item.Group, Class: item.Class})
	}
	return m
}

// countTypes counts the contacts and outcomes that a filter selects.
func countTypes(h profilestore.History, f profilestore.InteractionFilter) (contacts, outcomes int32) {
	both := int32(h.Count(f, 0))
	if f.Type != profilestore.Outcomes && f.Outcome == "" {
		f.Type = profilestore.Contacts
		contacts = int32(h.Count(f, 0))
	}
	return contacts, both - contacts
}

// countMessages counts what people look at: the last week, the last month, and ever.
func countMessages(h profilestore.History, f profilestore.InteractionFilter) []*rapportv1.InteractionCount {
	const day = 24 * time.Hour
	var counts []*rapportv1.InteractionCount
	for _, c := range h.Summary(f, 7*day, 30*day) {
		counts = append(counts, &rapportv1.InteractionCount{
			Offer: c.Offer, Channel: c.Channel, Type: interactionType(c.Outcome), Outcome: c.Outcome,
			Count: int32(c.Count), LastWeek: int32(c.Within[0]), LastMonth: int32(c.Within[1]),
			First: timestamppb.New(time.UnixMicro(c.First)), Last: timestamppb.New(time.UnixMicro(c.Last)),
		})
	}
	return counts
}
