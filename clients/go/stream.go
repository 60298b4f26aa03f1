package gearshift

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/gearshift-ai/gearshift/clients/go/gearshiftv1"
)

// Stream is the events of one answer. Read it to its end, or Close it, or cancel its context: one that is merely
// dropped goes on until its deadline.
//
// A system prompt that was sent by its key and is no longer known is sent again as text, by itself, once, before the
// first event. Recv and what builds on it belong to one goroutine; Close may be called from any.
type Stream struct {
	messages  grpc.ServerStreamingClient[gearshiftv1.StreamRouteResponse]
	cancel    context.CancelFunc
	closed    atomic.Bool
	pending   []*Event
	err       error // the end, once it was seen
	openWhole func() (grpc.ServerStreamingClient[gearshiftv1.StreamRouteResponse], error)
	remember  func(key string)
}

// Recv waits for the next event. [io.EOF] is the end of a call that did not fail; any other error is an [*Error]. When
// a call fails after it started, its completed event was received before. After Close it is CANCELLED.
func (s *Stream) Recv() (*Event, error) {
	for len(s.pending) == 0 || s.closed.Load() {
		if s.closed.Load() {
			return nil, failed(codes.Canceled, "the stream was closed")
		}
		if s.err != nil {
			return nil, s.err
		}
		response, err := s.messages.Recv()
		if err != nil && s.openWhole != nil && isForgotten(err) {
			s.messages, err = s.openWhole()
			s.openWhole = nil
			if err == nil {
				continue
			}
		}
		if err != nil {
			s.err = err
			s.cancel()
			continue
		}
		s.openWhole = nil
		s.pending = response.GetEvents()
	}
	event := s.pending[0]
	s.pending = s.pending[1:]
	if completed := event.GetCompleted(); completed != nil {
		s.remember(completed.GetCompletion().GetPromptKey())
	}
	return event, nil
}

// Events ranges over the events, for `for event, err := range stream.Events()`. It ends at the end of the stream, or
// with one error. Leaving the loop early closes the stream.
func (s *Stream) Events() iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		defer s.Close()
		for {
			event, err := s.Recv()
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// Fold reads to the end and gives the answer, checked. into has folded every event that was received before, and
// holds what stands also when Fold fails; nil when none was received.
//
// The error is an [*Error] when the call failed, and a [*StreamProtocolError] when the stream broke a rule of the
// contract.
func (s *Stream) Fold(into *Accumulator) (*Answer, error) {
	defer s.Close()
	if into == nil {
		into = &Accumulator{}
	}
	for event, err := range s.Events() {
		if err != nil {
			return nil, err
		}
		if _, _, err := into.Apply(event); err != nil {
			return nil, err
		}
	}
	return into.Finish()
}

// Close ends the call; what the server was doing for it is cancelled. Twice is fine, and so is after the end. It
// always returns nil, as an [io.Closer].
func (s *Stream) Close() error {
	s.closed.Store(true)
	s.cancel()
	return nil
}

// endOf gives our error for one of grpc's streams; io.EOF stays.
func endOf(err error, stream grpc.ClientStream) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	if stream == nil {
		return errorFrom(err, nil)
	}
	return errorFrom(err, stream.Trailer())
}
