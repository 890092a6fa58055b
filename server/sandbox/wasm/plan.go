package wasm

// Bounds of what is charged early: see [Module.Meter].
const (
	// earlyMost is what may be charged for a basic block before it begins.
	earlyMost = 64
	// earlyHead is the price of the way into a function's first loop up to which
	// the loop's head charges for it.
	earlyHead = 16
	// earlyCall is the price of a function up to which its callers charge for it.
	earlyCall = 64
)

// plan says what is charged where.
//
// Each basic block has an advance: what all blocks that lead to it have charged
// for it when it begins. It needs its own price and the greatest advance of the
// blocks that it leads to. If that is at most earlyMost, it is the block's own
// advance, and the block charges nothing; else the block charges it, and has no
// advance. Heads of loops and functions have none. So whatever way is taken,
// every block is paid for before it begins; what was charged for a way that is
// not taken is lost. Blocks lead only forward but for loops, so one pass from the
// last to the first does it.
type plan struct {
	m     *Module
	graph *callGraph
	price []uint32 // for each site; 0 where nothing is charged
	paid  []uint32 // for each function, what its callers charge for it; 0: it does itself
	ahead []uint32 // for each site, the greatest advance of those it leads to
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
	p.ahead = make([]uint32, len(m.sites))
	for _, f := range p.graph.calleesFirst(m.ImportedFuncs) {
		p.function(f, &m.bodies[int(f)-m.ImportedFuncs])
	}
	return p
}

// function plans a function whose callees are planned.
func (p *plan) function(f uint32, b *body) {
	sites := p.m.sites[b.first:b.all]
	calls := false // before the first loop
	for _, s := range sites {
		if s.kind == siteCall {
			p.price[s.block] += p.paid[s.n]
		}
		calls = calls || (s.kind == siteCall || s.kind == siteIndirect) && s.block == b.first
	}
	charges, way := 0, b.way
	for at := b.all - 1; at >= b.first; at-- {
		kind := p.m.sites[at].kind
		if kind != siteCharge && kind != siteCheck {
			continue
		}
		advance := uint32(0)
		p.price[at] += p.ahead[at]
		if kind == siteCharge && p.price[at] <= earlyMost {
			advance, p.price[at] = p.price[at], 0
		}
		for ; way > b.flows && p.m.flows[way-1].to == at; way-- {
			from := p.m.flows[way-1].from
			p.ahead[from] = max(p.ahead[from], advance)
		}
		if p.price[at] > 0 {
			charges++
		}
	}
	first := p.price[b.first]
	switch loop := sites[0].enters; {
	case loop > 0 && first <= earlyHead && !calls:
		// The way into a loop is paid for by its head, which comes next. Not if it
		// calls something: a recursion would be charged for only on its way back.
		p.price[loop] += first
		p.price[b.first] = 0
	case charges == 1 && first <= earlyCall && !p.m.declared[f] && p.m.Start != int(f) && !p.graph.recursive(f):
		p.paid[f] = first
		p.price[b.first] = 0
	}
}
