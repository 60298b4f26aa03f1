package gearshift

import (
	"context"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/gearshift-ai/gearshift/clients/go/gearshiftv1"
)

const (
	// timeoutKey is metadata: milliseconds until the deadline when the call is sent. grpc rounds its own up.
	timeoutKey = "gearshift-timeout-ms"
	keyKey     = "authorization"
)

// connection is a channel whose calls have a deadline, show the key, and fail as *Error.
type connection struct {
	channel  grpc.ClientConnInterface
	settings *settings
}

// Invoke makes one unary call.
func (c *connection) Invoke(ctx context.Context, method string, request, response any, options ...grpc.CallOption) error {
	ctx, cancel, err := c.prepare(ctx, true)
	if err != nil {
		return err
	}
	defer cancel()
	var trailer metadata.MD
	err = c.channel.Invoke(ctx, method, request, response, append(options, grpc.Trailer(&trailer))...)
	return errorFrom(err, trailer)
}

// NewStream begins one call that gives messages. Its context's deadline is the default one, unless it is endless.
func (c *connection) NewStream(
	ctx context.Context, description *grpc.StreamDesc, method string, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	ctx, cancel, err := c.prepare(ctx, method != gearshiftv1.OpsService_WatchAttempts_FullMethodName)
	if err != nil {
		return nil, err
	}
	stream, err := c.channel.NewStream(ctx, description, method, options...)
	if err != nil {
		cancel()
		return nil, errorFrom(err, nil)
	}
	return &endingStream{stream, cancel}, nil
}

// prepare gives the context that goes to grpc, or says why nothing is sent.
func (c *connection) prepare(ctx context.Context, bounded bool) (context.Context, context.CancelFunc, error) {
	deadline, has := ctx.Deadline()
	if ctx.Err() == context.DeadlineExceeded || has && time.Until(deadline) <= 0 {
		return nil, nil, failed(codes.DeadlineExceeded, "the deadline had passed before the call; nothing was sent")
	}
	if ctx.Err() != nil {
		return nil, nil, failed(codes.Canceled, "the context was cancelled")
	}
	var cancel context.CancelFunc
	if !has && bounded {
		ctx, cancel = context.WithTimeout(ctx, c.settings.defaultTimeout)
		deadline, has = ctx.Deadline()
	} else {
		ctx, cancel = context.WithCancel(ctx)
	}
	if has {
		left := strconv.FormatInt(max(0, time.Until(deadline).Milliseconds()), 10)
		ctx = metadata.AppendToOutgoingContext(ctx, timeoutKey, left)
	}
	if c.settings.key != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, keyKey, "Bearer "+c.settings.key)
	}
	return ctx, cancel, nil
}

// endingStream gives errors as ours, and lets go of its context when it has ended.
type endingStream struct {
	grpc.ClientStream
	cancel context.CancelFunc
}

// RecvMsg waits for the next message.
func (s *endingStream) RecvMsg(message any) error {
	err := s.ClientStream.RecvMsg(message)
	if err == nil {
		return nil
	}
	err = endOf(err, s.ClientStream)
	s.cancel()
	return err
}

// SendMsg sends a message. That it could not be sent is told by RecvMsg.
func (s *endingStream) SendMsg(message any) error {
	return endOf(s.ClientStream.SendMsg(message), nil)
}
