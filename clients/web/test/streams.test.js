/** Calls against a server that plays what a test scripts, over gRPC and over gRPC-Web. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { Accumulator, Client, GearshiftError, OpsService, RouterService, accumulate, call, user } from "@gearshift/client";
import * as bundle from "../dist/gearshift.js";

import { FORGOTTEN, LONG, attempt, completed, delta, event, left } from "./support/events.js";
import { playing, status } from "./support/player.js";

const WAYS = /** @type {const} */ (["client", "webClient"]);

for (const way of WAYS) {
  test(`${way}: snapshots show one step a message`, () =>
    playing(
      {
        async *streamRoute() {
          yield { events: [event("started", { requestId: "r" }), attempt(1, "small")] };
          yield { events: [delta(1, "So, "), delta(2, "a gear")] };
          yield { events: [event("switch", { toStage: { model: "large" }, reason: "cut" })] };
          yield { events: [attempt(2, "large"), event("retract", { after: 1, reason: "cut" }), delta(3, "a wheel")] };
          yield { events: [event(undefined, undefined), event("checkpoint", { through: 3 }), await completed("So, a wheel")] };
        },
      },
      async (player) => {
        const seen = [];
        for await (const snapshot of accumulate(player[way]().streamRoute(call("t", "x")))) {
          seen.push(snapshot);
        }
        assert.deepEqual(seen.map(({ text }) => text), ["", "So, a gear", "So, a gear", "So, a wheel", "So, a wheel"]);
        assert.deepEqual(seen.map(({ writer }) => writer?.model), [undefined, "small", "small", "large", "large"]);
        assert.deepEqual(seen.map(({ attempt: running }) => running?.stage?.model), ["small", "small", "small", "large", "large"]);
        assert.deepEqual(seen[3]?.retracted.map(({ text, reason, stage }) => [text, reason, stage?.model]), [["a gear", "cut", "small"]]);
        const last = seen.at(-1);
        assert.deepEqual([last?.checkpoint, last?.committed, last?.isIntact, last?.cost?.totalUsd], [3, "So, a wheel", true, "0.01"]);
        assert.deepEqual([seen[3]?.isIntact, seen[3]?.cost, seen[0]?.retracted], [undefined, undefined, []]);
      },
    ));

  test(`${way}: a long prompt goes once as text, then by its key, and again as text when it was forgotten`, async () => {
    /** @type {(string | undefined)[]} */
    const sent = [];
    let isForgotten = false;
    /** @param {any} request */
    const took = ({ call: { system } }) => {
      sent.push(system.source.case);
      if (isForgotten && system.source.case === "key") {
        isForgotten = false;
        throw status("FAILED_PRECONDITION", "unknown prompt", FORGOTTEN);
      }
    };
    await playing(
      {
        route(request) {
          took(request);
          return { answer: { text: "yes", completion: { promptKey: "k1" } } };
        },
        async *streamRoute(request) {
          took(request);
          yield { events: [event("started", {}), delta(1, "yes"), await completed("yes", "k2")] };
        },
      },
      async (player) => {
        const client = player[way]();
        const asked = call("t", "x", { system: LONG });
        await client.route(asked);
        await client.route(asked);
        isForgotten = true;
        await client.route(asked);
        assert.equal((await client.streamRoute(asked).fold()).text, "yes");
        isForgotten = true;
        assert.equal((await client.streamRoute(asked).fold()).text, "yes");
        await client.streamRoute(call("other", "x", { system: LONG })).fold();
        assert.deepEqual(sent, ["text", "key", "key", "text", "key", "key", "text", "text"]);
        assert.deepEqual(asked.system?.source.case, "text");
      },
    );
  });

  test(`${way}: a retry is made only when asked for, under one id, and as long as the server says`, async () => {
    /** @type {string[]} */
    const ids = [];
    /** @type {Record<string, string>} */
    let metadata = {};
    await playing(
      {
        route({ call: asked }) {
          ids.push(asked?.requestId ?? "");
          if (ids.length % 3 !== 0) {
            throw status("UNAVAILABLE", "away", "", metadata);
          }
          return { answer: { text: "yes" } };
        },
      },
      async (player) => {
        await assert.rejects(player[way]().route(call("t", "x")), { code: "UNAVAILABLE" });
        assert.deepEqual(ids.splice(0), [""]);
        const client = player[way]({ retry: { attempts: 3, initialBackoffMs: 1, maxBackoffMs: 2 } });
        assert.equal((await client.route(call("t", "x"))).text, "yes");
        assert.equal(ids.length, 3);
        assert.ok(ids[0] !== "" && new Set(ids.splice(0)).size === 1);
        metadata = { "grpc-retry-pushback-ms": "-1" };
        await assert.rejects(client.route(call("t", "x")), { code: "UNAVAILABLE" });
        assert.equal(ids.length, 1);
      },
    );
  });

  test(`${way}: key, headers and deadline go with a call`, async () => {
    /** @type {Headers | undefined} */
    let headers;
    /** @type {number | undefined} */
    let left;
    await playing(
      {
        route(_request, context) {
          headers = context.requestHeader;
          left = context.timeoutMs();
          return { answer: { text: "yes" } };
        },
      },
      async (player) => {
        await player[way]({ key: "k-1", headers: { traceparent: "00-1" } }).route(call("t", "x"), { deadlineMs: 5000 });
        assert.deepEqual([headers?.get("authorization"), headers?.get("traceparent")], ["Bearer k-1", "00-1"]);
        assert.ok(left !== undefined && left > 3000 && left <= 5000, String(left));
        await player[way]().route(call("t", "x"));
        assert.ok(left !== undefined && left > 290_000 && left <= 300_000, String(left));
      },
    );
  });

  test(`${way}: what has ended before it began sends nothing`, () =>
    playing(
      {},
      async (player) => {
        const client = player[way]();
        await assert.rejects(client.route(call("t"), { signal: AbortSignal.abort() }), { code: "CANCELLED" });
        await assert.rejects(client.route(call("t"), { deadlineMs: 0 }), { code: "DEADLINE_EXCEEDED" });
        await assert.rejects(client.streamRoute(call("t"), { signal: AbortSignal.abort() }).next(), { code: "CANCELLED" });
        const stream = client.streamRoute(call("t"));
        stream.close();
        stream.close();
        assert.deepEqual(await stream.next(), { done: true, value: undefined });
      },
    ));

  test(`${way}: a signal's timeout is a deadline`, () =>
    playing(
      { route: (_request, { signal }) => left(signal) },
      async (player) => {
        const signal = AbortSignal.timeout(50);
        await assert.rejects(player[way]().route(call("t"), { signal }), { code: "DEADLINE_EXCEEDED" });
      },
    ));

  test(`${way}: closing a stream that waits ends it quietly`, () =>
    playing(
      {
        async *streamRoute(_request, { signal }) {
          yield { events: [event("started", {})] };
          await left(signal);
        },
      },
      async (player) => {
        const stream = player[way]().streamRoute(call("t"));
        assert.equal((await stream.next()).value?.kind, "started");
        const waiting = stream.next();
        stream.close();
        assert.deepEqual(await waiting, { done: true, value: undefined });
      },
    ));
}

test("nobody there is UNAVAILABLE", () =>
  playing({}, async (player) => {
    await player.close();
    for (const way of WAYS) {
      await assert.rejects(player[way]().route(call("t")), (/** @type {any} */ error) => {
        assert.ok(error instanceof GearshiftError);
        assert.equal(error.code, "UNAVAILABLE", error.message);
        return true;
      });
    }
  }));

test("every method of the contract has one here", async () => {
  const { OpsClient } = await import("../dist/ops.js");
  for (const [owner, service] of /** @type {const} */ ([[Client, RouterService], [OpsClient, OpsService]])) {
    const names = Object.keys(service.method);
    assert.ok(names.length >= 7);
    assert.deepEqual(names.filter((name) => !Object.hasOwn(owner.prototype, name)), []);
  }
});

test("fields of the contract are taken as well as what call() builds", () =>
  playing(
    { route: (request) => ({ answer: { text: request.call?.messages.length === 1 ? "yes" : "no" } }) },
    async (player) => {
      assert.equal((await player.client().route({ task: { id: "t" }, messages: [user("x")] })).text, "yes");
    },
  ));

test("the bundle streams, folds and throws as the package does", () =>
  playing(
    {
      async *streamRoute() {
        yield { events: [event("started", {}), delta(1, "yes"), await completed("yes")] };
      },
      route() {
        throw status("FAILED_PRECONDITION", "unknown prompt", FORGOTTEN);
      },
    },
    async (player) => {
      const client = bundle.createClient({ baseUrl: player.baseUrl });
      const answer = new bundle.Accumulator();
      assert.equal((await client.streamRoute(bundle.call("t", "x")).fold(answer)).text, "yes");
      await assert.rejects(client.route(bundle.call("t", "x")), (/** @type {any} */ error) => {
        assert.ok(error instanceof bundle.GearshiftError);
        assert.deepEqual([error.code, error.reason], ["FAILED_PRECONDITION", "PROMPT_NOT_CACHED"]);
        return true;
      });
      assert.equal((await client.ops.getStatus().catch((/** @type {any} */ error) => error)).code, "UNIMPLEMENTED");
    },
  ));

test("an accumulator folds long streams in time linear in them", async () => {
  const answer = new Accumulator();
  answer.apply(/** @type {any} */ ({ kind: "started" }));
  for (let number = 1; number <= 50_000; number++) {
    answer.apply(/** @type {any} */ ({ kind: "delta", number, text: "word ", reasoning: "", parts: [], passedThrough: 0 }));
  }
  assert.equal(answer.text.length, 250_000);
  assert.equal((await answer.snapshot()).text, answer.text);
});
