package rules

import (
	"maps"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"rapport/profilestore"
)

// The types of the objects that expressions name fields of. A group of the
// profile has the type profileObject.GROUP.
const (
	profileObject = "rapport.Profile"
	contextObject = "rapport.Context"
	eventObject   = "rapport.Event"
)

// objects are the declared names: the fields of each object type. As cel-go's
// type provider it makes `profile` an object whose fields are read when an
// expression asks for them, so that no decision builds a map. Every object is
// the value of its variable itself: profile, its groups and context are one
// *variables, event is a *profilestore.Event.
type objects map[string]map[string]*types.FieldType

// unknown is what a field without a value reads as. It never changes, so all
// evaluations share it.
var unknown = types.NewUnknown(0, nil)

func (o objects) addProfileField(slot int, f profilestore.Field) {
	group, name, _ := strings.Cut(f.Name, ".")
	object := profileObject + "." + group
	if o[object] == nil {
		o[object] = make(map[string]*types.FieldType)
		o[profileObject][group] = &types.FieldType{
			Type:    types.NewObjectType(object),
			IsSet:   func(any) bool { return true },
			GetFrom: func(target any) (any, error) { return target, nil },
		}
	}
	o[object][name] = &types.FieldType{
		Type:    celType(f.Type.Kind()),
		IsSet:   func(target any) bool { return as[*variables](target).field(slot).Known() },
		GetFrom: func(target any) (any, error) { return celValue(as[*variables](target).field(slot)), nil },
	}
}

func (o objects) addContextField(i int, in Input) {
	o[contextObject][in.Name] = &types.FieldType{
		Type:    celType(in.Kind),
		IsSet:   func(target any) bool { return as[*variables](target).input(i).Known() },
		GetFrom: func(target any) (any, error) { return celValue(as[*variables](target).input(i)), nil },
	}
}

// as returns an object as what it is: cel-go hands a field's functions only
// objects of the field's type.
func as[T any](object any) T {
	v, _ := object.(T)
	return v
}

// celType returns the type that values of a kind have in expressions.
func celType(k profilestore.Kind) *types.Type {
	switch k {
	case profilestore.KindNumber:
		return types.DoubleType
	case profilestore.KindFlag:
		return types.BoolType
	case profilestore.KindText:
		return types.StringType
	case profilestore.KindTime:
		return types.TimestampType
	case profilestore.KindSet:
		return setType
	case profilestore.KindUnknown:
	}
	return types.DynType
}

// celValue returns a value as expressions see it.
func celValue(v profilestore.Value) ref.Val {
	switch v.Kind() {
	case profilestore.KindNumber:
		return types.Double(v.Number())
	case profilestore.KindFlag:
		return types.Bool(v.Flag())
	case profilestore.KindText:
		return types.String(v.Text())
	case profilestore.KindTime:
		return timestamp(v.Micros())
	case profilestore.KindSet:
		return newSet(v)
	case profilestore.KindUnknown:
	}
	return unknown
}

func timestamp(micros int64) ref.Val {
	return types.Timestamp{Time: time.UnixMicro(micros).UTC()}
}

// field returns a field of an object type. The attributes of an event need no
// declaration: any name is one, of any type.
func (o objects) field(object, name string) (*types.FieldType, bool) {
	f, ok := o[object][name]
	if !ok && object == eventObject {
		return attributeField(name), true
	}
	return f, ok
}

// fieldNames returns the names of an object's declared fields, sorted.
func (o objects) fieldNames(object string) []string {
	return slices.Sorted(maps.Keys(o[object]))
}

// The rest is what cel-go asks of a type provider.

// EnumValue reports that there are no enums.
func (o objects) EnumValue(name string) ref.Val { return types.NewErr("no enum %s", name) }

// FindIdent reports that there are no constants.
func (o objects) FindIdent(string) (ref.Val, bool) { return nil, false }

// FindStructType returns an object type.
func (o objects) FindStructType(name string) (*types.Type, bool) {
	if _, ok := o[name]; !ok {
		return nil, false
	}
	return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
}

// FindStructFieldNames returns the declared fields of an object type.
func (o objects) FindStructFieldNames(name string) ([]string, bool) {
	_, ok := o[name]
	return o.fieldNames(name), ok
}

// FindStructFieldType returns a field of an object type.
func (o objects) FindStructFieldType(object, name string) (*types.FieldType, bool) {
	return o.field(object, name)
}

// NewValue reports that expressions can't build objects.
func (o objects) NewValue(name string, _ map[string]ref.Val) ref.Val {
	return types.NewErr("%s can't be built", name)
}
