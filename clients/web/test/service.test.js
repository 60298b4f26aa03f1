/** The client against the running service, whose providers are simulated: over gRPC, and over gRPC-Web. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";

import {
  Accumulator,
  AttemptOutcome,
  CostGroup,
  GearshiftError,
  Outcome,
  accumulate,
  call,
  createClient,
  wordOf,
} from "@gearshift/client";

import { serving, throughEnvoy } from "./support/service.js";

/** The bound on closing the upstream, ms, from the client's cancel; and how often it is tried. */
const CANCEL_MS = 100;
const TRIES = 3;

test("the running service", { timeout: 120_000 }, (context) =>
  serving(async (service) => {
    const { target, baseUrl } = service;
    await each(context, [{ target }, { baseUrl }], service);
  }));

test("the running service through Envoy", { timeout: 120_000 }, (context) =>
  serving(async (service) => {
    const missing = await throughEnvoy(service.target, [], (address) =>
      each(context, [{ target: address }, { baseUrl: `http://${address}` }], service),
    );
    if (missing !== "") {
      context.skip(missing);
    }
  }));

/**
 * @param {import("node:test").TestContext} context
 * @param {Parameters<typeof createClient>[0][]} ways
 * @param {import("./support/service.js").Service} service
 */
async function each(context, ways, service) {
  for (const options of ways) {
    const client = createClient(options);
    await context.test(options.target === undefined ? "gRPC-Web" : "gRPC", (way) => every(way, client, service));
    client.close();
  }
}

/**
 * @param {import("node:test").TestContext} context
 * @param {import("@gearshift/client").Client} client
 * @param {import("./support/service.js").Service} service
 */
async function every(context, client, service) {
  await context.test("it serves", async () => {
    assert.equal(await client.isServing(), true);
    assert.equal(await client.isServing("gearshift.v1.RouterService"), true);
  });

  await context.test("a task type, a prompt and labels give a label", async () => {
    const answer = await client.execute("classify", "I was charged twice", { labels: ["billing", "bug"], noCache: true });
    assert.equal(answer.text, "billing");
    assert.equal(answer.completion?.outcome, Outcome.ACCEPTED);
    assert.equal(answer.completion.servedBy?.model, "small");
  });

  await context.test("a switch in the middle of a stream is shown", async () => {
    const stream = client.streamRoute(call("story", "What is a gearbox?", { taskType: "generate", noCache: true }));
    /** @type {import("@gearshift/client").Snapshot[]} */
    const seen = [];
    for await (const snapshot of accumulate(stream)) {
      seen.push(snapshot);
    }
    const last = seen.at(-1);
    assert.ok(last !== undefined);
    assert.deepEqual(last.attempts.map(({ stage }) => stage?.model), ["small", "large"]);
    assert.deepEqual(last.switches.map(({ fromStage, toStage }) => [fromStage?.model, toStage?.model]), [["small", "large"]]);
    assert.equal(last.text, "A gearbox lets an engine run at the speed that suits it.");
    assert.equal(last.retracted.length, 1);
    assert.equal(last.retracted[0]?.stage?.model, "small");
    assert.ok(seen.some(({ text }) => text !== "" && text === last.retracted[0]?.text), "the text stood before");
    // A retract comes with the text that replaces it: nobody sees an empty page between the two.
    const texts = seen.map(({ text }) => text);
    assert.ok(!texts.slice(texts.findIndex((text) => text !== "")).includes(""));
    assert.equal(last.writer?.model, "large");
    assert.equal(last.isIntact, true);
    assert.equal(last.completion?.outcome, Outcome.ACCEPTED);
    assert.deepEqual(last.completion.attempts.map(({ outcome }) => outcome), [AttemptOutcome.FAILED, AttemptOutcome.ACCEPTED]);
    assert.match(last.cost?.totalUsd ?? "", /^0\.\d+$/);
  });

  const slowly = (/** @type {string} */ how) => call("story", `Write slowly, ${how}`, { taskType: "generate", noCache: true });
  // Each begins a call and reads until its provider writes; gives what cancels it, and how it then ends.
  /** @type {Record<string, () => Promise<{ cancel: () => void, ended: Promise<unknown>, code: string | undefined }>>} */
  const begun = {
    "an aborted signal": async () => {
      const controller = new AbortController();
      const stream = await atWork(slowly("signal"), { signal: controller.signal });
      return { cancel: () => controller.abort(), ended: drained(stream), code: "CANCELLED" };
    },
    "close of a stream": async () => {
      const stream = await atWork(slowly("close"));
      return { cancel: () => stream.close(), ended: drained(stream), code: undefined };
    },
    "leaving the loop": async () => {
      let leave = () => {};
      const stays = new Promise((resolve) => (leave = () => resolve(undefined)));
      const stream = await atWork(slowly("leave"));
      const ended = (async () => {
        for await (const event of stream) {
          await stays;
          assert.notEqual(event.kind, "completed");
          break;
        }
      })();
      return { cancel: leave, ended, code: undefined };
    },
    "an aborted signal of a whole answer": async () => {
      const controller = new AbortController();
      const ended = client.route(slowly("whole"), { signal: controller.signal });
      while ((await service.account()).playing === 0) {
        await pause(1);
      }
      return { cancel: () => controller.abort(), ended, code: "CANCELLED" };
    },
  };
  /** @param {import("@gearshift/client").Call} asked @param {import("@gearshift/client").CallSettings} [settings] */
  const atWork = async (asked, settings) => {
    const stream = client.streamRoute(asked, { ...settings, stream: { holdBackTokens: 0 } });
    while ((await stream.next()).value?.kind !== "delta");
    return stream;
  };
  for (const [how, begin] of Object.entries(begun)) {
    await context.test(`${how} reaches the provider within ${CANCEL_MS} ms`, async (report) => {
      /** @type {number[]} */
      const took = [];
      for (let again = 0; again < TRIES; again++) {
        const before = (await service.account()).total.requests;
        const { cancel, ended, code } = await begin();
        const outcome = ended.then(() => undefined, (error) => error);
        const at = performance.now();
        cancel();
        const entry = await booked(service, before + 1);
        took.push(performance.now() - at);
        assert.equal(entry.end, "client left");
        const failed = await outcome;
        assert.equal(failed instanceof GearshiftError ? failed.code : failed, code);
      }
      took.sort((one, other) => one - other);
      report.diagnostic(`${took.map((ms) => ms.toFixed(1)).join(", ")} ms`);
      assert.ok((took[TRIES >> 1] ?? Infinity) < CANCEL_MS, `it took ${took} ms until the simulator had seen it`);
    });
  }

  await context.test("an exhausted chain is an error with its attempts, after completed", async () => {
    const answer = new Accumulator();
    const stream = client.streamRoute(call("story", "It breaks everywhere", { taskType: "generate", noCache: true }));
    await assert.rejects(stream.fold(answer), (/** @type {unknown} */ error) => {
      assert.ok(error instanceof GearshiftError);
      assert.deepEqual([error.code, error.reason, error.domain], ["UNAVAILABLE", "CHAIN_EXHAUSTED", "gearshift"]);
      assert.deepEqual(error.attempts.map(({ stage }) => stage?.model), ["small", "large"]);
      return true;
    });
    assert.equal(answer.completed?.completion?.outcome, Outcome.FAILED);
  });

  await context.test("a refused field is named", async () => {
    await assert.rejects(client.route(call("", "hello")), (/** @type {unknown} */ error) => {
      assert.ok(error instanceof GearshiftError);
      assert.equal(error.code, "INVALID_ARGUMENT");
      assert.equal(error.violations[0]?.field, "call.task.id");
      return true;
    });
  });

  await context.test("a deadline ends a call", async () => {
    const began = performance.now();
    const never = call("story", "This never comes", { taskType: "generate", noCache: true });
    await assert.rejects(client.route(never, { deadlineMs: 300 }), { name: "GearshiftError", code: "DEADLINE_EXCEEDED" });
    assert.ok(performance.now() - began < 3000);
  });

  await context.test("a stream's completed comes before its deadline", async () => {
    const answer = new Accumulator();
    const slow = call("story", "Write slowly until the end", { taskType: "generate", noCache: true });
    const stream = client.streamRoute(slow, { deadlineMs: 700, stream: { holdBackTokens: 0 } });
    await assert.rejects(stream.fold(answer), { name: "GearshiftError", code: "DEADLINE_EXCEEDED" });
    assert.equal(answer.completed?.completion?.outcome, Outcome.FAILED);
    assert.notEqual(answer.text, "");
  });

  await context.test("a long prompt is sent once, and again when the server forgot it", async () => {
    const system = "Say what kind of message this is. ".repeat(20);
    const ask = () => client.route(call("triage", "I was charged twice", { system, labels: ["billing", "bug"], noCache: true }));
    const key = (await ask()).completion?.promptKey ?? "";
    assert.notEqual(key, "");
    assert.equal((await ask()).completion?.promptKey, key);
    await client.ops.purgeCache({ cache: "prompt" });
    assert.equal((await ask()).text, "billing");
    assert.equal(await client.deletePrompt("triage", key), true);
    assert.notEqual((await client.putPrompt("triage", system, { static: true })).key, "");
  });

  await context.test("vectors come one a text", async () => {
    const { embeddings, dimensions } = await client.embed("search", ["one", "two"], { inputType: "document" });
    assert.equal(dimensions, 4);
    assert.deepEqual(embeddings.map(({ values }) => values.length), [4, 4]);
  });

  await context.test("explain says what would run", async () => {
    const { stages, chain } = await client.explain(call("story", "hello", { taskType: "generate" }), { stream: { mode: "fail" } });
    assert.equal(chain, "generate");
    assert.deepEqual(stages.map(({ stage }) => stage?.model), ["small", "large"]);
  });

  await context.test("an outcome is reported", async () => {
    const { requestId } = await client.execute("classify", "I was charged twice", { labels: ["billing", "bug"] });
    await client.reportOutcome(requestId, "corrected", { correction: "bug" });
  });

  await context.test("the methods of OpsService answer", async () => {
    const status = await client.ops.getStatus();
    assert.match(status.version, /^\d/);
    assert.deepEqual((await client.ops.listChains()).map(({ name }) => name), ["classify", "embed", "extract", "generate", "reason"]);
    const [stage] = await client.ops.listStages({ provider: "weak" });
    assert.equal(stage?.provider, "weak");
    assert.ok((await client.ops.listCacheEntries({ pageSize: 10 })).stats.length > 0);
    const report = await client.ops.getCostReport({ groupBy: ["task", "model"], since: new Date(Date.now() - 3_600_000) });
    assert.ok(report.rows.every(({ keys }) => keys.length === 2));
    assert.equal(wordOf(CostGroup, CostGroup.TASK_TYPE), "task_type");
    const since = new Date(Date.now() - 3_600_000);
    const { attempts, nextPageToken } = await client.ops.listAttempts({ taskId: "story", outcome: "failed", since, pageSize: 1 });
    assert.deepEqual(attempts.map(({ taskId, attempt }) => [taskId, attempt?.outcome]), [["story", AttemptOutcome.FAILED]]);
    const [later] = (await client.ops.listAttempts({ taskId: "story", outcome: "failed", pageSize: 1, pageToken: nextPageToken })).attempts;
    const place = (/** @type {import("@gearshift/client").RecordedAttempt | undefined} */ one) => `${one?.requestId}/${one?.attempt?.number}`;
    assert.notEqual(place(later), place(attempts[0]));
    const traffic = await client.ops.getTraffic({ since, stepSeconds: 3600, groupBy: "task" });
    assert.ok(traffic.points.some(({ key, calls }) => key === "story" && calls > 0n));
    assert.ok((await client.ops.listCacheEntries({ cache: "prompt", minAgeSeconds: 3600 })).entries.length === 0);
    assert.equal((await client.ops.reload()).changed, false);
  });

  await context.test("attempts are watched as they end, until the watch is closed", async () => {
    const watch = client.ops.watchAttempts({ taskId: "watched" });
    const first = watch.next();
    // The watch is there when its headers have come; until then an attempt may pass unseen.
    let isSeen = false;
    void first.then(() => (isSeen = true));
    while (!isSeen) {
      await client.execute("classify", "I was charged twice", { task: "watched", labels: ["billing", "bug"], noCache: true });
      await pause(20);
    }
    const { value } = await first;
    assert.equal(value?.taskId, "watched");
    watch.close();
    while (!(await watch.next()).done);
  });
}

/**
 * Reads a stream to its end.
 *
 * @param {AsyncIterator<unknown>} stream
 */
async function drained(stream) {
  while ((await stream.next()).done !== true);
}

/**
 * Waits for the account's entry of a request.
 *
 * @param {import("./support/service.js").Service} service
 * @param {number} count
 */
async function booked(service, count) {
  for (;;) {
    const { requests, total } = await service.account();
    if (total.requests >= count) {
      return requests.at(-1);
    }
    await pause(2);
  }
}
