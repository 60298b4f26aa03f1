package gearshift_test

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

var snippet = regexp.MustCompile("(?m)^```go\n((?s:.*?))^```\n(?:\n```text\n((?s:.*?))^```$)?")

// exampleBodies gives the body and the output of every example, which go test runs, by its text.
func exampleBodies(t *testing.T) map[string]string {
	t.Helper()
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, one := range regexp.MustCompile(`(?m)^func Example\w*\(\) \{\n((?s:.*?))^\}`).FindAllStringSubmatch(string(source), -1) {
		body, output, ok := strings.Cut(one[1], "\t// Output:\n")
		if !ok {
			t.Errorf("this example says no output:\n%s", one[1])
		}
		body = strings.ReplaceAll(undent(body, "\t"), "NewClient(target)", `NewClient("127.0.0.1:50051")`)
		found[body] = undent(output, "\t// ")
	}
	return found
}

func undent(text, by string) string {
	lines := strings.Split(text, "\n")
	for at, line := range lines {
		lines[at] = strings.TrimPrefix(line, by)
	}
	return strings.Join(lines, "\n")
}

func TestEverySnippetOfThePagesIsAnExampleThatRuns(t *testing.T) {
	examples := exampleBodies(t)
	program, err := os.ReadFile("examples/route/main.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"README.md", "../../docs/clients.md"} {
		text, err := os.ReadFile(page)
		if os.IsNotExist(err) && os.Getenv("CI") != "true" {
			t.Skipf("%s is not here: this is not a checkout of Gearshift", page)
		}
		if err != nil {
			t.Fatal(err)
		}
		snippets := snippet.FindAllStringSubmatch(string(text), -1)
		if len(snippets) == 0 || len(snippets) != strings.Count(string(text), "```go\n") {
			t.Errorf("%s has %d snippets that can be read", page, len(snippets))
		}
		for _, one := range snippets {
			code, prints := one[1], one[2]
			if strings.HasPrefix(code, "package main") {
				if !strings.HasSuffix(string(program), code) || prints != routePrints {
					t.Errorf("%s has another program than examples/route/main.go:\n%s", page, code)
				}
			} else if output, is := examples[code]; !is || output != prints {
				t.Errorf("%s has a snippet that is no example, or prints something else:\n%s\n%s", page, code, prints)
			}
		}
	}
}

const routePrints = `label    billing
model    local
outcome  OUTCOME_ACCEPTED
`

func TestTheProgramOfThePagePrintsWhatStandsBelowIt(t *testing.T) {
	service := needService(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	defer cancel()
	said, err := exec.CommandContext(ctx, "go", "run", "-buildvcs=false", "./examples/route", service.address).CombinedOutput()
	if err != nil || string(said) != routePrints {
		t.Errorf("%v:\n%s", err, said)
	}
}
