package profilestore

// Event is something that happened to a customer. The JSON form of one event is
// its line in an NDJSON file.
type Event struct {
	ID       string
	Type     string
	Identity string // canonical, see ParseIdentity
	Time     int64  // when it happened, microseconds since the Unix epoch, UTC
	Logged   int64  // when it was first logged, likewise
	Tables   uint64 // the set of reference table versions that it is mapped by; 0 for none. Ingest sets it

	// Attributes are what else is known of it: values as encoding/json decodes
	// them (float64, string, bool, nil, and lists and maps of those).
	Attributes map[string]any
}

// Change is what an event does to one field.
type Change struct {
	Slot int      // the field, by its place in Schema.Fields
	Op   ChangeOp // Assign, except for what begins a counter again or leaves a set
	// Value is the new value of a register, what a max or min is joined with, the
	// number added to a counter, the text that is put into a set or taken out, or
	// for a dwell the flag that says whether the customer is there. A Reset has none.
	Value Value
	// Priority is that of the event for a register, see EventRule.Priority.
	Priority int8
}

// ChangeOp is a way to change a field.
type ChangeOp uint8

// The ways to change a field.
const (
	Assign ChangeOp = iota // what events do to fields of the type
	Remove                 // takes an element out of a set
	Reset                  // begins a counter again
)

// EventMapper says what events do to fields. It is safe for concurrent use, and
// a pure function of the event: replaying the journal gives the same changes. Where
// it looks something up in a reference table, it takes the version of the set that
// the event names, so that holds after the table has changed too.
type EventMapper interface {
	// Map appends to dst what e changes. An error means that the event can't be
	// taken: it lacks an attribute that a field needs, or has one of a wrong type.
	// The error names the event. What it changes in the other fields has been
	// appended all the same: an event that was taken once is replayed under
	// later schemas too, and one field's new rule must not cost it the others.
	Map(e *Event, dst []Change) ([]Change, error)
}
