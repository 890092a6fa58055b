package server

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// signatureContext begins what is signed, so that a signature made for anything
// else is none for a strategy.
const signatureContext = "rapport strategy v1\n"

var (
	errUnsigned         = errors.New("the module is not signed, and this server takes only modules that a trusted key has signed: sign it with rapport strategy sign")
	errSignatureInvalid = errors.New("no trusted key made this signature of this module: one of the two was altered, or the key is not trusted here")
)

// signedMessage is what is signed of a module: the context and the SHA-256 of the
// module, 52 bytes.
func signedMessage(wasm []byte) []byte {
	sum := sha256.Sum256(wasm)
	return append([]byte(signatureContext), sum[:]...)
}

// SignStrategy returns the Ed25519 signature of a strategy module, 64 bytes, as
// UploadStrategyRequest describes it.
func SignStrategy(key ed25519.PrivateKey, wasm []byte) []byte {
	return ed25519.Sign(key, signedMessage(wasm))
}

// ParsePublicKey reads an Ed25519 public key: its 32 bytes in base64 or
// hexadecimal.
func ParsePublicKey(text string) (ed25519.PublicKey, error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != ed25519.PublicKeySize {
		b, err = base64.StdEncoding.DecodeString(text)
	}
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%.80q is not an Ed25519 public key: write its 32 bytes in base64 or hexadecimal, as rapport strategy keygen does", text)
	}
	return b, nil
}

// PublicKeyID returns what lists and the audit log call a key: the first 8 bytes
// of the SHA-256 of its 32 bytes, in hexadecimal.
func PublicKeyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

// trustedKeys are the keys of which one must have signed a module. Without any,
// signatures are kept and not looked at.
type trustedKeys []ed25519.PublicKey

func parseTrustedKeys(texts []string) (trustedKeys, error) {
	var keys trustedKeys
	var errs []error
	for _, text := range texts {
		key, err := ParsePublicKey(strings.TrimSpace(text))
		if err != nil {
			errs = append(errs, fmt.Errorf("trusted-keys: %w", err))
			continue
		}
		keys = append(keys, key)
	}
	return keys, errors.Join(errs...)
}

// verify returns the id of the key that has signed a module; empty if no key is
// trusted. Its error wraps errUnsigned or errSignatureInvalid.
func (k trustedKeys) verify(wasm, signature []byte) (id string, err error) {
	switch {
	case len(signature) != 0 && len(signature) != ed25519.SignatureSize:
		return "", fmt.Errorf("%w; a signature has %d bytes, this one %d", errSignatureInvalid, ed25519.SignatureSize, len(signature))
	case len(k) == 0:
		return "", nil
	case len(signature) == 0:
		return "", errUnsigned
	}
	message := signedMessage(wasm)
	for _, key := range k {
		if ed25519.Verify(key, message, signature) {
			return PublicKeyID(key), nil
		}
	}
	return "", errSignatureInvalid
}
