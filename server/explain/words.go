package explain

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"rapport/profilestore"
	"rapport/profilestore/rules"
	"rapport/server/catalog"
	"rapport/server/decide"
)

// maxCounted is how many contacts are named one by one.
const maxCounted = 5

// Words writes a cause in a line.
func (c *Cause) Words(show Show) string {
	switch c.Reason { //nolint:exhaustive // the others say it with the note
	case decide.ReasonNotEligible, decide.ReasonUnknown, decide.ReasonRuleError, decide.ReasonPrerequisite, decide.ReasonOwned:
		return c.ruleWords(show)
	case decide.ReasonCapped:
		return c.policyWords() + c.until("until")
	case decide.ReasonQuietDeferred:
		if c.note == "" {
			return c.By + c.until("deferred until")
		}
		words := join(c.note, c.readWords(show))
		if c.Until == 0 {
			return join(words, "which never open")
		}
		return words + c.until("deferred until")
	case decide.ReasonDoNotDisturb, decide.ReasonNoConsent:
		return join(c.note, c.readWords(show))
	case decide.ReasonProfileUnreadable:
		return "the profile could not be read, and what must not be offered without was not"
	case decide.ReasonNotReserved:
		return join("contacts could not be reserved, and what must be limited was not offered", c.note)
	case decide.ReasonOtherChannel:
		if c.note != "" {
			return c.note
		}
		return "the offer is made at " + c.By + ", in another channel"
	case decide.ReasonOtherTouchpoint:
		return "the offer is made at " + c.By
	case decide.ReasonExcluded:
		return c.By + " on the slate excludes it"
	case decide.ReasonVetoed:
		if c.By == "" {
			return "vetoed by the strategy"
		}
		return join("vetoed by "+c.By, c.note)
	case decide.ReasonCapacity:
		if c.note == "" {
			return "no place of capacity " + c.By + " was left"
		}
	}
	return c.note + c.until("until")
}

func join(parts ...string) string {
	var out []string
	for _, p := range parts {
		if p != "" {
			out = append(out, p)
		}
	}
	return strings.Join(out, ": ")
}

func (c *Cause) until(word string) string {
	if c.Until == 0 {
		return ""
	}
	return ", " + word + " " + moment(c.Until)
}

// ruleWords writes what a rule, or a text, found.
func (c *Cause) ruleWords(show Show) string {
	prefix := ""
	switch c.Part {
	case PartNone:
		return c.note
	case PartContent, PartScript:
		return fmt.Sprintf("its %s can't be computed: %s", c.Part, c.readWords(show))
	case PartOwned:
		if c.Truth == rules.True {
			if values := c.readWords(show); values != "" {
				return "the customer has it: " + values
			}
			return fmt.Sprintf("the customer has it: `%s`", c.Text)
		}
		prefix = "whether the customer has it"
		if c.Truth == rules.Unknown {
			return prefix + ": " + c.readWords(show)
		}
		prefix += ": "
	case PartPrerequisite:
		prefix = "first needed: "
	case PartTreatment:
		prefix = "in this channel: "
	case PartEligible:
	}
	if c.Truth == rules.Failed {
		return prefix + fmt.Sprintf("`%s` can't be evaluated, with %s", c.Text, c.readWords(show))
	}
	if c.Label != "" {
		prefix += fmt.Sprintf("“%s” is %s: ", c.Label, c.Truth)
	}
	return prefix + c.needWords(c.Need, show)
}

// needWords writes a need beside the values that it is about.
func (c *Cause) needWords(n rules.Need, show Show) string {
	switch {
	case n.Any != nil || n.All != nil:
		parts, kind := n.Any, "needs one of: "
		if n.All != nil {
			parts, kind = n.All, "needs all of: "
		}
		words := make([]string, len(parts))
		for i := range parts {
			words[i] = c.needWords(parts[i], show)
			if parts[i].Any != nil || parts[i].All != nil {
				words[i] = "(" + words[i] + ")"
			}
		}
		return kind + strings.Join(words, "; ")
	case n.Of == "":
		if values := c.readWords(show, n.Text); values != "" {
			return fmt.Sprintf("`%s` is %s, with %s", n.Text, c.Truth, values)
		}
		return fmt.Sprintf("`%s` is %s", n.Text, c.Truth)
	}
	words := c.valueWords(n.Of, show) + ", needs " + n.Words
	if n.Against != "" && n.Against != n.Of {
		words += " (" + c.valueWords(n.Against, show) + ")"
	}
	if strings.HasPrefix(n.Of, "table.") { // what it was decided from
		var from []string
		for i := range c.Reads {
			if c.Reads[i].Name != n.Of {
				from = append(from, c.Reads[i].words(show))
			}
		}
		words += ", with " + strings.Join(from, ", ")
	}
	if strings.HasSuffix(n.Words, " ago") || strings.HasSuffix(n.Words, " ahead") {
		words += " (" + c.valueWords("now", show) + ")"
	}
	return words
}

// valueWords writes the value of a name.
func (c *Cause) valueWords(name string, show Show) string {
	for i := range c.Reads {
		if c.Reads[i].Name == name {
			return c.Reads[i].words(show)
		}
	}
	return strings.TrimPrefix(name, "profile.")
}

// readWords writes what was read, of a text only what stands in it.
func (c *Cause) readWords(show Show, text ...string) string {
	var words []string
	for i := range c.Reads {
		if len(text) == 0 || strings.Contains(text[0], c.Reads[i].Name) {
			words = append(words, c.Reads[i].words(show))
		}
	}
	return strings.Join(words, ", ")
}

func (r *Read) words(show Show) string {
	name := strings.TrimPrefix(r.Name, "profile.")
	if r.Missing != "" {
		return name + " is unknown (" + r.Missing + ")"
	}
	words := name + " = " + show(r)
	if r.Row > 0 {
		words += fmt.Sprintf(" (row %d)", r.Row)
	}
	return words
}

// Plain shows every value as it is.
func Plain(r *Read) string { return Format(r.Value) }

// Format writes a value as an explanation has it: a text in quotes, as conditions do.
func Format(v profilestore.Value) string {
	if v.Kind() == profilestore.KindText {
		return strconv.Quote(v.Text())
	}
	return v.String()
}

// policyWords writes what a contact policy allows and what it counted.
func (c *Cause) policyWords() string {
	p := c.Policy
	if p == nil {
		return "contact policy " + c.By
	}
	what := "contact"
	if p.Count != catalog.CountContacts {
		what = p.Count + " outcome"
	}
	most := fmt.Sprintf("%s within %s%s", times(p.Max, what), profilestore.FormatSpan(micros(p.Within)), dimensionWords[p.Per])
	words := fmt.Sprintf("contact policy %s allows %s", p.ID, most)
	switch {
	case p.Suppress > 0:
		words = fmt.Sprintf("contact policy %s rests for %s after %s", p.ID, profilestore.FormatSpan(micros(p.Suppress)), most)
	case p.Count != catalog.CountContacts:
		words = fmt.Sprintf("contact policy %s stops at %s", p.ID, most)
	}
	var counted []string
	for i, x := range c.Counted {
		if i == maxCounted {
			counted = append(counted, fmt.Sprintf("and %d more", len(c.Counted)-i))
			break
		}
		at := moment(x.Time)
		if x.Pending {
			at += " (promised, not reported yet)"
		}
		counted = append(counted, at)
	}
	if len(counted) > 0 {
		words += "; counted: " + strings.Join(counted, ", ")
	}
	if c.note != "" {
		words += "; " + c.note
	}
	return words
}

var dimensionWords = map[catalog.Dimension]string{
	catalog.PerPolicy: "", catalog.PerOffer: " for each offer", catalog.PerGroup: " for each group", catalog.PerClass: " for each class",
	catalog.PerChannel: " for each channel", catalog.PerTouchpoint: " for each touchpoint",
}

// times writes how many of something there are.
func times(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func micros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// StepWords says in words what a step down was.
func StepWords(s decide.Step) string { return stepWords[s] }

var stepWords = map[decide.Step]string{
	decide.StepStrategyFailed:    "the strategy failed, so the built-in arbitration ranked",
	decide.StepStrategyBusy:      "no instance of the strategy came free in time, so the built-in arbitration ranked",
	decide.StepNoTimeToRank:      "too little time was left for the strategy, so the built-in arbitration ranked",
	decide.StepProfileUnreadable: "the profile could not be read in time, so it was decided without",
	decide.StepFallback:          "nothing could be offered, so the scenario's fallback was",
	decide.StepStrategySuspended: "the strategy had failed too often and was not called, so the built-in arbitration ranked",
	decide.StepNotReserved:       "contacts could not be reserved, so what must be limited was not offered",
}
