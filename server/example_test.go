package server_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"

	"connectrpc.com/connect"

	"rapport/server"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/api/rapport/v1/rapportv1connect"
)

// A program that asks a server what to offer. The first half only starts one.
func ExampleServer() {
	ctx, cancel := context.WithCancel(context.Background())
	url, stop := startExample(ctx)
	defer stop()
	defer cancel()

	client := rapportv1connect.NewDecisionServiceClient(http.DefaultClient, url)
	res, err := client.Decide(ctx, connect.NewRequest(&rapportv1.DecideRequest{
		Customer:   "msisdn:8613900000001",
		Touchpoint: "web.home",
	}))
	if err != nil {
		fmt.Println(connect.CodeOf(err), err)
		return
	}
	for _, p := range res.Msg.GetSlate() {
		fmt.Printf("%s: %s (score %.2f)\n", p.GetOffer(), p.GetContent(), p.GetScore())
	}
	for _, w := range res.Msg.GetWithheld() {
		fmt.Println(w.GetReason(), w.GetOffers())
	}
	fmt.Println("known:", res.Msg.GetProfile().GetKnown())
	// Output:
	// magazine: Read on (score 0.40)
	// REASON_UNKNOWN [top_up data_10g vip_line]
	// known: false
}

// startExample serves the schema and catalogue of the tests.
func startExample(ctx context.Context) (url string, stop func()) {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	dir, err := os.MkdirTemp("", "rapport-example")
	must(err)
	_, _, err = server.InstallSchema(dir, "schema.yaml", []byte(schemaYAML))
	must(err)
	s, err := server.Open(ctx, server.Config{Data: dir, Logger: quiet(), Deadline: 1e9})
	must(err)
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	must(err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	h := &house{url: "http://" + l.Addr().String()}
	_, err = h.publish(catalogYAML)
	must(err)
	return h.url, func() {
		http.DefaultClient.CloseIdleConnections()
		must(<-served)
		must(s.Close())
		must(os.RemoveAll(dir))
	}
}
