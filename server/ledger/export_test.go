package ledger

// Maintain does what is otherwise done in the background.
func (l *Ledger) Maintain() error { return l.log.maintain() }

// Scan reads a file as Open does, and returns how many records were good.
func Scan(b []byte, seq uint64) (records int, tail int64, damage []Damage) {
	l := &Ledger{
		o:         Options{}.withDefaults(),
		customers: make(map[string]*customer), reservations: make(map[ID]*reservation), pools: make(map[poolKey]*pool),
	}
	l.log = &log{l: l}
	l.log.begin()
	p := replay{l: l, texts: make(map[string]string), segment: &segment{seq: seq}}
	tail, damage = scan(b, seq, p.apply)
	l.sweep(1 << 30)
	return p.records, tail, damage
}

// Waiting returns how many wait for a customer.
func (l *Ledger) Waiting(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.customers[name]; c != nil {
		return len(c.waiting)
	}
	return 0
}

// HeaderOf returns a file of another version.
func HeaderOf(version byte) []byte {
	return frame(nil, 1, func(b []byte) []byte { return append(b, byte(kindHeader), version, 1, 2, 3) })
}

// Frame appends a record.
func Frame(b []byte, seq uint64, payload []byte) []byte {
	return frame(b, seq, func(b []byte) []byte { return append(b, payload...) })
}

// Payloads returns the payloads of the records of a file.
func Payloads(b []byte, seq uint64) (out [][]byte) {
	scan(b, seq, func(payload []byte) error {
		out = append(out, payload)
		return nil
	})
	return out
}
