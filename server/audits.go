package server

import (
	"cmp"
	"context"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	rapportv1 "rapport/server/api/rapport/v1"
)

// audits answers the AuditService.
type audits struct{ *Server }

// defaultAuditRecords is how many records are listed if nobody says.
const defaultAuditRecords = 100

// ListAuditRecords lists the records, newest first.
func (s audits) ListAuditRecords(_ context.Context, req *connect.Request[rapportv1.ListAuditRecordsRequest]) (*connect.Response[rapportv1.ListAuditRecordsResponse], error) {
	records, damaged, err := s.audit.list(req.Msg.GetSubject(), cmp.Or(int(req.Msg.GetLimit()), defaultAuditRecords))
	if err != nil {
		return nil, err
	}
	res := &rapportv1.ListAuditRecordsResponse{Damaged: int32(damaged)}
	for _, r := range records {
		res.Records = append(res.Records, &rapportv1.AuditRecord{
			Number: r.Number, Time: timestamppb.New(r.Time), Action: r.Action, Subject: r.Subject,
			Peer: r.Peer, Agent: r.Agent, Before: r.Before, After: r.After, Failure: r.Failure,
		})
	}
	return connect.NewResponse(res), nil
}
