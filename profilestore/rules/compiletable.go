package rules

import "cel.dev/cel-go/common/ast"

// table compiles the call of a reference table. It is never folded: what a table has is
// not known before a decision.
func (c *compiler) table(name string, args []ast.Expr) node[string] {
	i, lang := c.lang.tablePlaces[name], c.lang
	ask := c.texts.expr(c, args[0]).run
	if lang.roots["event"] != nil {
		return node[string]{run: func(f *frame) (string, state) {
			key, s := ask(f)
			if s != stateKnown || lang.lookup == nil {
				return "", s
			}
			return lang.lookup.Lookup(f.event.Tables, i, key), stateKnown
		}}
	}
	otherwise := func(*frame) (string, state) { return "", stateUnknown }
	if len(args) == 2 {
		otherwise = c.texts.expr(c, args[1]).run
	}
	return node[string]{run: func(f *frame) (string, state) {
		key, s := ask(f)
		if s != stateKnown {
			return "", s
		}
		if v, ok := f.vars.lookUp(i, key); ok {
			return v, stateKnown
		}
		return otherwise(f)
	}}
}
