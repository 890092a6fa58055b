package wasm

// Bounds of what is charged early: see [Module.Meter].
const (
	// earlyBlock is the price of a basic block up to which it may be charged for
	// at the head of its loop or function.
	earlyBlock = 16
	// earlyHead is how much a head may charge for such blocks.
	earlyHead = 32
	// earlyCall is the price of a function up to which its callers charge for it.
	earlyCall = 64
)

// plan says what is charged where.
type plan struct {
	m     *Module
	graph *callGraph
	price []uint32 // for each site; 0 where nothing is charged
	paid  []uint32 // for each function, what its callers charge for it; 0: it does itself
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
	spent := make([]uint32, len(m.sites)) // by heads, of earlyHead
	for _, f := range p.graph.calleesFirst(m.ImportedFuncs) {
		p.function(f, &m.bodies[int(f)-m.ImportedFuncs], spent)
	}
	return p
}

// function moves the prices of a function's small blocks to their heads, and the
// price of a small function without loops to its callers.
func (p *plan) function(f uint32, b *body, spent []uint32) {
	sites := p.m.sites[b.first:b.all]
	for _, s := range sites {
		if s.kind == siteCall {
			p.price[s.block] += p.paid[s.n]
		}
	}
	charges := 0
	for i, s := range sites {
		at := b.first + i
		if s.kind == siteCharge && p.price[at] <= earlyBlock && spent[s.block]+p.price[at] <= earlyHead {
			spent[s.block] += p.price[at]
			p.price[s.block] += p.price[at]
			p.price[at] = 0
		}
		if p.price[at] > 0 {
			charges++
		}
	}
	if price := p.price[b.first]; charges == 1 && price <= earlyCall && !p.m.declared[f] && p.m.Start != int(f) && !p.graph.recursive(f) {
		p.paid[f] = price
		p.price[b.first] = 0
	}
}
