package rules

import (
	"reflect"
	"slices"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"rapport/profilestore"
)

// setType is what a set is in expressions: a list of its elements in ascending byte
// order. CEL has no sets, and a list has all that people ask of one: in, size, exists
// and all.
var setType = types.NewListType(types.StringType)

// set is a set as cel-go's list. `"x" in profile.marketing.owned` and size are what
// rules ask, and they read the set where it is; the list itself is made for what
// else there is, such as exists.
type set struct {
	value  profilestore.Value
	asList traits.Lister // once it was asked for
}

func newSet(v profilestore.Value) ref.Val { return &set{value: v} }

func (s *set) list() traits.Lister {
	if s.asList == nil {
		s.asList = types.NewStringList(types.DefaultTypeAdapter, slices.Collect(s.value.Elements()))
	}
	return s.asList
}

// Contains reports whether the set has an element.
func (s *set) Contains(v ref.Val) ref.Val {
	text, ok := v.(types.String)
	return types.Bool(ok && s.value.Has(string(text)))
}

// Size returns how many elements the set has.
func (s *set) Size() ref.Val { return types.Int(s.value.Size()) }

// The rest is the list's.

func (s *set) Add(other ref.Val) ref.Val { return s.list().Add(other) }

func (s *set) Get(index ref.Val) ref.Val { return s.list().Get(index) }

func (s *set) Iterator() traits.Iterator { return s.list().Iterator() }

func (s *set) ConvertToNative(t reflect.Type) (any, error) { return s.list().ConvertToNative(t) }

func (s *set) ConvertToType(t ref.Type) ref.Val { return s.list().ConvertToType(t) }

func (s *set) Equal(other ref.Val) ref.Val { return s.list().Equal(other) }

func (s *set) Type() ref.Type { return s.list().Type() }

func (s *set) Value() any { return s.list().Value() }
