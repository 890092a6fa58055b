package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"rapport/sdk/abi"
)

// now is the time of the decision that a strategy ranks: 1 March 2026.
const now = 1_772_366_400_000_000

// Configure makes a strategy ready to rank n candidates, by the contract in
// sdk/ABI.md. All of what it reads is known but every fifth row of the offers, as
// that of care, which has no price. Its memory must not grow when it ranks.
func (p *Probe) Configure(ctx context.Context, n int) error {
	if _, err := p.export(ctx, abi.ExportInitialize); err != nil {
		return err
	}
	span, err := p.export(ctx, abi.ExportDescribe)
	if err != nil {
		return err
	}
	at, size := abi.UnpackSpan(span)
	text, _ := p.module.Memory().Read(at, size)
	var m abi.Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return fmt.Errorf("probe: manifest: %w", err)
	}
	layout, head := profileOf(&m).Finish(n, len(m.Candidate), now, 42)
	static := staticOf(&m, n, layout.Size)
	block, err := abi.ParseStatic(static)
	if err != nil {
		return err
	}
	arena, err := p.export(ctx, abi.ExportArena, uint64(len(static)+layout.Size+abi.GuardSize))
	if err != nil {
		return err
	}
	p.module.Memory().Write(uint32(arena), static)
	if status, err := p.export(ctx, abi.ExportConfigure, arena, uint64(block.Size)); err != nil || status != abi.StatusOK {
		return fmt.Errorf("probe: configure: status %d: %w", status, err)
	}
	view, ok := p.module.Memory().Read(uint32(arena)+uint32(block.FrameAt), uint32(layout.Size))
	if !ok {
		return fmt.Errorf("probe: an arena at %d that is too small", arena)
	}
	p.rank, p.frame, p.score = p.module.ExportedFunction(abi.ExportRank), layout.View(view), make([]float64, n)
	copy(p.frame.Input(), head)
	fill(&p.frame)
	p.before = slices.Clone(p.frame.Bytes())
	all, _ := p.module.Memory().Read(0, p.module.Memory().Size())
	p.memory = slices.Clone(all)
	return nil
}

// export calls an export before the first ranking; one that is missing does
// nothing.
func (p *Probe) export(ctx context.Context, name string, params ...uint64) (uint64, error) {
	f := p.module.ExportedFunction(name)
	if f == nil {
		return 0, nil
	}
	results, err := f.Call(ctx, params...)
	if err != nil || len(results) == 0 {
		return 0, err
	}
	return results[0], nil
}

// profileOf returns a customer who spends 20, has every flag, is a private one in
// each text, and came a year ago.
func profileOf(m *abi.Manifest) *abi.Head {
	const text, year = "private", 365 * 24 * 3600 * 1e6
	h := abi.NewHead(len(m.Profile), len(text)*len(m.Profile))
	h.Reset()
	for i, in := range m.Profile {
		switch in.Type {
		case abi.Number.String():
			h.Set(i, abi.NumberCell(20))
		case abi.Flag.String():
			h.Set(i, abi.FlagCell(true))
		case abi.Time.String():
			h.Set(i, abi.TimeCell(now-year))
		case abi.Text.String():
			h.SetText(i, text)
		}
	}
	return h
}

// staticOf returns the static block: parameters by their defaults, offers priced
// 10 to 99, channels of which every second costs 1.5.
func staticOf(m *abi.Manifest, n, frame int) []byte {
	parameters := make([]float64, len(m.Parameters))
	for i, d := range m.Parameters {
		parameters[i] = d.Default
	}
	b := abi.NewStaticBuilder(n, parameters, len(m.Offer), len(m.Channel))
	for row := range n {
		if row%5 != 4 {
			setAttributes(&b.Offer, m.Offer, row, float64(10+row%90))
		}
		setAttributes(&b.Channel, m.Channel, row, 0.02+1.48*float64(row%2))
	}
	return b.Build(frame)
}

func setAttributes(t *abi.Table, inputs []abi.Input, row int, number float64) {
	for i, in := range inputs {
		switch in.Type {
		case abi.Number.String():
			t.Set(i, row, abi.NumberCell(number))
		case abi.Flag.String():
			t.Set(i, row, abi.FlagCell(row%2 == 0))
		}
	}
}

// fill fills the candidates of a frame, all of the scenario.
func fill(f *abi.Frame) {
	for i := range f.Index() {
		f.Index()[i] = uint32(i)
	}
	for c := range f.Columns {
		for i := range f.Column(c) {
			f.Column(c)[i] = 1 + float64(i)/1024
		}
	}
	f.ClearOutput()
}

// Rank ranks the frame that Configure filled: the call of the guest and nothing
// else.
func (p *Probe) Rank(ctx context.Context) error {
	result, err := p.Call(ctx, p.rank, uint64(p.frame.Size))
	if err != nil {
		return err
	}
	if status, detail := abi.UnpackStatus(result); status != abi.StatusOK || int(detail) != p.frame.Candidates {
		return fmt.Errorf("probe: status %d, detail %d", status, detail)
	}
	return nil
}

// RankAnew does what the least of hosts has to: it fills in the frame, ranks, and
// copies the answer out. It checks and restores nothing.
func (p *Probe) RankAnew(ctx context.Context) error {
	copy(p.frame.Bytes(), p.before)
	err := p.Rank(ctx)
	copy(p.score, p.frame.Score())
	return err
}

// Scores returns a copy of the scores of the last call.
func (p *Probe) Scores() []float64 { return slices.Clone(p.frame.Score()) }

// Restore puts the memory back to what it was when the strategy was configured.
func (p *Probe) Restore() { p.module.Memory().Write(0, p.memory) }

// Close frees the instance, and its code if it is the only one.
func (p *Probe) Close(ctx context.Context) error {
	err := p.module.Close(ctx)
	if p.own != nil {
		err = errors.Join(err, p.own.Close(ctx))
	}
	return err
}
