package rules

import (
	"strconv"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"

	"rapport/profilestore"
)

// Text is an expression whose value is shown to people: a text or a number. It is
// immutable and safe for concurrent use.
type Text struct {
	source   string
	formula  Formula
	decimals int // that a number has at most
}

// freeDecimals are the decimals of a number that comes from no field with a number of
// them.
const freeDecimals = 6

// Text compiles an expression that gives a text or a number. An error is
// [CompileErrors].
func (e *Env) Text(expr string) (*Text, error) {
	if strings.TrimSpace(expr) == "" {
		return nil, wholeError(expr, "the expression is empty")
	}
	tree, mistakes := e.lang.compile(expr)
	if mistakes != nil {
		return nil, mistakes
	}
	formula := Formula{kind: profilestore.KindNumber}
	switch t := resultType(tree); t.Kind() {
	case types.DoubleKind, types.IntKind:
	case types.StringKind:
		formula.kind = profilestore.KindText
	case types.BoolKind:
		return nil, wholeError(expr, `it must give a text or a number, and this is a flag: write … ? "one text" : "another"`)
	case types.TimestampKind:
		return nil, wholeError(expr, `it must give a text or a number, and this is a time: take parts of it, such as x.getDate("Asia/Shanghai")`)
	default:
		return nil, wholeError(expr, "it must give a text or a number, and this is a %s", plainType(t))
	}
	var err error
	if formula.prog, err = e.lang.program(tree, tree.Expr()); err != nil {
		return nil, wholeError(expr, "%v", err)
	}
	formula.run = e.lang.newCompiler(tree, tree.Expr()).value(tree.Expr())
	formula.reads, formula.decisions = e.lang.reads(tree.Expr())
	return &Text{source: expr, formula: formula, decimals: e.decimalsOf(tree)}, nil
}

// String returns the expression as it was written.
func (t *Text) String() string { return t.source }

// decimalsOf returns how many decimals a number has at most that an expression makes:
// as many as the field has, of those that it reads, with the most.
func (e *Env) decimalsOf(tree *ast.AST) int {
	most := -1
	ast.PreOrderVisit(tree.Expr(), ast.NewExprVisitor(func(x ast.Expr) {
		name, ok := fieldName(x)
		if !ok {
			return
		}
		d, ok := e.decimals[name]
		if !ok {
			d = freeDecimals
		}
		most = max(most, d)
	}))
	if most < 0 {
		return freeDecimals
	}
	return most
}

// fieldName returns the name of the number that an expression of the form
// profile.GROUP.NAME or context.NAME reads.
func fieldName(x ast.Expr) (string, bool) {
	if x.Kind() != ast.SelectKind || x.AsSelect().IsTestOnly() {
		return "", false
	}
	of, name := x.AsSelect().Operand(), x.AsSelect().FieldName()
	if of.Kind() == ast.IdentKind {
		return name, of.AsIdent() == "context"
	}
	if of.Kind() != ast.SelectKind {
		return "", false
	}
	root := of.AsSelect().Operand()
	return of.AsSelect().FieldName() + "." + name, root.Kind() == ast.IdentKind && root.AsIdent() == "profile"
}

// AppendText appends what an expression gives for the inputs of the last Reset. It
// returns True if there is a value, Unknown where it needs one that is not known, and
// Failed where it can't be evaluated; dst is then unchanged. The expression must be of
// the environment that the evaluation's rules are of.
//
// Numbers are written in plain decimals, without an exponent.
func (e *Evaluation) AppendText(dst []byte, t *Text) ([]byte, Truth) {
	v, err := e.Compute(&t.formula)
	switch {
	case err != nil:
		return dst, Failed
	case !v.Known():
		return dst, Unknown
	case v.Kind() == profilestore.KindText:
		return append(dst, v.Text()...), True
	}
	return appendNumber(dst, v.Number(), t.decimals), True
}

// appendNumber appends a number with at most so many decimals.
func appendNumber(dst []byte, f float64, decimals int) []byte {
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
	if dot := strings.IndexByte(string(dst[start:]), '.'); dot >= 0 && len(dst)-start-dot-1 > decimals {
		dst = strconv.AppendFloat(dst[:start], f, 'f', decimals, 64)
		if decimals > 0 {
			for dst[len(dst)-1] == '0' {
				dst = dst[:len(dst)-1]
			}
			if dst[len(dst)-1] == '.' {
				dst = dst[:len(dst)-1]
			}
		}
	}
	if string(dst[start:]) == "-0" {
		dst = append(dst[:start], '0')
	}
	return dst
}
