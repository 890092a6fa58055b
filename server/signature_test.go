package server_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"rapport/profilestore/durable"
	"rapport/server"
)

// key returns a key pair that follows from a number.
func key(n byte) (ed25519.PrivateKey, string) {
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
	public, _ := private.Public().(ed25519.PublicKey)
	return private, base64.StdEncoding.EncodeToString(public)
}

// TestSignatureFormat: what is signed is what the documentation says.
func TestSignatureFormat(t *testing.T) {
	private, text := key(1)
	public, err := server.ParsePublicKey(text)
	if err != nil {
		t.Fatal(err)
	}
	wasm := []byte("a module")
	sum := sha256.Sum256(wasm)
	if !ed25519.Verify(public, append([]byte("rapport strategy v1\n"), sum[:]...), server.SignStrategy(private, wasm)) {
		t.Error("the signature is of something else")
	}
	fromHex, err := server.ParsePublicKey(hex.EncodeToString(public))
	if err != nil || !fromHex.Equal(public) {
		t.Errorf("in hexadecimal: %v", err)
	}
	for _, bad := range []string{"", "x", text[:40], text + "AAAA", hex.EncodeToString(public)[2:]} {
		if _, err := server.ParsePublicKey(bad); err == nil {
			t.Errorf("%q is taken for a key", bad)
		}
	}
	if err := (server.Config{Data: "x", TrustedKeys: []string{text, "nonsense"}}).Validate(); err == nil || !strings.Contains(err.Error(), "trusted-keys") {
		t.Errorf("a configuration with a bad key: %v", err)
	}
}

// TestSignatureAtUpload: with trusted keys a module needs the signature of one of
// them; without, none.
func TestSignatureAtUpload(t *testing.T) {
	ours, oursText := key(1)
	second, secondText := key(2)
	theirs, _ := key(3)
	h := open(t, newData(t), func(c *server.Config) { c.TrustedKeys = []string{oursText, secondText} })
	wasm, other := module(t, "2.0.0"), module(t, "2.0.1")
	altered := bytes.Clone(wasm)
	altered[len(altered)-1] ^= 1
	good := server.SignStrategy(ours, wasm)
	flipped := bytes.Clone(good)
	flipped[20] ^= 1
	sum := sha256.Sum256(wasm)
	for _, c := range []struct {
		name            string
		wasm, signature []byte
		reason          string
	}{
		{"unsigned", wasm, nil, "STRATEGY_UNSIGNED"},
		{"another key", wasm, server.SignStrategy(theirs, wasm), "STRATEGY_SIGNATURE_INVALID"},
		{"altered module", altered, good, "STRATEGY_SIGNATURE_INVALID"},
		{"altered signature", wasm, flipped, "STRATEGY_SIGNATURE_INVALID"},
		{"another module's signature", wasm, server.SignStrategy(ours, other), "STRATEGY_SIGNATURE_INVALID"},
		{"of the module without the context", wasm, ed25519.Sign(ours, wasm), "STRATEGY_SIGNATURE_INVALID"},
		{"of the digest without the context", wasm, ed25519.Sign(ours, sum[:]), "STRATEGY_SIGNATURE_INVALID"},
		{"cut", wasm, good[:63], "STRATEGY_SIGNATURE_INVALID"},
		{"too long", wasm, append(bytes.Clone(good), 0), "INVALID_ARGUMENT"},
		{"good", wasm, good, ""},
		{"of the other key", other, server.SignStrategy(second, other), ""},
	} {
		_, err := h.tryUpload(c.wasm, c.signature)
		if errorReason(err) != c.reason || c.reason != "" && c.reason != "INVALID_ARGUMENT" && connect.CodeOf(err) != connect.CodePermissionDenied {
			t.Errorf("%s: error %v, want %q", c.name, err, c.reason)
		}
	}
	if a, b := h.pvcl(t, "2.0.0").GetSignedBy(), h.pvcl(t, "2.0.1").GetSignedBy(); len(a) != 16 || len(b) != 16 || a == b {
		t.Errorf("signed by %q and %q", a, b)
	}

	plain := open(t, newData(t), nil)
	if s := plain.upload(t, wasm, nil); s.GetSignedBy() != "" {
		t.Errorf("signed by %q", s.GetSignedBy())
	}
	if _, err := plain.tryUpload(other, good[:10]); errorReason(err) != "STRATEGY_SIGNATURE_INVALID" {
		t.Errorf("without trusted keys, a signature that is none: %v", err)
	}
}

// TestSignatureAtStart: what is in the data folder is verified at every start.
func TestSignatureAtStart(t *testing.T) {
	ours, oursText := key(1)
	theirs, theirsText := key(2)
	trust := func(keys ...string) func(*server.Config) {
		return func(c *server.Config) { c.TrustedKeys = keys }
	}
	base := newHouse(t)
	wasm := module(t, "2.0.0")
	base.upload(t, wasm, server.SignStrategy(ours, wasm))
	unsigned := module(t, "3.0.0")
	base.upload(t, unsigned, nil)
	evil := module(t, "4.0.0")
	base.upload(t, evil, server.SignStrategy(theirs, evil))
	base.put(t, "2.0.0", live, 0)
	base.stop()
	edit := func(name, before, after string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			name := filepath.Join(dir, "strategies", "pvcl", name)
			b, err := durable.ReadSealed(name)
			if err != nil || !bytes.Contains(b, []byte(before)) {
				t.Fatalf("%s does not contain %q: %v", name, before, err)
			}
			if err := durable.WriteSealed(name, bytes.ReplaceAll(b, []byte(before), []byte(after))); err != nil {
				t.Fatal(err)
			}
		}
	}
	digest := func(b []byte) string { sum := sha256.Sum256(b); return hex.EncodeToString(sum[:]) }
	other := module(t, "2.0.0", equalValues)
	signature := base64.StdEncoding.EncodeToString(server.SignStrategy(ours, wasm))
	for _, c := range []struct {
		name   string
		change func(t *testing.T, dir string)
		trust  func(*server.Config)
		usable string // of the versions 2, 3 and 4
		ready  string
	}{
		{"no trusted keys", nil, nil, "234", ""},
		{"our key", nil, trust(oursText), "2", ""},
		{"both keys", nil, trust(theirsText, oursText), "24", ""},
		{"their key only", nil, trust(theirsText), "4", "pvcl 2.0.0: strategies/pvcl/2.0.0.wasm: no trusted key made this signature"},
		{"altered signature", edit("2.0.0.json", signature, "AAAA"+signature[4:]), trust(oursText), "", "no trusted key made this signature"},
		{"signature removed", edit("2.0.0.json", `"signature"`, `"signatura"`), trust(oursText), "", "is not signed"},
		{"altered module", edit("2.0.0.wasm", "2.0.0", "2.0.1"), trust(oursText), "", "its content has changed"},
		{"altered module and digest", func(t *testing.T, dir string) {
			// Who can write the folder can write the digest too; the signature not.
			edit("2.0.0.json", digest(wasm), digest(other))(t, dir)
			if err := os.WriteFile(filepath.Join(dir, "strategies", "pvcl", "2.0.0.wasm"), other, 0o600); err != nil {
				t.Fatal(err)
			}
		}, trust(oursText), "", "no trusted key made this signature"},
		{"a signature of their key", edit("2.0.0.json", signature, base64.StdEncoding.EncodeToString(server.SignStrategy(theirs, wasm))), trust(oursText), "", "no trusted key made this signature"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := copyOf(t, base.dir)
			if c.change != nil {
				c.change(t, dir)
			}
			h := open(t, dir, c.trust)
			usable := ""
			for _, version := range []string{"2", "3", "4"} {
				if s := h.pvcl(t, version+".0.0"); s.GetProblem() == "" {
					usable += version
				}
			}
			if usable != c.usable {
				t.Errorf("versions %q can be used, want %q", usable, c.usable)
			}
			if s := h.pvcl(t, "1.0.0"); s.GetProblem() != "" {
				t.Errorf("the one that ships: %v", s)
			}
			status, body := h.get(t, "/readyz")
			if (status == 200) != (c.ready == "") || !strings.Contains(body, c.ready) {
				t.Errorf("readyz: %d %q, want %q", status, body, c.ready)
			}
			r := h.decide(t, "1", "web.home")
			if byStrategy := r.GetRankedBy().GetVersion() == "2.0.0"; byStrategy != (c.ready == "") || byStrategy == (len(r.GetDegradations()) > 0) {
				t.Errorf("ranked by %v, degradations %v", r.GetRankedBy(), r.GetDegradations())
			}
		})
	}
}

// TestSignatureAdded: a module that was kept before there were keys is signed
// later, by uploading it again.
func TestSignatureAdded(t *testing.T) {
	ours, oursText := key(1)
	h := newHouse(t)
	wasm := module(t, "2.0.0")
	h.upload(t, wasm, nil)
	h.put(t, "2.0.0", live, 0)
	h.upload(t, wasm, server.SignStrategy(ours, wasm)) // no key is trusted yet: it is kept for later
	h.stop()
	h = open(t, h.dir, func(c *server.Config) { c.TrustedKeys = []string{oursText} })
	if s := h.pvcl(t, "2.0.0"); s.GetProblem() != "" || s.GetSignedBy() == "" {
		t.Errorf("%v", s)
	}
	if got := h.decide(t, "1", "web.home").GetRankedBy().GetVersion(); got != "2.0.0" {
		t.Errorf("ranked by %s", got)
	}
}
