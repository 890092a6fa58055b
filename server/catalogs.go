package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	rapportv1 "rapport/server/api/rapport/v1"
	"rapport/server/catalog"
)

// catalogs answers the CatalogService.
type catalogs struct{ *Server }

// serveCurrentCatalog puts the current version into service when the server
// opens.
func (s *Server) serveCurrentCatalog(ctx context.Context) error {
	version, err := s.catalogs.Current()
	if errors.Is(err, catalog.ErrVersionNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	next, err := s.compile(ctx, version)
	if err != nil {
		err = fmt.Errorf("version %d is not in service: %w", version.Number, err)
		s.catalogError.Store(&err)
		s.log.Error("the current catalogue can't be used", "error", err)
		return nil //nolint:nilerr // the server opens without it; it is not ready, and says why
	}
	s.swap(next)
	s.catalogError.Store(nil)
	return nil
}

// compile compiles a published version and binds its strategies.
func (s *Server) compile(ctx context.Context, version *catalog.Version) (*live, error) {
	compiled, _, problems := catalog.Compile(version.Files, s.store.Schema(), strategyFit{s.strategies, true})
	if len(problems) > 0 {
		errs := make([]error, len(problems))
		for i, p := range problems {
			errs[i] = errors.New(p.String())
		}
		return nil, errors.Join(errs...)
	}
	compiled.Version = version.Number
	return s.newLive(ctx, version, compiled, nil)
}

// ValidateCatalog reports every mistake in files.
func (s catalogs) ValidateCatalog(ctx context.Context, req *connect.Request[rapportv1.ValidateCatalogRequest]) (*connect.Response[rapportv1.ValidateCatalogResponse], error) {
	files := catalogFiles(req.Msg.GetFiles())
	_, _, problems := catalog.Compile(files, s.store.Schema(), strategyFit{s.strategies, false})
	res := &rapportv1.ValidateCatalogResponse{Problems: problemMessages(problems)}
	if len(problems) > 0 {
		return connect.NewResponse(res), nil
	}
	sample := s.sample(ctx, int(req.Msg.GetCustomers()))
	res.Warnings = s.lint(files, sample)
	if sample != nil {
		res.Customers = int32(sample.seen)
		if sample.err != nil {
			return nil, sample.err
		}
	}
	return connect.NewResponse(res), nil
}

func problemMessages(problems []catalog.Problem) []*rapportv1.CatalogProblem {
	var out []*rapportv1.CatalogProblem
	for _, p := range problems {
		out = append(out, &rapportv1.CatalogProblem{File: p.File, Line: int32(p.Line), Column: int32(p.Column), Path: p.Path, Message: p.Message})
	}
	return out
}

// lint returns the warnings about files without mistakes.
func (s catalogs) lint(files []catalog.File, sample *customerSample) []*rapportv1.CatalogWarning {
	o := catalog.LintOptions{Now: time.Now()}
	if sample != nil {
		o.Customers = sample.all
	}
	warnings, _ := catalog.Lint(files, s.store.Schema(), o)
	var out []*rapportv1.CatalogWarning
	for _, w := range warnings {
		out = append(out, &rapportv1.CatalogWarning{
			Name: w.Name, File: w.File, Line: int32(w.Line), Column: int32(w.Column), Path: w.Path, Message: w.Message,
		})
	}
	return out
}

// PublishCatalog makes files the next version and puts it into service. The
// order is: compile and bind completely, write the version, swap. A crash in
// between leaves the old version or the new one.
func (s catalogs) PublishCatalog(ctx context.Context, req *connect.Request[rapportv1.PublishCatalogRequest]) (*connect.Response[rapportv1.PublishCatalogResponse], error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	files := catalogFiles(req.Msg.GetFiles())
	compiled, _, problems := catalog.Compile(files, s.store.Schema(), strategyFit{s.strategies, false})
	if len(problems) > 0 {
		return nil, catalogError(problems)
	}
	next, err := s.newLive(ctx, nil, compiled, nil)
	if err != nil {
		return nil, err
	}
	var previous int64
	if current, err := s.catalogs.Current(); err == nil {
		previous = current.Number
	}
	version, err := s.keepCatalog(req, files, previous, catalog.Counts{Offers: len(compiled.Offers), Scenarios: len(compiled.Scenarios)})
	if err != nil {
		return nil, errors.Join(err, next.close(ctx))
	}
	compiled.Version, next.version = version.Number, version
	s.swap(next)
	s.catalogError.Store(nil)
	s.log.Info("catalogue published", "version", version.Number, "before", previous, "by", req.Peer().Addr)
	return connect.NewResponse(&rapportv1.PublishCatalogResponse{
		Version: versionMessage(version, version.Number), PreviousVersion: previous, Warnings: s.lint(files, nil),
	}), nil
}

// RollbackCatalog puts an earlier version to use again.
func (s catalogs) RollbackCatalog(ctx context.Context, req *connect.Request[rapportv1.RollbackCatalogRequest]) (*connect.Response[rapportv1.RollbackCatalogResponse], error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	current, err := s.catalogs.Current()
	if err != nil {
		return nil, err
	}
	version, err := s.earlier(req.Msg.GetVersion(), current.Number)
	if err != nil {
		return nil, err
	}
	res := &rapportv1.RollbackCatalogResponse{Version: versionMessage(version, version.Number), PreviousVersion: current.Number}
	if version.Number == current.Number {
		return connect.NewResponse(res), nil
	}
	compiled, _, problems := catalog.Compile(version.Files, s.store.Schema(), strategyFit{s.strategies, false})
	if len(problems) > 0 {
		return nil, catalogError(problems)
	}
	compiled.Version = version.Number
	next, err := s.newLive(ctx, version, compiled, nil)
	if err != nil {
		return nil, err
	}
	err = s.audit.change(req, "catalogue rollback", "catalogue", numberName("version", current.Number), numberName("version", version.Number), func() error {
		_, err := s.catalogs.Activate(version.Number)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, next.close(ctx))
	}
	s.swap(next)
	s.catalogError.Store(nil)
	s.log.Info("catalogue rolled back", "version", version.Number, "before", current.Number, "by", req.Peer().Addr)
	return connect.NewResponse(res), nil
}

// earlier returns a version, or the newest before the current one if number is 0.
func (s catalogs) earlier(number, current int64) (*catalog.Version, error) {
	if number != 0 {
		return s.catalogs.Get(number)
	}
	versions, err := s.catalogs.List()
	if err != nil {
		return nil, err
	}
	for _, v := range versions {
		if v.Number < current {
			return v, nil
		}
	}
	return nil, fmt.Errorf("%w: there is none before version %d", catalog.ErrVersionNotFound, current)
}

// keepCatalog records the publication and writes it.
func (s catalogs) keepCatalog(by asker, files []catalog.File, previous int64, counts catalog.Counts) (version *catalog.Version, err error) {
	number, err := s.catalogs.Plan(files)
	if err != nil {
		return nil, err
	}
	publish := func() error {
		version, err = s.catalogs.Publish(files, counts)
		return err
	}
	if number == previous { // these files are current
		err = publish()
		return version, err
	}
	err = s.audit.change(by, "catalogue publish", "catalogue", numberName("version", previous), numberName("version", number), publish)
	return version, err
}

// numberName is what the audit log calls a numbered version; nothing if there is
// none.
func numberName(what string, number int64) string {
	if number == 0 {
		return ""
	}
	return fmt.Sprintf("%s %d", what, number)
}

// GetCatalog returns a version.
func (s catalogs) GetCatalog(_ context.Context, req *connect.Request[rapportv1.GetCatalogRequest]) (*connect.Response[rapportv1.GetCatalogResponse], error) {
	current, err := s.catalogs.Current()
	if err != nil && (req.Msg.GetVersion() == 0 || !errors.Is(err, catalog.ErrVersionNotFound)) {
		return nil, err
	}
	version := current
	if n := req.Msg.GetVersion(); n != 0 {
		if version, err = s.catalogs.Get(n); err != nil {
			return nil, err
		}
	}
	parsed, err := catalog.Parse(version.Files)
	if err != nil {
		return nil, err
	}
	res := &rapportv1.GetCatalogResponse{Catalog: parsed, Version: versionMessage(version, numberOf(current))}
	for _, f := range version.Files {
		res.Files = append(res.Files, &rapportv1.CatalogFile{Name: f.Name, Content: string(f.Content)})
	}
	return connect.NewResponse(res), nil
}

// ListCatalogs lists the versions.
func (s catalogs) ListCatalogs(context.Context, *connect.Request[rapportv1.ListCatalogsRequest]) (*connect.Response[rapportv1.ListCatalogsResponse], error) {
	versions, err := s.catalogs.List()
	if err != nil {
		return nil, err
	}
	current, err := s.catalogs.Current()
	if err != nil && !errors.Is(err, catalog.ErrVersionNotFound) {
		return nil, err
	}
	res := &rapportv1.ListCatalogsResponse{}
	for _, v := range versions {
		res.Versions = append(res.Versions, versionMessage(v, numberOf(current)))
	}
	return connect.NewResponse(res), nil
}

func numberOf(v *catalog.Version) int64 {
	if v == nil {
		return 0
	}
	return v.Number
}

func catalogFiles(files []*rapportv1.CatalogFile) []catalog.File {
	out := make([]catalog.File, len(files))
	for i, f := range files {
		out[i] = catalog.File{Name: f.GetName(), Content: []byte(f.GetContent())}
	}
	return out
}

func versionMessage(v *catalog.Version, current int64) *rapportv1.CatalogVersion {
	return &rapportv1.CatalogVersion{
		Version: v.Number, PublishedAt: timestamppb.New(v.PublishedAt), ContentHash: v.ContentHash,
		Offers: int32(v.Counts.Offers), Scenarios: int32(v.Counts.Scenarios), Current: v.Number == current,
	}
}
