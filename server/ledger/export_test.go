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
