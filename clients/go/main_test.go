package gearshift_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"runtime/pprof"
	"strings"
	"testing"
	"time"
)

// target is where the service of deploy/examples/simulated.yaml runs; the examples call it.
var target = "127.0.0.1:50051"

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

// run starts the service once for all tests, and afterwards looks for goroutines that were left behind.
func run(m *testing.M) int {
	if flag.Lookup("test.fuzz").Value.String() != "" { // which runs this in every worker
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "gearshift-go-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if program == "" {
		if os.Getenv("CI") == "true" {
			fmt.Fprintln(os.Stderr, "there is no gearshift program: run make install, or name one in GEARSHIFT_PROGRAM")
			return 1
		}
		if flag.Lookup("test.run").Value.String() == "" { // examples cannot be skipped one by one
			_ = flag.Set("test.run", "^(Test|Fuzz)")
		}
		return m.Run()
	}
	running, err = startService(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer running.stop()
	target = running.address
	code := m.Run()
	if left := leftovers(); left != "" {
		fmt.Fprintln(os.Stderr, "goroutines were left behind:\n"+left)
		return 1
	}
	return code
}

// leftovers gives the stacks of goroutines of grpc or of this client that do not end within a second.
func leftovers() string {
	left := ""
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		var all bytes.Buffer
		_ = pprof.Lookup("goroutine").WriteTo(&all, 2)
		found := []string{}
		for stack := range strings.SplitSeq(all.String(), "\n\n") {
			if strings.Contains(stack, "google.golang.org/grpc") || strings.Contains(stack, "clients/go.(*") {
				found = append(found, stack)
			}
		}
		if left = strings.Join(found, "\n\n"); left == "" {
			break
		}
	}
	return left
}
