package main

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// source prints a compiled file as .proto source that compiles to the same
// messages, enums and extensions. Of the options only go_package is kept: that is
// all an importing file can see. What validate.proto does not use, such as
// services or nested types, is refused rather than left out.
func source(file protoreflect.FileDescriptor) ([]byte, error) {
	p := &printer{file: file}
	p.linef("syntax = %q;", file.Syntax())
	p.linef("package %s;", file.Package())
	for i := range file.Imports().Len() {
		p.linef("import %q;", file.Imports().Get(i).Path())
	}
	options, ok := file.Options().(*descriptorpb.FileOptions)
	if !ok || options.GetGoPackage() == "" {
		p.refuse(file, "no go_package")
	}
	p.linef("option go_package = %q;", options.GetGoPackage())
	if file.Syntax() != protoreflect.Proto2 {
		p.refuse(file, "syntax "+file.Syntax().String())
	}
	if file.Services().Len() > 0 {
		p.refuse(file, "services")
	}
	p.enums(file.Enums())
	for i := range file.Messages().Len() {
		p.message(file.Messages().Get(i))
	}
	for i := range file.Extensions().Len() {
		extension := file.Extensions().Get(i)
		p.linef("extend .%s {", extension.ContainingMessage().FullName())
		p.field(extension)
		p.linef("}")
	}
	return p.out.Bytes(), p.err
}

type printer struct {
	file protoreflect.FileDescriptor
	out  bytes.Buffer
	err  error // the first thing that can't be printed
}

func (p *printer) linef(format string, arguments ...any) {
	fmt.Fprintf(&p.out, format+"\n", arguments...)
}

func (p *printer) refuse(what protoreflect.Descriptor, why string) {
	if p.err == nil {
		p.err = fmt.Errorf("%s: %s: can't print: %s", p.file.Path(), what.FullName(), why)
	}
}

func (p *printer) enums(enums protoreflect.EnumDescriptors) {
	for i := range enums.Len() {
		enum := enums.Get(i)
		p.linef("enum %s {", enum.Name())
		for j := range enum.Values().Len() {
			value := enum.Values().Get(j)
			p.linef("%s = %d;", value.Name(), value.Number())
		}
		p.reservedNames(enum.ReservedNames())
		for j := range enum.ReservedRanges().Len() {
			limits := enum.ReservedRanges().Get(j) // both ends belong to it
			p.linef("reserved %d to %d;", limits[0], limits[1])
		}
		p.linef("}")
	}
}

func (p *printer) message(message protoreflect.MessageDescriptor) {
	if message.Messages().Len()+message.Enums().Len()+message.Extensions().Len() > 0 {
		p.refuse(message, "nested types")
	}
	p.linef("message %s {", message.Name())
	fields := message.Fields()
	for i := range fields.Len() {
		if fields.Get(i).ContainingOneof() == nil {
			p.field(fields.Get(i))
		}
	}
	for i := range message.Oneofs().Len() {
		oneof := message.Oneofs().Get(i)
		p.linef("oneof %s {", oneof.Name())
		for j := range oneof.Fields().Len() {
			p.field(oneof.Fields().Get(j))
		}
		p.linef("}")
	}
	p.reservedNames(message.ReservedNames())
	p.ranges("reserved", message.ReservedRanges())
	p.ranges("extensions", message.ExtensionRanges())
	p.linef("}")
}

func (p *printer) field(field protoreflect.FieldDescriptor) {
	if field.IsMap() || field.HasDefault() || field.Kind() == protoreflect.GroupKind {
		p.refuse(field, "a map, a default or a group")
	}
	kind := field.Kind().String()
	if message := field.Message(); message != nil {
		kind = "." + string(message.FullName())
	}
	if enum := field.Enum(); enum != nil {
		kind = "." + string(enum.FullName())
	}
	label := field.Cardinality().String() + " "
	if field.ContainingOneof() != nil {
		label = ""
	}
	p.linef("%s%s %s = %d;", label, kind, field.Name(), field.Number())
}

func (p *printer) reservedNames(names protoreflect.Names) {
	for i := range names.Len() {
		p.linef("reserved %q;", string(names.Get(i)))
	}
}

// ranges prints the number ranges of a message, whose end does not belong to
// them.
func (p *printer) ranges(keyword string, ranges protoreflect.FieldRanges) {
	for i := range ranges.Len() {
		limits := ranges.Get(i)
		p.linef("%s %d to %d;", keyword, limits[0], limits[1]-1)
	}
}
