package gearshift

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

// ErrReason is the stable word of a failed call (google.rpc.ErrorInfo). It is an error itself, so that
// errors.Is(err, gearshift.ErrRateLimited) asks for it. Words of a later contract are not listed here.
type ErrReason string

// The reasons of the contract. docs/contract.md says which codes they come with.
const (
	// ErrInvalidRequest: Violations name the fields.
	ErrInvalidRequest ErrReason = "INVALID_REQUEST"
	// ErrUnknownTask: the task is not declared, and tasks.strict is on.
	ErrUnknownTask ErrReason = "UNKNOWN_TASK"
	// ErrPromptNotCached: the key of a system prompt is not known; the client sends texts that it has again by itself.
	ErrPromptNotCached ErrReason = "PROMPT_NOT_CACHED"
	// ErrNoStage: no stage of the chain may serve the call.
	ErrNoStage ErrReason = "NO_STAGE"
	// ErrConfig: a reload was refused.
	ErrConfig ErrReason = "CONFIG"
	// ErrRateLimited: a limit is spent; RetryAfter says how long to wait, Quota which limit.
	ErrRateLimited ErrReason = "RATE_LIMITED"
	// ErrChainExhausted: every stage failed; Attempts says how.
	ErrChainExhausted ErrReason = "CHAIN_EXHAUSTED"
	// ErrLedger: the service's ledger is away.
	ErrLedger ErrReason = "LEDGER"
	// ErrCacheStore: the service's shared caches are away, so that a purge or a deletion did not reach all of them.
	ErrCacheStore ErrReason = "CACHE_STORE"
	// ErrEmbeddedModel: the service's own model is away.
	ErrEmbeddedModel ErrReason = "EMBEDDED_MODEL"
	// ErrNotAccepted: nothing passed the gates, and RequireValid was asked for.
	ErrNotAccepted ErrReason = "NOT_ACCEPTED"
	// ErrDeadline: the time was too short.
	ErrDeadline ErrReason = "DEADLINE"
	// ErrUnauthenticated: no key, or an unknown one.
	ErrUnauthenticated ErrReason = "UNAUTHENTICATED"
	// ErrForbidden: the key does not allow it.
	ErrForbidden ErrReason = "FORBIDDEN"
)

// Error gives the word.
func (r ErrReason) Error() string { return string(r) }

// Violation is a field that the server refused, and why.
type Violation struct {
	// Field is its path, such as "call.task.id".
	Field string
	// Description is a sentence on what to do.
	Description string
}

// QuotaViolation is a limit that was spent.
type QuotaViolation struct {
	// Subject is whose it is, such as "requests of tenant acme".
	Subject string
	// Description is a sentence on it.
	Description string
}

// Error is what every failed call gives, wherever it failed. Branch on Code and Reason, never on Message.
//
// [errors.Is] matches it with its [ErrReason], and with [context.Canceled] and [context.DeadlineExceeded] by its code.
// [status.FromError] and [status.Code] understand it.
type Error struct {
	// Code is gRPC's code.
	Code codes.Code
	// Message is for people.
	Message string
	// Reason is one stable word, empty when the server gave none.
	Reason ErrReason
	// Domain is who defines the reason: "gearshift".
	Domain string
	// Info holds further facts of the reason.
	Info map[string]string
	// RetryAfter is how long to wait before another try; 0 when the server named no wait.
	RetryAfter time.Duration
	// Violations are the refused fields.
	Violations []Violation
	// Quota are the spent limits.
	Quota []QuotaViolation
	// Attempts are the upstream calls that were made.
	Attempts []*Attempt
	// Details is everything as it came.
	Details []*anypb.Any

	status *status.Status
}

// Error gives code, reason and message.
func (e *Error) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("%s: %s", e.Code, e.Message)
	}
	return fmt.Sprintf("%s (%s): %s", e.Code, e.Reason, e.Message)
}

// Is tells whether target is this error's reason, or the context's error that its code stands for.
func (e *Error) Is(target error) bool {
	switch target {
	case context.Canceled:
		return e.Code == codes.Canceled
	case context.DeadlineExceeded:
		return e.Code == codes.DeadlineExceeded
	}
	reason, ok := target.(ErrReason)
	return ok && reason != "" && reason == e.Reason
}

// GRPCStatus gives the status as it came, for [status.FromError].
func (e *Error) GRPCStatus() *status.Status {
	if e.status == nil {
		return status.New(e.Code, e.Message)
	}
	return e.status
}

// Rule is the stable word for a rule of the event contract that a stream broke.
type Rule string

// The rules; tests/conformance/README.md tells them.
const (
	// RuleBeforeStarted: started must be first.
	RuleBeforeStarted Rule = "before_started"
	// RuleStartedTwice: started comes once.
	RuleStartedTwice Rule = "started_twice"
	// RuleAfterCompleted: nothing follows completed.
	RuleAfterCompleted Rule = "after_completed"
	// RuleAttemptNotRising: attempts rise.
	RuleAttemptNotRising Rule = "attempt_not_rising"
	// RuleNumberNotRising: delta numbers rise.
	RuleNumberNotRising Rule = "number_not_rising"
	// RuleCheckpointNotRising: checkpoints rise.
	RuleCheckpointNotRising Rule = "checkpoint_not_rising"
	// RuleCheckpointNotLive: a checkpoint names a delta that stands.
	RuleCheckpointNotLive Rule = "checkpoint_not_live"
	// RuleRetractBehindCheckpoint: nothing at or before a checkpoint is taken back.
	RuleRetractBehindCheckpoint Rule = "retract_behind_checkpoint"
	// RuleRetractNotLive: a retract names a delta that stands, or 0.
	RuleRetractNotLive Rule = "retract_not_live"
	// RuleIncomplete: a stream without completed is a partial.
	RuleIncomplete Rule = "incomplete"
	// RuleStatusMissing: a failed stream is followed by its status.
	RuleStatusMissing Rule = "status_missing"
	// RuleDigestMismatch: the text that stands must be the one that the server means.
	RuleDigestMismatch Rule = "digest_mismatch"
)

// StreamProtocolError says that the events of a stream break the contract, so that its text cannot be trusted.
type StreamProtocolError struct {
	// Rule is what was broken.
	Rule Rule
	// Message is for people.
	Message string
}

// Error gives the message.
func (e *StreamProtocolError) Error() string { return e.Message }
