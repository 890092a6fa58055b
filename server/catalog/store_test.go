package catalog_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"rapport/profilestore/durable"
	"rapport/server/catalog"
)

func files(content string) []catalog.File {
	return []catalog.File{{Name: "a.yaml", Content: []byte(content)}, {Name: "b.yaml", Content: []byte("# bytes \xff are kept\n")}}
}

func TestStoreVersions(t *testing.T) {
	dir := t.TempDir()
	s, err := catalog.OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Current(); !errors.Is(err, catalog.ErrVersionNotFound) {
		t.Errorf("current of an empty store: %v", err)
	}
	for i, content := range []string{"one", "two", "two", "one"} {
		v, err := s.Publish(files(content), catalog.Counts{Offers: i, Scenarios: 1})
		if err != nil {
			t.Fatal(err)
		}
		if want := []int64{1, 2, 2, 3}[i]; v.Number != want {
			t.Errorf("publication %d is version %d, want %d", i, v.Number, want)
		}
	}
	s, err = catalog.OpenStore(dir) // as another process would
	if err != nil {
		t.Fatal(err)
	}
	current, err := s.Current()
	if err != nil || current.Number != 3 {
		t.Fatalf("current: %v, %v", current, err)
	}
	second, err := s.Get(2)
	if err != nil || !bytes.Equal(second.Files[0].Content, []byte("two")) || !bytes.Equal(second.Files[1].Content, files("")[1].Content) || second.Counts.Offers != 1 {
		t.Errorf("version 2: %+v, %v", second, err)
	}
	list, err := s.List()
	if err != nil || len(list) != 3 || list[0].Number != 3 {
		t.Errorf("list: %v, %v", list, err)
	}
	if _, err := s.Get(4); !errors.Is(err, catalog.ErrVersionNotFound) {
		t.Errorf("version 4: %v", err)
	}
}

// TestStoreDamage: no changed byte of a version is served.
func TestStoreDamage(t *testing.T) {
	dir := t.TempDir()
	s, err := catalog.OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Publish(files("one"), catalog.Counts{}); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "v000001.json")
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := bytes.Cut(good, []byte("b25l")) // "one"
	for _, bad := range [][]byte{good[:len(good)/2], nil, bytes.Replace(good, []byte("b25l"), []byte("dHdv"), 1), append(bytes.Clone(head), "!!!!"...)} {
		for _, file := range []string{name, name + durable.CopySuffix} {
			if err := os.WriteFile(file, bad, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Current(); !errors.Is(err, catalog.ErrVersionDamaged) {
			t.Errorf("a damaged version was served: %v", err)
		}
	}
	// Publishing goes on after damage, under a new number.
	if v, err := s.Publish(files("one"), catalog.Counts{}); err != nil || v.Number != 2 {
		t.Errorf("publication after damage: %v, %v", v, err)
	}
	// A crash between the version and CURRENT leaves the old current version.
	if err := os.WriteFile(filepath.Join(dir, "v000003.json.new"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Current(); err != nil || v.Number != 2 {
		t.Errorf("current after a crash: %v, %v", v, err)
	}
}

// TestActivate goes back to an earlier version and publishes after that.
func TestActivate(t *testing.T) {
	s, err := catalog.OpenStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	publish := func(content string) int64 {
		v, err := s.Publish([]catalog.File{{Name: "a.yaml", Content: []byte(content)}}, catalog.Counts{})
		if err != nil {
			t.Fatal(err)
		}
		return v.Number
	}
	publish("one")
	publish("two")
	if v, err := s.Activate(1); err != nil || v.Number != 1 {
		t.Fatal(v, err)
	}
	if v, err := s.Current(); err != nil || v.Number != 1 || string(v.Files[0].Content) != "one" {
		t.Errorf("current is %v, %v", v, err)
	}
	if n := publish("one"); n != 1 {
		t.Errorf("the current files became version %d", n)
	}
	if n := publish("two"); n != 3 { // numbers are never used again
		t.Errorf("the next version is %d", n)
	}
	if _, err := s.Activate(9); !errors.Is(err, catalog.ErrVersionNotFound) {
		t.Error(err)
	}
	if v, err := s.Current(); err != nil || v.Number != 3 {
		t.Errorf("a failure changed the current version: %v, %v", v, err)
	}
}
