package gearshift

import (
	"fmt"
	"sort"

	"github.com/gearshift-ai/gearshift/clients/go/gearshiftv1"
)

// Accumulator folds the events of one stream into its answer. The zero value is ready; feed it every event, in order.
//
// The rules are the contract's: started comes first; delta numbers rise strictly and are never reused; retract drops
// the deltas after a live one, or all, but never one at or before a checkpoint; checkpoints name a live delta and rise;
// nothing follows completed. Kinds of a later contract are passed over. It does no I/O, and belongs to one goroutine.
type Accumulator struct {
	started    *gearshiftv1.Started
	completed  *gearshiftv1.Completed
	attempt    uint32
	lastNumber uint32
	checkpoint uint32
	live       []liveDelta
	text       []byte // the text of all live deltas, joined
}

// liveDelta is a delta that stands: its number, the attempt that it came in, its parts.
type liveDelta struct {
	number    uint32
	attempt   uint32
	textEnd   int // where its text ends in Accumulator.text
	reasoning string
	fragments []*gearshiftv1.ToolCallFragment
}

// Apply takes in one event. It gives the text that the event appended, and whether text was taken away: then nothing
// was appended, and what stands is Text.
//
// The error is a [*StreamProtocolError]: the event breaks the contract, and the state is as before.
func (a *Accumulator) Apply(event *Event) (added string, retracted bool, err error) {
	if a.completed != nil {
		return "", false, broken(RuleAfterCompleted, "%s after completed", nameOf(event))
	}
	if kind, ok := event.GetKind().(*gearshiftv1.Event_Started); ok {
		if a.started != nil {
			return "", false, broken(RuleStartedTwice, "started twice")
		}
		a.started = orEmpty(kind.Started)
		return "", false, nil
	}
	if a.started == nil {
		return "", false, broken(RuleBeforeStarted, "%s before started", nameOf(event))
	}
	switch kind := event.GetKind().(type) {
	case *gearshiftv1.Event_Attempt:
		err = a.begin(kind.Attempt.GetNumber())
	case *gearshiftv1.Event_Delta:
		added, err = a.append(kind.Delta)
	case *gearshiftv1.Event_Checkpoint:
		err = a.commit(kind.Checkpoint.GetThrough())
	case *gearshiftv1.Event_Retract:
		retracted, err = a.retract(kind.Retract.GetAfter())
	case *gearshiftv1.Event_Completed:
		a.completed = orEmpty(kind.Completed)
	}
	return added, retracted, err
}

// Text is the text that stands.
func (a *Accumulator) Text() string { return string(a.text) }

// Reasoning is the reasoning that stands, apart from the text.
func (a *Accumulator) Reasoning() string {
	var joined []byte
	for _, delta := range a.live {
		joined = append(joined, delta.reasoning...)
	}
	return string(joined)
}

// ToolCalls are the tool calls: a preview until Completed, then final. Act on them only when Completed is not nil.
func (a *Accumulator) ToolCalls() []*ToolCall {
	if a.completed != nil { // also when it has none: fragments of a failed call are not a call
		return a.completed.GetToolCalls()
	}
	type name struct{ attempt, index uint32 }
	found := map[name]*ToolCall{}
	var calls []*ToolCall
	for _, delta := range a.live {
		for _, fragment := range delta.fragments {
			key := name{delta.attempt, fragment.GetIndex()}
			call := found[key]
			if call == nil {
				call = &ToolCall{}
				found[key] = call
				calls = append(calls, call)
			}
			if call.Id == "" {
				call.Id = fragment.GetId()
			}
			if call.Name == "" {
				call.Name = fragment.GetName()
			}
			call.Arguments += fragment.GetArguments()
		}
	}
	return calls
}

// Live gives the numbers of the deltas that stand, rising.
func (a *Accumulator) Live() []uint32 {
	numbers := make([]uint32, len(a.live))
	for at, delta := range a.live {
		numbers[at] = delta.number
	}
	return numbers
}

// Checkpoint is the number of the last delta that will never be taken back; 0 is none.
func (a *Accumulator) Checkpoint() uint32 { return a.checkpoint }

// Committed is the text up to the checkpoint: what will never be taken back.
func (a *Accumulator) Committed() string {
	place := sort.Search(len(a.live), func(at int) bool { return a.live[at].number > a.checkpoint })
	return string(a.text[:a.textUpTo(place)])
}

// Started is the opening event, nil before it.
func (a *Accumulator) Started() *gearshiftv1.Started { return a.started }

// Completed is the closing event, nil before it: until then the text is a partial.
func (a *Accumulator) Completed() *gearshiftv1.Completed { return a.completed }

// Finish checks what must hold when the stream has ended with [io.EOF], and gives its answer.
//
// The error is a [*StreamProtocolError]: there was no completed ([RuleIncomplete]: the text is a partial), it says that
// the call failed although no status followed ([RuleStatusMissing]), or its digest is of another text
// ([RuleDigestMismatch]).
func (a *Accumulator) Finish() (*Answer, error) {
	switch {
	case a.completed == nil:
		return nil, broken(RuleIncomplete, "the stream ended without completed: its text is a partial")
	case a.completed.GetCompletion().GetOutcome() == OutcomeFailed:
		return nil, broken(RuleStatusMissing, "the call failed, and no status followed")
	case !a.DigestMatches():
		return nil, broken(RuleDigestMismatch, "the text is not what the server says that it sent")
	}
	return a.Answer(), nil
}

// DigestMatches tells whether the stream is complete and its text (or tool calls) is what the server says it sent.
func (a *Accumulator) DigestMatches() bool {
	return a.completed != nil && a.completed.GetCompletion().GetDigest() == digestOf(a.text, a.completed.GetToolCalls())
}

// Answer gives the answer as Route would have; without Completed it has no completion. It shares its messages with
// the events.
func (a *Accumulator) Answer() *Answer {
	return &Answer{
		RequestId:  a.started.GetRequestId(),
		Text:       a.Text(),
		ToolCalls:  a.ToolCalls(),
		Reasoning:  a.Reasoning(),
		Resolution: a.started.GetResolution(),
		Completion: a.completed.GetCompletion(),
	}
}

func (a *Accumulator) begin(number uint32) error {
	if number <= a.attempt {
		return broken(RuleAttemptNotRising, "attempt %d after attempt %d", number, a.attempt)
	}
	a.attempt = number
	return nil
}

func (a *Accumulator) append(delta *gearshiftv1.Delta) (string, error) {
	if delta.GetNumber() <= a.lastNumber {
		return "", broken(RuleNumberNotRising, "delta %d after delta %d", delta.GetNumber(), a.lastNumber)
	}
	a.lastNumber = delta.GetNumber()
	before := len(a.text)
	made := liveDelta{number: a.lastNumber, attempt: a.attempt}
	for _, part := range delta.GetParts() {
		switch content := part.GetContent().(type) {
		case *gearshiftv1.DeltaPart_Text:
			a.text = append(a.text, content.Text...)
		case *gearshiftv1.DeltaPart_Reasoning:
			made.reasoning += content.Reasoning
		case *gearshiftv1.DeltaPart_ToolCall:
			made.fragments = append(made.fragments, content.ToolCall)
		}
	}
	made.textEnd = len(a.text)
	a.live = append(a.live, made)
	return string(a.text[before:]), nil
}

func (a *Accumulator) commit(through uint32) error {
	if through <= a.checkpoint {
		return broken(RuleCheckpointNotRising, "checkpoint %d after checkpoint %d", through, a.checkpoint)
	}
	if _, stands := a.placeOf(through); !stands {
		return broken(RuleCheckpointNotLive, "checkpoint names delta %d, which does not stand", through)
	}
	a.checkpoint = through
	return nil
}

func (a *Accumulator) retract(after uint32) (bool, error) {
	if after < a.checkpoint {
		return false, broken(RuleRetractBehindCheckpoint, "retract to %d behind checkpoint %d", after, a.checkpoint)
	}
	kept := 0
	if after != 0 {
		place, stands := a.placeOf(after)
		if !stands {
			return false, broken(RuleRetractNotLive, "retract names delta %d, which does not stand", after)
		}
		kept = place + 1
	}
	end := a.textUpTo(kept)
	changed := end < len(a.text)
	clear(a.live[kept:])
	a.live, a.text = a.live[:kept], a.text[:end]
	return changed, nil
}

// placeOf finds a live delta by its number.
func (a *Accumulator) placeOf(number uint32) (place int, stands bool) {
	place = sort.Search(len(a.live), func(at int) bool { return a.live[at].number >= number })
	return place, place < len(a.live) && a.live[place].number == number
}

// textUpTo tells where the text of the first so many live deltas ends.
func (a *Accumulator) textUpTo(deltas int) int {
	if deltas == 0 {
		return 0
	}
	return a.live[deltas-1].textEnd
}

// nameOf names the kind of an event, for people.
func nameOf(event *Event) string {
	message := event.ProtoReflect()
	kind := message.WhichOneof(message.Descriptor().Oneofs().ByName("kind"))
	if kind == nil {
		return "an event"
	}
	return string(kind.Name())
}

func orEmpty[T any](message *T) *T {
	if message == nil {
		return new(T)
	}
	return message
}

func broken(rule Rule, format string, values ...any) *StreamProtocolError {
	return &StreamProtocolError{Rule: rule, Message: fmt.Sprintf(format, values...)}
}
