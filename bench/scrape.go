package bench

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// samples are the metrics of a server at one time, by name with labels.
type samples map[string]float64

// scrape reads the metrics of a server.
func scrape(ctx context.Context, url string) (_ samples, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close() //nolint:errcheck // only read
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("bench: metrics: %s", res.Status)
	}
	s := make(samples)
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		i := strings.LastIndexByte(lines.Text(), ' ')
		if i < 0 || lines.Text()[0] == '#' {
			continue
		}
		v, err := strconv.ParseFloat(lines.Text()[i+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("bench: metrics: %w", err)
		}
		s[lines.Text()[:i]] = v
	}
	return s, lines.Err()
}

// quantile returns a quantile of what a histogram of seconds has been told since before, as
// its buckets have it: it lies in one, and is taken to be spread evenly there.
func (s samples) quantile(name string, before samples, q float64) time.Duration {
	type bucket struct{ bound, count float64 }
	var buckets []bucket
	for key, v := range s {
		label, ok := strings.CutPrefix(key, name+`_bucket{le="`)
		if !ok {
			continue
		}
		bound, err := strconv.ParseFloat(strings.TrimSuffix(label, `"}`), 64)
		if err != nil {
			continue
		}
		buckets = append(buckets, bucket{bound, v - before[key]})
	}
	slices.SortFunc(buckets, func(a, b bucket) int { return cmp.Compare(a.bound, b.bound) })
	if len(buckets) == 0 {
		return 0
	}
	rank := q * buckets[len(buckets)-1].count
	low := bucket{}
	for _, b := range buckets {
		if b.count >= rank {
			if math.IsInf(b.bound, 1) || b.count == low.count {
				return seconds(low.bound)
			}
			return seconds(low.bound + (b.bound-low.bound)*(rank-low.count)/(b.count-low.count))
		}
		low = b
	}
	return seconds(low.bound)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
