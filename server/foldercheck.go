package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"rapport/profilestore"
	"rapport/profilestore/durable"
)

// FolderDamage is a damaged file of those that this package keeps in a data folder.
type FolderDamage struct {
	durable.Damage
	// Do is what a person can do, empty if Mend can do it all.
	Do string
	// Mend mends it, after moving what is damaged into a folder; nil if nothing has what was
	// lost. Lost is what is lost all the same.
	Mend func(aside string) error
	Lost string
}

// CheckFiles says which files of a data folder are damaged: its format, the schema, keys,
// strategies, the audit log and what is kept for replays. It changes nothing.
func CheckFiles(dir string) ([]FolderDamage, error) {
	c := folderCheck{d: &dataFolder{dir: dir}}
	for _, check := range []func() error{c.format, c.schema, c.keys, c.strategies, c.auditLog, c.replaySources, c.inventory} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	return c.found, nil
}

type folderCheck struct {
	d     *dataFolder
	found []FolderDamage
}

func (c *folderCheck) add(path, problem, do string, mend func(aside string) error) {
	c.found = append(c.found, FolderDamage{Damage: durable.Damage{Path: path, Problem: problem}, Do: do, Mend: mend})
}

// sealed checks a file that WriteSealed has written. It reports whether it can be read.
func (c *folderCheck) sealed(path, do string) bool {
	err := durable.CheckSealed(path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return err == nil
	}
	_, readErr := durable.ReadSealed(path)
	if readErr != nil {
		c.add(path, err.Error(), do, nil)
		return false
	}
	c.add(path, err.Error(), "", func(aside string) error { return durable.MendSealed(path, aside) })
	return true
}

func (c *folderCheck) format() error {
	name := c.d.path("FORMAT")
	b, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && strings.TrimSpace(string(b)) == dataFormat {
		return nil
	}
	problem := name + " is missing"
	if err == nil {
		problem = fmt.Sprintf("%s has %.40q, not %q", name, b, dataFormat)
		if newer.Match(b) {
			c.add(name, problem, "use the version of Rapport that wrote it", nil)
			return nil
		}
	}
	c.add(name, problem, "", func(aside string) error {
		return errors.Join(moveAside(name, aside), durable.WriteFile(name, []byte(dataFormat+"\n")))
	})
	return nil
}

// newer matches the format of another version.
var newer = regexp.MustCompile(`^rapport data [0-9]+\n$`)

// moveAside moves a file into a folder, which is made, if it is there.
func moveAside(name, aside string) error {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return err
	}
	return errors.Join(durable.WriteFile(filepath.Join(aside, filepath.Base(name)), b), os.Remove(name))
}

func (c *folderCheck) schema() error {
	name := c.d.path("schema")
	if !c.sealed(name, "put it back from a backup, or apply the same schema file again (rapport schema apply)") {
		return nil
	}
	if _, err := readInstalledSchema(c.d); err != nil {
		c.add(name, fmt.Sprintf("%s: %v", name, err), "put it back from a backup, or apply the same schema file again (rapport schema apply)", nil)
	}
	return nil
}

func (c *folderCheck) keys() error {
	c.sealed(c.d.path("keys", "outcomes.key"), "put it back from a backup; or remove it and its copy: then outcomes of earlier decisions can't be reported")
	name := c.d.path("keys", "cache.key")
	key, err := durable.ReadSealed(name)
	if err == nil && len(key) == cacheKeySize {
		c.sealed(name, "")
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) { // without it the server makes another
		c.add(name, name+" is not as it was written", "", func(aside string) error {
			return errors.Join(moveAside(name+durable.CopySuffix, aside), moveAside(name, aside))
		})
	}
	return nil
}

// CacheKey returns the key that seals the cache of compiled strategies of a data folder,
// nil if there is none that can be used.
func CacheKey(dir string) ([]byte, error) {
	key, err := durable.ReadSealed((&dataFolder{dir: dir}).path("keys", "cache.key"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, durable.ErrDamaged) {
		return nil, nil
	}
	return key, err
}

func (c *folderCheck) strategies() error {
	folders, err := os.ReadDir(c.d.path("strategies"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, f := range folders {
		if err := c.strategy(c.d.path("strategies", f.Name())); err != nil {
			return err
		}
	}
	return nil
}

const uploadAgain = "upload the same module again (rapport strategy upload), or put the file back from a backup"

func (c *folderCheck) strategy(dir string) error {
	c.sealed(filepath.Join(dir, releaseFile), "put it back from a backup, or remove it and its copy and release a version again (rapport strategy release)")
	versions, err := strategyVersions(dir)
	if err != nil {
		return err
	}
	for _, version := range versions {
		facts, module := filepath.Join(dir, version+".json"), filepath.Join(dir, version+".wasm")
		wasm, err := os.ReadFile(module)
		missing := errors.Is(err, fs.ErrNotExist)
		if err != nil && !missing {
			return err
		}
		if _, err := os.Stat(module + uploadSuffix); err == nil {
			continue // an upload did not end: the server removes what is left of it
		}
		if _, err := durable.ReadSealed(facts); errors.Is(err, fs.ErrNotExist) {
			c.add(facts, facts+" is missing", "put it back from a backup, or remove the module and upload it again", nil)
			continue
		}
		if !c.sealed(facts, "put it back from a backup, or remove it, its copy and the module, and upload the module again") {
			continue
		}
		var k kept
		b, err := durable.ReadSealed(facts)
		if err == nil {
			err = json.Unmarshal(b, &k)
		}
		switch {
		case err != nil:
			c.add(facts, fmt.Sprintf("%s: %v", facts, err), "put it back from a backup", nil)
		case missing:
			c.add(module, module+" is missing", uploadAgain, nil)
		case digestOf(wasm) != k.Digest:
			c.add(module, module+" is not as it was uploaded", uploadAgain, nil)
		}
	}
	return nil
}

// strategyVersions returns the versions of which a folder of a strategy has something.
func strategyVersions(dir string) (versions []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), durable.CopySuffix)
		for _, suffix := range []string{".wasm", ".json"} {
			if version, ok := strings.CutSuffix(name, suffix); ok && !slices.Contains(versions, version) {
				versions = append(versions, version)
			}
		}
	}
	return versions, nil
}

func (c *folderCheck) auditLog() error {
	a := &auditLog{dir: c.d.path("audit")}
	files, err := a.files()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for i, seq := range files {
		name := a.path(seq)
		if i == 0 && seq != 1 || i > 0 && seq != files[i-1]+1 {
			c.lost(a.path(seq-1), "is missing: records are gone")
		}
		_, damaged, err := a.read(seq)
		if err != nil {
			return err
		}
		if damaged > 0 {
			c.lost(name, fmt.Sprintf("has %d lines that are damaged", damaged))
		}
	}
	return nil
}

// lost notes a damage of a log that only a backup has the lost part of.
func (c *folderCheck) lost(name, problem string) {
	c.add(name, name+" "+problem, "the records that can be read are shown; put the file back from a backup to have all", nil)
}

// replaySources checks what is kept of schemas and modules, each named by its content.
func (c *folderCheck) replaySources() error {
	dir := c.d.path("decisions", "kept")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		good := strings.HasSuffix(e.Name(), ".new")
		if id, ok := strings.CutPrefix(strings.TrimSuffix(e.Name(), ".json"), "schema-"); ok {
			schema, err := profilestore.ParseSchema(b)
			good = err == nil && schema.ID() == id
		} else if digest, ok := strings.CutPrefix(strings.TrimSuffix(e.Name(), ".wasm"), "module-"); ok {
			good = digestOf(b) == digest
		}
		if !good {
			c.add(name, name+" is not as it was written", "", func(aside string) error { return moveAside(name, aside) })
			c.found[len(c.found)-1].Lost = "decisions that were made with it can't be replayed, unless it is the one in use: then the server writes it anew"
		}
	}
	return nil
}

// inventory checks that no file of a log is missing or has lost its end. Mending is to
// accept that.
func (c *folderCheck) inventory() error {
	c.sealed(c.d.path(inventoryFile), "remove it and its copy: it is written anew")
	losses, err := c.d.checkInventory()
	for _, x := range losses {
		c.add(x.Path, x.Problem, "put it back from a backup", func(string) error { return c.d.writeInventory(false) })
		c.found[len(c.found)-1].Lost = "what was in it"
	}
	return err
}
