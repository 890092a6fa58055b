package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/profilestore"
	rapportv1 "rapport/server/api/rapport/v1"
)

// profiles answers the ProfileService.
type profiles struct{ *Server }

// GetProfile returns the merged view of a customer.
func (s profiles) GetProfile(ctx context.Context, req *connect.Request[rapportv1.GetProfileRequest]) (*connect.Response[rapportv1.GetProfileResponse], error) {
	identity, err := profilestore.ParseIdentity(req.Msg.GetCustomer())
	if err != nil {
		return nil, &argumentError{"customer", err.Error()}
	}
	schema := s.store.Schema()
	res := &rapportv1.GetProfileResponse{
		Customer: identity, SchemaId: schema.ID(), Fields: make([]*rapportv1.ProfileValue, len(schema.Fields())),
	}
	view := profilestore.EmptyView(schema) // what a decision reads of one that means nobody
	if why, blocked := schema.BlockedIdentity(identity); blocked {
		res.Blocked, res.Group = why, aloneMessage(identity)
	} else {
		if view, err = s.store.View(ctx, identity); err != nil {
			return nil, err
		}
		res.Group = groupMessage(view.Group())
	}
	res.Known, res.DeltaVersion = view.Known(), view.DeltaVersion()
	now := s.now().UnixMicro()
	for slot := range schema.Fields() {
		res.Fields[slot] = profileValue(schema, view, slot, now)
	}
	for i, source := range schema.Sources() {
		p := &rapportv1.ProfileSnapshot{Source: source.ID}
		if snap, hasRow := view.Snapshot(i); snap != nil {
			p.Generation, p.HasRow = snap.Generation(), hasRow
			p.AsOf = timestamppb.New(time.UnixMicro(snap.AsOf()))
		} else {
			res.SetAside = s.appendSetAside(res.SetAside, source.ID)
		}
		res.Snapshots = append(res.Snapshots, p)
	}
	return connect.NewResponse(res), nil
}

func profileValue(schema *profilestore.Schema, view *profilestore.View, slot int, now int64) *rapportv1.ProfileValue {
	value, from := view.At(now).Explain(slot)
	p := &rapportv1.ProfileValue{
		Name: schema.Fields()[slot].Name, Origin: rapportv1.ValueOrigin(from.Origin),
		Source: from.Source, Generation: from.Generation, Identity: from.Identity,
	}
	if from.Origin == profilestore.OriginEvents && from.EventTime != 0 {
		p.EventTime = timestamppb.New(time.UnixMicro(from.EventTime))
	}
	switch value.Kind() {
	case profilestore.KindNumber:
		p.Value = &rapportv1.ProfileValue_Number{Number: value.Number()}
	case profilestore.KindFlag:
		p.Value = &rapportv1.ProfileValue_Flag{Flag: value.Flag()}
	case profilestore.KindText:
		p.Value = &rapportv1.ProfileValue_Text{Text: value.Text()}
	case profilestore.KindTime:
		p.Value = &rapportv1.ProfileValue_Time{Time: timestamppb.New(time.UnixMicro(value.Micros()))}
	case profilestore.KindSet:
		p.Value = &rapportv1.ProfileValue_Set{Set: &rapportv1.ProfileSet{Elements: slices.Collect(value.Elements())}}
	case profilestore.KindUnknown:
	}
	return p
}

// IngestEvents takes events.
func (s profiles) IngestEvents(ctx context.Context, req *connect.Request[rapportv1.IngestEventsRequest]) (*connect.Response[rapportv1.IngestEventsResponse], error) {
	res := &rapportv1.IngestEventsResponse{}
	refuse := func(index int, id, message string) {
		res.Refused = append(res.Refused, &rapportv1.RefusedEvent{Index: int32(index), Id: id, Message: message})
	}
	events := make([]*profilestore.Event, 0, len(req.Msg.GetEvents()))
	places := make([]int, 0, len(req.Msg.GetEvents()))
	for i, e := range req.Msg.GetEvents() {
		if err := checkEvent(e); err != nil {
			refuse(i, e.GetId(), validationMessage(err))
			continue
		}
		event := &profilestore.Event{
			ID: e.GetId(), Type: e.GetType(), Identity: e.GetIdentity(),
			Time: e.GetTime().AsTime().UnixMicro(), Attributes: e.GetAttributes().AsMap(),
		}
		if e.GetLogged() != nil {
			event.Logged = e.GetLogged().AsTime().UnixMicro()
		}
		events = append(events, event)
		places = append(places, i)
	}
	results, err := s.store.Ingest(ctx, events)
	if err != nil {
		return nil, err
	}
	for k, r := range results {
		switch r.Outcome {
		case profilestore.Accepted:
			res.Accepted++
		case profilestore.Duplicate:
			res.Duplicates++
		case profilestore.Refused:
			refuse(places[k], events[k].ID, r.Err.Error())
		}
	}
	slices.SortFunc(res.Refused, func(a, b *rapportv1.RefusedEvent) int { return int(a.GetIndex() - b.GetIndex()) })
	return connect.NewResponse(res), nil
}

// checkEvent checks an event by itself, and its size before its attributes are
// unpacked: two bytes of a message can be a hundred in memory.
func checkEvent(e *rapportv1.Event) error {
	if n := proto.Size(e); n > profilestore.MaxEventBytes {
		return fmt.Errorf("it has %d bytes: at most %d", n, profilestore.MaxEventBytes)
	}
	if err := protovalidate.Validate(e); err != nil {
		return err
	}
	return e.GetTime().CheckValid()
}

// validationMessage says in one line what constraints a message breaks.
func validationMessage(err error) string {
	invalid, ok := errors.AsType[*protovalidate.ValidationError](err)
	if !ok {
		return err.Error()
	}
	parts := make([]string, len(invalid.Violations))
	for i, v := range invalid.Violations {
		parts[i] = protovalidate.FieldPathString(v.Proto.GetField()) + ": " + v.Proto.GetMessage()
	}
	return strings.Join(parts, "; ")
}
