package gearshift_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	gearshift "github.com/gearshift-ai/gearshift/clients/go"
	"github.com/gearshift-ai/gearshift/clients/go/gearshiftv1"
)

const (
	cancelWithin = 100 * time.Millisecond
	tries        = 5
)

var (
	shifts  = gearshift.NewCall("help", "Tell me how a gearbox works.", gearshift.Type(gearshift.Generate))
	hangs   = gearshift.NewCall("failing", "Go on for ever.")
	endless = func(number int) *gearshift.Call {
		return gearshift.NewCall("help", fmt.Sprintf("Go on for ever (%d).", number), gearshift.Type(gearshift.Generate))
	}
)

func TestASwitchInMidStreamEndsInTheBetterModelsText(t *testing.T) {
	client := clientOf(t, needService(t).address)
	stream, err := client.StreamRoute(within(t), shifts, gearshift.HoldBackTokens(0))
	if err != nil {
		t.Fatal(err)
	}
	var answer gearshift.Accumulator
	var kinds []string
	shown, weak := "", ""
	for event, err := range stream.Events() {
		if err != nil {
			t.Fatal(err)
		}
		added, retracted, err := answer.Apply(event)
		if err != nil {
			t.Fatal(err)
		}
		switch event.GetKind().(type) {
		case *gearshiftv1.Event_Delta:
			kinds = append(kinds, "delta")
		case *gearshiftv1.Event_Switch:
			kinds, weak = append(kinds, "switch"), answer.Text()
		case *gearshiftv1.Event_Retract:
			kinds = append(kinds, "retract")
		}
		if shown += added; retracted {
			shown = answer.Text()
		}
	}
	whole, err := answer.Finish()
	if err != nil {
		t.Fatal(err)
	}
	kinds = slices.Compact(kinds)
	if !slices.Equal(kinds, []string{"delta", "switch", "retract", "delta"}) {
		t.Error(kinds)
	}
	if !strings.HasPrefix(weak, "So, a gearbox is basically") || !strings.HasPrefix(shown, "A gearbox lets an engine run") {
		t.Errorf("%q, then %q", weak, shown)
	}
	attempts := whole.GetCompletion().GetAttempts()
	if whole.GetText() != shown || len(attempts) != 2 || whole.GetCompletion().GetOutcome() != gearshift.OutcomeAccepted {
		t.Error(whole)
	}
}

func TestACancelReachesTheProviderWithin100Milliseconds(t *testing.T) {
	service := needService(t)
	// Each way begins a call, and gives the function that cancels it and waits for its end.
	ways := map[string]func(t *testing.T, client *gearshift.Client, call *gearshift.Call) func(){
		"the context of a stream": func(t *testing.T, client *gearshift.Client, call *gearshift.Call) func() {
			ctx, cancel := context.WithCancel(within(t))
			stream := streamAtWork(ctx, t, client, call)
			return func() { cancel(); drain(t, stream) }
		},
		"close of a stream": func(t *testing.T, client *gearshift.Client, call *gearshift.Call) func() {
			stream := streamAtWork(within(t), t, client, call)
			return func() { _ = stream.Close(); drain(t, stream) }
		},
		"close of the client": func(t *testing.T, client *gearshift.Client, call *gearshift.Call) func() {
			stream := streamAtWork(within(t), t, client, call)
			return func() { _ = client.Close(); drain(t, stream) }
		},
		"the context of a whole answer": func(t *testing.T, client *gearshift.Client, call *gearshift.Call) func() {
			ctx, cancel := context.WithCancel(within(t))
			ended := make(chan error, 1)
			go func() {
				_, err := client.Route(ctx, call)
				ended <- err
			}()
			until(t, "the provider is at it", func() bool { return service.account(t).Playing == 1 })
			return func() { cancel(); failedWith(t, <-ended, codes.Canceled) }
		},
	}
	for name, begin := range ways {
		t.Run(name, func(t *testing.T) {
			var took []time.Duration
			for number := range tries {
				client := clientOf(t, service.address)
				before := service.account(t).Total
				cancel := begin(t, client, endless(number))
				cancelled := time.Now()
				cancel()
				until(t, "the provider's client left", func() bool {
					return service.account(t).Total.ClientsLeft == before.ClientsLeft+1
				})
				took = append(took, time.Since(cancelled))
				if after := service.account(t).Total; after.Requests != before.Requests+1 {
					t.Errorf("somebody else was asked: %+v, then %+v", before, after)
				}
			}
			slices.Sort(took)
			t.Log(took)
			if took[tries/2] > cancelWithin {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// streamAtWork begins a stream and reads until its provider writes.
func streamAtWork(ctx context.Context, t *testing.T, client *gearshift.Client, call *gearshift.Call) *gearshift.Stream {
	t.Helper()
	stream, err := client.StreamRoute(ctx, call, gearshift.HoldBackTokens(0))
	if err != nil {
		t.Fatal(err)
	}
	for {
		event, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if event.GetDelta() != nil {
			return stream
		}
	}
}

func drain(t *testing.T, stream *gearshift.Stream) {
	t.Helper()
	for {
		if _, err := stream.Recv(); err != nil {
			failedWith(t, err, codes.Canceled)
			return
		}
	}
}

func TestADeadlineEndsACallHereAndThere(t *testing.T) {
	service := needService(t)
	client := clientOf(t, service.address)
	before := service.account(t).Total.ClientsLeft
	ctx, cancel := context.WithTimeout(context.Background(), 400*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := client.Route(ctx, hangs)
	failedWith(t, err, codes.DeadlineExceeded)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 2*time.Second {
		t.Error(err, time.Since(began))
	}
	until(t, "the provider's client left", func() bool { return service.account(t).Total.ClientsLeft > before })

	ctx, cancel = context.WithTimeout(context.Background(), 600*time.Millisecond)
	defer cancel()
	stream, err := client.StreamRoute(ctx, hangs, gearshift.HoldBackTokens(0))
	if err != nil {
		t.Fatal(err)
	}
	var answer gearshift.Accumulator
	_, err = stream.Fold(&answer)
	failedWith(t, err, codes.DeadlineExceeded)
	// The margin before the deadline is there so that the end is still seen.
	if answer.Completed() == nil || answer.Completed().GetCompletion().GetOutcome() != gearshift.OutcomeFailed {
		t.Error("the stream's completed never came")
	}
}

func TestErrorsOfTheServiceAreTyped(t *testing.T) {
	client := clientOf(t, needService(t).address)
	_, err := client.Route(within(t), gearshift.NewCall("", "no task id"))
	failed := failedWith(t, err, codes.InvalidArgument)
	if !errors.Is(err, gearshift.ErrInvalidRequest) || len(failed.Violations) != 1 || failed.Violations[0].Field != "call.task.id" {
		t.Errorf("%+v", failed)
	}

	broken := gearshift.NewCall("failing", "Go on.")
	_, err = client.Route(within(t), broken)
	failed = failedWith(t, err, codes.Unavailable)
	if !errors.Is(err, gearshift.ErrChainExhausted) || len(failed.Attempts) != 1 ||
		failed.Attempts[0].GetFailure() != gearshiftv1.FailureKind_FAILURE_KIND_SERVER {
		t.Errorf("%+v", failed)
	}
	stream, err := client.StreamRoute(within(t), broken)
	if err != nil {
		t.Fatal(err)
	}
	var answer gearshift.Accumulator
	if _, err = stream.Fold(&answer); !errors.Is(err, gearshift.ErrChainExhausted) || answer.Completed() == nil {
		t.Errorf("%v after %v", err, answer.Completed())
	}
}

func TestAForgottenPromptIsSentAgainToTheService(t *testing.T) {
	var asked []string
	note := func(
		ctx context.Context, method string, request, response any, channel *grpc.ClientConn, invoke grpc.UnaryInvoker,
		options ...grpc.CallOption,
	) error {
		if route, ok := request.(*gearshiftv1.RouteRequest); ok {
			asked = append(asked, fmt.Sprintf("%T", route.GetCall().GetSystem().GetSource()))
		}
		return invoke(ctx, method, request, response, channel, options...)
	}
	client := clientOf(t, needService(t).address, gearshift.WithDialOptions(grpc.WithUnaryInterceptor(note)))
	ctx := within(t)
	call := gearshift.NewCall("workshop", "Why does it slip?", gearshift.Type(gearshift.Generate), gearshift.System(longPrompt))
	route := func() {
		t.Helper()
		if _, err := client.Route(ctx, call); err != nil {
			t.Fatal(err)
		}
	}
	route()
	route()
	if purged, err := client.Ops().PurgeCache(ctx, &gearshiftv1.CacheFilter{Cache: "prompt", TaskId: "workshop"}); purged != 1 || err != nil {
		t.Fatal(purged, err)
	}
	route()
	text, key := "*gearshiftv1.SystemPrompt_Text", "*gearshiftv1.SystemPrompt_Key"
	if !slices.Equal(asked, []string{text, key, key, text}) {
		t.Error(asked)
	}
	stored, err := client.PutPrompt(ctx, "by-hand", longPrompt, false)
	if err != nil || stored.GetKey() == "" {
		t.Fatal(stored, err)
	}
	if was, err := client.DeletePrompt(ctx, "by-hand", stored.GetKey()); !was || err != nil {
		t.Fatal(was, err)
	}
}

func TestEveryMethodOfOpsAnswers(t *testing.T) {
	client := clientOf(t, needService(t).address)
	ctx := within(t)
	ops := client.Ops()
	watch, err := ops.WatchAttempts(ctx, &gearshiftv1.WatchAttemptsRequest{TaskId: "ops-test"})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	seen := make(chan *gearshiftv1.WatchAttemptsResponse, 1)
	go func() {
		attempt, _ := watch.Recv()
		seen <- attempt
	}()
	var attempt *gearshiftv1.WatchAttemptsResponse
	for attempt == nil { // a watch tells what ends after it began, which nobody is told
		if _, err := client.Execute(ctx, "classify", "It crashes.", gearshift.Labels("bug", "praise"), gearshift.TaskID("ops-test")); err != nil {
			t.Fatal(err)
		}
		select {
		case attempt = <-seen:
		default:
		}
	}
	if attempt.GetTaskId() != "ops-test" {
		t.Error(attempt)
	}
	found := false
	until(t, "the attempt is recorded", func() bool {
		for recorded, err := range ops.Attempts(ctx, &gearshiftv1.ListAttemptsRequest{TaskId: "ops-test", PageSize: 1}) {
			if err != nil {
				t.Fatal(err)
			}
			found = found || recorded.GetRequestId() == attempt.GetRequestId()
		}
		return found
	})
	for name, ask := range map[string]func() (bool, error){
		"GetStatus":        func() (bool, error) { r, err := ops.GetStatus(ctx); return r.GetVersion() != "", err },
		"ListChains":       func() (bool, error) { r, err := ops.ListChains(ctx); return len(r) == 6, err },
		"ListStages":       func() (bool, error) { r, err := ops.ListStages(ctx, "strong"); return len(r) == 1, err },
		"ListCacheEntries": func() (bool, error) { r, err := ops.ListCacheEntries(ctx, nil); return len(r.GetStats()) > 0, err },
		"GetCostReport":    func() (bool, error) { r, err := ops.GetCostReport(ctx, nil); return len(r.GetRows()) > 0, err },
		"ListAttempts":     func() (bool, error) { r, err := ops.ListAttempts(ctx, nil); return len(r.GetAttempts()) > 0, err },
		"GetTraffic":       func() (bool, error) { r, err := ops.GetTraffic(ctx, nil); return len(r.GetPoints()) > 0, err },
		"Reload":           func() (bool, error) { r, err := ops.Reload(ctx); return !r.GetChanged(), err },
		"PurgeAllCaches":   func() (bool, error) { _, err := ops.PurgeAllCaches(ctx); return true, err },
	} {
		if right, err := ask(); !right || err != nil {
			t.Errorf("%s: %t, %v", name, right, err)
		}
	}
}

func TestTLSAndKeysAgainstTheService(t *testing.T) {
	service := needService(t)
	dir := t.TempDir()
	certificate, key := selfSigned(t, dir)
	secret := strings.Repeat("0123456789abcdef", 4)
	// The service keeps the hash of the whole key.
	config, err := os.ReadFile(service.config)
	if err != nil {
		t.Fatal(err)
	}
	caller, ops := "gs_caller_"+secret, "gs_ops_"+secret
	text := string(config) + fmt.Sprintf(`
server:
  tls: {certificate: %q, key: %q, client_ca: %q}
access:
  keys:
    - {id: caller, sha256: %s, tenant: default, role: caller}
    - {id: ops, sha256: %s, tenant: default, role: ops}
`, certificate, key, certificate, hashOf(caller), hashOf(ops))
	file := filepath.Join(dir, "gearshift.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	address, err := service.serve(file)
	if err != nil {
		t.Fatal(err)
	}
	mtls := gearshift.WithMTLS(certificate, certificate, key)
	with := func(options ...gearshift.Option) *gearshift.Client { return clientOf(t, address, options...) }

	answer, err := with(mtls, gearshift.WithKey(caller)).Execute(within(t), "email-triage", "I was charged twice.")
	if err != nil || answer.GetText() != "billing" {
		t.Fatal(answer, err)
	}
	_, err = with(mtls).Route(within(t), shifts)
	if failedWith(t, err, codes.Unauthenticated); !errors.Is(err, gearshift.ErrUnauthenticated) {
		t.Error(err)
	}
	_, err = with(mtls, gearshift.WithKey(caller)).Ops().GetStatus(within(t))
	if failedWith(t, err, codes.PermissionDenied); !errors.Is(err, gearshift.ErrForbidden) {
		t.Error(err)
	}
	if _, err = with(mtls, gearshift.WithKey(ops)).Ops().GetStatus(within(t)); err != nil {
		t.Error(err)
	}
	for name, options := range map[string][]gearshift.Option{
		"no certificate of its own": {gearshift.WithCA(certificate), gearshift.WithKey(caller)},
		"the system's roots":        {gearshift.WithTLS(nil), gearshift.WithKey(caller)},
		"another name":              {gearshift.WithTLS(&tls.Config{ServerName: "other.example"})},
		"no TLS":                    {gearshift.WithKey(caller)},
	} {
		if _, err = with(options...).Route(within(t), shifts); err == nil {
			t.Errorf("%s was let in", name)
		} else {
			failedWith(t, err, codes.Unavailable)
		}
	}
}

func hashOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// selfSigned makes a certificate for 127.0.0.1 that is its own authority; it gives its file and its key's.
func selfSigned(t *testing.T, dir string) (certificateFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gearshift tests"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certificateFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for file, block := range map[string]*pem.Block{
		certificateFile: {Type: "CERTIFICATE", Bytes: certificate}, keyFile: {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificateFile, keyFile
}
