/** The examples run as they stand, against the running service. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { serving } from "./support/service.js";

/** @param {string} name @param {string[]} args */
function run(name, ...args) {
  const path = fileURLToPath(new URL(`../examples/${name}`, import.meta.url));
  return promisify(execFile)(process.execPath, [path, ...args], { timeout: 20_000 });
}

test("the examples", { timeout: 120_000 }, (context) =>
  serving(async ({ target }) => {
    await context.test("answer.js prints the label, who gave it, and the cost", async () => {
      const { stdout } = await run("answer.js", target);
      assert.match(stdout, /^billing \(accepted, by small\)\ncost 0\.\d+ USD; the strongest model: 0\.\d+ USD\n$/);
    });
    await context.test("stream.js shows the switch", async () => {
      const { stdout } = await run("stream.js", target, "What is a gearbox?");
      assert.match(stdout, /\[taken back from small: .+\]\nA gearbox lets an engine .+\.\n\[large, 2 attempts, 0\.\d+ USD\]\n$/s);
    });
    await context.test("a refused call ends with its reason", async () => {
      await assert.rejects(run("answer.js", "127.0.0.1:9"), (/** @type {any} */ error) => {
        assert.equal(error.code, 1);
        assert.match(error.stderr, /^UNAVAILABLE: /);
        return true;
      });
    });
  }));
