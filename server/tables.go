package server

import (
	"context"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/profilestore/reftable"
	rapportv1 "rapport/server/api/rapport/v1"
)

// tables answers the TableService.
type tables struct{ *Server }

// ListTables lists the versions of reference tables.
func (s tables) ListTables(_ context.Context, req *connect.Request[rapportv1.ListTablesRequest]) (*connect.Response[rapportv1.ListTablesResponse], error) {
	infos, err := s.Server.tables.List(req.Msg.GetTable())
	if err != nil {
		return nil, err
	}
	res := &rapportv1.ListTablesResponse{Tables: s.store.Schema().TableNames()}
	for _, info := range infos {
		res.Versions = append(res.Versions, tableMessage(info))
	}
	return connect.NewResponse(res), nil
}

// ActivateTable puts a version of a reference table in force.
func (s tables) ActivateTable(_ context.Context, req *connect.Request[rapportv1.ActivateTableRequest]) (*connect.Response[rapportv1.ActivateTableResponse], error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	table, version := req.Msg.GetTable(), req.Msg.GetVersion()
	before, _, err := s.Server.tables.Pointers(table)
	if err != nil {
		return nil, err
	}
	var active reftable.Info
	var previous int64
	err = s.audit.change(req, "table activate", "table/"+table, numberName("version", before), numberName("version", version), func() (err error) {
		active, previous, err = s.Server.tables.Activate(table, version)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.log.Info("reference table activated", "table", table, "version", version, "before", previous, "set", s.Server.tables.Set(), "by", req.Peer().Addr)
	return connect.NewResponse(&rapportv1.ActivateTableResponse{Active: tableMessage(active), PreviousVersion: previous}), nil
}

// RollbackTable puts back the version that was in force before.
func (s tables) RollbackTable(_ context.Context, req *connect.Request[rapportv1.RollbackTableRequest]) (*connect.Response[rapportv1.RollbackTableResponse], error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	table := req.Msg.GetTable()
	before, earlier, err := s.Server.tables.Pointers(table)
	if err != nil {
		return nil, err
	}
	var active reftable.Info
	var previous int64
	rollback := func() (err error) {
		active, previous, err = s.Server.tables.Rollback(table)
		return err
	}
	if earlier == 0 { // it says why not
		err = rollback()
	} else {
		err = s.audit.change(req, "table rollback", "table/"+table, numberName("version", before), numberName("version", earlier), rollback)
	}
	if err != nil {
		return nil, err
	}
	s.log.Info("reference table rolled back", "table", table, "version", active.Version, "before", previous, "set", s.Server.tables.Set(), "by", req.Peer().Addr)
	return connect.NewResponse(&rapportv1.RollbackTableResponse{Active: tableMessage(active), PreviousVersion: previous}), nil
}

func tableMessage(i reftable.Info) *rapportv1.TableVersion {
	m := &rapportv1.TableVersion{
		Table: i.Table, Version: i.Version, State: string(i.State), Rows: i.Rows, Values: i.Values,
		Bytes: i.Bytes, ContentHash: i.ContentHash, Origin: i.Origin,
	}
	if i.State != reftable.StateDamaged {
		m.LoadedAt = timestamppb.New(i.LoadedAt)
	}
	return m
}
