package durable

// Damage is a file that is not as it was written, or missing, as the check of a room
// finds it.
type Damage struct {
	Path    string
	Problem string // what is wrong, in words
}
