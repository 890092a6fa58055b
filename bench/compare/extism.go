package main

import (
	"context"
	_ "embed"
	"encoding/binary"
	"fmt"
	"math"

	extism "github.com/extism/go-sdk"

	"rapport/bench"
)

// rankWasm is strategy/rank.c, which says how it is built.
//
//go:embed strategy/rank.wasm
var rankWasm []byte

// plugin is the Extism Go SDK as the host of the strategy: rules in Go, then one call of a
// plugin with the candidates' columns as bytes, without JSON, compiled once; the best three
// are picked by Go. Nothing limits what the plugin may use or keep between calls.
type plugin struct {
	contest *bench.Contest
	plugin  *extism.Plugin
	input   []byte
	offers  []int
}

func newExtism(ctx context.Context, c *bench.Contest) (contender, error) {
	manifest := extism.Manifest{Wasm: []extism.Wasm{extism.WasmData{Data: rankWasm}}}
	p, err := extism.NewPlugin(ctx, manifest, extism.PluginConfig{}, nil)
	if err != nil {
		return nil, err
	}
	return &plugin{contest: c, plugin: p}, nil
}

// Decide answers for a customer.
func (p *plugin) Decide(ctx context.Context, customer int) ([]string, error) {
	x := &p.contest.Customers[customer]
	p.input, p.offers = p.input[:0], p.offers[:0]
	for i := range p.contest.Offers {
		o := &p.contest.Offers[i]
		if !o.Eligible(x) {
			continue
		}
		propensity := o.Propensity
		if propensity == 0 {
			propensity = x.Propensity
		}
		p.offers = append(p.offers, i)
		for _, v := range [...]float64{propensity, o.Value, 1, 1 + o.Boost/100} {
			p.input = binary.LittleEndian.AppendUint64(p.input, math.Float64bits(v))
		}
	}
	status, out, err := p.plugin.CallWithContext(ctx, "rank", p.input)
	if err != nil || status != 0 || len(out) != 8*len(p.offers) {
		return nil, fmt.Errorf("the plugin returned %d and %d bytes: %w", status, len(out), err)
	}
	var best bench.ContestBest
	for i, offer := range p.offers {
		best.Add(offer, math.Float64frombits(binary.LittleEndian.Uint64(out[8*i:])))
	}
	return best.IDs(p.contest), nil
}

// Close ends the plugin.
func (p *plugin) Close() error { return p.plugin.Close(context.Background()) }
