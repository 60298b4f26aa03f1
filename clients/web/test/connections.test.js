/** Connections that are closed, break, or are not read from; and deadlines that hold over more than one try. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";

import { Accumulator, call } from "@gearshift/client";

import { FORGOTTEN, LONG, completed, delta, event, left } from "./support/events.js";
import { playing, status } from "./support/player.js";

for (const way of /** @type {const} */ (["client", "webClient"])) {
  test(`${way}: closing the client ends its calls, and it takes no more`, () =>
    playing(
      {
        route: (_request, { signal }) => left(signal),
        async *streamRoute(_request, { signal }) {
          yield { events: [event("started", {})] };
          await left(signal);
        },
      },
      async (player) => {
        const client = player[way]();
        const stream = client.streamRoute(call("t"));
        assert.equal((await stream.next()).value?.kind, "started");
        const running = [client.route(call("t")), stream.next()].map((one) => assert.rejects(one, { code: "CANCELLED" }));
        await pause(50);
        client.close();
        client.close();
        await Promise.all(running);
        await assert.rejects(client.route(call("t")), { code: "CANCELLED", description: "the client is closed" });
        await assert.rejects(client.streamRoute(call("t")).next(), { code: "CANCELLED" });
      },
    ));

  test(`${way}: a call that is sent again has what is left of its one deadline`, async () => {
    /** @type {number[]} */
    const times = [];
    /** @param {any} request @param {{ timeoutMs: () => number | undefined }} context */
    const took = async ({ call: { system } }, context) => {
      times.push(context.timeoutMs() ?? Infinity);
      if (system.source.case === "key") {
        await pause(60);
        throw status("FAILED_PRECONDITION", "unknown prompt", FORGOTTEN);
      }
    };
    await playing(
      {
        async route(request, context) {
          await took(request, context);
          return { answer: { text: "yes", completion: { promptKey: "k1" } } };
        },
        async *streamRoute(request, context) {
          await took(request, context);
          yield { events: [event("started", {}), delta(1, "yes"), await completed("yes", "k2")] };
        },
      },
      async (player) => {
        const client = player[way]();
        const asked = call("t", "x", { system: LONG });
        await client.route(asked);
        await client.route(asked, { deadlineMs: 20_000 });
        await client.streamRoute(asked, { deadlineMs: 20_000 }).fold();
        const [, key = 0, text = 0, streamKey = 0, streamText = 0] = times;
        assert.ok(key - text >= 50 && streamKey - streamText >= 50, String(times));
      },
    );
  });

  test(`${way}: a wait that outlasts the deadline is not waited for`, () =>
    playing(
      {
        route() {
          throw status("UNAVAILABLE", "away", "", { "grpc-retry-pushback-ms": "60000" });
        },
      },
      async (player) => {
        const client = player[way]({ retry: {} });
        await assert.rejects(client.route(call("t"), { deadlineMs: 10_000 }), { code: "UNAVAILABLE" });
      },
    ));

  test(`${way}: a connection that breaks is UNAVAILABLE, and tried again as that`, async () => {
    let calls = 0;
    /** @type {() => void} */
    let cut = () => {};
    await playing(
      {
        async route(_request, { signal }) {
          calls += 1;
          if (calls < 3) {
            cut();
            await left(signal);
          }
          return { answer: { text: "yes" } };
        },
        async *streamRoute(_request, { signal }) {
          yield { events: [event("started", {}), delta(1, "yes")] };
          setTimeout(cut, 20);
          await left(signal);
        },
      },
      async (player) => {
        cut = () => player.cut();
        await assert.rejects(player[way]().route(call("t")), { code: "UNAVAILABLE" });
        assert.equal((await player[way]({ retry: { initialBackoffMs: 1 } }).route(call("t"))).text, "yes");
        assert.equal(calls, 3);
        const answer = new Accumulator();
        await assert.rejects(player[way]().streamRoute(call("t")).fold(answer), { code: "UNAVAILABLE" });
        assert.equal(answer.text, "yes");
      },
    );
  });
}
