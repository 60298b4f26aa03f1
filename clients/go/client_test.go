package gearshift_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	gearshift "github.com/gearshift-ai/gearshift/clients/go"
	"github.com/gearshift-ai/gearshift/clients/go/gearshiftv1"
)

var greet = gearshift.NewCall("greet", "hello")

// longPrompt is one that is worth sending once.
var longPrompt = strings.Repeat("You greet people. ", 40)

func failedWith(t *testing.T, err error, code codes.Code) *gearshift.Error {
	t.Helper()
	var failed *gearshift.Error
	if !errors.As(err, &failed) || failed.Code != code {
		t.Fatalf("it gave %v, not %s", err, code)
	}
	return failed
}

func TestACallWithoutADeadlineGetsTheDefaultOneAndSaysItInMilliseconds(t *testing.T) {
	fake := &fakeRouter{}
	serveFake(t, fake)
	client := clientOf(t, fake.address, gearshift.WithDefaultTimeout(40*time.Second), gearshift.WithKey("gs_secret"))
	if _, err := client.Route(context.Background(), greet); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), "x-team", "docs"), 5*time.Second)
	defer cancel()
	if _, err := client.Route(ctx, greet); err != nil {
		t.Fatal(err)
	}
	_, sent := fake.calls()
	for at, bound := range []int{40_000, 5_000} {
		told, err := strconv.Atoi(sent[at].Get("gearshift-timeout-ms")[0])
		if err != nil || told > bound || told < bound-3_000 {
			t.Errorf("it said %d ms of %d", told, bound)
		}
	}
	if got := sent[1].Get("x-team"); len(got) != 1 || sent[0].Get("authorization")[0] != "Bearer gs_secret" {
		t.Error(sent)
	}
}

func TestADeadlineThatHasPassedSendsNothing(t *testing.T) {
	fake := &fakeRouter{}
	serveFake(t, fake)
	client := clientOf(t, fake.address)
	late, cancelLate := context.WithTimeout(context.Background(), -time.Second)
	defer cancelLate()
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	for ctx, code := range map[context.Context]codes.Code{late: codes.DeadlineExceeded, gone: codes.Canceled} {
		_, err := client.Route(ctx, greet)
		failedWith(t, err, code)
		if !errors.Is(err, ctx.Err()) {
			t.Errorf("%v is not %v", err, ctx.Err())
		}
		_, err = client.StreamRoute(ctx, greet)
		failedWith(t, err, code)
		_, err = client.Ops().WatchAttempts(ctx, nil)
		failedWith(t, err, code)
	}
	if asked, _ := fake.calls(); len(asked) != 0 {
		t.Errorf("%d calls were sent", len(asked))
	}
}

func TestAWatchHasNoDeadlineOfItsOwn(t *testing.T) {
	fake := &fakeRouter{}
	fake.watch = func(stream grpc.ServerStreamingServer[gearshiftv1.WatchAttemptsResponse]) error {
		if _, bounded := stream.Context().Deadline(); bounded {
			return status.Error(codes.Internal, "it has a deadline")
		}
		_ = stream.Send(&gearshiftv1.WatchAttemptsResponse{RequestId: "one"})
		<-stream.Context().Done()
		return nil
	}
	serveFake(t, fake)
	client := clientOf(t, fake.address, gearshift.WithDefaultTimeout(time.Millisecond))
	watch, err := client.Ops().WatchAttempts(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for attempt, err := range watch.All() {
		if err != nil || attempt.GetRequestId() != "one" {
			t.Fatal(attempt, err)
		}
		break
	}
	_, err = watch.Recv()
	failedWith(t, err, codes.Canceled)
}

func TestAPromptIsSentOnceThenByItsKeyAndAgainWhenItWasForgotten(t *testing.T) {
	var knows atomic.Bool
	forgotten, _ := status.New(codes.FailedPrecondition, "send it again").WithDetails(
		&errdetails.ErrorInfo{Reason: "PROMPT_NOT_CACHED", Domain: "gearshift"})
	fake := &fakeRouter{}
	answer := func(call *gearshiftv1.Call) error {
		if call.GetSystem().GetKey() != "" && !knows.Load() {
			return forgotten.Err()
		}
		knows.Store(true)
		return nil
	}
	fake.route = func(_ context.Context, call *gearshiftv1.Call) (*gearshiftv1.Answer, error) {
		completion := &gearshiftv1.Completion{PromptKey: "k-1"}
		return &gearshiftv1.Answer{Text: "hi", Completion: completion}, answer(call)
	}
	fake.stream = func(
		request *gearshiftv1.StreamRouteRequest, stream grpc.ServerStreamingServer[gearshiftv1.StreamRouteResponse],
	) error {
		if err := answer(request.GetCall()); err != nil {
			return err
		}
		return stream.Send(message(started(), delta(1, "hi"), completed("hi", "k-1")))
	}
	serveFake(t, fake)
	client := clientOf(t, fake.address, gearshift.WithRetries(gearshift.RetryPolicy{}))
	call := gearshift.NewCall("greet", "hello", gearshift.System(longPrompt), gearshift.Variables(map[string]string{"a": "b"}))
	untouched := proto.CloneOf(call)
	route := func() {
		t.Helper()
		if _, err := client.Route(within(t), call); err != nil {
			t.Fatal(err)
		}
	}
	stream := func() {
		t.Helper()
		opened, err := client.StreamRoute(within(t), call)
		if err != nil {
			t.Fatal(err)
		}
		if answer, err := opened.Fold(nil); err != nil || answer.GetText() != "hi" {
			t.Fatal(answer, err)
		}
	}
	for at, one := range []struct {
		forget bool
		make   func()
		sent   string // T is text, k is key
	}{{false, route, "T"}, {false, route, "k"}, {true, route, "kT"}, {false, stream, "k"}, {true, stream, "kT"}, {false, stream, "k"}} {
		knows.Store(!one.forget)
		before, _ := fake.calls()
		one.make()
		after, _ := fake.calls()
		sent, ids := "", map[string]bool{}
		for _, asked := range after[len(before):] {
			if asked.GetSystem().GetKey() == "k-1" {
				sent += "k"
			} else if asked.GetSystem().GetText() == longPrompt {
				sent += "T"
			}
			if asked.GetSystem().GetVariables()["a"] != "b" {
				t.Error("the variables were lost")
			}
			ids[asked.GetRequestId()] = asked.GetRequestId() != ""
		}
		if sent != one.sent || len(ids) != len(sent) || ids[""] {
			t.Errorf("%d: it sent %q under the ids %v, not %q", at, sent, ids, one.sent)
		}
	}
	if !proto.Equal(call, untouched) {
		t.Error("the caller's call was changed")
	}
}

func TestARefusalOfAPromptThatWasSentWholeIsTold(t *testing.T) {
	fake := &fakeRouter{}
	fake.route = func(context.Context, *gearshiftv1.Call) (*gearshiftv1.Answer, error) {
		made, _ := status.New(codes.FailedPrecondition, "").WithDetails(&errdetails.ErrorInfo{Reason: "PROMPT_NOT_CACHED"})
		return nil, made.Err()
	}
	serveFake(t, fake)
	_, err := clientOf(t, fake.address).Route(within(t), gearshift.NewCall("greet", "hello", gearshift.SystemKey("gone")))
	if asked, _ := fake.calls(); !errors.Is(err, gearshift.ErrPromptNotCached) || len(asked) != 1 {
		t.Fatal(err, asked)
	}
}

func TestRetriesSendOneRequestIdAndObeyTheServersWord(t *testing.T) {
	var served atomic.Int32
	fake := &fakeRouter{}
	fake.route = func(ctx context.Context, call *gearshiftv1.Call) (*gearshiftv1.Answer, error) {
		if call.GetPrompt() == "never" {
			_ = grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", "-1"))
			return nil, status.Error(codes.Unavailable, "a storm")
		}
		if served.Add(1) < 3 {
			return nil, status.Error(codes.Unavailable, "not yet")
		}
		return &gearshiftv1.Answer{Text: "hi"}, nil
	}
	serveFake(t, fake)
	policy := gearshift.RetryPolicy{Attempts: 3, InitialBackoff: time.Millisecond, MaxBackoff: 2 * time.Millisecond}
	client := clientOf(t, fake.address, gearshift.WithRetries(policy), gearshift.WithRoundRobin())
	if answer, err := client.Route(within(t), greet); err != nil || answer.GetText() != "hi" {
		t.Fatal(answer, err)
	}
	asked, _ := fake.calls()
	if len(asked) != 3 || asked[0].GetRequestId() == "" || asked[0].GetRequestId() != asked[2].GetRequestId() {
		t.Fatal(asked)
	}
	_, err := client.Route(within(t), gearshift.NewCall("greet", "never"))
	failedWith(t, err, codes.Unavailable)
	if asked, _ = fake.calls(); len(asked) != 4 {
		t.Fatalf("it was asked %d times more", len(asked)-3)
	}
}

func TestRoundRobinAsksEveryAddress(t *testing.T) {
	first, second := &fakeRouter{}, &fakeRouter{}
	serveFake(t, first)
	serveFake(t, second)
	names := manual.NewBuilderWithScheme("two")
	names.InitialState(resolver.State{Addresses: []resolver.Address{{Addr: first.address}, {Addr: second.address}}})
	client := clientOf(t, "two:///both", gearshift.WithRoundRobin(), gearshift.WithDialOptions(grpc.WithResolvers(names)))
	until(t, "both were asked", func() bool {
		if _, err := client.Route(within(t), greet); err != nil {
			t.Fatal(err)
		}
		one, _ := first.calls()
		two, _ := second.calls()
		return len(one) > 1 && len(two) > 1
	})
}

func TestAChannelOfTheCallersOwnStaysOpen(t *testing.T) {
	fake := &fakeRouter{}
	serveFake(t, fake)
	channel, err := grpc.NewClient(fake.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer channel.Close()
	for range 2 {
		client, err := gearshift.FromConn(channel, gearshift.WithKey("gs_k"), gearshift.WithDefaultTimeout(patience))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Route(context.Background(), greet); err != nil {
			t.Fatal(err)
		}
		if err := client.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, sent := fake.calls(); sent[1].Get("authorization")[0] != "Bearer gs_k" || len(sent[1].Get("gearshift-timeout-ms")) != 1 {
		t.Error(sent)
	}
}

func TestAnUnreadStreamStopsItsServerEarly(t *testing.T) {
	const chunk = 10_000
	var sent atomic.Int64
	fake := &fakeRouter{}
	fake.stream = func(
		_ *gearshiftv1.StreamRouteRequest, stream grpc.ServerStreamingServer[gearshiftv1.StreamRouteResponse],
	) error {
		if err := stream.Send(message(started())); err != nil {
			return err
		}
		for number := uint32(1); ; number++ {
			if err := stream.Send(message(delta(number, strings.Repeat("x", chunk)))); err != nil {
				return err
			}
			sent.Add(chunk)
		}
	}
	serveFake(t, fake)
	client := clientOf(t, fake.address)
	stream, err := client.StreamRoute(within(t), greet)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	read := int64(0)
	for read < 40_000_000 { // quickly: this is what makes grpc ask for more at once, where it may
		event, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		read += int64(len(event.GetDelta().GetParts())) * chunk
	}
	before := int64(-1)
	until(t, "the server stopped", func() bool {
		now := sent.Load()
		stopped := now == before
		before = now
		time.Sleep(50 * time.Millisecond)
		return stopped
	})
	t.Logf("%d bytes went into a stream that nobody read any more", before-read)
	if before-read > 512<<10 {
		t.Errorf("%d bytes went into a stream that nobody read any more", before-read)
	}
	if _, err := client.Route(within(t), greet); err != nil {
		t.Errorf("it holds other calls back: %v", err)
	}
}

func TestAStreamThatIsClosedNeverLooksWhole(t *testing.T) {
	left := make(chan struct{})
	fake := &fakeRouter{}
	fake.stream = func(
		_ *gearshiftv1.StreamRouteRequest, stream grpc.ServerStreamingServer[gearshiftv1.StreamRouteResponse],
	) error {
		_ = stream.Send(message(started(), delta(1, "hi"), delta(2, " there")))
		<-stream.Context().Done()
		close(left)
		return nil
	}
	serveFake(t, fake)
	stream, err := clientOf(t, fake.address).StreamRoute(context.Background(), greet)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	_, _ = stream.Close(), stream.Close()
	for range 2 {
		_, err = stream.Recv()
		failedWith(t, err, codes.Canceled)
	}
	select {
	case <-left:
	case <-time.After(patience):
		t.Fatal("the server never knew")
	}
}

func TestTheEndIsToldAgain(t *testing.T) {
	fake := &fakeRouter{}
	fake.stream = func(
		_ *gearshiftv1.StreamRouteRequest, stream grpc.ServerStreamingServer[gearshiftv1.StreamRouteResponse],
	) error {
		return stream.Send(message(started(), completed("", "")))
	}
	serveFake(t, fake)
	stream, err := clientOf(t, fake.address).StreamRoute(within(t), greet)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if _, err := stream.Recv(); err != io.EOF {
			t.Fatal(err)
		}
	}
}

func TestStreamsThatEndInAnyWayLeaveNoGoroutine(t *testing.T) {
	fake := &fakeRouter{}
	fake.stream = func(
		request *gearshiftv1.StreamRouteRequest, stream grpc.ServerStreamingServer[gearshiftv1.StreamRouteResponse],
	) error {
		if err := stream.Send(message(started(), delta(1, "hi"))); err != nil || request.GetCall().GetPrompt() == "stay" {
			<-stream.Context().Done()
			return err
		}
		return stream.Send(message(completed("hi", "")))
	}
	serveFake(t, fake)
	client := clientOf(t, fake.address)
	open := func(prompt string) (*gearshift.Stream, context.CancelFunc) {
		ctx, cancel := context.WithCancel(context.Background())
		stream, err := client.StreamRoute(ctx, gearshift.NewCall("greet", prompt))
		if err != nil {
			t.Fatal(err)
		}
		return stream, cancel
	}
	ways := map[string]func(){
		"read to its end": func() {
			stream, _ := open("end") //nolint // the end lets go of it
			for {
				if _, err := stream.Recv(); err != nil {
					return
				}
			}
		},
		"closed": func() { stream, _ := open("stay"); _ = stream.Close() },
		"closed in a range": func() {
			stream, _ := open("stay")
			for range stream.Events() {
				break
			}
		},
		"cancelled":         func() { stream, cancel := open("stay"); cancel(); _, _ = stream.Fold(nil) },
		"cancelled, unread": func() { _, cancel := open("stay"); cancel() },
	}
	for name, way := range ways {
		way() // the connection is there
		t.Run(name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			for range 50 {
				way()
			}
			until(t, "its goroutines ended", func() bool { return runtime.NumGoroutine() <= before+3 })
		})
	}
}

func TestGoroutinesMayShareAClient(t *testing.T) {
	fake := &fakeRouter{}
	fake.route = func(_ context.Context, call *gearshiftv1.Call) (*gearshiftv1.Answer, error) {
		return &gearshiftv1.Answer{Text: call.GetPrompt(), Completion: &gearshiftv1.Completion{PromptKey: "k"}}, nil
	}
	serveFake(t, fake)
	client := clientOf(t, fake.address)
	ctx := within(t)
	var group sync.WaitGroup
	for number := range 16 {
		group.Go(func() {
			for range 20 {
				prompt := fmt.Sprint(number)
				answer, err := client.Route(ctx, gearshift.NewCall("greet", prompt, gearshift.System(longPrompt)))
				if err != nil || answer.GetText() != prompt {
					t.Error(answer, err)
				}
			}
		})
	}
	group.Wait()
}

func TestWhatCannotBeMeantIsRefused(t *testing.T) {
	for name, options := range map[string][]gearshift.Option{
		"key in the clear":    {gearshift.WithKey("gs_k")},
		"key with a newline":  {gearshift.WithTLS(nil), gearshift.WithKey("gs\nk")},
		"no roots":            {gearshift.WithCA("nowhere.pem")},
		"no certificate":      {gearshift.WithMTLS("", "nowhere.pem", "nowhere.key")},
		"too many attempts":   {gearshift.WithRetries(gearshift.RetryPolicy{Attempts: 6})},
		"backoff upside down": {gearshift.WithRetries(gearshift.RetryPolicy{InitialBackoff: time.Minute})},
		"no time":             {gearshift.WithDefaultTimeout(0)},
		"asks too often":      {gearshift.WithKeepalive(time.Second, time.Second)},
		"no JSON":             {gearshift.WithServiceConfig("{")},
		"no service config":   {gearshift.WithServiceConfig(`{"methodConfig": 1}`)},
	} {
		if client, err := gearshift.NewClient("gearshift.example.com:443", options...); err == nil {
			_ = client.Close()
			t.Errorf("%s was taken", name)
		}
	}
	if _, err := gearshift.NewClient(""); err == nil {
		t.Error("an empty target was taken")
	}
	for _, target := range []string{
		"127.0.0.1.example.com:1", "localhost.example.com:1", "dns://127.0.0.1/example.com:1", "[2001:db8::1]:1", "example.com",
	} {
		if client, err := gearshift.NewClient(target, gearshift.WithKey("gs_k")); err == nil {
			_ = client.Close()
			t.Errorf("a key would go to %s in the clear", target)
		}
	}
	for _, target := range []string{"127.0.0.1:1", "localhost:1", "[::1]:1", "dns:///127.0.0.1:1", "unix:/run/g.sock"} {
		clientOf(t, target, gearshift.WithKey("gs_k"), gearshift.WithKeepalive(time.Minute, time.Second))
	}
	clientOf(t, "gearshift.example.com:443", gearshift.WithPlaintextKey("gs_k"))
	_, err := clientOf(t, "127.0.0.1:1").Execute(within(t), "embed", "a text")
	failedWith(t, err, codes.InvalidArgument)
}

func TestAKeyIsNeverPrinted(t *testing.T) {
	client := clientOf(t, "127.0.0.1:9", gearshift.WithKey("gs_secret"))
	_, err := client.Route(within(t), greet)
	var printed bytes.Buffer
	fmt.Fprint(&printed, err)
	if failedWith(t, err, codes.Unavailable); strings.Contains(printed.String(), "secret") {
		t.Error(printed.String())
	}
}

func TestAClosedClientSaysSo(t *testing.T) {
	client := clientOf(t, "127.0.0.1:9")
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := client.Route(within(t), greet)
	failedWith(t, err, codes.Canceled)
}

func TestErrorsAreFoundByReasonAndByTheContextsErrors(t *testing.T) {
	err := error(&gearshift.Error{Code: codes.Aborted, Reason: gearshift.ErrNotAccepted, Message: "m"})
	wrapped := fmt.Errorf("around: %w", err)
	if !errors.Is(wrapped, gearshift.ErrNotAccepted) || errors.Is(wrapped, gearshift.ErrRateLimited) || errors.Is(wrapped, context.Canceled) {
		t.Error(wrapped)
	}
	if status.Code(err) != codes.Aborted || err.Error() != "Aborted (NOT_ACCEPTED): m" {
		t.Error(status.Code(err), err)
	}
	if errors.Is(&gearshift.Error{Code: codes.Internal}, gearshift.ErrReason("")) {
		t.Error("no reason is no match")
	}
}

func TestEveryMethodOfTheContractHasOneHere(t *testing.T) {
	for owner, service := range map[any]grpc.ServiceDesc{
		&gearshift.Client{}: gearshiftv1.RouterService_ServiceDesc, &gearshift.Ops{}: gearshiftv1.OpsService_ServiceDesc,
	} {
		var names []string
		for _, method := range service.Methods {
			names = append(names, method.MethodName)
		}
		for _, stream := range service.Streams {
			names = append(names, stream.StreamName)
		}
		for _, name := range names {
			method, has := reflect.TypeOf(owner).MethodByName(name)
			if !has || method.Type.In(1) != reflect.TypeFor[context.Context]() {
				t.Errorf("%T has no %s that takes a context first", owner, name)
			}
		}
		if len(names) < 7 {
			t.Errorf("%s has only %v", service.ServiceName, names)
		}
	}
}

func TestEveryFieldOfACallHasAnOption(t *testing.T) {
	call := gearshift.NewCall("t", "p",
		gearshift.TaskID("id"), gearshift.Type(gearshift.Reason), gearshift.AtComplexity(gearshift.ComplexityHigh),
		gearshift.AtSensitivity(gearshift.SensitivityRestricted), gearshift.System("s"), gearshift.Static(),
		gearshift.Variables(map[string]string{"a": "b"}), gearshift.Messages(gearshift.Conversation("q", "a")...),
		gearshift.Tools(gearshift.NewTool("n", "d", "{}")), gearshift.ToolChoice("n"), gearshift.Schema("{}"),
		gearshift.SchemaName("x"), gearshift.SchemaExample("t", "{}"), gearshift.Temperature(0), gearshift.TopP(1),
		gearshift.MaxTokens(1), gearshift.Stop("."), gearshift.Seed(1), gearshift.ReasoningEffort(gearshift.EffortLow),
		gearshift.RequestID("r"), gearshift.MaxAttempts(1), gearshift.MaxHops(0), gearshift.MaxCostUSD("0.1"),
		gearshift.MinConfidence(0.9), gearshift.EscalationThreshold(0.8), gearshift.RequireValid(),
		gearshift.RequireConfidence(), gearshift.AllowedModels("m"), gearshift.AllowedProviders("p"),
		gearshift.NoSecondLook(), gearshift.NoCache(), gearshift.NoEscalation(),
	)
	for name, given := range map[string]proto.Message{
		"call": call, "task": call.GetTask(), "parameters": call.GetParameters(), "policy": call.GetPolicy(),
		"json": call.GetOutput().GetJson(),
	} {
		fields := given.ProtoReflect().Descriptor().Fields()
		for at := range fields.Len() {
			if !given.ProtoReflect().Has(fields.Get(at)) {
				t.Errorf("%s.%s has no option", name, fields.Get(at).Name())
			}
		}
	}
	labelled := gearshift.NewCall("t", "p", gearshift.Schema(""), gearshift.Labels("a", "b"), gearshift.LabelExample("x", "a"))
	if labels := labelled.GetOutput().GetLabels(); len(labels.GetLabels()) != 2 || len(labels.GetExamples()) != 1 {
		t.Error(labelled)
	}
}
