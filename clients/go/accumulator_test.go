package gearshift_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	gearshift "github.com/gearshift-ai/gearshift/clients/go"
	"github.com/gearshift-ai/gearshift/clients/go/gearshiftv1"
)

func checkpoint(through uint32) *gearshift.Event {
	return &gearshift.Event{Kind: &gearshiftv1.Event_Checkpoint{Checkpoint: &gearshiftv1.Checkpoint{Through: through}}}
}

func retract(after uint32) *gearshift.Event {
	return &gearshift.Event{Kind: &gearshiftv1.Event_Retract{Retract: &gearshiftv1.Retract{After: after}}}
}

func apply(t *testing.T, answer *gearshift.Accumulator, events ...*gearshift.Event) {
	t.Helper()
	for _, event := range events {
		if _, _, err := answer.Apply(event); err != nil {
			t.Fatal(err)
		}
	}
}

func TestARetractTellsThatTextWasTakenAway(t *testing.T) {
	var answer gearshift.Accumulator
	apply(t, &answer, started(), delta(1, "Hel"), delta(2, "lo"))
	added, retracted, err := answer.Apply(retract(1))
	if added != "" || !retracted || err != nil || answer.Text() != "Hel" {
		t.Fatal(added, retracted, err, answer.Text())
	}
	if _, retracted, _ = answer.Apply(retract(1)); retracted {
		t.Fatal("nothing was left to take away")
	}
	added, _, _ = answer.Apply(delta(3, "p!"))
	if added != "p!" || answer.Text() != "Help!" {
		t.Fatal(added, answer.Text())
	}
}

func TestABrokenRuleChangesNothing(t *testing.T) {
	var answer gearshift.Accumulator
	apply(t, &answer, started(), delta(1, "kept"), checkpoint(1), delta(2, " too"))
	before := snapshotOf(&answer)
	for _, event := range []*gearshift.Event{started(), delta(2, "again"), checkpoint(1), checkpoint(7), retract(0), retract(7)} {
		_, _, err := answer.Apply(event)
		var broken *gearshift.StreamProtocolError
		if !errors.As(err, &broken) || broken.Message == "" {
			t.Errorf("%v gave %v", event, err)
		}
		if found := snapshotOf(&answer); found.Text != before.Text || !slices.Equal(found.Live, before.Live) {
			t.Errorf("%v changed what stands to %+v", event, found)
		}
	}
}

func TestAPartialIsNoAnswer(t *testing.T) {
	var answer gearshift.Accumulator
	apply(t, &answer, started(), delta(1, "half an"))
	if _, err := answer.Finish(); err == nil || answer.Answer().GetText() != "half an" {
		t.Fatal(err, answer.Answer())
	}
	apply(t, &answer, delta(2, " answer"), completed("half an answer", ""))
	whole, err := answer.Finish()
	if err != nil || whole.GetText() != "half an answer" || whole.GetRequestId() != "r-1" {
		t.Fatal(whole, err)
	}
}

func TestTheDigestEscapesAsTheContractSays(t *testing.T) {
	calls := []*gearshift.ToolCall{{Id: "<&>", Name: "n\"\\\u2028\x7f", Arguments: "\b\t\n\f\r\x00\x1f/é"}}
	canonical := "[{\"arguments\":\"\\b\\t\\n\\f\\r\\u0000\\u001f/é\",\"id\":\"<&>\",\"name\":\"n\\\"\\\\\u2028\x7f\"}]"
	if gearshift.Digest("", calls...) != gearshift.Digest(canonical) {
		t.Fatal("the canonical form is another one")
	}
}

// plain folds by the words of tests/conformance/README.md, slowly and without any cleverness.
type plain struct {
	started, completed           bool
	attempt, highest, checkpoint uint32
	live                         []*gearshiftv1.Delta
}

func (p *plain) apply(event *gearshift.Event) gearshift.Rule {
	stands := func(number uint32) bool {
		return slices.ContainsFunc(p.live, func(one *gearshiftv1.Delta) bool { return one.GetNumber() == number })
	}
	isStarted := event.GetStarted() != nil
	switch {
	case p.completed:
		return gearshift.RuleAfterCompleted
	case isStarted && p.started:
		return gearshift.RuleStartedTwice
	case !isStarted && !p.started:
		return gearshift.RuleBeforeStarted
	}
	switch kind := event.GetKind().(type) {
	case *gearshiftv1.Event_Started:
		p.started = true
	case *gearshiftv1.Event_Attempt:
		if kind.Attempt.GetNumber() <= p.attempt {
			return gearshift.RuleAttemptNotRising
		}
		p.attempt = kind.Attempt.GetNumber()
	case *gearshiftv1.Event_Delta:
		if kind.Delta.GetNumber() <= p.highest {
			return gearshift.RuleNumberNotRising
		}
		p.highest, p.live = kind.Delta.GetNumber(), append(p.live, kind.Delta)
	case *gearshiftv1.Event_Checkpoint:
		switch through := kind.Checkpoint.GetThrough(); {
		case through <= p.checkpoint:
			return gearshift.RuleCheckpointNotRising
		case !stands(through):
			return gearshift.RuleCheckpointNotLive
		default:
			p.checkpoint = through
		}
	case *gearshiftv1.Event_Retract:
		switch after := kind.Retract.GetAfter(); {
		case after < p.checkpoint:
			return gearshift.RuleRetractBehindCheckpoint
		case after != 0 && !stands(after):
			return gearshift.RuleRetractNotLive
		default:
			p.live = slices.DeleteFunc(p.live, func(one *gearshiftv1.Delta) bool { return one.GetNumber() > after })
		}
	case *gearshiftv1.Event_Completed:
		p.completed = true
	}
	return ""
}

func (p *plain) text(upTo uint32) string {
	var text strings.Builder
	for _, delta := range p.live {
		for _, part := range delta.GetParts() {
			if delta.GetNumber() <= upTo {
				text.WriteString(part.GetText())
			}
		}
	}
	return text.String()
}

func FuzzTheAccumulatorIsThePlainOne(f *testing.F) {
	for _, file := range []string{"streams.json", "recorded.json"} {
		for _, one := range casesOf(f, file) {
			var events []*gearshift.Event
			for _, message := range one.messages(f) {
				events = append(events, message.GetEvents()...)
			}
			data, err := proto.Marshal(message(events...))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		given := &gearshiftv1.StreamRouteResponse{}
		if proto.Unmarshal(data, given) != nil {
			t.Skip("it is no message")
		}
		var answer gearshift.Accumulator
		var slow plain
		for _, event := range given.GetEvents() {
			_, _, err := answer.Apply(event)
			rule := slow.apply(event)
			var broken *gearshift.StreamProtocolError
			if errors.As(err, &broken) != (rule != "") || broken != nil && broken.Rule != rule {
				t.Fatalf("%v: %v, and not %q", event, err, rule)
			}
			if answer.Text() != slow.text(slow.highest) || answer.Committed() != slow.text(slow.checkpoint) {
				t.Fatalf("%q stands, and not %q", answer.Text(), slow.text(slow.highest))
			}
			answer.ToolCalls()
		}
		whole, err := answer.Finish()
		if err == nil && gearshift.Digest(whole.GetText(), whole.GetToolCalls()...) != whole.GetCompletion().GetDigest() {
			t.Fatal("it finished with another digest")
		}
	})
}
