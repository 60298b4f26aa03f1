/** The conformance files of the project: what every client must make of a stream or a failed call. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";

import { fromJson } from "@bufbuild/protobuf";

import {
  Accumulator,
  GearshiftError,
  Outcome,
  StreamProtocolError,
  StreamRouteResponseSchema,
  call,
  digest,
  eventFrom,
} from "@gearshift/client";

import { playing, status } from "./support/player.js";

const STREAMS = [...read("streams.json"), ...read("recorded.json")];
const ERRORS = read("errors.json");

/** @param {string} name @returns {any[]} */
function read(name) {
  const told = JSON.parse(readFileSync(new URL(`../../../tests/conformance/${name}`, import.meta.url), "utf8"));
  assert.equal(told.format, 1);
  return told.cases;
}

/** @param {any} message */
function responseOf(message) {
  return fromJson(StreamRouteResponseSchema, message, { ignoreUnknownFields: true });
}

/** @param {Accumulator} answer */
function snapshotOf(answer) {
  return {
    text: answer.text,
    reasoning: answer.reasoning,
    toolCalls: answer.toolCalls.map(({ id, name, arguments: given }) => ({ id, name, arguments: given })),
    live: [...answer.live],
    checkpoint: answer.checkpoint,
    committed: answer.committed,
    completed: answer.completed !== undefined,
  };
}

/** @param {Accumulator} answer */
async function endOf(answer) {
  const outcome = answer.completed?.completion?.outcome ?? Outcome.UNSPECIFIED;
  return {
    ...snapshotOf(answer),
    outcome: outcome === Outcome.UNSPECIFIED ? "" : `OUTCOME_${Outcome[outcome]}`,
    digest: await digest(answer.text, answer.completed?.toolCalls ?? []),
    digestMatches: await answer.digestMatches(),
  };
}

/** @param {unknown} error */
function told(error) {
  assert.ok(error instanceof GearshiftError, String(error));
  return {
    code: error.code,
    message: error.description,
    reason: error.reason,
    domain: error.domain,
    info: { ...error.info },
    retryAfter: error.retryAfter,
    violations: [...error.violations],
    quota: [...error.quota],
    attempts: error.attempts.length,
  };
}

/** @param {unknown} error */
function errorOf(error) {
  if (error instanceof StreamProtocolError) {
    return { kind: "protocol", rule: error.rule };
  }
  return { kind: "status", ...told(error) };
}

describe("every stream is folded as its case says", () => {
  for (const one of STREAMS) {
    test(one.name, async () => {
      const answer = new Accumulator();
      const snapshots = [];
      /** @type {any} */
      let broken = null;
      for (const [message, { events }] of one.messages.map(responseOf).entries()) {
        for (const [event, wire] of events.entries()) {
          try {
            answer.apply(eventFrom(wire));
          } catch (error) {
            broken = { ...errorOf(error), message, event };
            break;
          }
        }
        if (broken !== null) {
          break;
        }
        snapshots.push(snapshotOf(answer));
      }
      if (broken === null && one.status.code === "OK") {
        broken = await answer.finish().then(() => null, errorOf);
      }
      const { error, ...expected } = one.expected;
      if (broken !== null || one.status.code === "OK") {
        assert.deepEqual(broken, error);
      }
      assert.deepEqual(snapshots, one.snapshots ?? snapshots);
      assert.deepEqual(await endOf(answer), expected);
    });
  }
});

for (const wire of /** @type {const} */ (["client", "webClient"])) {
  const name = wire === "client" ? "gRPC" : "gRPC-Web";

  test(`every stream over ${name} gives what its case says`, { timeout: 60_000 }, () =>
    playing(
      {
        async *streamRoute(request) {
          const one = STREAMS[Number(request.call?.prompt)];
          yield* one.messages.map(responseOf);
          if (one.status.code !== "OK") {
            throw status(one.status.code, one.status.message, one.status.detailsBin);
          }
        },
      },
      async (player) => {
        const client = player[wire]();
        for (const [place, one] of STREAMS.entries()) {
          const answer = new Accumulator();
          const failed = await client.streamRoute(call("task", String(place))).fold(answer).then(() => null, errorOf);
          const { error, ...expected } = one.expected;
          const wanted = error?.kind === "protocol" ? { kind: error.kind, rule: error.rule } : error;
          assert.deepEqual(failed, wanted, one.name);
          assert.deepEqual(await endOf(answer), expected, one.name);
        }
      },
    ));

  test(`every failed call over ${name} throws what its case says`, { timeout: 60_000 }, () =>
    playing(
      {
        route(request) {
          const one = ERRORS[Number(request.call?.prompt)];
          throw status(one.status.code, one.status.message, one.status.detailsBin);
        },
      },
      async (player) => {
        const client = player[wire]();
        for (const [place, one] of ERRORS.entries()) {
          const failed = await client.route(call("task", String(place))).then(() => null, told);
          assert.deepEqual(failed, one.expected, one.name);
        }
      },
    ));
}
