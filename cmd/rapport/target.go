package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"rapport/server"
)

// target is what a command works on: a running server, a data folder, or both
// for the one command that uses both.
type target struct {
	server, data         string
	serverFrom, dataFrom origin
}

func newTarget(s *settings, serverURL, data string) target {
	return target{server: serverURL, data: data, serverFrom: s.origin("server"), dataFrom: s.origin("data")}
}

// choose returns the server's URL, or the data folder, whichever is to answer
// the API. What is given more explicitly wins: a flag beats the environment, and
// that a file. A server beats a folder of the same origin, because a file that
// names both is one that `rapport serve` reads too.
func (t target) choose() (serverURL, data string, err error) {
	switch {
	case t.server == "" && t.data == "":
		return "http://" + server.DefaultListen, "", nil
	case t.server != "" && t.data != "" && t.serverFrom.rank == fromFlag && t.dataFrom.rank == fromFlag:
		return "", "", usagef("--server and --data exclude each other: give the URL of a running server, or a folder that no server has open")
	case t.data == "" || t.server != "" && t.serverFrom.rank >= t.dataFrom.rank:
		serverURL, err = parseServerURL(t.server, t.serverFrom)
		return serverURL, "", err
	}
	return "", t.data, nil
}

// folder returns the data folder, for commands that work on its files.
func (t target) folder(why string) (string, error) {
	if t.data == "" {
		return "", usagef("%s: give --data DIR", why)
	}
	return t.data, nil
}

// parseServerURL checks the URL of a server and supplies http:// where it has no
// scheme.
func parseServerURL(text string, from origin) (string, error) {
	full := text
	if !strings.Contains(full, "://") {
		full = "http://" + full
	}
	u, err := url.Parse(full)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", usagef("%q (%v) is not the URL of a server: write it as in http://127.0.0.1:8080", text, from)
	}
	return strings.TrimRight(full, "/"), nil
}

// checkDataFolder refuses a folder that does not exist or was not made by
// Rapport: opening one would make it, and a misspelt name would look like a
// server that knows nobody.
func checkDataFolder(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "FORMAT")); err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("data folder: %w", err)
		}
		if _, err := os.Stat(filepath.Join(dir, "journal")); err == nil {
			return fmt.Errorf("%s is a data folder whose file FORMAT is missing: rapport doctor --data %s --repair", dir, dir)
		}
		return fmt.Errorf("%s is not a data folder: begin one with `rapport schema apply --data %s FILE`", dir, dir)
	}
	return nil
}
