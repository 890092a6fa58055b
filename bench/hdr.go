package bench

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// keep puts a histogram of latencies into the record.
func (r *Record) keep(h *hdrhistogram.Histogram) error {
	b, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	r.HDR = string(b)
	return nil
}

// histogram returns the record's histogram, nil if it has none.
func (r *Record) histogram() (*hdrhistogram.Histogram, error) {
	if r.HDR == "" {
		return nil, nil //nolint:nilnil // most records have none
	}
	if _, err := base64.StdEncoding.DecodeString(r.HDR); err != nil {
		return nil, fmt.Errorf("bench: histogram of %s: %w", r.Layer, err)
	}
	return hdrhistogram.Decode([]byte(r.HDR))
}

// WriteHDR writes the histograms as a log that HdrHistogram's tools read, with a tag for
// each record.
func (r *Report) WriteHDR(w io.Writer) error {
	l := hdrhistogram.NewHistogramLogWriter(w)
	start := r.Begun.UnixMilli()
	errs := []error{l.OutputComment("[Rapport: latencies in nanoseconds]"), l.OutputLogFormatVersion(), l.OutputStartTime(start), l.OutputLegend()}
	for i := range r.Records {
		rec := &r.Records[i]
		h, err := rec.histogram()
		if err != nil {
			errs = append(errs, err)
		}
		if h == nil {
			continue
		}
		h.SetStartTimeMs(start)
		h.SetEndTimeMs(start + int64(1000*r.Seconds))
		h.SetTag(strings.NewReplacer(" ", "_", ",", "").Replace(strings.Trim(rec.Layer+"/"+rec.Case.String()+"/"+rec.Name, "/")))
		errs = append(errs, l.OutputIntervalHistogram(h))
	}
	return errors.Join(errs...)
}
