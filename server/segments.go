package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rapport/profilestore"
	"rapport/profilestore/rules"
	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/catalog"
)

var (
	errCountRunning = errors.New("segments are being counted already: wait for that to end; one count runs at a time")
	errStopping     = errors.New("the server is stopping")
)

// ListSegments lists the segments of the catalogue in service.
func (s registers) ListSegments(context.Context, *connect.Request[rapportv1.ListSegmentsRequest]) (*connect.Response[rapportv1.ListSegmentsResponse], error) {
	l := s.acquire()
	if l == nil {
		return nil, errNoCatalog
	}
	defer s.release(l)
	res := &rapportv1.ListSegmentsResponse{CatalogVersion: l.compiled.Version}
	for _, x := range l.compiled.Segments {
		res.Segments = append(res.Segments, &rapportv1.Segment{Id: x.ID, Label: x.Label, Description: x.Description, Owner: x.Owner, When: x.Text})
	}
	return connect.NewResponse(res), nil
}

// progressEvery is how often a count says how far it is.
const progressEvery = 200 * time.Millisecond

// CountSegments counts the customers in segments.
func (s registers) CountSegments(ctx context.Context, req *connect.Request[rapportv1.CountSegmentsRequest], stream *connect.ServerStream[rapportv1.CountSegmentsResponse]) error {
	return s.streamError(req.Spec().Procedure, s.countSegments(ctx, req.Msg, stream))
}

func (s registers) countSegments(ctx context.Context, m *rapportv1.CountSegmentsRequest, stream *connect.ServerStream[rapportv1.CountSegmentsResponse]) error {
	l := s.acquire()
	if l == nil {
		return errNoCatalog
	}
	// The rules are Go values: they outlive the catalogue's service.
	compiled := l.compiled
	s.release(l)
	segments, err := segmentsOf(compiled, m.GetSegments())
	if err != nil {
		return err
	}
	sample := 1.0
	if m.Sample != nil {
		sample = m.GetSample()
	}
	last, err := s.walkSegments(ctx, compiled, segments, sample, stream)
	if err != nil {
		return err
	}
	return stream.Send(last) // now that the next count may begin
}

// walkSegments counts, and returns the last response.
func (s registers) walkSegments(ctx context.Context, compiled *catalog.Compiled, segments []catalog.Segment, sample float64, stream *connect.ServerStream[rapportv1.CountSegmentsResponse]) (*rapportv1.CountSegmentsResponse, error) {
	if !s.counting.TryLock() {
		return nil, errCountRunning
	}
	defer s.counting.Unlock()
	started := time.Now()
	counts := &rapportv1.SegmentCounts{CatalogVersion: compiled.Version, ReadAt: timestamppb.New(started.Truncate(time.Microsecond)), Sample: sample}
	for i := range segments {
		counts.Segments = append(counts.Segments, &rapportv1.SegmentCount{Segment: segments[i].ID})
	}
	evaluation, tables := compiled.Rules.NewEvaluation(), s.tables.Current()
	var last time.Time // the first is sent at once
	var sent error
	var rows int64
	walked, err := s.store.Walk(ctx, profilestore.WalkOptions{
		Sample: sample,
		Turn: func(ctx context.Context) (func(), error) {
			if s.stopping.Load() {
				return nil, errStopping
			}
			if err := s.admission.enterBackground(ctx); err != nil {
				return nil, err
			}
			return s.admission.leaveBackground, nil
		},
		Progress: func(done, total int64) {
			rows = total
			if now := time.Now(); now.Sub(last) >= progressEvery && sent == nil {
				last, sent = now, stream.Send(&rapportv1.CountSegmentsResponse{Done: done, Total: total})
			}
		},
	}, func(v *profilestore.View) error {
		counts.Customers++
		evaluation.Reset(rules.Inputs{Profile: v.At(started.UnixMicro()), Tables: tables, Now: started.UnixMicro()})
		for i := range segments {
			count(counts.Segments[i], evaluation.Evaluate(segments[i].When))
		}
		return sent
	})
	if err != nil {
		return nil, err
	}
	for _, c := range counts.Segments {
		if counts.Customers > 0 {
			c.Share = float64(c.Heads) / float64(counts.Customers)
		}
	}
	for _, w := range walked {
		counts.Snapshots = append(counts.Snapshots, &rapportv1.Snapshot{
			Source: w.Source, Generation: w.Generation, Rows: w.Rows, AsOf: timestamppb.New(time.UnixMicro(w.AsOf)),
		})
	}
	s.log.Info("segments counted", "segments", len(segments), "customers", counts.Customers, "sample", sample, "took", time.Since(started).Round(time.Millisecond))
	return &rapportv1.CountSegmentsResponse{Done: rows, Total: rows, Counts: counts}, nil
}

// count adds an outcome.
func count(c *rapportv1.SegmentCount, outcome rules.Truth) {
	switch outcome {
	case rules.True:
		c.Heads++
	case rules.Unknown:
		c.Unknown++
	case rules.Failed:
		c.Failed++
	case rules.False:
	}
}

// segmentsOf returns the segments that are named, all if none is.
func segmentsOf(c *catalog.Compiled, names []string) ([]catalog.Segment, error) {
	if len(names) == 0 {
		return c.Segments, nil
	}
	segments := make([]catalog.Segment, len(names))
	for i, name := range names {
		at, ok := c.Segment(name)
		if !ok {
			return nil, &argumentError{fmt.Sprintf("segments[%d]", i), fmt.Sprintf("catalogue version %d has no segment %.80q", c.Version, name)}
		}
		segments[i] = c.Segments[at]
	}
	return segments, nil
}
