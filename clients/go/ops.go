package gearshift

import (
	"context"
	"errors"
	"io"
	"iter"

	"google.golang.org/protobuf/proto"

	"github.com/gearshift-ai/gearshift/clients/go/gearshiftv1"
)

// Ops is what Client.Ops gives: one method for each of OpsService. It needs a key with the role ops where keys are
// configured. A request may be nil where nothing has to be said.
type Ops struct {
	service gearshiftv1.OpsServiceClient
}

// GetStatus says what is running.
func (o *Ops) GetStatus(ctx context.Context) (*gearshiftv1.GetStatusResponse, error) {
	return o.service.GetStatus(ctx, &gearshiftv1.GetStatusRequest{})
}

// ListChains gives the chains and their stages, by name.
func (o *Ops) ListChains(ctx context.Context) ([]*gearshiftv1.ChainStatus, error) {
	response, err := o.service.ListChains(ctx, &gearshiftv1.ListChainsRequest{})
	return response.GetChains(), err
}

// ListStages gives the health of each account and model; of one provider when it is named.
func (o *Ops) ListStages(ctx context.Context, provider string) ([]*gearshiftv1.StageStatus, error) {
	response, err := o.service.ListStages(ctx, &gearshiftv1.ListStagesRequest{Provider: provider})
	return response.GetStages(), err
}

// ListCacheEntries gives what the caches hold, one page (1 to 1000 entries; 0 is 100), and the sums of each cache.
func (o *Ops) ListCacheEntries(
	ctx context.Context, request *gearshiftv1.ListCacheEntriesRequest,
) (*gearshiftv1.ListCacheEntriesResponse, error) {
	return o.service.ListCacheEntries(ctx, orNew(request))
}

// PurgeCache drops the entries that fit all that the filter says; it gives how many.
func (o *Ops) PurgeCache(ctx context.Context, filter *gearshiftv1.CacheFilter) (uint64, error) {
	response, err := o.service.PurgeCache(ctx, &gearshiftv1.PurgeCacheRequest{Filter: filter})
	return response.GetPurged(), err
}

// PurgeAllCaches drops everything; it gives how many entries.
func (o *Ops) PurgeAllCaches(ctx context.Context) (uint64, error) {
	response, err := o.service.PurgeCache(ctx, &gearshiftv1.PurgeCacheRequest{All: true})
	return response.GetPurged(), err
}

// GetCostReport sums the ledger, by task when nothing is said.
func (o *Ops) GetCostReport(
	ctx context.Context, request *gearshiftv1.GetCostReportRequest,
) (*gearshiftv1.GetCostReportResponse, error) {
	return o.service.GetCostReport(ctx, orNew(request))
}

// ListAttempts finds recorded attempts, the latest first, one page (1 to 1000; 0 is 100).
func (o *Ops) ListAttempts(
	ctx context.Context, request *gearshiftv1.ListAttemptsRequest,
) (*gearshiftv1.ListAttemptsResponse, error) {
	return o.service.ListAttempts(ctx, orNew(request))
}

// Attempts ranges over the recorded attempts of all pages, the latest first. It ends with one error when a page fails.
func (o *Ops) Attempts(
	ctx context.Context, request *gearshiftv1.ListAttemptsRequest,
) iter.Seq2[*gearshiftv1.RecordedAttempt, error] {
	return func(yield func(*gearshiftv1.RecordedAttempt, error) bool) {
		page := proto.CloneOf(orNew(request))
		for {
			response, err := o.service.ListAttempts(ctx, page)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, attempt := range response.GetAttempts() {
				if !yield(attempt, nil) {
					return
				}
			}
			if page.PageToken = response.GetNextPageToken(); page.PageToken == "" {
				return
			}
		}
	}
}

// GetTraffic gives calls over time, the last hour by minutes when nothing is said.
func (o *Ops) GetTraffic(
	ctx context.Context, request *gearshiftv1.GetTrafficRequest,
) (*gearshiftv1.GetTrafficResponse, error) {
	return o.service.GetTraffic(ctx, orNew(request))
}

// Reload has the configuration read again; an invalid one changes nothing and fails.
func (o *Ops) Reload(ctx context.Context) (*gearshiftv1.ReloadResponse, error) {
	return o.service.Reload(ctx, &gearshiftv1.ReloadRequest{})
}

// WatchAttempts gives attempts as they end, until it is closed; only the context's own deadline ends it.
func (o *Ops) WatchAttempts(
	ctx context.Context, request *gearshiftv1.WatchAttemptsRequest,
) (*AttemptWatch, error) {
	ctx, cancel := context.WithCancel(ctx)
	messages, err := o.service.WatchAttempts(ctx, orNew(request))
	if err != nil {
		cancel()
		return nil, err
	}
	return &AttemptWatch{receive: messages.Recv, cancel: cancel}, nil
}

// AttemptWatch is attempts as they end. Close it, or cancel its context.
type AttemptWatch struct {
	receive func() (*gearshiftv1.WatchAttemptsResponse, error)
	cancel  context.CancelFunc
}

// Recv waits for the next attempt to end. [io.EOF] is the end; any other error is an [*Error], CANCELLED after Close.
func (w *AttemptWatch) Recv() (*gearshiftv1.WatchAttemptsResponse, error) {
	response, err := w.receive()
	if err != nil {
		w.cancel()
	}
	return response, err
}

// All ranges over attempts as they end. Leaving the loop closes the watch; an error is the last that it gives.
func (w *AttemptWatch) All() iter.Seq2[*gearshiftv1.WatchAttemptsResponse, error] {
	return func(yield func(*gearshiftv1.WatchAttemptsResponse, error) bool) {
		defer w.Close()
		for {
			response, err := w.Recv()
			if errors.Is(err, io.EOF) || !yield(response, err) || err != nil {
				return
			}
		}
	}
}

// Close ends the watch; twice is fine. It always returns nil.
func (w *AttemptWatch) Close() error {
	w.cancel()
	return nil
}

func orNew[T any](request *T) *T {
	if request == nil {
		return new(T)
	}
	return request
}
