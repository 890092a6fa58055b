package decide_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"rapport/server/decide"
)

// twins adds to a catalogue a twin of each touchpoint, in the same channel, and of each
// channel with its touchpoints. What would tell twins apart is taken out: policies that
// are about one touchpoint, or count by channel or touchpoint, and the test's veto, which
// goes by the place of a candidate.
func (m *model) twins() {
	channels, touchpoints := len(m.channels), len(m.touchpoints)
	for _, c := range m.channels {
		c.id += "x"
		m.channels = append(m.channels, c)
	}
	twice := func(names []string) []string {
		out := slices.Clone(names)
		for _, name := range names {
			out = append(out, name+"x")
		}
		return out
	}
	for i := range m.offers {
		for _, x := range m.offers[i].treatments {
			x.channel += channels
			m.offers[i].treatments = append(m.offers[i].treatments, x)
		}
	}
	for k := range touchpoints {
		same, other := m.touchpoints[k], m.touchpoints[k]
		same.id += "_twin"
		other.channel += channels
		other.id = m.channels[other.channel].id + ".t" + fmt.Sprint(k)
		m.touchpoints = append(m.touchpoints, same, other)
		if s := same.scenario; s >= 0 {
			m.scenarios[s].touchpoints = append(m.scenarios[s].touchpoints, touchpoints+2*k, touchpoints+2*k+1)
		}
	}
	for i := range m.scenarios {
		m.scenarios[i].vetoes = false
	}
	for i := range m.policies {
		p := &m.policies[i]
		p.touchpoints, p.channels = nil, twice(p.channels)
		if p.per == "channel" || p.per == "touchpoint" {
			p.per = ""
		}
	}
	for i := range m.capacities {
		m.capacities[i].channels = twice(m.capacities[i].channels)
	}
}

// TestSameQuestionSameAnswer: the same customer at the same moment gets the same answer
// at every touchpoint that asks the same question: at a twin of the touchpoint, in a twin
// of its channel, asked alone, as a part of DecideMany or for one contact, and by many at
// once.
func TestSameQuestionSameAnswer(t *testing.T) {
	g := newRig(t)
	offered, withheld, fallbacks := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		m := drawModel(t)
		view, _ := g.meet(t, m)
		touchpoints := len(m.touchpoints)
		m.twins()
		d := g.compile(t, m)
		for range 4 {
			r := g.drawRequest(t, m, view)
			r.Loads = nil // a channel and its twin can be loaded differently
			slots := rapid.IntRange(0, 4).Draw(t, "asked slots")
			k := rapid.IntRange(0, touchpoints-1).Draw(t, "at")
			left := make([]int, len(m.capacities))
			for i := range left {
				left[i] = rapid.IntRange(0, 2).Draw(t, "left")
			}
			type way struct {
				touchpoint int
				many, one  bool
			}
			var ways []way
			for _, at := range []int{k, touchpoints + 2*k, touchpoints + 2*k + 1} {
				ways = append(ways, way{at, false, false}, way{at, true, false}, way{at, true, true})
			}
			answers := make([]string, len(ways))
			var wait sync.WaitGroup
			for i, w := range ways {
				wait.Go(func() {
					var a [1]decide.Answer
					places := put(d, *r, []decide.At{{Touchpoint: w.touchpoint, Slots: slots}}, w.many, w.one, left, a[:])
					answers[i] = strings.ReplaceAll(said(d.Catalog(), &a[0]), "x ", " ") + fmt.Sprint(places)
					if i == 0 {
						offered += a[0].Funnel[decide.ReasonOffered]
						withheld += a[0].Candidates() - a[0].Funnel[decide.ReasonOffered]
						if len(a[0].Slate) > 0 && a[0].Slate[0].Fallback {
							fallbacks++
						}
					}
				})
			}
			wait.Wait()
			for i, w := range ways {
				if answers[i] != answers[0] {
					t.Fatalf("asked %+v:\n%s\nasked %+v:\n%s\n%s", ways[0], answers[0], w, answers[i], m.yaml())
				}
			}
		}
	})
	t.Logf("%d candidates offered, %d withheld, %d fallbacks, each asked in 9 ways", offered, withheld, fallbacks)
	if offered == 0 || withheld == 0 || fallbacks == 0 {
		t.Error("something never occurred")
	}
}
