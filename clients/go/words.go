package gearshift

import "github.com/gearshift-ai/gearshift/clients/go/gearshiftv1"

// Short names for the messages that callers name often.
type (
	// Call is one AI call: a task and what it needs; see [NewCall].
	Call = gearshiftv1.Call
	// Answer is the whole answer to one call.
	Answer = gearshiftv1.Answer
	// Completion is everything known when a call has ended: outcome, verdicts, attempts, usage, cost.
	Completion = gearshiftv1.Completion
	// Attempt is one upstream call and what came of it.
	Attempt = gearshiftv1.Attempt
	// Event is one step of a streamed answer; switch over its GetKind, and pass over kinds that you do not know.
	Event = gearshiftv1.Event
	// Message is one turn of a conversation; see [User], [Assistant] and [ToolResult].
	Message = gearshiftv1.Message
	// Part is one piece of a message; see [Text], [Image] and [ImageURL].
	Part = gearshiftv1.Part
	// Tool is a function that the model may ask to be called; see [NewTool].
	Tool = gearshiftv1.Tool
	// ToolCall is one call of a tool that the model asks for.
	ToolCall = gearshiftv1.ToolCall
	// Outcome is how a call ended.
	Outcome = gearshiftv1.Outcome
	// TaskType is what kind of work a task is.
	TaskType = gearshiftv1.TaskType
	// Complexity is the capability that a model must have, never the length of a prompt.
	Complexity = gearshiftv1.Complexity
	// Sensitivity is the clearance that a provider must have.
	Sensitivity = gearshiftv1.Sensitivity
	// Effort is how much a model may think before it answers.
	Effort = gearshiftv1.ReasoningEffort
	// Mode is how a stream goes on after its attempt broke or was found poor.
	Mode = gearshiftv1.SwitchMode
	// InputType says what texts that become vectors are for.
	InputType = gearshiftv1.InputType
	// Truncation says what happens to a text that is too long to become a vector.
	Truncation = gearshiftv1.Truncation
	// Verdict is the caller's word on an answer.
	Verdict = gearshiftv1.OutcomeVerdict
)

// How a call ended.
const (
	// OutcomeAccepted: the answer passed its gates.
	OutcomeAccepted = gearshiftv1.Outcome_OUTCOME_ACCEPTED
	// OutcomeNotAccepted: it is the best there was, and did not pass.
	OutcomeNotAccepted = gearshiftv1.Outcome_OUTCOME_NOT_ACCEPTED
	// OutcomeFailed: there is no answer, or only a partial one.
	OutcomeFailed = gearshiftv1.Outcome_OUTCOME_FAILED
)

// The task types that Route and StreamRoute serve.
const (
	// Classify: choose one of a closed set of labels.
	Classify = gearshiftv1.TaskType_TASK_TYPE_CLASSIFY
	// Extract: take structured data out of a text.
	Extract = gearshiftv1.TaskType_TASK_TYPE_EXTRACT
	// Generate: write text.
	Generate = gearshiftv1.TaskType_TASK_TYPE_GENERATE
	// Reason: work something out in steps.
	Reason = gearshiftv1.TaskType_TASK_TYPE_REASON
)

// The capability that a model must have.
const (
	// ComplexityLow: any model will do.
	ComplexityLow = gearshiftv1.Complexity_COMPLEXITY_LOW
	// ComplexityMedium needs a capable small model.
	ComplexityMedium = gearshiftv1.Complexity_COMPLEXITY_MEDIUM
	// ComplexityHigh needs a strong model.
	ComplexityHigh = gearshiftv1.Complexity_COMPLEXITY_HIGH
)

// The clearance that a provider must have.
const (
	// SensitivityPublic: anyone may see it.
	SensitivityPublic = gearshiftv1.Sensitivity_SENSITIVITY_PUBLIC
	// SensitivityInternal is the default.
	SensitivityInternal = gearshiftv1.Sensitivity_SENSITIVITY_INTERNAL
	// SensitivityRestricted: never cached, its content never logged.
	SensitivityRestricted = gearshiftv1.Sensitivity_SENSITIVITY_RESTRICTED
)

// How much a model may think first.
const (
	// EffortNone: no thinking, where the model can be told so.
	EffortNone = gearshiftv1.ReasoningEffort_REASONING_EFFORT_NONE
	// EffortLow is little.
	EffortLow = gearshiftv1.ReasoningEffort_REASONING_EFFORT_LOW
	// EffortMedium is some.
	EffortMedium = gearshiftv1.ReasoningEffort_REASONING_EFFORT_MEDIUM
	// EffortHigh is much.
	EffortHigh = gearshiftv1.ReasoningEffort_REASONING_EFFORT_HIGH
)

// How a stream goes on after its attempt broke or was found poor.
const (
	// ModeRegenerate: retract everything and start again on the next stage; the default.
	ModeRegenerate = gearshiftv1.SwitchMode_SWITCH_MODE_REGENERATE
	// ModeContinue: keep what is committed and let the next stage continue it.
	ModeContinue = gearshiftv1.SwitchMode_SWITCH_MODE_CONTINUE
	// ModeFail: end as failed and keep the partial.
	ModeFail = gearshiftv1.SwitchMode_SWITCH_MODE_FAIL
)

// What texts that become vectors are for.
const (
	// InputQuery: to search with.
	InputQuery = gearshiftv1.InputType_INPUT_TYPE_QUERY
	// InputDocument: to be found.
	InputDocument = gearshiftv1.InputType_INPUT_TYPE_DOCUMENT
)

// What happens to a text that is too long to become a vector.
const (
	// TruncateError refuses it; the default.
	TruncateError = gearshiftv1.Truncation_TRUNCATION_ERROR
	// TruncateEnd drops its end.
	TruncateEnd = gearshiftv1.Truncation_TRUNCATION_END
)

// The caller's word on an answer.
const (
	// VerdictAccepted: it was right.
	VerdictAccepted = gearshiftv1.OutcomeVerdict_OUTCOME_VERDICT_ACCEPTED
	// VerdictCorrected: it had to be corrected.
	VerdictCorrected = gearshiftv1.OutcomeVerdict_OUTCOME_VERDICT_CORRECTED
	// VerdictRejected: it was of no use.
	VerdictRejected = gearshiftv1.OutcomeVerdict_OUTCOME_VERDICT_REJECTED
)
