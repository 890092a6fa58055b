package sandbox

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
)

// index is what the cache knows of an entry. As a file it is a line with the
// HMAC-SHA256 of the rest under the server's key, in hexadecimal; the rest is JSON.
type index struct {
	Key    string `json:"key"` // of the entry, so that two can't be exchanged
	Result result `json:"result"`
}

// indexFile is the name of the index in an entry.
const indexFile = "index"

// maxIndex bounds what is read of an index, in bytes.
const maxIndex = maxAnswer + 1<<10

var errIndex = errors.New("the index is damaged, or was not written by this server")

func (x index) seal(key []byte) ([]byte, error) {
	body, err := json.Marshal(x)
	if err != nil {
		return nil, err
	}
	return bytes.Join([][]byte{hex.AppendEncode(nil, mac(key, body)), body}, []byte("\n")), nil
}

// openIndex reads an index if it was sealed with the key, for an entry.
func openIndex(sealed, key []byte, entry string) (x index, err error) {
	line, body, _ := bytes.Cut(sealed, []byte("\n"))
	sum, err := hex.AppendDecode(nil, line)
	if err != nil || !hmac.Equal(sum, mac(key, body)) {
		return x, errIndex
	}
	if err := json.Unmarshal(body, &x); err != nil || x.Key != entry {
		return x, errIndex
	}
	return x, nil
}

func mac(key, body []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(body)
	return h.Sum(nil)
}
