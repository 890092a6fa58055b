package abitest

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// made is a decision that was made, and how it came out.
type made struct {
	frame  *frame
	answer *answer
}

const repeatAdvice = "Look for what the strategy keeps or draws that is not from the frame. The sandbox puts memory and globals back, so if there is no such thing, report this as a mistake of the sandbox."

// checkRepeats makes the random decisions again: by pairs, A, B, A, in another
// order; and in another runtime, several at once.
func (c *checker) checkRepeats(ctx context.Context) (bool, error) {
	err := c.with(ctx, c.rows, nil, "decisions made again", func(s *strategy) error {
		order := c.random(forRepeats).Perm(len(c.made))
		for i, k := range order {
			for _, x := range []made{c.made[k], c.made[order[(i+1)%len(order)]]} {
				a, err := c.rank(ctx, s, x.frame)
				if err != nil {
					return err
				}
				c.compare(x, a, "made again after another one")
			}
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	if err := c.repeatElsewhere(ctx); err != nil {
		return false, err
	}
	c.pass(Repeats)
	return true, nil
}

// compare notes if a decision came out differently.
func (c *checker) compare(x made, again *answer, where string) {
	if what := x.answer.difference(again); what != "" {
		c.fail(Repeats, repeatAdvice, "%s, %s: %s", x.frame.what, where, what)
	}
}

// goroutines make decisions at once, with half as many instances.
const goroutines = 4

// repeatElsewhere makes all decisions again in the second runtime.
func (c *checker) repeatElsewhere(ctx context.Context) error {
	s, err := c.bind(ctx, c.other, c.rows, nil, "in another runtime", goroutines/2)
	if s == nil || err != nil {
		return err
	}
	order := c.random(forRepeats + 100).Perm(len(c.made))
	answers, errs := make([]*answer, len(c.made)), make([]error, goroutines+1)
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			for i := g; i < len(order) && errs[g] == nil; i += goroutines {
				answers[order[i]], errs[g] = ask(ctx, s, c.made[order[i]].frame)
			}
		})
	}
	all.Wait()
	errs[goroutines] = s.Close(context.WithoutCancel(ctx))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	c.report.Figures.Calls += len(answers)
	for i, a := range answers {
		c.compare(c.made[i], a, fmt.Sprintf("made again in another runtime, %d at once", goroutines/2))
	}
	return nil
}
