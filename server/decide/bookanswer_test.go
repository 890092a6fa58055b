package decide_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rapport/profilestore"
	"rapport/server/catalog"
	"rapport/server/decide"
)

type (
	channel  = catalog.Channel
	capacity = catalog.Capacity
)

// asked is a case and the answer to it.
type asked struct {
	book    *book
	c       *bookCase
	view    *profilestore.View
	ats     []decide.At
	answers []decide.Answer
	again   *asked // the same question once more
}

// offer returns an offer by its id.
func (b *book) offer(t *testing.T, id string) *catalog.Offer {
	t.Helper()
	i := slices.IndexFunc(b.catalog.Offers, func(o catalog.Offer) bool { return o.ID == id })
	if i < 0 {
		t.Fatalf("there is no offer %s", id)
	}
	return &b.catalog.Offers[i]
}

// ask decides a case, twice.
func (b *book) ask(t *testing.T, s *bookStore, c *bookCase) *asked {
	t.Helper()
	a := b.decide(t, s, c)
	a.again = b.decide(t, s, c)
	return a
}

func (b *book) decide(t *testing.T, s *bookStore, c *bookCase) *asked {
	t.Helper()
	view, err := s.View(t.Context(), "customer:"+c.customer)
	if err != nil {
		t.Fatal(err)
	}
	now := c.asked.at.UnixMicro()
	left := make([]int, len(b.catalog.Capacities))
	for i, x := range b.catalog.Capacities {
		left[i] = int(x.Max - c.asked.taken[x.ID])
	}
	r := decide.Request{
		Now: now, Seed: bookSeed, Customer: 1,
		Profile: view.At(now), History: view.At(now).History(), Pending: c.asked.pending,
		Loads: c.asked.loads, Places: newPlaces(b.catalog, left), Context: c.asked.context,
	}
	a := &asked{book: b, c: c, view: view}
	for _, id := range c.asked.touchpoints {
		at, ok := b.catalog.Touchpoint(id)
		if !ok {
			t.Fatalf("there is no touchpoint %s", id)
		}
		a.ats = append(a.ats, decide.At{Touchpoint: at})
	}
	a.answers = make([]decide.Answer, len(a.ats))
	if len(a.ats) == 1 && !c.asked.one {
		r.Touchpoint = a.ats[0].Touchpoint
		b.decider.Decide(context.Background(), &r, &a.answers[0])
	} else {
		b.decider.DecideMany(context.Background(), &r, a.ats, c.asked.one, a.answers)
	}
	return a
}

// withheld says what became of a candidate.
type withheld struct {
	offer  string
	reason decide.Reason
	by     string
	until  int64
}

func (w withheld) String() string {
	s := w.offer
	if w.by != "" {
		s += " by " + w.by
	}
	if w.until != 0 {
		s += " until " + time.UnixMicro(w.until).In(shanghai).Format("01-02 15:04")
	}
	return s
}

// candidates returns what became of each candidate of an answer.
func (a *asked) candidates(i int) []withheld {
	c := a.book.catalog
	tp := &c.Touchpoints[a.ats[i].Touchpoint]
	x := &a.answers[i]
	out := make([]withheld, len(x.Reasons))
	for place, reason := range x.Reasons {
		out[place] = withheld{offer: c.Offers[c.Scenarios[tp.Scenario].Candidates[tp.Candidates[place]].Offer].ID, reason: reason}
	}
	for _, d := range x.Details {
		out[d.Place].by, out[d.Place].until = d.By, d.Until
	}
	return out
}

// String prints the answers for people.
func (a *asked) String() string {
	var b strings.Builder
	c := a.book.catalog
	for i := range a.answers {
		x := &a.answers[i]
		tp := &c.Touchpoints[a.ats[i].Touchpoint]
		fmt.Fprintf(&b, "%s: %d candidates, %d eligible, %d allowed, %d ranked, %d offered\n",
			tp.ID, x.Candidates(), x.Eligible(), x.Allowed(), x.Ranked(), x.Funnel[decide.ReasonOffered])
		if len(x.Slate) == 0 {
			b.WriteString("  nothing\n")
		}
		for k, p := range x.Slate {
			o := &c.Offers[p.Offer]
			fmt.Fprintf(&b, "  %d. %s, %s, score %.4g", k+1, o.ID, o.Class, p.Score)
			if p.Fallback {
				b.WriteString(", fallback")
			}
			fmt.Fprintf(&b, "\n     %q\n", p.Content)
			if p.Script != "" {
				fmt.Fprintf(&b, "     script: %q\n", p.Script)
			}
		}
		for _, f := range a.card(i) {
			fmt.Fprintf(&b, "  card: %s\n", f)
		}
		list := a.candidates(i)
		for reason := decide.ReasonNone; int(reason) < len(x.Funnel); reason++ {
			if reason == decide.ReasonOffered || x.Funnel[reason] == 0 {
				continue
			}
			fmt.Fprintf(&b, "  %s:", reason)
			sep := " "
			for _, w := range list {
				if w.reason == reason {
					b.WriteString(sep + w.String())
					sep = ", "
				}
			}
			b.WriteString("\n")
		}
		for _, d := range x.Degradations {
			fmt.Fprintf(&b, "  degradation %d\n", d.Step)
		}
	}
	return b.String()
}

// card returns what staff see of the customer at a touchpoint: the first card for the
// role of who asks.
func (a *asked) card(i int) (out []string) {
	tp := &a.book.catalog.Touchpoints[a.ats[i].Touchpoint]
	for _, card := range tp.Cards {
		if len(card.Roles) > 0 && !slices.Contains(card.Roles, a.c.asked.role) {
			continue
		}
		for _, slot := range card.Slots {
			out = append(out, fmt.Sprintf("%s=%s", a.book.schema.Fields()[slot].Name, a.view.At(a.c.asked.at.UnixMicro()).Get(slot)))
		}
		return out
	}
	return nil
}

// check holds the answers to what the case says. It reports whether any of it fails.
func (a *asked) check(t *testing.T) bool {
	t.Helper()
	failed := false
	for _, statement := range a.c.must {
		head, rest, _ := strings.Cut(statement, ":")
		words := strings.Fields(head)
		at := slices.Index(a.c.asked.touchpoints, words[len(words)-1])
		if at >= 0 {
			words = words[:len(words)-1]
		}
		if err := a.holds(t, strings.Join(words, " "), at, strings.TrimSpace(rest)); err != "" {
			t.Errorf("must %s: %s", statement, err)
			failed = true
		}
	}
	for i := range a.answers { // whatever else a case says
		for _, w := range a.candidates(i) {
			if w.reason == decide.ReasonNone {
				t.Errorf("%s has no reason", w.offer)
				failed = true
			}
		}
	}
	return failed
}

// slate returns the offers of the slate at a touchpoint; of all where at is −1.
func (a *asked) slate(at int) (out []string) {
	for i := range a.answers {
		for _, p := range a.answers[i].Slate {
			if at < 0 || at == i {
				out = append(out, a.book.catalog.Offers[p.Offer].ID)
			}
		}
	}
	return out
}

// holds returns why a statement does not hold.
func (a *asked) holds(t *testing.T, verb string, at int, rest string) string {
	t.Helper()
	names := strings.Fields(rest)
	slate := a.slate(at)
	switch verb {
	case "slate":
		if rest == "nothing" {
			names = nil
		}
		a.known(t, names)
		if !slices.Equal(slate, names) {
			return fmt.Sprint("it is ", slate)
		}
	case "first":
		a.known(t, names)
		if len(slate) < len(names) || !slices.Equal(slate[:len(names)], names) {
			return fmt.Sprint("the slate is ", slate)
		}
	case "on the slate", "not on the slate":
		a.known(t, names)
		for _, name := range names {
			if slices.Contains(slate, name) != (verb == "on the slate") {
				return fmt.Sprint("the slate is ", slate)
			}
		}
	case "no class":
		for _, name := range slate {
			if a.book.offer(t, name).Class.String() == rest {
				return name + " is on the slate"
			}
		}
	case "no candidate":
		a.known(t, names)
		for i := range a.answers {
			for _, w := range a.candidates(i) {
				if (at < 0 || at == i) && slices.Contains(names, w.offer) {
					return w.offer + " is one"
				}
			}
		}
	case "withheld": // OFFER … REASON [by X] [until DAY TIME]
		return a.isWithheld(t, at, rest)
	case "says": // OFFER TEXT
		for i := range a.answers {
			for _, p := range a.answers[i].Slate {
				if (at < 0 || at == i) && a.book.catalog.Offers[p.Offer].ID == names[0] {
					if text := strings.TrimSpace(strings.TrimPrefix(rest, names[0])); !strings.Contains(p.Content, text) && !strings.Contains(p.Script, text) {
						return fmt.Sprintf("it says %q %q", p.Content, p.Script)
					}
					return ""
				}
			}
		}
		return fmt.Sprint("the slate is ", slate)
	case "profile": // FIELD=VALUE …
		for _, word := range names {
			name, want, _ := strings.Cut(word, "=")
			slot, ok := a.book.schema.Lookup(name)
			if !ok {
				t.Fatalf("there is no field %s", name)
			}
			if got := a.view.At(a.c.asked.at.UnixMicro()).Get(slot).String(); got != want {
				return fmt.Sprintf("%s is %s", name, got)
			}
		}
	case "a replay gives the same":
		if again := a.again.String(); again != a.String() {
			return "it gives\n" + again
		}
	case "card":
		if got := strings.Join(a.card(max(at, 0)), " "); got != rest {
			return fmt.Sprintf("it is %q", got)
		}
	case "no card":
		if got := a.card(max(at, 0)); len(got) > 0 {
			return fmt.Sprintf("it is %q", got)
		}
	default:
		t.Fatalf("%q is none of slate, first, on the slate, not on the slate, no class, no candidate, withheld, says, profile, a replay gives the same, card, no card", verb)
	}
	return ""
}

// known fails where there is no such offer: a misspelt one is never on a slate.
func (a *asked) known(t *testing.T, names []string) {
	t.Helper()
	for _, name := range names {
		a.book.offer(t, name)
	}
}

// isWithheld holds an answer to `OFFER … REASON [by X] [until DAY TIME]`.
func (a *asked) isWithheld(t *testing.T, at int, rest string) string {
	t.Helper()
	words := strings.Fields(rest)
	n := slices.IndexFunc(words, func(w string) bool { return strings.ToUpper(w) == w })
	if n < 1 {
		t.Fatalf("withheld: %s: use OFFER … REASON [by X] [until DAY TIME]", rest)
	}
	a.known(t, words[:n])
	want := strings.Join(words[n:], " ")
	for _, name := range words[:n] {
		found := ""
		for i := range a.answers {
			for _, w := range a.candidates(i) {
				if w.offer != name || at >= 0 && at != i {
					continue
				}
				got := strings.TrimSpace(w.reason.String() + strings.TrimPrefix(w.String(), w.offer))
				if got == want || strings.HasPrefix(got, want+" ") {
					found = want
				} else if found == "" {
					found = got
				}
			}
		}
		switch found {
		case want:
		case "":
			return name + " is no candidate"
		default:
			return name + " is " + found
		}
	}
	return ""
}
