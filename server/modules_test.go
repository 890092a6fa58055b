package server_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"rapport/plugins"
	rapportv1 "rapport/server/api/rapport/v1"
)

// What changes the module that module returns.
const (
	equalValues = `"default":1,"min":0,"max":1=>"default":0,"min":0,"max":1`         // all offers are worth the same
	infinite    = `"default":1,"min":0,"max":1=>"default":9e307,"min":0,"max":9e307` // its scores are not finite
	unfit       = `"profile":[]=>"profile":[{"name":"value.nothing","type":"number"}]`
)

// module returns the module that ships with the server as another version, with
// other things changed in its manifest: OLD=>NEW. The description makes up for the
// length.
func module(t testing.TB, version string, changes ...string) []byte {
	t.Helper()
	wasm := bytes.Clone(plugins.PVCL())
	start := bytes.Index(wasm, []byte(`{"abi":1`))
	end := start + bytes.Index(wasm[start:], []byte(`"reasons":[]}`)) + len(`"reasons":[]}`)
	manifest := string(wasm[start:end])
	for _, change := range append(changes, `"version":"1.0.0"=>"version":"`+version+`"`) {
		before, after, ok := strings.Cut(change, "=>")
		if !ok || strings.Count(manifest, before) != 1 {
			t.Fatalf("the manifest does not have %s once: %s", before, manifest)
		}
		manifest = strings.Replace(manifest, before, after, 1)
	}
	const key = `"description":"`
	at := strings.Index(manifest, key) + len(key)
	length := strings.IndexByte(manifest[at:], '"')
	pad := end - start - (len(manifest) - length)
	if pad < 0 {
		t.Fatalf("the manifest is %d bytes too long: %s", -pad, manifest)
	}
	copy(wasm[start:end], manifest[:at]+strings.Repeat("x", pad)+manifest[at+length:])
	return wasm
}

func (h *house) upload(t testing.TB, wasm, signature []byte) *rapportv1.Strategy {
	t.Helper()
	s, err := h.tryUpload(wasm, signature)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (h *house) tryUpload(wasm, signature []byte) (*rapportv1.Strategy, error) {
	res, err := h.strategies().UploadStrategy(context.Background(), connect.NewRequest(&rapportv1.UploadStrategyRequest{Module: wasm, Signature: signature}))
	if err != nil {
		return nil, err
	}
	return res.Msg.GetStrategy(), nil
}

// put releases a version of pvcl: live, in shadow, or for a share in percent.
func (h *house) put(t testing.TB, version string, stage rapportv1.StrategyStage, share float64) {
	t.Helper()
	if err := h.tryPut(version, stage, share); err != nil {
		t.Fatal(err)
	}
}

const (
	live   = rapportv1.StrategyStage_STRATEGY_STAGE_LIVE
	shadow = rapportv1.StrategyStage_STRATEGY_STAGE_SHADOW
	share  = rapportv1.StrategyStage_STRATEGY_STAGE_SHARE
)

func (h *house) tryPut(version string, stage rapportv1.StrategyStage, percent float64) error {
	_, err := h.strategies().ReleaseStrategy(context.Background(), connect.NewRequest(&rapportv1.ReleaseStrategyRequest{
		Name: "pvcl", Version: version, Stage: stage, Share: percent,
	}))
	return err
}

func (h *house) rollback() error {
	_, err := h.strategies().RollbackStrategy(context.Background(), connect.NewRequest(&rapportv1.RollbackStrategyRequest{Name: "pvcl"}))
	return err
}

// pvcl returns a version of pvcl as it is listed.
func (h *house) pvcl(t testing.TB, version string) *rapportv1.Strategy {
	t.Helper()
	res, err := h.strategies().ListStrategies(context.Background(), connect.NewRequest(&rapportv1.ListStrategiesRequest{Name: "pvcl"}))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range res.Msg.GetStrategies() {
		if s.GetVersion() == version {
			return s
		}
	}
	t.Fatalf("there is no version %s", version)
	return nil
}
