package gearshift

import (
	"errors"
	"math"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/gearshift-ai/gearshift/clients/go/gearshiftv1"
)

// detailsKey is the trailer that carries a google.rpc.Status.
const detailsKey = "grpc-status-details-bin"

// errorFrom gives our error for grpc's; one that is ours already stays.
func errorFrom(err error, trailer metadata.MD) error {
	var ours *Error
	if err == nil || errors.As(err, &ours) {
		return err
	}
	found := status.Convert(err)
	made := &Error{Code: found.Code(), Message: found.Message(), status: found}
	// The trailer first: where it is no status, grpc makes an error of its own of it.
	details := found.Proto().GetDetails()
	if raw := trailer.Get(detailsKey); len(raw) == 1 {
		sent := &statuspb.Status{}
		if proto.Unmarshal([]byte(raw[0]), sent) == nil {
			details = sent.GetDetails()
		}
	}
	made.read(details)
	return made
}

// failed makes an error that never left this machine.
func failed(code codes.Code, message string) *Error { return &Error{Code: code, Message: message} }

// read takes in the google.rpc details. Those of an unknown type, and those that cannot be read, are passed over.
func (e *Error) read(details []*anypb.Any) {
	e.Details = details
	for _, detail := range details {
		url := detail.GetTypeUrl()
		switch url[strings.LastIndexByte(url, '/')+1:] {
		case "google.rpc.ErrorInfo":
			if info, ok := decoded[errdetails.ErrorInfo](detail); ok {
				e.Reason, e.Domain, e.Info = ErrReason(info.GetReason()), info.GetDomain(), info.GetMetadata()
			}
		case "google.rpc.RetryInfo":
			if retry, ok := decoded[errdetails.RetryInfo](detail); ok {
				e.RetryAfter = waitOf(retry.GetRetryDelay())
			}
		case "google.rpc.BadRequest":
			if refused, ok := decoded[errdetails.BadRequest](detail); ok {
				e.Violations = nil
				for _, one := range refused.GetFieldViolations() {
					e.Violations = append(e.Violations, Violation{one.GetField(), one.GetDescription()})
				}
			}
		case "google.rpc.QuotaFailure":
			if spent, ok := decoded[errdetails.QuotaFailure](detail); ok {
				e.Quota = nil
				for _, one := range spent.GetViolations() {
					e.Quota = append(e.Quota, QuotaViolation{one.GetSubject(), one.GetDescription()})
				}
			}
		case "gearshift.v1.Attempt":
			if attempt, ok := decoded[gearshiftv1.Attempt](detail); ok {
				e.Attempts = append(e.Attempts, attempt)
			}
		case "gearshift.v1.Completion":
			if completion, ok := decoded[gearshiftv1.Completion](detail); ok {
				e.Attempts = append(e.Attempts, completion.GetAttempts()...)
			}
		}
	}
}

// decoded reads a detail as a T, if it is one.
func decoded[T any, M interface {
	*T
	proto.Message
}](detail *anypb.Any) (M, bool) {
	message := M(new(T))
	return message, proto.Unmarshal(detail.GetValue(), message) == nil
}

// waitOf gives a wait, at least 0; one that is too long for a time.Duration (292 years) is the longest.
func waitOf(delay *durationpb.Duration) time.Duration {
	if delay.GetSeconds() > math.MaxInt64/int64(time.Second)-1 {
		return math.MaxInt64
	}
	return max(0, time.Duration(delay.GetSeconds())*time.Second+time.Duration(delay.GetNanos()))
}
