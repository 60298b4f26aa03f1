/**
 * The turns of a conversation, built in one line each.
 *
 * Rules: values only; what an answer gave as `providerState` goes back unchanged on its assistant turn.
 */
import { create } from "@bufbuild/protobuf";

import type { Answer } from "./gen/gearshift/v1/answer_pb.js";
import {
  ImageSchema,
  MessageSchema,
  PartSchema,
  Role,
  ToolSchema,
  type Image,
  type Message,
  type Part,
  type Tool,
} from "./gen/gearshift/v1/call_pb.js";

/** Any JSON value. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [name: string]: Json };

/** Gives a user turn of texts and images, in order. */
export function user(...parts: readonly (string | Image)[]): Message {
  return create(MessageSchema, {
    role: Role.USER,
    parts: parts.map((part) =>
      typeof part === "string" ? textPart(part) : create(PartSchema, { content: { case: "image", value: part } }),
    ),
  });
}

/** Gives an assistant turn: a text, or a whole answer with its tool calls and its provider's state. */
export function assistant(answer: string | Answer): Message {
  if (typeof answer === "string") {
    return create(MessageSchema, { role: Role.ASSISTANT, parts: [textPart(answer)] });
  }
  const calls = answer.toolCalls.map((value) => create(PartSchema, { content: { case: "toolCall", value } }));
  const state = answer.completion?.providerState;
  return create(MessageSchema, {
    role: Role.ASSISTANT,
    parts: [...(answer.text === "" ? [] : [textPart(answer.text)]), ...calls],
    ...(state === undefined ? {} : { providerState: state }),
  });
}

/** Gives the turn that tells a tool's result. */
export function toolResult(toolCallId: string, content: string, { isError = false }: { isError?: boolean } = {}): Message {
  const result = { toolCallId, content, isError };
  return create(MessageSchema, { role: Role.TOOL, parts: [{ content: { case: "toolResult", value: result } }] });
}

/** Gives an image of encoded bytes; mediaType is image/png, image/jpeg, image/gif or image/webp. */
export function image(data: Uint8Array, mediaType: string): Image {
  return create(ImageSchema, { source: { case: "data", value: data }, mediaType });
}

/** Gives an image by its https URL, which only the provider fetches. */
export function imageUrl(url: string): Image {
  return create(ImageSchema, { source: { case: "url", value: url } });
}

/** Gives a tool that the model may ask for; parameters is the JSON Schema of its arguments. */
export function tool(name: string, description = "", parameters: Json = ""): Tool {
  const parametersSchema = typeof parameters === "string" ? parameters : JSON.stringify(parameters);
  return create(ToolSchema, { name, description, parametersSchema });
}

/** Gives turns of text that begin with the user and alternate. */
export function conversation(...turns: readonly string[]): Message[] {
  return turns.map((text, index) => (index % 2 === 0 ? user(text) : assistant(text)));
}

function textPart(text: string): Part {
  return create(PartSchema, { content: { case: "text", value: text } });
}
