package bench

import (
	"context"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/api/rapport/v1/rapportv1connect"
)

// echo answers Decide with what it was given, and does nothing: what is left of an RPC
// when nothing is decided. The messages are those of a decision, so they are as long, and
// as dear to encode.
type echo struct {
	rapportv1connect.UnimplementedDecisionServiceHandler

	answer *rapportv1.DecideResponse
}

// Decide answers.
func (e echo) Decide(context.Context, *connect.Request[rapportv1.DecideRequest]) (*connect.Response[rapportv1.DecideResponse], error) {
	return connect.NewResponse(e.answer), nil
}

// newEcho returns a server that answers as every Connect server would, without
// interceptors, checks or metrics.
func newEcho(answer []byte) *http.Server {
	e := echo{answer: &rapportv1.DecideResponse{}}
	if err := proto.Unmarshal(answer, e.answer); err != nil {
		panic(err) // it comes from a server of ours
	}
	mux := http.NewServeMux()
	mux.Handle(rapportv1connect.NewDecisionServiceHandler(e, connect.WithCompression("gzip", nil, nil))) // as the server
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{Handler: mux, Protocols: protocols, ReadHeaderTimeout: serverHeaderTimeout}
}
