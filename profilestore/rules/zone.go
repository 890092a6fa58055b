package rules

import (
	"errors"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"
)

// location returns a time zone by its name or its offset, such as Asia/Shanghai
// or +08:00. The zone of the machine is none: two machines would differ.
func location(zone string) (*time.Location, error) {
	if zone == "" || zone == "Local" {
		return nil, errors.New("no time zone")
	}
	if zone[0] == '+' || zone[0] == '-' {
		t, err := time.Parse("-07:00", zone)
		if err != nil {
			return nil, err
		}
		return t.Location(), nil
	}
	return time.LoadLocation(zone)
}

// loadZone replaces x.getHours("Asia/Shanghai") and the like in a plan by a call
// that has the time zone loaded: cel-go reads it from disk at every evaluation,
// which costs 50 times what the rest of the condition does.
func loadZone(step interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	call, ok := step.(interpreter.InterpretableCall)
	if !ok || !strings.HasPrefix(call.Function(), "get") || len(call.Args()) != 2 {
		return step, nil
	}
	name, ok := call.Args()[1].(interpreter.InterpretableConst)
	if !ok {
		return step, nil
	}
	zone, ok := name.Value().(types.String)
	if !ok {
		return step, nil
	}
	loc, err := location(string(zone))
	if err != nil {
		return nil, err
	}
	function := call.Function()
	return interpreter.NewCall(call.ID(), function, call.OverloadID(), call.Args()[:1], func(args ...ref.Val) ref.Val {
		t, ok := args[0].(types.Timestamp)
		if !ok {
			return types.NoSuchOverloadErr()
		}
		return types.Timestamp{Time: t.In(loc)}.Receive(function, "", nil)
	}), nil
}
