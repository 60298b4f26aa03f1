package gearshift_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	gearshift "github.com/gearshift-ai/gearshift/clients/go"
	"github.com/gearshift-ai/gearshift/clients/go/gearshiftv1"
)

func ExampleClient_Route() {
	client, err := gearshift.NewClient(target)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()

	call := gearshift.NewCall("email-triage", "I was charged twice.", gearshift.Labels("billing", "bug", "question"))
	answer, err := client.Route(ctx, call)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.GetText(), answer.GetCompletion().GetServedBy().GetModel())
	// Output:
	// billing local
}

func ExampleClient_Execute() {
	client, err := gearshift.NewClient(target)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	answer, err := client.Execute(context.Background(), "classify", "It crashes when I save.",
		gearshift.Labels("bug", "praise"), gearshift.TaskID("inbox"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.GetText() == "bug" || answer.GetText() == "praise")
	// Output:
	// true
}

func ExampleClient_StreamRoute() {
	client, err := gearshift.NewClient(target)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	call := gearshift.NewCall("help", "Tell me how a gearbox works.", gearshift.Type(gearshift.Generate))
	stream, err := client.StreamRoute(ctx, call)
	if err != nil {
		log.Fatal(err)
	}
	defer stream.Close()
	var answer gearshift.Accumulator
	shown := ""
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		added, retracted, err := answer.Apply(event)
		if err != nil {
			log.Fatal(err)
		}
		shown += added
		if retracted { // text was taken back; what stands is answer.Text()
			fmt.Println("taken back:", event.GetRetract().GetReason())
			shown = answer.Text()
		}
	}
	whole, err := answer.Finish()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(whole.GetText() == shown, shown[:29], whole.GetCompletion().GetServedBy().GetModel())
	// Output:
	// taken back: the connection to the provider failed
	// true A gearbox lets an engine run  large
}

func ExampleStream_Fold() {
	client, err := gearshift.NewClient(target)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	call := gearshift.NewCall("help", "Tell me how a gearbox works.", gearshift.Type(gearshift.Generate))
	stream, err := client.StreamRoute(context.Background(), call,
		gearshift.HoldBackTokens(0), gearshift.OnBreak(gearshift.ModeFail))
	if err != nil {
		log.Fatal(err)
	}
	var answer gearshift.Accumulator
	_, err = stream.Fold(&answer)
	fmt.Println(errors.Is(err, gearshift.ErrChainExhausted), strings.HasPrefix(answer.Text(), "So, a gearbox is"))
	// Output:
	// true true
}

func ExampleStream_Events() {
	client, err := gearshift.NewClient(target)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	stream, err := client.StreamRoute(context.Background(), gearshift.NewCall("email-triage", "I was charged twice."))
	if err != nil {
		log.Fatal(err)
	}
	for event, err := range stream.Events() {
		if err != nil {
			log.Fatal(err)
		}
		switch kind := event.GetKind().(type) {
		case *gearshiftv1.Event_Delta:
			fmt.Println("delta", kind.Delta.GetNumber())
		case *gearshiftv1.Event_Completed:
			fmt.Println("completed", kind.Completed.GetCompletion().GetOutcome())
		}
	}
	// Output:
	// delta 1
	// completed OUTCOME_ACCEPTED
}

func ExampleError() {
	client, err := gearshift.NewClient(target)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	_, err = client.Route(context.Background(), gearshift.NewCall("", "no task id"))
	if failed, ok := errors.AsType[*gearshift.Error](err); ok {
		fmt.Println(failed.Code == codes.InvalidArgument, failed.Reason, failed.RetryAfter, failed.Violations[0].Field)
	}
	fmt.Println(errors.Is(err, gearshift.ErrInvalidRequest))
	// Output:
	// true INVALID_REQUEST 0s call.task.id
	// true
}

func ExampleClient_cancel() {
	client, err := gearshift.NewClient(target)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel) // from any goroutine
	_, err = client.Route(ctx, gearshift.NewCall("help", "Tell me a story.", gearshift.Type(gearshift.Generate)))
	fmt.Println(errors.Is(err, context.Canceled))
	// Output:
	// true
}

func ExampleClient_Embed() {
	client, err := gearshift.NewClient(target)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	texts := []string{"Oil the chain.", "Pump the tyres."}
	vectors, err := client.Embed(context.Background(), "search", texts, gearshift.For(gearshift.InputDocument))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(vectors.GetEmbeddings()), vectors.GetDimensions())
	// Output:
	// 2 64
}

func ExampleClient_Explain() {
	client, err := gearshift.NewClient(target)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()

	call := gearshift.NewCall("invoices", "Invoice 2026-118: 118.40 EUR", gearshift.Schema(`{"type": "object"}`))
	explained, err := client.Explain(ctx, call)
	if err != nil {
		log.Fatal(err)
	}
	for _, stage := range explained.GetStages() {
		fmt.Println(stage.GetStage().GetModel(), stage.GetPlanned())
	}
	answer, err := client.Route(ctx, call)
	if err != nil {
		log.Fatal(err)
	}
	err = client.ReportOutcome(ctx, answer.GetRequestId(), gearshift.VerdictAccepted, "")
	fmt.Println(err)
	// Output:
	// small true
	// large true
	// <nil>
}

func ExampleClient_Ops() {
	client, err := gearshift.NewClient(target)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	stages, err := client.Ops().ListStages(context.Background(), "own")
	if err != nil {
		log.Fatal(err)
	}
	for _, stage := range stages {
		fmt.Println(stage.GetProvider(), stage.GetModel(), stage.GetBreaker())
	}
	// Output:
	// own local BREAKER_STATE_CLOSED
}

func ExampleNewClient() {
	client, err := gearshift.NewClient("dns:///gearshift.example.com:443",
		gearshift.WithTLS(nil), // the system's roots; WithMTLS shows a certificate of one's own
		gearshift.WithKey("gs_example"),
		gearshift.WithDefaultTimeout(30*time.Second),
		gearshift.WithRetries(gearshift.RetryPolicy{Attempts: 3}),
		gearshift.WithRoundRobin(),
		gearshift.WithKeepalive(time.Minute, 20*time.Second),
	)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(client.Close())
	// Output:
	// <nil>
}

func ExampleMessages() {
	client, err := gearshift.NewClient(target)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	system := "You help people who repair bicycles. " + strings.Repeat("You answer in one short paragraph, for {{reader}}. ", 12)
	var turns []*gearshift.Message
	for _, question := range []string{"Why does my chain slip?", "What would a new one cost?"} {
		turns = append(turns, gearshift.User(question))
		answer, err := client.Route(context.Background(), gearshift.NewCall("workshop", "",
			gearshift.Type(gearshift.Generate),
			gearshift.Messages(turns...),
			gearshift.System(system), // sent once, and by its key after that
			gearshift.Variables(map[string]string{"reader": "a beginner"}),
		))
		if err != nil {
			log.Fatal(err)
		}
		turns = append(turns, gearshift.AssistantAnswer(answer)) // with its tool calls and its provider's state
	}
	fmt.Println(len(turns))
	// Output:
	// 4
}
