package main

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"rapport/server"
)

// pemType is the block of a private key in PKCS #8, as other programs write it
// too.
const pemType = "PRIVATE KEY"

type strategyKeygenCmd struct {
	Key string `arg:"" help:"File for the private key; the public one goes to KEY.pub."`
}

// Help is shown by --help.
func (strategyKeygenCmd) Help() string {
	return `Makes an Ed25519 key pair to sign strategies with. Keep the private key where strategies are built,
away from the server; the server needs the public one, in the setting trusted-keys. A file that exists is
not overwritten. The private key is PKCS #8 in PEM; the public one is its 32 bytes in base64.

Examples:

	rapport strategy keygen release.key
	rapport serve --data DATA --trusted-keys release.key.pub`
}

// Run makes a key pair.
func (cmd *strategyKeygenCmd) Run(a *app) error {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	if err := writeNew(cmd.Key, pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), 0o600); err != nil {
		return err
	}
	id, text := server.PublicKeyID(public), base64.StdEncoding.EncodeToString(public)
	if err := writeNew(cmd.Key+".pub", []byte("# key "+id+" of Rapport strategies\n"+text+"\n"), 0o644); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]string{"keyId": id, "publicKey": text, "privateKeyFile": cmd.Key, "publicKeyFile": cmd.Key + ".pub"})
	}
	_, err = fmt.Fprintf(a.out, "key %s: private in %s, public in %s.pub; sign with `rapport strategy sign FILE --key %s`\n", id, cmd.Key, cmd.Key, cmd.Key)
	return err
}

// writeNew writes a file that must not exist yet.
func writeNew(name string, content []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s exists already: name another file, or remove it", name)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

type strategySignCmd struct {
	File string `arg:"" help:"The module: a .wasm file."`
	Key  string `required:"" help:"The private key: Ed25519, PKCS #8 in PEM, as keygen makes it." placeholder:"KEY"`
}

// Help is shown by --help.
func (strategySignCmd) Help() string {
	return `Writes the signature of a module to FILE.sig, where upload finds it: 64 bytes in base64. What is signed
are 52 bytes: the line "rapport strategy v1" with a line feed, and the SHA-256 of the module.

Examples:

	rapport strategy sign my_strategy.wasm --key release.key
	rapport strategy upload my_strategy.wasm`
}

// Run signs a module.
func (cmd *strategySignCmd) Run(a *app) error {
	module, err := os.ReadFile(cmd.File)
	if err != nil {
		return fmt.Errorf("strategy: %w", err)
	}
	key, err := readPrivateKey(cmd.Key)
	if err != nil {
		return err
	}
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return errors.New("a key without its public half")
	}
	name := cmd.File + ".sig"
	if err := os.WriteFile(name, []byte(base64.StdEncoding.EncodeToString(server.SignStrategy(key, module))+"\n"), 0o644); err != nil { //nolint:gosec // a signature is for everybody
		return err
	}
	if a.json {
		return a.printJSON(map[string]string{"keyId": server.PublicKeyID(public), "signatureFile": name})
	}
	_, err = fmt.Fprintf(a.out, "%s is signed by key %s in %s\n", cmd.File, server.PublicKeyID(public), name)
	return err
}

func readPrivateKey(name string) (ed25519.PrivateKey, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != pemType {
		return nil, fmt.Errorf("%s is not a private key in PEM: make one with `rapport strategy keygen`", name)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is not an Ed25519 key: make one with `rapport strategy keygen`", name)
	}
	return key, nil
}

// readSignature reads the signature of a module: the file that was named, else the
// one beside it, else none.
func readSignature(named, module string) ([]byte, error) {
	name := named
	if name == "" {
		name = module + ".sig"
	}
	b, err := os.ReadFile(name)
	switch {
	case errors.Is(err, os.ErrNotExist) && named == "":
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("signature: %w", err)
	}
	signature, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(signature) != ed25519.SignatureSize {
		return nil, fmt.Errorf("%s is not a signature: write its %d bytes in base64, as `rapport strategy sign` does", name, ed25519.SignatureSize)
	}
	return signature, nil
}

// trustedKeys returns the keys of the setting: a list separated by commas, each a
// key or the name of a file with a key a line.
func trustedKeys(setting string) ([]string, error) {
	var keys []string
	for entry := range strings.SplitSeq(setting, ",") {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		if _, err := server.ParsePublicKey(entry); err == nil {
			keys = append(keys, entry)
			continue
		}
		b, err := os.ReadFile(entry)
		if err != nil {
			return nil, fmt.Errorf("trusted-keys: %q is neither an Ed25519 public key, 32 bytes in base64 or hexadecimal, nor a file with one a line: %w", entry, err)
		}
		some := false
		for line := range strings.Lines(string(b)) {
			if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			if _, err := server.ParsePublicKey(line); err != nil {
				return nil, fmt.Errorf("trusted-keys: %s: %w", entry, err)
			}
			keys, some = append(keys, line), true
		}
		if !some {
			return nil, fmt.Errorf("trusted-keys: %s has no key in it", entry)
		}
	}
	return keys, nil
}
