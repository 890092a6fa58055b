package wasm

// staticStack is the call stack, in slots of 8 bytes, that calls which can't
// recur may take without being counted: 1 MiB.
const staticStack = 128 << 10

// callGraph says which calls have to be counted so that the call stack is
// bounded: those that may be part of a recursion.
//
// A call within a strongly connected component of the graph may recur, one
// between components can't. What calls between components take together is known
// before anything runs: the heaviest path through the components. If that is more
// than staticStack, all calls are counted. A strategy in C rarely recurs, so that
// it pays nothing; a Go program calls nearly everything through tables, and is one
// large component.
//
// Components are Tarjan's (1972), without recursion of our own. A call through a
// table goes by a node for its type, from which there is an edge to each function
// of that type that something refers to. An imported function is taken not to
// call back.
type callGraph struct {
	component []int32
	countAll  bool
	types     []uint32 // for each type, the first that is the same
	functions int
}

// within reports whether a call by a function may be part of a recursion.
func (g *callGraph) within(caller uint32, s *site) bool {
	return g.countAll || g.component[caller] == g.component[g.node(s)]
}

// node returns the node of what is called.
func (g *callGraph) node(s *site) uint32 {
	if s.kind == siteCall {
		return s.n
	}
	return uint32(g.functions) + g.types[s.n]
}

func (m *Module) callGraph() *callGraph {
	g := &callGraph{types: make([]uint32, len(m.Types)), functions: len(m.Funcs)}
	first := make(map[string]uint32, len(m.Types))
	for i, t := range m.Types {
		name := t.String()
		if _, ok := first[name]; !ok {
			first[name] = uint32(i)
		}
		g.types[i] = first[name]
	}
	edges := make([][]uint32, len(m.Funcs)+len(m.Types))
	slots := make([]int, len(edges))
	for i := range m.bodies {
		b, caller := &m.bodies[i], m.ImportedFuncs+i
		slots[caller] = b.slots
		for _, s := range m.sites[b.first:b.all] {
			if s.kind == siteCall || s.kind == siteIndirect {
				edges[caller] = append(edges[caller], g.node(&s))
			}
		}
	}
	for _, f := range m.addressed {
		t := uint32(len(m.Funcs)) + g.types[m.Funcs[f]]
		edges[t] = append(edges[t], f)
	}
	g.connect(edges, slots)
	return g
}

// connect finds the components, callees before callers, and the heaviest path.
func (g *callGraph) connect(edges [][]uint32, slots []int) {
	n := len(edges)
	g.component = make([]int32, n)
	var (
		order = make([]int32, n) // in which a node was found, from 1; 0 is not yet
		low   = make([]int32, n)
		next  = make([]int, n) // edge
		open  []uint32         // nodes that are in no component yet
		path  []uint32
		heavy []int // of each component, the heaviest path that begins there
		found int32
	)
	for i := range g.component {
		g.component[i] = -1
	}
	for root := range n {
		if order[root] != 0 {
			continue
		}
		for path = append(path, uint32(root)); len(path) > 0; {
			v := path[len(path)-1]
			if order[v] == 0 {
				found++
				order[v], low[v] = found, found
				open = append(open, v)
			}
			if next[v] < len(edges[v]) {
				w := edges[v][next[v]]
				if order[w] == 0 {
					path = append(path, w) // comes back to this edge
					continue
				}
				if next[v]++; g.component[w] < 0 {
					low[v] = min(low[v], low[w])
				}
				continue
			}
			path = path[:len(path)-1]
			if low[v] != order[v] {
				continue
			}
			own, below := 0, 0
			begin := len(open) - 1
			for ; open[begin] != v; begin-- {
			}
			for _, w := range open[begin:] {
				g.component[w] = int32(len(heavy))
			}
			for _, w := range open[begin:] {
				own = max(own, slots[w])
				for _, u := range edges[w] {
					if c := g.component[u]; int(c) < len(heavy) {
						below = max(below, heavy[c])
					}
				}
			}
			open = open[:begin]
			heavy = append(heavy, own+below)
			g.countAll = g.countAll || own+below > staticStack
		}
	}
}
