package gearshift

import "github.com/gearshift-ai/gearshift/clients/go/gearshiftv1"

// Text gives a piece of text.
func Text(text string) *Part { return &Part{Content: &gearshiftv1.Part_Text{Text: text}} }

// Image gives an image of encoded bytes; mediaType is image/png, image/jpeg, image/gif or image/webp.
func Image(data []byte, mediaType string) *Part {
	image := &gearshiftv1.Image{Source: &gearshiftv1.Image_Data{Data: data}, MediaType: mediaType}
	return &Part{Content: &gearshiftv1.Part_Image{Image: image}}
}

// ImageURL gives an image by its https URL, which only the provider fetches.
func ImageURL(url string) *Part {
	image := &gearshiftv1.Image{Source: &gearshiftv1.Image_Url{Url: url}}
	return &Part{Content: &gearshiftv1.Part_Image{Image: image}}
}

// User gives a user turn of text.
func User(text string) *Message { return UserParts(Text(text)) }

// UserParts gives a user turn of texts and images, in order.
func UserParts(parts ...*Part) *Message {
	return &Message{Role: gearshiftv1.Role_ROLE_USER, Parts: parts}
}

// Assistant gives an assistant turn of text.
func Assistant(text string) *Message {
	return &Message{Role: gearshiftv1.Role_ROLE_ASSISTANT, Parts: []*Part{Text(text)}}
}

// AssistantAnswer gives the assistant turn of a whole answer, with its tool calls and its provider's state.
func AssistantAnswer(answer *Answer) *Message {
	message := &Message{
		Role:          gearshiftv1.Role_ROLE_ASSISTANT,
		ProviderState: answer.GetCompletion().GetProviderState(),
	}
	if answer.GetText() != "" {
		message.Parts = append(message.Parts, Text(answer.GetText()))
	}
	for _, call := range answer.GetToolCalls() {
		message.Parts = append(message.Parts, &Part{Content: &gearshiftv1.Part_ToolCall{ToolCall: call}})
	}
	return message
}

// ToolResult gives the turn that tells a tool's result.
func ToolResult(toolCallID, content string) *Message { return toolTurn(toolCallID, content, false) }

// ToolError gives the turn that tells that a tool failed.
func ToolError(toolCallID, content string) *Message { return toolTurn(toolCallID, content, true) }

// NewTool gives a tool that the model may ask for; parametersSchema is the JSON Schema of its arguments, empty an
// object of anything.
func NewTool(name, description, parametersSchema string) *Tool {
	return &Tool{Name: name, Description: description, ParametersSchema: parametersSchema}
}

// Conversation gives turns of text that begin with the user and alternate.
func Conversation(turns ...string) []*Message {
	messages := make([]*Message, len(turns))
	for at, text := range turns {
		if at%2 == 0 {
			messages[at] = User(text)
		} else {
			messages[at] = Assistant(text)
		}
	}
	return messages
}

func toolTurn(toolCallID, content string, isError bool) *Message {
	result := &gearshiftv1.ToolResult{ToolCallId: toolCallID, Content: content, IsError: isError}
	part := &Part{Content: &gearshiftv1.Part_ToolResult{ToolResult: result}}
	return &Message{Role: gearshiftv1.Role_ROLE_TOOL, Parts: []*Part{part}}
}
