package gearshift_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const (
	examples = "../../deploy/examples/"
	startup  = 60 * time.Second
)

// program is the gearshift command, empty when there is none; running is the service, nil without it.
var (
	program = findProgram()
	running *service
)

// A provider that always fails, or hangs when asked to go on for ever; and a task that knows no other. It is apart, so
// that its breaker stops nobody else.
const failingPlan = `
  failing:
    wire: openai
    latency: {first_token_ms: 5, token_ms: 1}
    faults:
      - {fault: "stall@6:60", contains: "for ever"}
      - {fault: server_error}
`

var failingConfig = map[string]string{
	"providers":  "  failing: {kind: openai, dialect: compatible, base_url: http://127.0.0.1:8099/p/failing/v1, breaker: {consecutive_faults: 1000, window: 10000}}\n",
	"models":     "  fails: {provider: failing, capability: high, context_tokens: 8192, prices: {input_usd: 1, output_usd: 1}}\n",
	"chains":     "  failing: {stages: [{provider: failing, model: fails, max_retries: 0}]}\n",
	"  declared": "    failing: {type: generate, chain: failing}\n",
}

// service is the service of the examples, over its simulated providers made quick, and with faults of these tests.
type service struct {
	address   string // of gRPC
	simulator string // URL
	config    string // file
	processes []*exec.Cmd
}

// needService gives the service, and skips the test where there is none.
func needService(t *testing.T) *service {
	t.Helper()
	if running == nil {
		t.Skip("there is no gearshift program: run make install, or name one in GEARSHIFT_PROGRAM")
	}
	return running
}

func findProgram() string {
	if named := os.Getenv("GEARSHIFT_PROGRAM"); named != "" {
		return named
	}
	path, err := filepath.Abs("../../.venv/bin/gearshift")
	if err != nil {
		return ""
	}
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

func startService(dir string) (*service, error) {
	started := &service{}
	plan, err := os.ReadFile(examples + "simulator.yaml")
	if err != nil {
		return nil, err
	}
	text := regexp.MustCompile(`latency: \{.*?\}`).ReplaceAllString(string(plan), "latency: {first_token_ms: 5, token_ms: 1}")
	text = strings.Replace(text, "    faults:\n", "    faults:\n      - {fault: \"stall@6:60\", contains: \"for ever\"}\n", 1)
	text = strings.Replace(text, "\nproviders:\n", "\nproviders:\n"+failingPlan, 1)
	// Draws go by a request's words and how often they came: here, where tests repeat them, nothing is left to chance.
	text = regexp.MustCompile(`probability: [0-9.]+`).ReplaceAllString(text, "probability: 0")
	text = regexp.MustCompile(`quality: [0-9.]+`).ReplaceAllString(text, "quality: 1")
	planFile := filepath.Join(dir, "plan.yaml")
	if err := os.WriteFile(planFile, []byte(text), 0o600); err != nil {
		return nil, err
	}
	said, err := started.start(`simulating on (http://\S+),`, "simulate", "--plan", planFile, "--port", "0")
	if err != nil {
		return nil, err
	}
	started.simulator = said

	config, err := os.ReadFile(examples + "simulated.yaml")
	if err != nil {
		started.stop()
		return nil, err
	}
	text = string(config)
	for section, more := range failingConfig {
		text = strings.Replace(text, "\n"+section+":\n", "\n"+section+":\n"+more, 1)
	}
	text = strings.ReplaceAll(text, "http://127.0.0.1:8099", started.simulator)
	started.config = filepath.Join(dir, "gearshift.yaml")
	if err := os.WriteFile(started.config, []byte(text), 0o600); err != nil {
		started.stop()
		return nil, err
	}
	started.address, err = started.serve(started.config)
	if err != nil {
		started.stop()
		return nil, err
	}
	return started, nil
}

// serve starts one more service; it gives its address.
func (s *service) serve(config string) (string, error) {
	return s.start(`serving on (\S+:\d+)`, "serve", "--config", config, "--port", "0", "--no-http", "--ledger", ":memory:")
}

// start runs a command until it says what is looked for.
func (s *service) start(says string, arguments ...string) (string, error) {
	command := exec.Command(program, arguments...)
	command.SysProcAttr = endsWithUs()
	errors, err := command.StderrPipe()
	if err != nil {
		return "", err
	}
	if err := command.Start(); err != nil {
		return "", err
	}
	s.processes = append(s.processes, command)
	found := make(chan string, 1)
	var said strings.Builder
	go func() {
		pattern := regexp.MustCompile(says)
		lines := bufio.NewScanner(errors)
		for lines.Scan() {
			if match := pattern.FindStringSubmatch(lines.Text()); match != nil {
				found <- match[1]
				_, _ = io.Copy(io.Discard, errors)
				return
			}
			said.WriteString(lines.Text() + "\n")
		}
		close(found)
	}()
	select {
	case one, ok := <-found:
		if ok {
			return one, nil
		}
		return "", fmt.Errorf("gearshift %s ended:\n%s", arguments[0], said.String())
	case <-time.After(startup):
		return "", fmt.Errorf("gearshift %s did not start in %s", arguments[0], startup)
	}
}

func (s *service) stop() {
	for _, process := range s.processes {
		_ = process.Process.Kill()
		_ = process.Wait()
	}
	s.processes = nil
}

// account is what the simulator says that it sent.
type account struct {
	Playing int `json:"playing"`
	Total   struct {
		Requests    int `json:"requests"`
		ClientsLeft int `json:"clients_left"`
	} `json:"total"`
	Requests []struct {
		Provider string `json:"provider"`
		End      string `json:"end"`
	} `json:"requests"`
}

func (s *service) account(t *testing.T) account {
	t.Helper()
	response, err := http.Get(s.simulator + "/account")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var found account
	if err := json.NewDecoder(response.Body).Decode(&found); err != nil {
		t.Fatal(err)
	}
	return found
}

// until waits for something that another process does.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to be that %s", what)
		}
	}
}
