/**
 * Builds calls, so that callers rarely touch protobuf.
 *
 * Rules: words are the contract's in lower case ("classify", "high", "restricted"); what is not said stays unset, so
 * that declaration and chain decide. Ranges are the server's to check; here only what could not be sent is refused.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";

import {
  CallSchema,
  ReasoningEffort,
  StreamPolicySchema,
  SwitchMode,
  ToolMode,
  type Call,
  type Message,
  type OutputSpecSchema,
  type ParametersSchema,
  type PolicySchema,
  type StreamPolicy,
  type SystemPromptSchema,
  type Tool,
  type ToolChoiceSchema,
} from "./gen/gearshift/v1/call_pb.js";
import { Complexity, Sensitivity, TaskType, type TaskSchema } from "./gen/gearshift/v1/task_pb.js";
import type { Json } from "./messages.js";
import { refuseUnknown } from "./names.js";
import { valueOf, type WordOf } from "./words.js";

export type TaskTypeName = WordOf<typeof TaskType>;
export type ComplexityName = WordOf<typeof Complexity>;
export type SensitivityName = WordOf<typeof Sensitivity>;
export type EffortName = WordOf<typeof ReasoningEffort>;
export type ModeName = Exclude<WordOf<typeof SwitchMode>, "restore">;

/** The task types that `route` and `streamRoute` serve. */
const TASK_TYPES: readonly string[] = ["classify", "extract", "generate", "reason"];

/** What may be asked of the chain; every field can only tighten what configuration and tenant allow. */
export interface PolicyOptions {
  /** The most upstream calls. */
  maxAttempts?: number;
  /** The most changes of stage. */
  maxHops?: number;
  /** The most to spend, USD, a decimal such as "0.02". */
  maxCostUsd?: string;
  /** Confidence to accept without a second look, 0 to 1. */
  minConfidence?: number;
  /** Confidence under which an answer escalates, 0 to 1. */
  escalationThreshold?: number;
  /** Nothing accepted fails as ABORTED, instead of the best answer marked as not accepted. */
  requireValid?: boolean;
  /** An answer whose confidence cannot be measured escalates. */
  requireConfidence?: boolean;
  /** Only these models. */
  allowedModels?: readonly string[];
  /** Only these providers. */
  allowedProviders?: readonly string[];
  /** Never sample twice. */
  noSecondLook?: boolean;
  /** Neither read nor write the response cache. */
  noCache?: boolean;
  /** Return a poor answer as it is. */
  noEscalation?: boolean;
}

/** What a call may say beside its task and prompt. */
export interface CallOptions extends PolicyOptions {
  /** What kind of work it is; unset leaves it to declaration, output and classifier. */
  taskType?: TaskTypeName;
  /** The capability that a model must have. */
  complexity?: ComplexityName;
  /** The clearance that a provider must have; can only raise what is declared. */
  sensitivity?: SensitivityName;
  /** The static instructions, with `{{name}}` where a variable goes. */
  system?: string;
  /** The key of stored instructions, instead of system. */
  systemKey?: string;
  /** The values for the `{{name}}` places. */
  variables?: Readonly<Record<string, string>>;
  /** The instructions hold no values of one request, whatever they look like. */
  static?: boolean;
  /** The conversation, oldest first. */
  messages?: readonly Message[];
  /** The answer is exactly one of these. */
  labels?: readonly string[];
  /** The answer is JSON that fits this JSON Schema; `{}` takes any JSON. A string is the schema as text. */
  schema?: string | Readonly<Record<string, Json>>;
  /** What the schema is called. */
  schemaName?: string;
  /** Worked examples, as [text, label] or [text, document]. */
  examples?: readonly (readonly [text: string, right: Json])[];
  /** What the model may ask to be called. */
  tools?: readonly Tool[];
  /** "auto", "none", "required", or the name of a tool. */
  toolChoice?: string;
  /** 0 to 2. */
  temperature?: number;
  /** Above 0, to 1. */
  topP?: number;
  /** The most model tokens to write. */
  maxTokens?: number;
  /** Stop words; the answer ends before one. */
  stop?: readonly string[];
  /** Makes sampling repeatable where the model can. */
  seed?: number | bigint;
  /** How much the model may think first. */
  reasoningEffort?: EffortName;
  /** A repeat within the server's window joins the running call or returns its result. */
  requestId?: string;
}

/** The context of `execute`: everything that a call may say, and the id that cost is attributed to. */
export interface ExecuteContext extends CallOptions {
  /** The id that cost is attributed to, when the task is a type. */
  task?: string;
}

/** How a stream is held back and switched. */
export interface StreamOptions {
  /** Hold each attempt's text until this many tokens came; 0 shows them at once. */
  holdBackTokens?: number;
  /** Hold no longer than this, milliseconds. */
  holdBackMs?: number;
  /** What happens after a broken or poor attempt; unset is regenerate. */
  mode?: ModeName;
  /** A poor final confidence retracts and escalates too. */
  escalateAtEnd?: boolean;
  /** Send partial JSON, labels and tool calls before they are accepted. */
  preview?: boolean;
  /** Send the model's reasoning as well. */
  includeReasoning?: boolean;
}

/** What `execute` knows, each name with what it is: the compiler keeps the list whole. */
const KNOWN: Readonly<Record<keyof ExecuteContext, true>> = {
  task: true, taskType: true, complexity: true, sensitivity: true, system: true, systemKey: true, variables: true,
  static: true, messages: true, labels: true, schema: true, schemaName: true, examples: true, tools: true,
  toolChoice: true, temperature: true, topP: true, maxTokens: true, stop: true, seed: true, reasoningEffort: true,
  requestId: true, maxAttempts: true, maxHops: true, maxCostUsd: true, minConfidence: true, escalationThreshold: true,
  requireValid: true, requireConfidence: true, allowedModels: true, allowedProviders: true, noSecondLook: true,
  noCache: true, noEscalation: true,
};

/**
 * Builds one call.
 *
 * @param task the id that cost is attributed to, such as "email-triage".
 * @param prompt short for one user message after `messages`.
 * @throws RangeError a word is not the contract's. TypeError: two options exclude each other, or a name is unknown.
 */
export function call(task: string, prompt = "", options: CallOptions = {}): Call {
  refuseUnknown(options, Object.keys(KNOWN).filter((name) => name !== "task"), "the call");
  const { messages = [], tools = [], requestId = "" } = options;
  return create(CallSchema, {
    task: taskOf(task, options),
    prompt,
    requestId,
    messages: [...messages],
    tools: [...tools],
    ...given("toolChoice", options.toolChoice === undefined ? undefined : toolChoiceOf(options.toolChoice)),
    ...given("system", systemOf(options)),
    ...given("output", outputOf(options)),
    ...given("parameters", unlessEmpty(parametersOf(options))),
    ...given("policy", policyOf(options)),
  });
}

/** Builds the call of `execute`: task is a task type, or the id of a declared task. */
export function executeCall(task: string, prompt: string, context: ExecuteContext = {}): Call {
  if (task === "embed") {
    throw new TypeError("execute() answers with text; use embed() for vectors");
  }
  refuseUnknown(context, Object.keys(KNOWN), "the context");
  const { task: name = task, ...options } = context;
  return call(name, prompt, TASK_TYPES.includes(task) ? { ...options, taskType: task as TaskTypeName } : options);
}

/** Builds how a stream is held back and switched. */
export function streamPolicy(options: StreamOptions): StreamPolicy {
  const known = ["holdBackTokens", "holdBackMs", "mode", "escalateAtEnd", "preview", "includeReasoning"];
  refuseUnknown(options, known, "the stream policy");
  const { mode, ...rest } = options;
  return create(StreamPolicySchema, {
    ...withoutUndefined(rest),
    mode: mode === undefined ? SwitchMode.UNSPECIFIED : valueOf(SwitchMode, mode),
  });
}

/** Builds what is asked of the chain; undefined when nothing is. */
export function policyOf(options: PolicyOptions): MessageInitShape<typeof PolicySchema> | undefined {
  if (options.maxCostUsd !== undefined && !/^\d+(\.\d+)?$/.test(options.maxCostUsd)) {
    throw new RangeError(`${JSON.stringify(options.maxCostUsd)} is not an amount of USD, such as "0.02"`);
  }
  return unlessEmpty({
    ...given("maxAttempts", options.maxAttempts),
    ...given("maxHops", options.maxHops),
    ...given("maxCostUsd", options.maxCostUsd),
    ...given("minConfidence", options.minConfidence),
    ...given("escalationThreshold", options.escalationThreshold),
    ...given("requireValid", options.requireValid),
    ...given("requireConfidence", options.requireConfidence),
    ...given("allowedModels", options.allowedModels && [...options.allowedModels]),
    ...given("allowedProviders", options.allowedProviders && [...options.allowedProviders]),
    ...given("noSecondLook", options.noSecondLook),
    ...given("noCache", options.noCache),
    ...given("noEscalation", options.noEscalation),
  });
}

/** Builds the task of a call. */
export function taskOf(
  id: string,
  options: Pick<CallOptions, "taskType" | "complexity" | "sensitivity">,
): MessageInitShape<typeof TaskSchema> {
  const { taskType, complexity, sensitivity } = options;
  return {
    id,
    ...given("type", taskType === undefined ? undefined : valueOf(TaskType, taskType)),
    ...given("complexity", complexity === undefined ? undefined : valueOf(Complexity, complexity)),
    ...given("sensitivity", sensitivity === undefined ? undefined : valueOf(Sensitivity, sensitivity)),
  };
}

function systemOf(options: CallOptions): MessageInitShape<typeof SystemPromptSchema> | undefined {
  const { system, systemKey, variables = {}, static: isStatic = false } = options;
  if (system !== undefined && systemKey !== undefined) {
    throw new TypeError("system and systemKey exclude each other");
  }
  const rest = { variables: { ...variables }, static: isStatic };
  if (system !== undefined) {
    return { source: { case: "text", value: system }, ...rest };
  }
  if (systemKey !== undefined) {
    return { source: { case: "key", value: systemKey }, ...rest };
  }
  return isStatic || Object.keys(variables).length > 0 ? rest : undefined;
}

function outputOf(options: CallOptions): MessageInitShape<typeof OutputSpecSchema> | undefined {
  const { labels, schema, schemaName = "", examples = [] } = options;
  if (labels !== undefined && schema !== undefined) {
    throw new TypeError("labels and schema exclude each other");
  }
  if (typeof labels === "string") {
    throw new TypeError("labels is a list of labels, not one text");
  }
  if (labels !== undefined) {
    const shown = examples.map(([text, label]) => ({ text, label: typeof label === "string" ? label : JSON.stringify(label) }));
    return { kind: { case: "labels", value: { labels: [...labels], examples: shown } } };
  }
  if (schema !== undefined) {
    const isAny = typeof schema === "object" && Object.keys(schema).length === 0;
    const worked = examples.map(([text, document]) => ({ text, json: asJson(document) }));
    return { kind: { case: "json", value: { schema: isAny ? "" : asJson(schema), name: schemaName, examples: worked } } };
  }
  if (examples.length > 0) {
    throw new TypeError("examples need labels or a schema");
  }
  return undefined;
}

function parametersOf(options: CallOptions): MessageInitShape<typeof ParametersSchema> {
  const { seed, stop, reasoningEffort } = options;
  return {
    ...given("temperature", options.temperature),
    ...given("topP", options.topP),
    ...given("maxTokens", options.maxTokens),
    ...given("stop", stop && [...stop]),
    ...given("seed", seed === undefined ? undefined : BigInt(seed)),
    ...given("reasoningEffort", reasoningEffort === undefined ? undefined : valueOf(ReasoningEffort, reasoningEffort)),
  };
}

function toolChoiceOf(choice: string): MessageInitShape<typeof ToolChoiceSchema> {
  return choice === "auto" || choice === "none" || choice === "required"
    ? { mode: valueOf(ToolMode, choice) }
    : { mode: ToolMode.NAMED, name: choice };
}

/** Gives a document as JSON text; a string is taken to be that already. */
function asJson(document: Json): string {
  return typeof document === "string" ? document : JSON.stringify(document);
}

/** Gives `{name: value}`, or nothing where the value is not set: the generated types tell unset from undefined. */
function given<Name extends string, Value>(name: Name, value: Value | undefined): Partial<Record<Name, Value>> {
  return (value === undefined ? {} : { [name]: value }) as Partial<Record<Name, Value>>;
}

function unlessEmpty<Value extends object>(value: Value): Value | undefined {
  return Object.keys(value).length === 0 ? undefined : value;
}

function withoutUndefined<Value extends object>(value: Value): { [Name in keyof Value]?: Exclude<Value[Name], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined)) as {
    [Name in keyof Value]?: Exclude<Value[Name], undefined>;
  };
}
