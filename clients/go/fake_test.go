package gearshift_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	gearshift "github.com/gearshift-ai/gearshift/clients/go"
	"github.com/gearshift-ai/gearshift/clients/go/gearshiftv1"
)

// patience is how long a test waits for anything before it fails.
const patience = 20 * time.Second

// fakeRouter is a server that does what a test says, and keeps what it was asked.
type fakeRouter struct {
	gearshiftv1.UnimplementedRouterServiceServer
	gearshiftv1.UnimplementedOpsServiceServer

	route  func(context.Context, *gearshiftv1.Call) (*gearshiftv1.Answer, error)
	stream func(*gearshiftv1.StreamRouteRequest, grpc.ServerStreamingServer[gearshiftv1.StreamRouteResponse]) error
	watch  func(grpc.ServerStreamingServer[gearshiftv1.WatchAttemptsResponse]) error

	mutex    sync.Mutex
	asked    []*gearshiftv1.Call
	metadata []metadata.MD
	address  string
}

func (f *fakeRouter) note(ctx context.Context, call *gearshiftv1.Call) {
	sent, _ := metadata.FromIncomingContext(ctx)
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.asked = append(f.asked, call)
	f.metadata = append(f.metadata, sent)
}

// calls gives what was asked so far.
func (f *fakeRouter) calls() ([]*gearshiftv1.Call, []metadata.MD) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return append([]*gearshiftv1.Call(nil), f.asked...), append([]metadata.MD(nil), f.metadata...)
}

func (f *fakeRouter) Route(
	ctx context.Context, request *gearshiftv1.RouteRequest,
) (*gearshiftv1.RouteResponse, error) {
	f.note(ctx, request.GetCall())
	if f.route == nil {
		return &gearshiftv1.RouteResponse{Answer: &gearshiftv1.Answer{Text: "hi"}}, nil
	}
	answer, err := f.route(ctx, request.GetCall())
	return &gearshiftv1.RouteResponse{Answer: answer}, err
}

func (f *fakeRouter) StreamRoute(
	request *gearshiftv1.StreamRouteRequest, stream grpc.ServerStreamingServer[gearshiftv1.StreamRouteResponse],
) error {
	f.note(stream.Context(), request.GetCall())
	return f.stream(request, stream)
}

func (f *fakeRouter) WatchAttempts(
	_ *gearshiftv1.WatchAttemptsRequest, stream grpc.ServerStreamingServer[gearshiftv1.WatchAttemptsResponse],
) error {
	f.note(stream.Context(), nil)
	return f.watch(stream)
}

// serveFake serves it until the test ends.
func serveFake(t *testing.T, fake *fakeRouter, options ...grpc.ServerOption) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	gearshiftv1.RegisterRouterServiceServer(server, fake)
	gearshiftv1.RegisterOpsServiceServer(server, fake)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	fake.address = listener.Addr().String()
}

// clientOf makes a client that is closed when the test ends.
func clientOf(t *testing.T, address string, options ...gearshift.Option) *gearshift.Client {
	t.Helper()
	client, err := gearshift.NewClient(address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// within gives a context that ends before a test runner's patience does.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func started() *gearshift.Event {
	return &gearshift.Event{Kind: &gearshiftv1.Event_Started{Started: &gearshiftv1.Started{RequestId: "r-1"}}}
}

func delta(number uint32, text string) *gearshift.Event {
	part := &gearshiftv1.DeltaPart{Content: &gearshiftv1.DeltaPart_Text{Text: text}}
	made := &gearshiftv1.Delta{Number: number, Parts: []*gearshiftv1.DeltaPart{part}}
	return &gearshift.Event{Kind: &gearshiftv1.Event_Delta{Delta: made}}
}

func completed(text, promptKey string) *gearshift.Event {
	completion := &gearshiftv1.Completion{
		Outcome: gearshift.OutcomeAccepted, Digest: gearshift.Digest(text), PromptKey: promptKey,
	}
	return &gearshift.Event{Kind: &gearshiftv1.Event_Completed{Completed: &gearshiftv1.Completed{Completion: completion}}}
}

func message(events ...*gearshift.Event) *gearshiftv1.StreamRouteResponse {
	return &gearshiftv1.StreamRouteResponse{Events: events}
}
