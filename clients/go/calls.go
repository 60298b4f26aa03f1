package gearshift

import (
	"maps"
	"slices"
	"time"

	"github.com/gearshift-ai/gearshift/clients/go/gearshiftv1"
)

// CallOption says something about a call. What is not said stays unset, so that declaration and chain decide; ranges
// are the server's to check. Later options win.
type CallOption func(*Call)

// NewCall builds one call. task is the id that cost is attributed to, such as "email-triage"; prompt is short for one
// user message after [Messages].
func NewCall(task, prompt string, options ...CallOption) *Call {
	call := &Call{Task: &gearshiftv1.Task{Id: task}, Prompt: prompt}
	for _, option := range options {
		option(call)
	}
	return call
}

// TaskID names the id that cost is attributed to; it is for [Client.Execute], whose task may be a type.
func TaskID(id string) CallOption { return func(c *Call) { c.Task.Id = id } }

// Type says what kind of work it is; unset leaves it to declaration, output and classifier.
func Type(taskType TaskType) CallOption { return func(c *Call) { c.Task.Type = taskType } }

// AtComplexity says which capability a model must have.
func AtComplexity(complexity Complexity) CallOption {
	return func(c *Call) { c.Task.Complexity = complexity }
}

// AtSensitivity says which clearance a provider must have; it can only raise what is declared.
func AtSensitivity(sensitivity Sensitivity) CallOption {
	return func(c *Call) { c.Task.Sensitivity = sensitivity }
}

// System gives the static instructions, with {{name}} where one of [Variables] goes.
func System(text string) CallOption {
	return func(c *Call) { systemOf(c).Source = &gearshiftv1.SystemPrompt_Text{Text: text} }
}

// SystemKey gives the key of stored instructions, instead of their text.
func SystemKey(key string) CallOption {
	return func(c *Call) { systemOf(c).Source = &gearshiftv1.SystemPrompt_Key{Key: key} }
}

// Variables gives the values for the {{name}} places of the instructions.
func Variables(values map[string]string) CallOption {
	return func(c *Call) { systemOf(c).Variables = maps.Clone(values) }
}

// Static says that the instructions hold no values of one request, whatever they look like.
func Static() CallOption { return func(c *Call) { systemOf(c).Static = true } }

// Messages gives the conversation, oldest first.
func Messages(messages ...*Message) CallOption {
	return func(c *Call) { c.Messages = slices.Clone(messages) }
}

// Labels asks for exactly one of these.
func Labels(labels ...string) CallOption {
	return func(c *Call) {
		made := &gearshiftv1.LabelOutput{Labels: slices.Clone(labels), Examples: c.GetOutput().GetLabels().GetExamples()}
		c.Output = &gearshiftv1.OutputSpec{Kind: &gearshiftv1.OutputSpec_Labels{Labels: made}}
	}
}

// LabelExample adds a worked example, after [Labels]: a text with its right label.
func LabelExample(text, label string) CallOption {
	return func(c *Call) {
		if c.GetOutput().GetLabels() == nil {
			Labels()(c)
		}
		labels := c.GetOutput().GetLabels()
		labels.Examples = append(labels.Examples, &gearshiftv1.LabelExample{Text: text, Label: label})
	}
}

// Schema asks for JSON that fits a JSON Schema, given as text; empty takes any JSON.
func Schema(schema string) CallOption { return func(c *Call) { jsonOf(c).Schema = schema } }

// SchemaName says what the schema is called, after [Schema].
func SchemaName(name string) CallOption { return func(c *Call) { jsonOf(c).Name = name } }

// SchemaExample adds a worked example, after [Schema]: a text with its right document, JSON as text.
func SchemaExample(text, document string) CallOption {
	return func(c *Call) {
		output := jsonOf(c)
		output.Examples = append(output.Examples, &gearshiftv1.JsonExample{Text: text, Json: document})
	}
}

// Tools says what the model may ask to be called.
func Tools(tools ...*Tool) CallOption { return func(c *Call) { c.Tools = slices.Clone(tools) } }

// ToolChoice is "auto", "none", "required", or the name of a tool.
func ToolChoice(choice string) CallOption {
	modes := map[string]gearshiftv1.ToolMode{
		"auto":     gearshiftv1.ToolMode_TOOL_MODE_AUTO,
		"none":     gearshiftv1.ToolMode_TOOL_MODE_NONE,
		"required": gearshiftv1.ToolMode_TOOL_MODE_REQUIRED,
	}
	made := &gearshiftv1.ToolChoice{Mode: gearshiftv1.ToolMode_TOOL_MODE_NAMED, Name: choice}
	if mode, known := modes[choice]; known {
		made = &gearshiftv1.ToolChoice{Mode: mode}
	}
	return func(c *Call) { c.ToolChoice = made }
}

// Temperature is 0 to 2.
func Temperature(temperature float64) CallOption {
	return func(c *Call) { parametersOf(c).Temperature = &temperature }
}

// TopP is above 0, to 1.
func TopP(topP float64) CallOption { return func(c *Call) { parametersOf(c).TopP = &topP } }

// MaxTokens is the most model tokens to write.
func MaxTokens(tokens int32) CallOption { return func(c *Call) { parametersOf(c).MaxTokens = &tokens } }

// Stop gives stop words; the answer ends before one.
func Stop(words ...string) CallOption {
	return func(c *Call) { parametersOf(c).Stop = slices.Clone(words) }
}

// Seed makes sampling repeatable where the model can.
func Seed(seed int64) CallOption { return func(c *Call) { parametersOf(c).Seed = &seed } }

// ReasoningEffort says how much the model may think first.
func ReasoningEffort(effort Effort) CallOption {
	return func(c *Call) { parametersOf(c).ReasoningEffort = effort }
}

// RequestID names the request: a repeat within the server's window joins the running call or returns its result.
func RequestID(id string) CallOption { return func(c *Call) { c.RequestId = id } }

// MaxAttempts is the most upstream calls.
func MaxAttempts(attempts uint32) CallOption {
	return func(c *Call) { policyOf(c).MaxAttempts = &attempts }
}

// MaxHops is the most changes of stage.
func MaxHops(hops uint32) CallOption { return func(c *Call) { policyOf(c).MaxHops = &hops } }

// MaxCostUSD is the most to spend, a decimal such as "0.02".
func MaxCostUSD(amount string) CallOption { return func(c *Call) { policyOf(c).MaxCostUsd = amount } }

// MinConfidence is the confidence to accept without a second look, 0 to 1.
func MinConfidence(confidence float64) CallOption {
	return func(c *Call) { policyOf(c).MinConfidence = &confidence }
}

// EscalationThreshold is the confidence under which an answer escalates, 0 to 1.
func EscalationThreshold(confidence float64) CallOption {
	return func(c *Call) { policyOf(c).EscalationThreshold = &confidence }
}

// RequireValid has a call fail as ABORTED when nothing was accepted, instead of giving the best answer marked as not
// accepted.
func RequireValid() CallOption { return func(c *Call) { policyOf(c).RequireValid = true } }

// RequireConfidence has an answer escalate whose confidence cannot be measured.
func RequireConfidence() CallOption { return func(c *Call) { policyOf(c).RequireConfidence = true } }

// AllowedModels says that only these models may serve the call.
func AllowedModels(models ...string) CallOption {
	return func(c *Call) { policyOf(c).AllowedModels = slices.Clone(models) }
}

// AllowedProviders says that only these providers may serve the call.
func AllowedProviders(providers ...string) CallOption {
	return func(c *Call) { policyOf(c).AllowedProviders = slices.Clone(providers) }
}

// NoSecondLook never samples twice.
func NoSecondLook() CallOption { return func(c *Call) { policyOf(c).NoSecondLook = true } }

// NoCache neither reads nor writes the response cache.
func NoCache() CallOption { return func(c *Call) { policyOf(c).NoCache = true } }

// NoEscalation returns a poor answer as it is.
func NoEscalation() CallOption { return func(c *Call) { policyOf(c).NoEscalation = true } }

// StreamOption says how a stream is held back and switched. Later options win.
type StreamOption func(*gearshiftv1.StreamPolicy)

// HoldBackTokens holds each attempt's text until this many tokens came; 0 shows them at once.
func HoldBackTokens(tokens uint32) StreamOption {
	return func(p *gearshiftv1.StreamPolicy) { p.HoldBackTokens = &tokens }
}

// HoldBack holds each attempt's text no longer than this, in whole milliseconds.
func HoldBack(duration time.Duration) StreamOption {
	milliseconds := uint32(max(0, duration.Milliseconds()))
	return func(p *gearshiftv1.StreamPolicy) { p.HoldBackMs = &milliseconds }
}

// OnBreak says what happens after a broken or poor attempt; without it the answer is regenerated.
func OnBreak(mode Mode) StreamOption { return func(p *gearshiftv1.StreamPolicy) { p.Mode = mode } }

// EscalateAtEnd has a poor final confidence retract and escalate too.
func EscalateAtEnd() StreamOption {
	return func(p *gearshiftv1.StreamPolicy) { p.EscalateAtEnd = true }
}

// Preview sends partial JSON, labels and tool calls before they are accepted.
func Preview() StreamOption { return func(p *gearshiftv1.StreamPolicy) { p.Preview = true } }

// IncludeReasoning sends the model's reasoning as well.
func IncludeReasoning() StreamOption {
	return func(p *gearshiftv1.StreamPolicy) { p.IncludeReasoning = true }
}

// EmbedOption says something about texts that become vectors. Later options win.
type EmbedOption func(*gearshiftv1.EmbedRequest)

// For says what the texts are for, [InputQuery] or [InputDocument].
func For(inputType InputType) EmbedOption {
	return func(r *gearshiftv1.EmbedRequest) { r.InputType = inputType }
}

// Dimensions is the length of each vector; without it, the model's own.
func Dimensions(dimensions uint32) EmbedOption {
	return func(r *gearshiftv1.EmbedRequest) { r.Dimensions = &dimensions }
}

// Truncate says what happens to a text that is too long.
func Truncate(truncation Truncation) EmbedOption {
	return func(r *gearshiftv1.EmbedRequest) { r.Truncation = truncation }
}

// VectorSpace is the space that the vectors must be in, as an earlier response gave it.
func VectorSpace(space string) EmbedOption {
	return func(r *gearshiftv1.EmbedRequest) { r.VectorSpace = space }
}

// AllowSpaceChange lets a fallback answer in another space, which ruins an index that mixes them.
func AllowSpaceChange() EmbedOption {
	return func(r *gearshiftv1.EmbedRequest) { r.AllowSpaceChange = true }
}

// Under takes task, sensitivity, request id and policy from call options; what else they say is not for vectors.
func Under(options ...CallOption) EmbedOption {
	return func(r *gearshiftv1.EmbedRequest) {
		call := &Call{Task: r.Task, RequestId: r.RequestId, Policy: r.Policy}
		for _, option := range options {
			option(call)
		}
		r.Task, r.RequestId, r.Policy = call.Task, call.RequestId, call.Policy
	}
}

// streamPolicy gives nil when nothing was said.
func streamPolicy(options []StreamOption) *gearshiftv1.StreamPolicy {
	if len(options) == 0 {
		return nil
	}
	policy := &gearshiftv1.StreamPolicy{}
	for _, option := range options {
		option(policy)
	}
	return policy
}

func systemOf(c *Call) *gearshiftv1.SystemPrompt {
	if c.System == nil {
		c.System = &gearshiftv1.SystemPrompt{}
	}
	return c.System
}

func jsonOf(c *Call) *gearshiftv1.JsonOutput {
	if c.GetOutput().GetJson() == nil {
		c.Output = &gearshiftv1.OutputSpec{Kind: &gearshiftv1.OutputSpec_Json{Json: &gearshiftv1.JsonOutput{}}}
	}
	return c.GetOutput().GetJson()
}

func parametersOf(c *Call) *gearshiftv1.Parameters {
	if c.Parameters == nil {
		c.Parameters = &gearshiftv1.Parameters{}
	}
	return c.Parameters
}

func policyOf(c *Call) *gearshiftv1.Policy {
	if c.Policy == nil {
		c.Policy = &gearshiftv1.Policy{}
	}
	return c.Policy
}
