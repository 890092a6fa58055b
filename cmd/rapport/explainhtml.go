package main

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	rapportv1 "rapport/server/api/rapport/v1"
)

//go:embed explain.html
var explainHTML string

// funnelBar is a stage of the funnel.
type funnelBar struct {
	Stage string
	N     int32
	Share float64 // of the candidates, in percent
	Last  bool
}

// explanationPage writes an explanation as a page that needs nothing else.
func explanationPage(w io.Writer, x *rapportv1.ExplainDecisionResponse) error {
	page, err := template.New("explain").Funcs(template.FuncMap{
		"title":       pageTitle,
		"customer":    explainedCustomer,
		"proof":       explainedProof,
		"time":        formatTime,
		"took":        func(us int64) string { return (time.Duration(us) * time.Microsecond).String() },
		"versions":    func(x *rapportv1.ExplainDecisionResponse) string { return strings.Join(explainedVersions(x), ", ") },
		"contextName": func(v *rapportv1.ExplainedValue) string { return strings.TrimPrefix(v.GetName(), "context.") },
		"value":       explainedValue,
		"rankers":     explainedRankers,
		"step":        explainedStep,
		"funnel":      funnelBars,
		"score":       formatScore,
		"rank":        rankText,
		"offered":     func(c *rapportv1.RankedCandidate) bool { return c.GetOutcome() == rapportv1.Reason_REASON_OFFERED },
		"reason":      func(r rapportv1.Reason) string { return formatEnum(r) },
		"parts":       partsText,
		"offers":      offersText,
		"moreCauses":  moreCausesText,
	}).Parse(explainHTML)
	if err != nil {
		return err
	}
	return page.Execute(w, x)
}

// pageTitle says in a line what the decision was.
func pageTitle(x *rapportv1.ExplainDecisionResponse) string {
	var offers, places []string
	for _, t := range x.GetAt() {
		places = append(places, t.GetTouchpoint())
		for _, p := range t.GetSlate() {
			offers = append(offers, p.GetOffer())
		}
	}
	at := strings.Join(places, ", ")
	switch n := len(offers); n {
	case 0:
		return "Why nothing was offered at " + at
	case 1:
		return fmt.Sprintf("Why %s was offered at %s", offers[0], at)
	case 2, 3:
		return fmt.Sprintf("Why %s and %s were offered at %s", strings.Join(offers[:n-1], ", "), offers[n-1], at)
	default:
		return fmt.Sprintf("Why these %d offers were made at %s", n, at)
	}
}

// funnelBars are the stages with how much is left after each.
func funnelBars(f *rapportv1.Funnel) []funnelBar {
	bars := []funnelBar{
		{Stage: "candidates", N: f.GetCandidates()},
		{Stage: "eligible", N: f.GetEligible()},
		{Stage: "allowed by contact policy", N: f.GetAllowed()},
		{Stage: "ranked", N: f.GetRanked()},
		{Stage: "offered", N: f.GetOffered(), Last: true},
	}
	for i := range bars {
		bars[i].Share = 100 * float64(bars[i].N) / float64(max(1, f.GetCandidates()))
	}
	return bars
}
