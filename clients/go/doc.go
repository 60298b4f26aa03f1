// Package gearshift is the Go client of Gearshift, a gRPC service that gives every AI call to the cheapest model that
// can do it well, and shifts up to a better one when a model fails or its answer is poor, even in the middle of a
// stream.
//
//	client, err := gearshift.NewClient("127.0.0.1:50051")
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//	call := gearshift.NewCall("email-triage", "I was charged twice.", gearshift.Labels("billing", "bug", "question"))
//	answer, err := client.Route(ctx, call)
//
// # Rules
//
// Every call takes a context first. A context without a deadline gets the client's default of 300 seconds
// ([WithDefaultTimeout]); the deadline goes on the wire, and the service shares it among the stages of the chain.
// Cancelling the context ends the call here and at the provider.
//
// Every failed call gives an [*Error]: branch on its Code and Reason, never on its text. [errors.Is] knows the reasons,
// such as [ErrRateLimited]. A poor answer is no error: look at its completion's outcome, or ask for [RequireValid].
//
// A [Stream] gives the events of one answer; an [Accumulator] folds them. Call its Finish at the end: it is what tells
// a whole answer from a partial, and gives a [*StreamProtocolError] when the stream broke a rule of the contract.
//
// A Client may be shared by goroutines, a Stream may not, except that any goroutine may close it.
//
// The messages are those of the contract, generated into the package gearshiftv1; the ones that callers name often have
// short names here.
package gearshift
