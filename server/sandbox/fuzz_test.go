package sandbox_test

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"rapport/plugins"
	"rapport/server/sandbox"
)

// Whatever the bytes, a module is compiled or refused with a reason.
func FuzzCompile(f *testing.F) {
	f.Add(plugins.PVCL())
	f.Add(guest{}.bytes())
	f.Add(guest{imports: []function{logImport}, initialize: []byte{}}.bytes())
	f.Add([]byte("\x00asm\x01\x00\x00\x00"))
	f.Add([]byte("\x00asm\x01\x00\x00\x00\x00\xff\xff\xff\xff\x7f"))
	r, err := sandbox.New(context.Background(), withCompiler(f, sandbox.Options{MaxMemoryPages: 64}))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, wasm []byte) {
		if bomb(wasm) {
			t.Skip("it would take all memory: nothing bounds that yet")
		}
		m, err := r.Compile(context.Background(), wasm)
		bad := new(sandbox.InvalidError)
		switch {
		case err == nil:
			if err := m.Close(context.Background()); err != nil {
				t.Error(err)
			}
		case !errors.As(err, &bad) || bad.Reason == "" || bad.Message == "":
			t.Errorf("error %#v", err)
		}
	})
}

// bomb reports whether a module asks wazero for a very large table, or very many
// locals: those cost gigabytes and seconds.
func bomb(wasm []byte) bool {
	const tables, code, most = 4, 10, 10_000
	for b := wasm[min(8, len(wasm)):]; len(b) > 1; {
		id := b[0]
		section, rest := cut(b[1:])
		count, section := number(section)
		for range count {
			if len(section) == 0 {
				break
			}
			var n uint64
			switch id {
			case tables: // the type, flags, the minimum, perhaps a maximum
				limits := section[0] != 0 && len(section) > 1 && section[1]&1 != 0
				if n, section = number(section[min(2, len(section)):]); limits {
					_, section = number(section)
				}
			case code: // groups of locals: how many, and their type
				var body []byte
				body, section = cut(section)
				groups, body := number(body)
				for range min(groups, most) {
					var k uint64
					k, body = number(body)
					n, body = n+k, body[min(1, len(body)):]
				}
				n = max(n, groups)
			default:
				section = nil
			}
			if n > most {
				return true
			}
		}
		b = rest
	}
	return false
}

// number reads a LEB128 number.
func number(b []byte) (uint64, []byte) {
	v, n := binary.Uvarint(b)
	return v, b[max(n, 0):]
}

// cut reads what has its length in front of it.
func cut(b []byte) (part, rest []byte) {
	n, b := number(b)
	n = min(n, uint64(len(b)))
	return b[:n], b[n:]
}

// Whatever the manifest, it is accepted or refused with a reason, and what is
// accepted can be bound.
func FuzzManifest(f *testing.F) {
	f.Add(plainManifest)
	f.Add(readingManifest)
	f.Add(`{"abi":1,"name":"n","version":"1","fuel":{"base":200000,"per_candidate":500}}`)
	f.Add(`{"abi":1,"name":"n","version":"1","candidate":["value","lever"],"parameters":[{"name":"p","default":1,"max":2}],"reasons":["R"]}`)
	r, err := sandbox.New(context.Background(), withCompiler(f, sandbox.Options{}))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, manifest string) {
		if len(manifest) == 0 || len(manifest) > 3000 {
			t.Skip("it does not fit in front of what is behind it in memory")
		}
		m, err := r.Compile(context.Background(), guest{manifest: manifest}.bytes())
		if bad := new(sandbox.InvalidError); err != nil {
			if !errors.As(err, &bad) || bad.Reason != sandbox.ReasonManifest {
				t.Errorf("error %v", err)
			}
			return
		}
		c, sc := fixture(t, 2)
		s, err := m.Bind(context.Background(), c, sc, sandbox.PoolOptions{Size: 1})
		if unfit := new(sandbox.UnfitError); err != nil && !errors.As(err, &unfit) {
			t.Errorf("error %v", err)
		}
		if err == nil {
			rank(t, s, simple(2))
		}
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}
