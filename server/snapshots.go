package server

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/profilestore"
	rapportv1 "rapport/server/api/rapport/v1"
)

// snapshots answers the SnapshotService.
type snapshots struct{ *Server }

// ListSnapshots lists the sealed snapshots.
func (s snapshots) ListSnapshots(_ context.Context, req *connect.Request[rapportv1.ListSnapshotsRequest]) (*connect.Response[rapportv1.ListSnapshotsResponse], error) {
	infos, err := s.store.Snapshots().List(req.Msg.GetSource())
	if err != nil {
		return nil, err
	}
	res := &rapportv1.ListSnapshotsResponse{}
	for _, info := range infos {
		m := snapshotMessage(info)
		m.Stale = info.State == profilestore.SnapshotActive && s.isStale(info.Source, info.AsOf)
		res.Snapshots = append(res.Snapshots, m)
	}
	return connect.NewResponse(res), nil
}

// ActivateSnapshot makes a sealed snapshot the current one of its source.
func (s snapshots) ActivateSnapshot(ctx context.Context, req *connect.Request[rapportv1.ActivateSnapshotRequest]) (*connect.Response[rapportv1.ActivateSnapshotResponse], error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	source, generation := req.Msg.GetSource(), req.Msg.GetGeneration()
	before, _, err := s.store.Snapshots().Pointers(source)
	if err != nil {
		return nil, err
	}
	var active profilestore.SnapshotInfo
	var previous int64
	err = s.audit.change(req, "snapshot activate", "snapshot/"+source, numberName("generation", before), numberName("generation", generation), func() (err error) {
		active, previous, err = s.store.Snapshots().Activate(ctx, source, generation)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.log.Info("snapshot activated", "source", active.Source, "generation", active.Generation, "before", previous, "by", req.Peer().Addr)
	return connect.NewResponse(&rapportv1.ActivateSnapshotResponse{Active: snapshotMessage(active), PreviousGeneration: previous}), nil
}

// RollbackSnapshot puts back the snapshot that was current before.
func (s snapshots) RollbackSnapshot(ctx context.Context, req *connect.Request[rapportv1.RollbackSnapshotRequest]) (*connect.Response[rapportv1.RollbackSnapshotResponse], error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	source := req.Msg.GetSource()
	before, earlier, err := s.store.Snapshots().Pointers(source)
	if err != nil {
		return nil, err
	}
	var active profilestore.SnapshotInfo
	var previous int64
	rollback := func() (err error) {
		active, previous, err = s.store.Snapshots().Rollback(ctx, source)
		return err
	}
	if earlier == 0 { // it says why not
		err = rollback()
	} else {
		err = s.audit.change(req, "snapshot rollback", "snapshot/"+source, numberName("generation", before), numberName("generation", earlier), rollback)
	}
	if err != nil {
		return nil, err
	}
	s.log.Info("snapshot rolled back", "source", active.Source, "generation", active.Generation, "before", previous, "by", req.Peer().Addr)
	return connect.NewResponse(&rapportv1.RollbackSnapshotResponse{Active: snapshotMessage(active), PreviousGeneration: previous}), nil
}

// VerifySnapshot compares a snapshot with what was sealed.
func (s snapshots) VerifySnapshot(ctx context.Context, req *connect.Request[rapportv1.VerifySnapshotRequest]) (*connect.Response[rapportv1.VerifySnapshotResponse], error) {
	info, err := s.store.Snapshots().Verify(ctx, req.Msg.GetSource(), req.Msg.GetGeneration())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&rapportv1.VerifySnapshotResponse{Snapshot: snapshotMessage(info)}), nil
}

// RemoveSnapshot removes a snapshot for good.
func (s snapshots) RemoveSnapshot(ctx context.Context, req *connect.Request[rapportv1.RemoveSnapshotRequest]) (*connect.Response[rapportv1.RemoveSnapshotResponse], error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	source, generation := req.Msg.GetSource(), req.Msg.GetGeneration()
	var info profilestore.SnapshotInfo
	err := s.audit.change(req, "snapshot remove", "snapshot/"+source, numberName("generation", generation), "", func() (err error) {
		info, err = s.store.Snapshots().Remove(ctx, source, generation, req.Msg.GetLast())
		return err
	})
	if err != nil {
		return nil, err
	}
	s.log.Info("snapshot removed", "source", source, "generation", generation, "by", req.Peer().Addr)
	return connect.NewResponse(&rapportv1.RemoveSnapshotResponse{Removed: snapshotMessage(info)}), nil
}

// isStale reports whether a snapshot of a source with an as-of time is older than the
// schema allows.
func (s *Server) isStale(source string, asOf int64) bool {
	schema := s.store.Schema()
	i, ok := schema.Source(source)
	return ok && schema.Sources()[i].Stale(asOf, time.Now().UnixMicro())
}

// stale says in words which sources' current snapshots are older than the schema
// allows.
func (s *Server) stale() []string {
	set := s.store.Snapshots().Acquire()
	defer set.Release()
	var out []string
	for i, source := range s.store.Schema().Sources() {
		if snap := set.Source(i); snap != nil && s.isStale(source.ID, snap.AsOf()) {
			out = append(out, fmt.Sprintf("source %s: snapshot %d is stale: its as-of time %s is more than %s ago", source.ID, snap.Generation(),
				time.UnixMicro(snap.AsOf()).UTC().Format(time.RFC3339), profilestore.FormatSpan(source.MaxAge)))
		}
	}
	return out
}

func snapshotMessage(i profilestore.SnapshotInfo) *rapportv1.Snapshot {
	m := &rapportv1.Snapshot{
		Source: i.Source, Generation: i.Generation, State: string(i.State),
		Rows: i.Rows, Bytes: i.Bytes, ContentHash: i.ContentHash, Origin: i.Origin,
	}
	if i.State != profilestore.SnapshotDamaged {
		m.AsOf = timestamppb.New(time.UnixMicro(i.AsOf))
		m.IngestCut = timestamppb.New(time.UnixMicro(i.IngestCut))
		m.SealedAt = timestamppb.New(time.UnixMicro(i.SealedAt))
	}
	return m
}
