package wasm

// Bounds of what is charged early: see [Module.Meter].
const (
	// earlyBlock is the price of a basic block up to which another may charge for
	// it that always comes before it; all that another charges for must be at most
	// earlyMost, or half of its own price.
	earlyBlock = 16
	earlyMost  = 16
	// earlyCall is the price of a function up to which its callers charge for it.
	earlyCall = 64
)

// plan says what is charged where.
type plan struct {
	m     *Module
	graph *callGraph
	price []uint32 // for each site; 0 where nothing is charged
	paid  []uint32 // for each function, what its callers charge for it; 0: it does itself
	spare []uint32 // for each site, what it may still charge for others
	payer []int    // for each site, the one that charges for it
	calls []bool   // for each site, whether something is called in its block
}

// plan decides what is charged where. Without early, every basic block charges
// for itself.
func (m *Module) plan(early bool) *plan {
	p := &plan{m: m, graph: m.callGraph(), price: make([]uint32, len(m.sites)), paid: make([]uint32, len(m.Funcs))}
	for i, s := range m.sites {
		if s.kind == siteCharge || s.kind == siteCheck {
			p.price[i] = s.n
		}
	}
	if !early {
		return p
	}
	p.spare, p.payer, p.calls = make([]uint32, len(m.sites)), make([]int, len(m.sites)), make([]bool, len(m.sites))
	for _, f := range p.graph.calleesFirst(m.ImportedFuncs) {
		p.function(f, &m.bodies[int(f)-m.ImportedFuncs])
	}
	return p
}

// function moves prices of a function's basic blocks to blocks before them, or to
// the loop that follows, and the price of a small function without loops to its
// callers.
func (p *plan) function(f uint32, b *body) {
	sites := p.m.sites[b.first:b.all]
	for _, s := range sites {
		switch s.kind {
		case siteCall:
			p.price[s.block] += p.paid[s.n]
			p.calls[s.block] = true
		case siteIndirect:
			p.calls[s.block] = true
		}
	}
	for i := range sites {
		at := b.first + i
		p.payer[at] = at
		p.spare[at] = max(earlyMost, p.price[at]/2)
	}
	for i, s := range sites {
		if s.kind == siteCharge {
			p.move(b.first+i, p.payer[s.block])
		}
	}
	charges := 0
	for i, s := range sites {
		at := b.first + i
		// A block that calls something is paid for before, or a recursion would be
		// charged for only on its way back.
		if s.enters > 0 && p.payer[at] == at && !p.calls[at] {
			p.move(at, s.enters)
		}
		if p.price[at] > 0 {
			charges++
		}
	}
	if price := p.price[b.first]; charges == 1 && price > 0 && price <= earlyCall && !p.m.declared[f] && p.m.Start != int(f) && !p.graph.recursive(f) {
		p.paid[f] = price
		p.price[b.first] = 0
	}
}

// move has one site charge for another, if it may.
func (p *plan) move(from, to int) {
	price := p.price[from]
	if price > earlyBlock || price > p.spare[to] {
		return
	}
	p.spare[to] -= price
	p.price[to] += price
	p.price[from], p.payer[from] = 0, to
}
