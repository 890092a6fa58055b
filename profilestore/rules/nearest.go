package rules

import "strings"

// Nearest returns the candidate that someone who wrote name probably meant, or
// "" if none is near: the one with the fewest letters inserted, removed, changed
// or swapped, at most about one in three. Case does not count. Of equals, the
// first wins.
func Nearest(name string, candidates []string) string {
	name = strings.ToLower(name)
	best, limit := "", (len(name)+1)/3
	for _, c := range candidates {
		if c == "" || len(c) > len(name)+limit || len(name) > len(c)+limit {
			continue
		}
		if d := distance(name, strings.ToLower(c), limit); d <= limit {
			best, limit = c, d-1
		}
	}
	return best
}

// distance returns the optimal string alignment distance of two names, or more
// than limit if it is more than that.
func distance(a, b string, limit int) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			change := last[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			row[j] = min(change, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
			least = min(least, row[j])
		}
		if least > limit {
			return least
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
