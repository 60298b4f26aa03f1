/** Building calls, messages and words, without a server. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { test } from "node:test";

import {
  BreakerState,
  Complexity,
  Outcome,
  ReasoningEffort,
  Role,
  SwitchMode,
  TaskType,
  ToolMode,
  assistant,
  call,
  conversation,
  createClient,
  digest,
  image,
  imageUrl,
  streamPolicy,
  tool,
  toolResult,
  user,
  wordOf,
} from "@gearshift/client";

import { executeCall } from "../dist/calls.js";
import { sha256 } from "../dist/sha256.js";

test("what is not said stays unset", () => {
  const { task, prompt, system, output, parameters, policy, toolChoice, messages } = call("t", "hello");
  assert.deepEqual([task?.id, task?.type, prompt], ["t", TaskType.UNSPECIFIED, "hello"]);
  assert.deepEqual([system, output, parameters, policy, toolChoice, messages], [undefined, undefined, undefined, undefined, undefined, []]);
});

test("words become the contract's values", () => {
  const made = call("t", "", { taskType: "extract", complexity: "high", reasoningEffort: "none", seed: 7, maxCostUsd: "0.02", requireValid: true, toolChoice: "search" });
  assert.deepEqual([made.task?.type, made.task?.complexity], [TaskType.EXTRACT, Complexity.HIGH]);
  assert.deepEqual([made.parameters?.reasoningEffort, made.parameters?.seed], [ReasoningEffort.NONE, 7n]);
  assert.deepEqual([made.policy?.maxCostUsd, made.policy?.requireValid], ["0.02", true]);
  assert.deepEqual([made.toolChoice?.mode, made.toolChoice?.name], [ToolMode.NAMED, "search"]);
  assert.equal(streamPolicy({ mode: "continue", holdBackTokens: 0 }).mode, SwitchMode.CONTINUE);
  assert.equal(streamPolicy({ holdBackTokens: 0 }).holdBackTokens, 0);
  assert.equal(wordOf(BreakerState, BreakerState.HALF_OPEN), "half_open");
  assert.equal(wordOf(Outcome, Outcome.UNSPECIFIED), "");
  assert.equal(wordOf(Outcome, 99), "99");
});

test("labels, schemas and examples become an output", () => {
  const labels = call("t", "", { labels: ["a", "b"], examples: [["x", "a"]] }).output?.kind;
  assert.ok(labels?.case === "labels" && labels.value.examples[0]?.label === "a");
  const json = call("t", "", { schema: { type: "object" }, schemaName: "s", examples: [["x", { a: 1 }]] }).output?.kind;
  assert.ok(json?.case === "json" && json.value.schema === '{"type":"object"}' && json.value.examples[0]?.json === '{"a":1}');
  const any = call("t", "", { schema: {} }).output?.kind;
  assert.ok(any?.case === "json" && any.value.schema === "");
});

test("what could not be sent is refused", () => {
  /** @type {[() => unknown, RegExp][]} */
  const wrong = [
    [() => call("t", "", { labels: ["a"], schema: {} }), /exclude each other/],
    [() => call("t", "", { system: "a", systemKey: "b" }), /exclude each other/],
    [() => call("t", "", { examples: [["a", "b"]] }), /examples need labels/],
    [() => call("t", "", /** @type {any} */ ({ labels: "ab" })), /list of labels/],
    [() => call("t", "", /** @type {any} */ ({ complexity: "huge" })), /"huge" is not one of low, medium, high/],
    [() => call("t", "", { maxCostUsd: "cheap" }), /not an amount of USD/],
    [() => call("t", "", /** @type {any} */ ({ max_tokens: 3 })), /did you mean "maxTokens"/],
    [() => call("t", "", /** @type {any} */ ({ temprature: 3 })), /did you mean "temperature"/],
    [() => call("t", "", /** @type {any} */ ({ colour: 3 })), /not known$/],
    [() => streamPolicy(/** @type {any} */ ({ holdback: 3 })), /holdback/],
    [() => executeCall("embed", ""), /use embed\(\)/],
  ];
  for (const [run, message] of wrong) {
    assert.throws(run, { message });
  }
});

test("execute takes a type or a declared task", () => {
  assert.deepEqual([executeCall("classify", "x").task?.id, executeCall("classify", "x").task?.type], ["classify", TaskType.CLASSIFY]);
  assert.deepEqual([executeCall("classify", "x", { task: "triage" }).task?.id], ["triage"]);
  assert.equal(executeCall("email-triage", "x").task?.type, TaskType.UNSPECIFIED);
});

test("a conversation alternates, and answers go back with their state", () => {
  assert.deepEqual(conversation("a", "b", "c").map(({ role }) => role), [Role.USER, Role.ASSISTANT, Role.USER]);
  const turn = user("look", image(new Uint8Array([1]), "image/png"), imageUrl("https://example.com/a.png"));
  assert.deepEqual(turn.parts.map(({ content }) => content.case), ["text", "image", "image"]);
  assert.equal(toolResult("c1", "ok", { isError: true }).parts[0]?.content.case, "toolResult");
  assert.equal(tool("search", "", { type: "object" }).parametersSchema, '{"type":"object"}');
  assert.equal(assistant("yes").parts[0]?.content.value, "yes");
});

test("SHA-256 in plain code is SHA-256", () => {
  for (const length of [...Array(200).keys(), 1000, 65_536]) {
    const bytes = randomBytes(length);
    assert.equal(Buffer.from(sha256(bytes)).toString("hex"), createHash("sha256").update(bytes).digest("hex"), String(length));
  }
});

test("digests are the same without WebCrypto", async () => {
  const calls = [{ id: "1", name: "n", arguments: '{"a":"é\u2028"}' }];
  const [text, tools] = [await digest("gear é 😀"), await digest("", calls)];
  const subtle = Object.getOwnPropertyDescriptor(globalThis.crypto, "subtle");
  Object.defineProperty(globalThis.crypto, "subtle", { value: undefined, configurable: true });
  try {
    assert.deepEqual([await digest("gear é 😀"), await digest("", calls)], [text, tools]);
  } finally {
    if (subtle === undefined) {
      Reflect.deleteProperty(globalThis.crypto, "subtle");
    } else {
      Object.defineProperty(globalThis.crypto, "subtle", subtle);
    }
  }
});

test("a client refuses what it was not meant to be made with", () => {
  /** @type {[any, RegExp][]} */
  const wrong = [
    [{}, /address is needed/],
    [{ target: "localhost" }, /host:port/],
    [{ target: "http://localhost:1" }, /host:port/],
    [{ target: "a:1", baseUrl: "http://b" }, /exclude each other/],
    [{ baseUrl: "ftp://a" }, /http or https/],
    [{ target: "example.com:1", key: "k" }, /in the clear/],
    [{ baseUrl: "http://example.com", key: "k" }, /in the clear/],
    [{ baseUrl: "http://127.0.0.1.example.com", key: "k" }, /in the clear/],
    [{ target: "a:1", key: "two words" }, /printable ASCII/],
    [{ target: "a:1", deadlineMs: 0 }, /above 0/],
    [{ target: "a:1", retry: { attempts: 9 } }, /2 to 5/],
    [{ target: "a:1", tls: { certificate: new Uint8Array() } }, /come together/],
  ];
  for (const [options, message] of wrong) {
    assert.throws(() => createClient(options), { message });
  }
  for (const options of [
    { target: "127.0.0.1:1", key: "k" }, { target: "[::1]:1", key: "k" }, { baseUrl: "http://localhost:1", key: "k" },
    { baseUrl: "https://example.com", key: "k" }, { target: "example.com:1", key: "k", tls: true },
    { baseUrl: "http://example.com", key: "k", plaintextKey: true },
  ]) {
    createClient(options).close();
  }
});
