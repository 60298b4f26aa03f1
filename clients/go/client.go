package gearshift

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/gearshift-ai/gearshift/clients/go/gearshiftv1"
)

// Client is a client of one server. Goroutines may share it. Close it when done.
type Client struct {
	connection *connection
	closer     io.Closer
	router     gearshiftv1.RouterServiceClient
	health     healthpb.HealthClient
	ops        *Ops
	prompts    promptMemory
}

// NewClient makes a client of a server, with the semantics of [grpc.NewClient]: nothing is connected before the first
// call, and calls say what is wrong. target is "host:port", "dns:///name:port" or "unix:/path.sock".
//
// The error is about the options: a file that cannot be read, a number out of its range, a key that would cross a
// network in the clear.
func NewClient(target string, options ...Option) (*Client, error) {
	if target == "" {
		return nil, errors.New(`gearshift: a target is needed, such as "127.0.0.1:50051"`)
	}
	settings, err := settingsFrom(options)
	if err != nil {
		return nil, err
	}
	if settings.key != "" && settings.tls == nil && !settings.plaintextKey && !staysHere(target) {
		return nil, fmt.Errorf(
			"gearshift: the API key would go to %q in the clear: use WithTLS, or WithPlaintextKey", target)
	}
	channel, err := grpc.NewClient(target, settings.grpcOptions()...)
	if err != nil {
		return nil, fmt.Errorf("gearshift: %w", err)
	}
	return newClient(channel, channel, settings), nil
}

// FromConn makes a client of any channel, such as one with interceptors of your own, or of a test. Of the options only
// the key, the default timeout and the request ids of [WithRetries] matter. Close leaves the channel open.
func FromConn(channel grpc.ClientConnInterface, options ...Option) (*Client, error) {
	settings, err := settingsFrom(options)
	if err != nil {
		return nil, err
	}
	return newClient(channel, nil, settings), nil
}

func newClient(channel grpc.ClientConnInterface, closer io.Closer, settings *settings) *Client {
	connection := &connection{channel, settings}
	return &Client{
		connection: connection,
		closer:     closer,
		router:     gearshiftv1.NewRouterServiceClient(connection),
		health:     healthpb.NewHealthClient(connection),
		ops:        &Ops{gearshiftv1.NewOpsServiceClient(connection)},
	}
}

// Close closes the connection and ends its calls.
func (c *Client) Close() error {
	if c.closer == nil {
		return nil
	}
	return c.closer.Close()
}

// Ops gives the methods for those who run the service.
func (c *Client) Ops() *Ops { return c.ops }

// IsServing tells whether the server takes calls (grpc.health.v1). service is such as "gearshift.v1.RouterService";
// empty is the whole server. No key is needed, unless its operator wants one.
func (c *Client) IsServing(ctx context.Context, service string) (bool, error) {
	response, err := c.health.Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	return response.GetStatus() == healthpb.HealthCheckResponse_SERVING, err
}

// Execute sends one prompt to the cheapest model that can do it well. task is a task type ("classify", "extract",
// "generate", "reason") or the id of a declared task. With a type, [TaskID] names the id that cost is attributed to,
// which the type otherwise stands for.
func (c *Client) Execute(ctx context.Context, task, prompt string, options ...CallOption) (*Answer, error) {
	if task == "embed" {
		return nil, failed(codes.InvalidArgument, "Execute answers with text; use Embed for vectors")
	}
	call := NewCall(task, prompt)
	if value, isType := gearshiftv1.TaskType_value["TASK_TYPE_"+strings.ToUpper(task)]; isType && task == strings.ToLower(task) {
		call.Task.Type = TaskType(value)
	}
	for _, option := range options {
		option(call)
	}
	return c.Route(ctx, call)
}

// Route answers one call whole. An answer that is merely poor is no error, unless the call says [RequireValid]: look
// at its completion's outcome. The call is not changed, and may be used again.
func (c *Client) Route(ctx context.Context, call *Call) (*Answer, error) {
	// One deadline for both tries.
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	sent, isShort := c.prepare(call, true)
	response, err := c.router.Route(ctx, &gearshiftv1.RouteRequest{Call: sent})
	if err != nil && isShort && isForgotten(err) {
		c.prompts.forget(promptOf(call))
		sent, _ = c.prepare(call, false)
		response, err = c.router.Route(ctx, &gearshiftv1.RouteRequest{Call: sent})
	}
	if err != nil {
		return nil, err
	}
	answer := response.GetAnswer()
	c.remember(call, answer.GetCompletion().GetPromptKey())
	return answer, nil
}

// StreamRoute answers one call as the model writes it; fold the events with an [Accumulator], or with [Stream.Fold].
// Cancel ctx, Close the stream, or read it to its end.
func (c *Client) StreamRoute(ctx context.Context, call *Call, options ...StreamOption) (*Stream, error) {
	ctx, cancel := c.bounded(ctx)
	policy := streamPolicy(options)
	open := func(sent *Call) (grpc.ServerStreamingClient[gearshiftv1.StreamRouteResponse], error) {
		return c.router.StreamRoute(ctx, &gearshiftv1.StreamRouteRequest{Call: sent, Stream: policy})
	}
	sent, isShort := c.prepare(call, true)
	messages, err := open(sent)
	if err != nil {
		cancel()
		return nil, err
	}
	stream := &Stream{messages: messages, cancel: cancel, remember: func(key string) { c.remember(call, key) }}
	if isShort {
		stream.openWhole = func() (grpc.ServerStreamingClient[gearshiftv1.StreamRouteResponse], error) {
			c.prompts.forget(promptOf(call))
			whole, _ := c.prepare(call, false)
			return open(whole)
		}
	}
	return stream, nil
}

// Explain says what would be decided and which stages would run, without running them.
func (c *Client) Explain(ctx context.Context, call *Call, options ...StreamOption) (*gearshiftv1.ExplainResponse, error) {
	return c.router.Explain(ctx, &gearshiftv1.ExplainRequest{Call: call, Stream: streamPolicy(options)})
}

// Embed turns 1 to 2048 texts into vectors, one each, in order. task is the id that cost is attributed to.
func (c *Client) Embed(
	ctx context.Context, task string, inputs []string, options ...EmbedOption,
) (*gearshiftv1.EmbedResponse, error) {
	request := &gearshiftv1.EmbedRequest{Task: &gearshiftv1.Task{Id: task}, Inputs: inputs}
	for _, option := range options {
		option(request)
	}
	if request.RequestId == "" {
		request.RequestId = c.requestID()
	}
	return c.router.Embed(ctx, request)
}

// PutPrompt stores a system prompt of more than 500 characters; later calls with this text send its key. static says
// that it holds no values of one request, whatever it looks like.
func (c *Client) PutPrompt(
	ctx context.Context, taskID, text string, static bool,
) (*gearshiftv1.PutPromptResponse, error) {
	response, err := c.router.PutPrompt(ctx, &gearshiftv1.PutPromptRequest{TaskId: taskID, Text: text, Static: static})
	if err == nil {
		c.prompts.remember(taskID, text, response.GetKey())
	}
	return response, err
}

// DeletePrompt has a stored system prompt forgotten; it tells whether it was there.
func (c *Client) DeletePrompt(ctx context.Context, taskID, key string) (bool, error) {
	c.prompts.forgetKey(taskID, key)
	response, err := c.router.DeletePrompt(ctx, &gearshiftv1.DeletePromptRequest{TaskId: taskID, Key: key})
	return response.GetDeleted(), err
}

// ReportOutcome tells what became of an answer, so that gates can learn. correction is what it should have been; it
// may be empty.
func (c *Client) ReportOutcome(ctx context.Context, requestID string, verdict Verdict, correction string) error {
	request := &gearshiftv1.ReportOutcomeRequest{RequestId: requestID, Verdict: verdict, Correction: correction}
	_, err := c.router.ReportOutcome(ctx, request)
	return err
}

// bounded gives a context that has a deadline.
func (c *Client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, time.Now().Add(c.connection.settings.defaultTimeout))
}

// prepare gives the call as it is sent: named when it may be sent twice, and its prompt by key when that is known and
// wanted. It tells the latter. The caller's own call is not touched.
func (c *Client) prepare(call *Call, mayShorten bool) (sent *Call, isShort bool) {
	requestID, key := "", ""
	if call.GetRequestId() == "" {
		requestID = c.requestID()
	}
	if mayShorten {
		key = c.prompts.keyOf(promptOf(call))
	}
	if requestID == "" && key == "" {
		return call, false
	}
	sent = shallow(call)
	if requestID != "" {
		sent.RequestId = requestID
	}
	if key != "" {
		sent.System = shallow(call.GetSystem())
		sent.System.Source = &gearshiftv1.SystemPrompt_Key{Key: key}
	}
	return sent, key != ""
}

func (c *Client) remember(call *Call, key string) {
	task, text := promptOf(call)
	c.prompts.remember(task, text, key)
}

// requestID makes an id when grpc may send a request twice, so that the repeat joins the first; else it is empty.
func (c *Client) requestID() string {
	if c.connection.settings.retries == nil {
		return ""
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

func promptOf(call *Call) (task, text string) {
	return call.GetTask().GetId(), call.GetSystem().GetText()
}

// shallow copies a message's fields but not what they point to: a call may hold images.
func shallow[T any, M interface {
	*T
	protoreflect.ProtoMessage
}](message M) M {
	made := M(new(T))
	to, from := made.ProtoReflect(), message.ProtoReflect()
	from.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		to.Set(field, value)
		return true
	})
	to.SetUnknown(from.GetUnknown())
	return made
}
