package wasm

import (
	"cmp"
	"slices"
)

// staticStack is the call stack, in slots of 8 bytes, that calls which can't
// recur may take without being counted: 1 MiB.
const staticStack = 128 << 10

// callGraph knows which functions may be part of a recursion: those of a strongly
// connected component of the graph that has an edge within.
//
// What calls between components take of the call stack is known before anything
// runs: the heaviest path through the components. If that is more than
// staticStack, all functions are taken to be one component. A strategy in C
// rarely recurs, so that counting the stack costs it nothing; a Go program calls
// nearly everything through tables, and is one large component.
//
// Components are Tarjan's (1972), without recursion of our own. A call through a
// table goes by a node for its type, from which there is an edge to each function
// of that type that something refers to. An imported function is taken not to
// call back.
type callGraph struct {
	functions int
	types     []uint32 // for each type, the first that is the same
	edges     [][]uint32
	component []int  // of each node; callees have lower numbers than callers
	recurs    []bool // for each component: it is a recursion
	reaches   []bool // … or leads to one
}

// node returns the node of what is called.
func (g *callGraph) node(s *site) uint32 {
	if s.kind == siteCall {
		return s.n
	}
	return uint32(g.functions) + g.types[s.n]
}

// recursive reports whether a function may be part of a recursion.
func (g *callGraph) recursive(f uint32) bool { return g.recurs[g.component[f]] }

// leads reports whether what is called at a site may lead into a recursion.
func (g *callGraph) leads(s *site) bool { return g.reaches[g.component[g.node(s)]] }

// calleesFirst returns the functions of the module itself in an order in which
// all that a function calls comes before it, but for recursions.
func (g *callGraph) calleesFirst(imported int) []uint32 {
	order := make([]uint32, 0, g.functions-imported)
	for f := imported; f < g.functions; f++ {
		order = append(order, uint32(f))
	}
	slices.SortFunc(order, func(a, b uint32) int {
		return cmp.Or(cmp.Compare(g.component[a], g.component[b]), cmp.Compare(a, b))
	})
	return order
}

func (m *Module) callGraph() *callGraph {
	g := &callGraph{functions: len(m.Funcs), types: make([]uint32, len(m.Types))}
	first := make(map[string]uint32, len(m.Types))
	for i, t := range m.Types {
		name := t.String()
		if _, ok := first[name]; !ok {
			first[name] = uint32(i)
		}
		g.types[i] = first[name]
	}
	g.edges = make([][]uint32, len(m.Funcs)+len(m.Types))
	slots := make([]int, len(g.edges))
	for i := range m.bodies {
		b, caller := &m.bodies[i], m.ImportedFuncs+i
		slots[caller] = b.slots
		for _, s := range m.sites[b.first:b.all] {
			if s.kind == siteCall || s.kind == siteIndirect {
				g.edges[caller] = append(g.edges[caller], g.node(&s))
			}
		}
	}
	for _, f := range m.addressed {
		t := uint32(len(m.Funcs)) + g.types[m.Funcs[f]]
		g.edges[t] = append(g.edges[t], f)
	}
	if g.connect(slots) > staticStack {
		clear(g.component)
		g.recurs, g.reaches = []bool{true}, []bool{true}
	}
	return g
}

// connect finds the components, callees before callers, and returns the slots of
// the heaviest path through them.
func (g *callGraph) connect(slots []int) (heaviest int) {
	n := len(g.edges)
	g.component = make([]int, n)
	var (
		order = make([]int, n) // in which a node was found, from 1; 0 is not yet
		low   = make([]int, n)
		next  = make([]int, n) // edge
		open  []uint32         // nodes that are in no component yet
		path  []uint32
		heavy []int // of each component, the heaviest path that begins there
		found int
	)
	for i := range g.component {
		g.component[i] = -1
	}
	for root := range n {
		if order[root] == 0 {
			path = append(path, uint32(root))
		}
		for len(path) > 0 {
			v := path[len(path)-1]
			if order[v] == 0 {
				found++
				order[v], low[v] = found, found
				open = append(open, v)
			}
			if next[v] < len(g.edges[v]) {
				w := g.edges[v][next[v]]
				if order[w] == 0 {
					path = append(path, w) // it comes back to this edge
					continue
				}
				if next[v]++; g.component[w] < 0 {
					low[v] = min(low[v], low[w])
				}
				continue
			}
			path = path[:len(path)-1]
			if low[v] == order[v] {
				begin := slices.Index(open, v)
				heavy = append(heavy, g.close(open[begin:], slots, heavy))
				heaviest = max(heaviest, heavy[len(heavy)-1])
				open = open[:begin]
			}
		}
	}
	return heaviest
}

// close makes nodes the next component, and returns the slots of the heaviest
// path that begins in it.
func (g *callGraph) close(nodes []uint32, slots, heavy []int) int {
	number := len(g.recurs)
	for _, v := range nodes {
		g.component[v] = number
	}
	own, below, recurs, reaches := 0, 0, false, false
	for _, v := range nodes {
		own = max(own, slots[v])
		for _, w := range g.edges[v] {
			if c := g.component[w]; c == number {
				recurs = true
			} else {
				below = max(below, heavy[c])
				reaches = reaches || g.reaches[c]
			}
		}
	}
	g.recurs, g.reaches = append(g.recurs, recurs), append(g.reaches, reaches || recurs)
	return own + below
}
