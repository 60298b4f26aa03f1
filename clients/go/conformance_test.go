package gearshift_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"reflect"
	"strconv"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	gearshift "github.com/gearshift-ai/gearshift/clients/go"
	"github.com/gearshift-ai/gearshift/clients/go/gearshiftv1"
)

type conformanceCase struct {
	Name      string            `json:"name"`
	Messages  []json.RawMessage `json:"messages"`
	Status    sentStatus        `json:"status"`
	Snapshots []snapshot        `json:"snapshots"`
	Expected  json.RawMessage   `json:"expected"`
}

type sentStatus struct {
	Code       codeName `json:"code"`
	Message    string   `json:"message"`
	DetailsBin string   `json:"detailsBin"`
}

// codeName is a code by gRPC's name, such as UNAVAILABLE.
type codeName struct{ codes.Code }

func (c *codeName) UnmarshalJSON(data []byte) error { return c.Code.UnmarshalJSON(data) }

type toolCall struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

type snapshot struct {
	Text       string     `json:"text"`
	Reasoning  string     `json:"reasoning"`
	ToolCalls  []toolCall `json:"toolCalls"`
	Live       []uint32   `json:"live"`
	Checkpoint uint32     `json:"checkpoint"`
	Committed  string     `json:"committed"`
	Completed  bool       `json:"completed"`
}

type expectedStream struct {
	snapshot
	Outcome       string          `json:"outcome"`
	Digest        string          `json:"digest"`
	DigestMatches bool            `json:"digestMatches"`
	Error         json.RawMessage `json:"error"`
}

type expectedError struct {
	Kind       string            `json:"kind"`
	Rule       string            `json:"rule"`
	Place      *int              `json:"-"`
	Code       codeName          `json:"code"`
	Message    json.RawMessage   `json:"message"` // a text, or of a broken rule the place of its message
	Event      *int              `json:"event"`
	Reason     string            `json:"reason"`
	Domain     string            `json:"domain"`
	Info       map[string]string `json:"info"`
	RetryAfter float64           `json:"retryAfter"`
	Violations []struct {
		Field, Description string
	} `json:"violations"`
	Quota []struct {
		Subject, Description string
	} `json:"quota"`
	Attempts int `json:"attempts"`
}

func casesOf(t testing.TB, file string) []conformanceCase {
	t.Helper()
	data, err := os.ReadFile("../../tests/conformance/" + file)
	if errors.Is(err, os.ErrNotExist) && os.Getenv("CI") != "true" {
		t.Skipf("tests/conformance/%s is not here: this is not a checkout of Gearshift", file)
	}
	if err != nil {
		t.Fatal(err)
	}
	var found struct {
		Format int               `json:"format"`
		Cases  []conformanceCase `json:"cases"`
	}
	if err := json.Unmarshal(data, &found); err != nil {
		t.Fatal(err)
	}
	if found.Format != 1 || len(found.Cases) == 0 {
		t.Fatalf("format %d with %d cases", found.Format, len(found.Cases))
	}
	return found.Cases
}

func (c conformanceCase) messages(t testing.TB) []*gearshiftv1.StreamRouteResponse {
	t.Helper()
	read := protojson.UnmarshalOptions{DiscardUnknown: true}
	var made []*gearshiftv1.StreamRouteResponse
	for _, raw := range c.Messages {
		one := &gearshiftv1.StreamRouteResponse{}
		if err := read.Unmarshal(raw, one); err != nil {
			t.Fatal(err)
		}
		made = append(made, one)
	}
	return made
}

func (c conformanceCase) stream(t testing.TB) expectedStream {
	t.Helper()
	var expected expectedStream
	if err := json.Unmarshal(c.Expected, &expected); err != nil {
		t.Fatal(err)
	}
	return expected
}

func errorOf(t testing.TB, raw json.RawMessage) *expectedError {
	t.Helper()
	var expected *expectedError
	if err := json.Unmarshal(raw, &expected); err != nil {
		t.Fatal(err)
	}
	return expected
}

func snapshotOf(answer *gearshift.Accumulator) snapshot {
	made := snapshot{
		Text: answer.Text(), Reasoning: answer.Reasoning(), ToolCalls: []toolCall{}, Live: answer.Live(),
		Checkpoint: answer.Checkpoint(), Committed: answer.Committed(), Completed: answer.Completed() != nil,
	}
	for _, call := range answer.ToolCalls() {
		made.ToolCalls = append(made.ToolCalls, toolCall{call.GetId(), call.GetName(), call.GetArguments()})
	}
	return made
}

func checkStands(t *testing.T, answer *gearshift.Accumulator, expected expectedStream) {
	t.Helper()
	if found := snapshotOf(answer); !reflect.DeepEqual(found, expected.snapshot) {
		t.Errorf("what stands is\n%+v\nand not\n%+v", found, expected.snapshot)
	}
	outcome := ""
	if found := answer.Completed().GetCompletion().GetOutcome(); found != 0 {
		outcome = found.String()
	}
	if outcome != expected.Outcome {
		t.Errorf("the outcome is %q, not %q", outcome, expected.Outcome)
	}
	digest := gearshift.Digest(answer.Text(), answer.Completed().GetToolCalls()...)
	if digest != expected.Digest || answer.DigestMatches() != expected.DigestMatches {
		t.Errorf("the digest is %s (matches: %t), not %s", digest, answer.DigestMatches(), expected.Digest)
	}
}

func checkError(t *testing.T, err error, expected *expectedError) {
	t.Helper()
	var broken *gearshift.StreamProtocolError
	var failed *gearshift.Error
	switch {
	case expected == nil:
		if err != nil {
			t.Errorf("it failed: %v", err)
		}
	case expected.Kind == "protocol":
		if !errors.As(err, &broken) || string(broken.Rule) != expected.Rule {
			t.Errorf("the error is %v, not of the rule %s", err, expected.Rule)
		}
	case !errors.As(err, &failed):
		t.Errorf("the error is %v, not a status", err)
	default:
		checkFailed(t, failed, expected)
	}
}

func checkFailed(t *testing.T, failed *gearshift.Error, expected *expectedError) {
	t.Helper()
	var text string
	if err := json.Unmarshal(expected.Message, &text); err != nil {
		t.Fatal(err)
	}
	type told struct {
		Code                    codes.Code
		Message, Reason, Domain string
		Info                    map[string]string
		Violations, Quota       [][2]string
		Attempts                int
	}
	wanted := told{Code: expected.Code.Code, Message: text, Reason: expected.Reason, Domain: expected.Domain, Attempts: expected.Attempts}
	found := told{Code: failed.Code, Message: failed.Message, Reason: string(failed.Reason), Domain: failed.Domain, Attempts: len(failed.Attempts)}
	if len(expected.Info) > 0 {
		wanted.Info = expected.Info
	}
	if len(failed.Info) > 0 {
		found.Info = failed.Info
	}
	for _, one := range expected.Violations {
		wanted.Violations = append(wanted.Violations, [2]string{one.Field, one.Description})
	}
	for _, one := range failed.Violations {
		found.Violations = append(found.Violations, [2]string{one.Field, one.Description})
	}
	for _, one := range expected.Quota {
		wanted.Quota = append(wanted.Quota, [2]string{one.Subject, one.Description})
	}
	for _, one := range failed.Quota {
		found.Quota = append(found.Quota, [2]string{one.Subject, one.Description})
	}
	if !reflect.DeepEqual(found, wanted) {
		t.Errorf("the error is\n%+v\nand not\n%+v", found, wanted)
	}
	if math.Abs(failed.RetryAfter.Seconds()-expected.RetryAfter) > 1e-12 {
		t.Errorf("the wait is %s, not %g s", failed.RetryAfter, expected.RetryAfter)
	}
}

func TestEveryStreamIsFoldedAsItsCaseSays(t *testing.T) {
	for _, file := range []string{"streams.json", "recorded.json"} {
		for _, one := range casesOf(t, file) {
			t.Run(one.Name, func(t *testing.T) {
				expected := one.stream(t)
				wanted := errorOf(t, expected.Error)
				var answer gearshift.Accumulator
				snapshots := []snapshot{}
				var broken error
			stream:
				for at, message := range one.messages(t) {
					for within, event := range message.GetEvents() {
						before := answer.Text()
						added, retracted, err := answer.Apply(event)
						if err != nil {
							broken = err
							checkPlace(t, wanted, at, within)
							break stream
						}
						if !retracted && before+added != answer.Text() || retracted && added != "" {
							t.Errorf("%q was added to %q, and %q stands", added, before, answer.Text())
						}
					}
					snapshots = append(snapshots, snapshotOf(&answer))
				}
				if broken == nil && one.Status.Code.Code == codes.OK {
					_, broken = answer.Finish()
				}
				if broken != nil || one.Status.Code.Code == codes.OK {
					checkError(t, broken, wanted)
				}
				if one.Snapshots != nil && !reflect.DeepEqual(snapshots, one.Snapshots) {
					t.Errorf("the snapshots are\n%+v\nand not\n%+v", snapshots, one.Snapshots)
				}
				checkStands(t, &answer, expected)
			})
		}
	}
}

func checkPlace(t *testing.T, wanted *expectedError, at, within int) {
	t.Helper()
	if wanted == nil || wanted.Event == nil || string(wanted.Message) != strconv.Itoa(at) || *wanted.Event != within {
		t.Errorf("event %d of message %d broke a rule, not the one that should: %+v", within, at, wanted)
	}
}

// ended gives the error that a server returns to end a call so. The trailer is sent by hand: some of the cases' are
// none that grpc would make.
func ended(setTrailer func(metadata.MD), sent sentStatus) error {
	if sent.Code.Code == codes.OK {
		return nil
	}
	if raw, err := base64.StdEncoding.DecodeString(sent.DetailsBin); err == nil && len(raw) > 0 {
		setTrailer(metadata.Pairs("grpc-status-details-bin", string(raw)))
	}
	return status.Error(sent.Code.Code, sent.Message)
}

func TestEveryStreamOverTheWireIsWhatItsCaseSays(t *testing.T) {
	all := append(casesOf(t, "streams.json"), casesOf(t, "recorded.json")...)
	fake := &fakeRouter{}
	fake.stream = func(
		request *gearshiftv1.StreamRouteRequest, stream grpc.ServerStreamingServer[gearshiftv1.StreamRouteResponse],
	) error {
		at, _ := strconv.Atoi(request.GetCall().GetPrompt())
		for _, message := range all[at].messages(t) {
			if err := stream.Send(message); err != nil {
				return err
			}
		}
		return ended(stream.SetTrailer, all[at].Status)
	}
	serveFake(t, fake)
	client := clientOf(t, fake.address)
	for at, one := range all {
		t.Run(one.Name, func(t *testing.T) {
			stream, err := client.StreamRoute(within(t), gearshift.NewCall("task", strconv.Itoa(at)))
			if err != nil {
				t.Fatal(err)
			}
			var answer gearshift.Accumulator
			_, err = stream.Fold(&answer)
			expected := one.stream(t)
			checkError(t, err, errorOf(t, expected.Error))
			checkStands(t, &answer, expected)
		})
	}
}

func TestEveryFailedCallIsWhatItsCaseSays(t *testing.T) {
	all := casesOf(t, "errors.json")
	fake := &fakeRouter{}
	fake.route = func(ctx context.Context, call *gearshiftv1.Call) (*gearshiftv1.Answer, error) {
		at, _ := strconv.Atoi(call.GetPrompt())
		return nil, ended(func(md metadata.MD) { _ = grpc.SetTrailer(ctx, md) }, all[at].Status)
	}
	fake.stream = func(
		request *gearshiftv1.StreamRouteRequest, stream grpc.ServerStreamingServer[gearshiftv1.StreamRouteResponse],
	) error {
		at, _ := strconv.Atoi(request.GetCall().GetPrompt())
		return ended(stream.SetTrailer, all[at].Status)
	}
	serveFake(t, fake)
	client := clientOf(t, fake.address)
	for at, one := range all {
		t.Run(one.Name, func(t *testing.T) {
			call := gearshift.NewCall("task", strconv.Itoa(at))
			expected := errorOf(t, one.Expected)
			_, err := client.Route(within(t), call)
			checkError(t, err, expected)
			stream, err := client.StreamRoute(within(t), call)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = stream.Recv(); errors.Is(err, io.EOF) {
				t.Fatal("the stream ended well")
			}
			checkError(t, err, expected)
		})
	}
}
