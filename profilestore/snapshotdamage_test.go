package profilestore_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"rapport/profilestore"
	"rapport/profilestore/memory"
)

// damage flips a bit in the middle of a file of a source.
func damage(t testing.TB, dir, pattern string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "bi", pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedSnapshots(t *testing.T) {
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		want   error
		listed string
	}{
		{"a bit of a table", func(t *testing.T, dir string) { damage(t, dir, "gen-2/rows/*.sst") }, profilestore.ErrSnapshotDamaged, "2 retained, 1 active"},
		{"a bit of Badger's manifest", func(t *testing.T, dir string) { damage(t, dir, "gen-2/rows/MANIFEST") }, profilestore.ErrSnapshotDamaged, "2 retained, 1 active"},
		{"a bit of the manifest", func(t *testing.T, dir string) { damage(t, dir, "gen-2/MANIFEST.json") }, profilestore.ErrSnapshotDamaged, "2 damaged, 1 active"},
		{"a bit of the marker", func(t *testing.T, dir string) { damage(t, dir, "gen-2/COMPLETE") }, profilestore.ErrSnapshotDamaged, "2 damaged, 1 active"},
		{"a table cut off", func(t *testing.T, dir string) {
			files, _ := filepath.Glob(filepath.Join(dir, "bi/gen-2/rows/*.sst"))
			if err := os.Truncate(files[0], 100); err != nil {
				t.Fatal(err)
			}
		}, profilestore.ErrSnapshotDamaged, "2 retained, 1 active"},
		{"a table missing", func(t *testing.T, dir string) {
			files, _ := filepath.Glob(filepath.Join(dir, "bi/gen-2/rows/*.sst"))
			if err := os.Remove(files[0]); err != nil {
				t.Fatal(err)
			}
		}, profilestore.ErrSnapshotDamaged, "2 retained, 1 active"},
		{"the manifest missing", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "bi/gen-2/MANIFEST.json")); err != nil {
				t.Fatal(err)
			}
		}, profilestore.ErrSnapshotDamaged, "2 damaged, 1 active"},
		{"the marker missing", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "bi/gen-2/COMPLETE")); err != nil {
				t.Fatal(err)
			}
		}, profilestore.ErrSnapshotNotFound, "1 active"},
		{"another's place", func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, "bi/gen-2")); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(filepath.Join(dir, "bi/gen-2"), os.DirFS(filepath.Join(dir, "bi/gen-1"))); err != nil {
				t.Fatal(err)
			}
		}, profilestore.ErrSnapshotDamaged, "2 damaged, 1 active"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := openSnapshots(t, dir, loadSchema(t))
			mustLoad(t, dir, 1, nil)
			mustLoad(t, dir, 2, nil)
			withoutCopies(t, dir)
			activate(t, s, 1, 0)
			epoch := s.Epoch()
			test.damage(t, dir)
			if got := generationsOf(t, s); got != test.listed {
				t.Errorf("listed: %s, want %s", got, test.listed)
			}
			if _, _, err := s.Activate(t.Context(), "bi", 2); !errors.Is(err, test.want) {
				t.Errorf("Activate: %v, want %v", err, test.want)
			}
			if v := currentBalance(t, s); v != profilestore.Number(1) || s.Epoch() != epoch {
				t.Errorf("balance %v and epoch %d after that, want 1 and %d", v, s.Epoch(), epoch)
			}
		})
	}
}

// A source whose current snapshot is damaged when the process starts has none,
// says so, and another can be activated.
func TestOpenWithDamagedCurrent(t *testing.T) {
	dir := t.TempDir()
	first := openSnapshots(t, dir, loadSchema(t))
	mustLoad(t, dir, 1, nil)
	mustLoad(t, dir, 2, nil)
	activate(t, first, 1, 0)
	activate(t, first, 2, 1)
	damage(t, dir, "gen-2/rows/*.sst")

	s := openSnapshots(t, dir, loadSchema(t))
	if err := s.Problems()["bi"]; !errors.Is(err, profilestore.ErrSnapshotDamaged) || currentBalance(t, s).Known() {
		t.Errorf("problem %v, balance %v", err, currentBalance(t, s))
	}
	if _, previous, err := s.Rollback(t.Context(), "bi"); err != nil || previous != 2 {
		t.Fatal(previous, err)
	}
	if v := currentBalance(t, s); v != profilestore.Number(1) || len(s.Problems()) > 0 {
		t.Errorf("balance %v after rollback, problems %v", v, s.Problems())
	}

	withoutCopies(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "bi", "CURRENT.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = openSnapshots(t, dir, loadSchema(t))
	if err := s.Problems()["bi"]; !errors.Is(err, profilestore.ErrSnapshotDamaged) {
		t.Errorf("problem %v", err)
	}
}

// damagedRows opens generations of which some rows have gone bad.
type damagedRows struct {
	profilestore.GenerationEngine
	rows map[string][]byte // what they are instead
}

type damagedGeneration struct {
	profilestore.Generation
	rows map[string][]byte
}

func (d damagedRows) OpenGeneration(dir string) (profilestore.Generation, error) {
	g, err := d.GenerationEngine.OpenGeneration(dir)
	return damagedGeneration{g, d.rows}, err
}

func (g damagedGeneration) Get(key, dst []byte) ([]byte, bool, error) {
	if row, ok := g.rows[string(key)]; ok {
		return append(dst, row...), true, nil
	}
	return g.Generation.Get(key, dst)
}

// A row that went bad while its snapshot is open is not served.
func TestRowChecksum(t *testing.T) {
	dir := t.TempDir()
	mustLoad(t, dir, 1, func(o *profilestore.LoadOptions) { o.Engine = memory.Generations{} })
	g, err := memory.Generations{}.OpenGeneration(filepath.Join(dir, "bi", "gen-1", "rows"))
	if err != nil {
		t.Fatal(err)
	}
	good, found, err := g.Get([]byte("customer:1"), nil)
	if err != nil || !found {
		t.Fatal(found, err)
	}
	rows := make(map[string][]byte)
	s, err := profilestore.OpenSnapshots(dir, loadSchema(t), damagedRows{memory.Generations{}, rows}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // in memory
	activate(t, s, 1, 0)
	rows["customer:2"] = good
	for i := range 8 * len(good) {
		bad := slices.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		rows["customer:1"] = bad
		set := s.Acquire()
		row, found, err := set.Source(0).Row([]byte("customer:1"), []byte("dst"))
		if !errors.Is(err, profilestore.ErrSnapshotDamaged) || found || string(row) != "dst" {
			t.Fatalf("bit %d flipped: %q, %v, %v", i, row, found, err)
		}
		if _, _, err := set.Source(0).Row([]byte("customer:2"), nil); !errors.Is(err, profilestore.ErrSnapshotDamaged) {
			t.Fatalf("the row of another: %v", err)
		}
		set.Release()
	}
}

func TestUnfitSnapshots(t *testing.T) {
	dir := t.TempDir()
	mustLoad(t, dir, 12.34, nil)
	change := func(f func([]profilestore.Field) []profilestore.Field) *profilestore.Schema {
		old := loadSchema(t)
		schema, err := profilestore.NewSchema(old.Sources(), f(slices.Clone(old.Fields())))
		if err != nil {
			t.Fatal(err)
		}
		return schema
	}
	for _, test := range []struct {
		name   string
		schema *profilestore.Schema
		want   string // the balance, or the error
	}{
		{"the same", loadSchema(t), "12.34"},
		{"a field more", change(func(f []profilestore.Field) []profilestore.Field {
			return append([]profilestore.Field{{Name: "tag.new", Type: profilestore.TypeFlag, Batch: "bi", Default: true}}, f...)
		}), "12.34"},
		{"other fields gone", change(func(f []profilestore.Field) []profilestore.Field { return f[:1] }), "12.34"},
		{"moved to another source", change(func(f []profilestore.Field) []profilestore.Field {
			f[0].Batch = "service"
			return f
		}), "unknown"},
		{"other decimals", change(func(f []profilestore.Field) []profilestore.Field {
			f[0].Decimals = 4
			return f
		}), "12.34"},
		{"another type", change(func(f []profilestore.Field) []profilestore.Field {
			f[0].Type, f[0].Decimals = profilestore.TypeText, profilestore.NoDecimals
			return f
		}), "the snapshot does not fit the schema: field value.balance is a text in the schema and a number in the snapshot: load the source again"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := openSnapshots(t, dir, test.schema)
			_, _, err := s.Activate(t.Context(), "bi", 1)
			if err != nil {
				if err.Error() != test.want || !errors.Is(err, profilestore.ErrSnapshotUnfit) {
					t.Errorf("%v, want %s", err, test.want)
				}
				return
			}
			set := s.Acquire()
			defer set.Release()
			row, _, err := set.Source(0).Row([]byte("customer:1"), nil)
			if err != nil {
				t.Fatal(err)
			}
			slot, _ := test.schema.Lookup("value.balance")
			if got := set.Source(0).Value(row, slot); got.String() != test.want {
				t.Errorf("balance %v, want %s", got, test.want)
			}
			if slot, ok := test.schema.Lookup("tag.new"); ok && (set.Source(0).Value(row, slot).Known() || set.Source(0).Covers(slot)) {
				t.Error("the snapshot has a value of a field that is newer")
			}
		})
	}
	counter := func(decimals int) *profilestore.Schema {
		schema, err := profilestore.NewSchema([]profilestore.Source{{ID: "bi"}},
			[]profilestore.Field{{Name: "usage.mb", Type: profilestore.TypeCounter, Batch: "bi", Column: "mb", Decimals: decimals}})
		if err != nil {
			t.Fatal(err)
		}
		return schema
	}
	dir = t.TempDir()
	if _, err := loadFile(t, dir, "customer,mb\n1,1.25\n", func(o *profilestore.LoadOptions) { o.Schema = counter(2) }); err != nil {
		t.Fatal(err)
	}
	if _, _, err := openSnapshots(t, dir, counter(1)).Activate(t.Context(), "bi", 1); !errors.Is(err, profilestore.ErrSnapshotUnfit) {
		t.Errorf("a counter with fewer decimals: %v", err)
	}
	if _, _, err := openSnapshots(t, dir, counter(3)).Activate(t.Context(), "bi", 1); err != nil {
		t.Errorf("a counter with more decimals: %v", err)
	}
}

// withoutCopies removes the copies of manifests, pointers and distributions, by which one
// that is damaged would be read.
func withoutCopies(t *testing.T, dir string) {
	t.Helper()
	for _, pattern := range []string{"*.copy", "*/*.copy", "*/*/*.copy"} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
}
