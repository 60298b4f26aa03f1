// Route sorts one message, and says who did it and what it cost:
//
//	go run ./examples/route [host:port]
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	gearshift "github.com/gearshift-ai/gearshift/clients/go"
)

func main() {
	target := "127.0.0.1:50051"
	if len(os.Args) > 1 {
		target = os.Args[1]
	}
	client, err := gearshift.NewClient(target)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()

	answer, err := client.Execute(ctx, "email-triage", "I was charged twice.")
	if err != nil {
		log.Fatal(err)
	}
	completion := answer.GetCompletion()
	fmt.Println("label   ", answer.GetText())
	fmt.Println("model   ", completion.GetServedBy().GetModel())
	fmt.Println("outcome ", completion.GetOutcome())
}
