package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/profilestore"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/catalog"
)

// registers answers the RegisterService.
type registers struct{ *Server }

// DescribeSchema describes fields by the current snapshots.
func (s registers) DescribeSchema(_ context.Context, req *connect.Request[rapportv1.DescribeSchemaRequest]) (*connect.Response[rapportv1.DescribeSchemaResponse], error) {
	schema := s.store.Schema()
	var slots []int
	for i, name := range req.Msg.GetFields() {
		slot, ok := schema.Lookup(name)
		if !ok {
			return nil, &argumentError{fmt.Sprintf("fields[%d]", i), fmt.Sprintf("the schema has no field %.80q", name)}
		}
		slots = append(slots, slot)
	}
	if len(slots) == 0 {
		for slot := range schema.Fields() {
			slots = append(slots, slot)
		}
	}
	set := s.store.Snapshots().Acquire()
	defer set.Release()
	res := &rapportv1.DescribeSchemaResponse{SchemaId: schema.ID()}
	sources := make([]sourceFacts, len(schema.Sources()))
	now := time.Now()
	for i := range schema.Sources() {
		sources[i] = s.sourceFacts(&schema.Sources()[i], set.Source(i), now)
		res.Sources = append(res.Sources, sources[i].message)
	}
	for _, slot := range slots {
		res.Fields = append(res.Fields, describeField(schema, slot, sources))
	}
	return connect.NewResponse(res), nil
}

// CheckSchema says what a schema file would change.
func (s registers) CheckSchema(_ context.Context, req *connect.Request[rapportv1.CheckSchemaRequest]) (*connect.Response[rapportv1.CheckSchemaResponse], error) {
	schema, problems := catalog.ReadSchema(req.Msg.GetName(), []byte(req.Msg.GetContent()))
	if len(problems) > 0 {
		return connect.NewResponse(&rapportv1.CheckSchemaResponse{Problems: problemMessages(problems)}), nil
	}
	old := s.store.Schema()
	losses, err := profilestore.SchemaLosses(s.folder.path("snapshots"), old, schema)
	if err != nil {
		return nil, err
	}
	said, err := journalLosses(s.folder, old, schema)
	if err != nil {
		return nil, err
	}
	losses = append(losses, said...)
	changes := profilestore.CompareSchemas(old, schema)
	if err := profilestore.SayJournalBegins(s.folder.dir, changes); err != nil {
		return nil, err
	}
	version, err := s.catalogs.Current()
	switch {
	case errors.Is(err, catalog.ErrVersionNotFound):
	case err != nil:
		return nil, err
	default:
		losses = append(losses, catalogLosses(version, old, schema, strategyFit{s.strategies, false})...)
	}
	res := &rapportv1.CheckSchemaResponse{SchemaId: schema.ID(), Before: old.ID(), Losses: losses}
	for _, c := range changes {
		res.Changes = append(res.Changes, &rapportv1.SchemaChange{Kind: string(c.Kind), Name: c.Name, What: c.What})
	}
	return connect.NewResponse(res), nil
}

// sourceFacts are what is known of a source's current snapshot.
type sourceFacts struct {
	message *rapportv1.SourceDescription
	current *profilestore.Snapshot      // nil: there is none
	info    profilestore.SnapshotInfo   // of current
	stats   *profilestore.SnapshotStats // nil: there are none
}

// sourceFacts describes a source and its current snapshot, which a set holds.
func (s registers) sourceFacts(source *profilestore.Source, current *profilestore.Snapshot, now time.Time) sourceFacts {
	m := &rapportv1.SourceDescription{
		Source: source.ID, Description: source.Description, Owner: source.Owner, Retain: int32(s.store.Schema().Retain(source.ID)),
	}
	if source.MaxAge > 0 {
		m.MaxAge = durationpb.New(source.MaxAge)
	}
	facts := sourceFacts{message: m, current: current}
	if current == nil {
		return facts
	}
	age := now.Sub(time.UnixMicro(current.AsOf()))
	m.Age, m.Stale = durationpb.New(age.Truncate(time.Second)), source.Stale(current.AsOf(), now.UnixMicro())
	var err error
	if facts.info, err = s.store.Snapshots().Info(source.ID, current.Generation()); err != nil {
		m.Undescribed = "its folder was removed meanwhile" // a load did; it is read to its end all the same
		m.Snapshot = &rapportv1.Snapshot{
			Source: source.ID, Generation: current.Generation(), State: string(profilestore.SnapshotActive), Rows: current.Rows(),
			AsOf: timestamppb.New(time.UnixMicro(current.AsOf())), IngestCut: timestamppb.New(time.UnixMicro(current.IngestCut())),
		}
		return facts
	}
	m.Snapshot = snapshotMessage(facts.info)
	m.Snapshot.Stale = m.Stale
	if facts.stats, err = s.store.Snapshots().Stats(source.ID, current.Generation()); err != nil {
		s.log.Warn("a snapshot has no distributions", "source", source.ID, "generation", current.Generation(), "error", err)
		m.Undescribed = "its distributions were not computed or can't be read: load its file again"
		return facts
	}
	m.Sampled = facts.stats.Sampled
	return facts
}

// describeField describes the field at a slot.
func describeField(schema *profilestore.Schema, slot int, sources []sourceFacts) *rapportv1.FieldDescription {
	f := &schema.Fields()[slot]
	d := &rapportv1.FieldDescription{
		Name: f.Name, Type: string(f.Type), Description: f.Description, Owner: schema.Owner(slot),
		Source: f.Batch, Column: f.Column, Personal: f.Personal,
	}
	if f.Events != nil {
		d.Events = f.Events.String()
	}
	if f.Window > 0 {
		d.Window = profilestore.FormatSpan(f.Window)
	}
	i, ok := schema.Source(f.Batch)
	if !ok || sources[i].current == nil {
		return d
	}
	facts := &sources[i]
	d.Rows = facts.current.Rows()
	if !facts.current.Covers(slot) {
		d.NotLoaded = true
		return d
	}
	d.AsOf = timestamppb.New(time.UnixMicro(facts.current.AsOf()))
	d.Values = facts.info.Values(f.Name)
	if facts.stats == nil {
		return d
	}
	if stats, ok := facts.stats.Fields[f.Name]; ok {
		d.Values = stats.Values
		d.Distribution = distributionMessage(f, stats)
	}
	return d
}

// distributionMessage converts a distribution.
func distributionMessage(f *profilestore.Field, stats profilestore.FieldStats) *rapportv1.FieldDistribution {
	m := &rapportv1.FieldDistribution{}
	if n := stats.Numbers; n != nil {
		m.Numbers = &rapportv1.NumberDistribution{Min: n.Min, Max: n.Max, Mean: n.Mean}
		for _, q := range n.Quantiles {
			m.Numbers.Quantiles = append(m.Numbers.Quantiles, &rapportv1.NumberQuantile{Share: q.Share, Value: q.Value})
		}
	}
	if f.Type == profilestore.TypeFlag && stats.Values > 0 {
		share := float64(stats.True) / float64(stats.Values)
		m.ShareTrue = &share
	}
	if t := stats.Times; t != nil {
		m.First, m.Last = timestamppb.New(time.UnixMicro(t.First)), timestamppb.New(time.UnixMicro(t.Last))
	}
	if t := stats.Texts; t != nil {
		m.Texts = &rapportv1.TextDistribution{Distinct: t.Distinct, Estimate: t.Estimate}
		for _, x := range t.Top {
			m.Texts.Top = append(m.Texts.Top, &rapportv1.TextFrequency{Text: x.Text, Customers: x.Count})
		}
	}
	return m
}
