/** The example page with the bundle, in a real browser: on this machine's own origin, and on one without WebCrypto. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { digest } from "@gearshift/client";

import { playing } from "./support/player.js";

const BROWSER = ["chromium", "chromium-browser", "google-chrome"].find((name) => spawnSync(name, ["--version"]).status === 0);
const NEEDED = "needs Chromium: apt-get install chromium";
/** A name that means this machine to the browser only: to it, an origin on the network. */
const OTHER = "other.test";

/** @param {any} kind @param {any} value @returns {any} */
const event = (kind, value) => ({ kind: { case: kind, value } });
/** @param {number} number @param {string} text */
const delta = (number, text) => event("delta", { number, parts: [{ content: { case: "text", value: text } }] });
/** @param {string} name @param {string} type @returns {[string, Buffer]} */
const file = (name, type) => [type, readFileSync(new URL(`../${name}`, import.meta.url))];

test("a page shows the text, what was taken back, and the cost", { timeout: 60_000 }, async (context) => {
  if (BROWSER === undefined) {
    assert.notEqual(process.env["CI"], "true", NEEDED);
    context.skip(NEEDED);
    return;
  }
  const [type, page] = file("examples/page.html", "text/html");
  // The page asks by itself, and tells what it shows once its button for stopping is off again.
  const asks = Buffer.from(page.toString().replace("</script>", `
    await at("ask").onclick();
    const shown = ["who", "taken", "text"].map((id) => at(id).textContent);
    await fetch("/shown?" + encodeURIComponent(JSON.stringify(shown)));
    </script>`));
  const pages = new Map([["/", [type, asks]], ["/gearshift.js", file("dist/gearshift.js", "text/javascript")]]);
  /** @type {(shown: unknown) => void} */
  let tell = () => {};
  const profile = mkdtempSync(join(tmpdir(), "gearshift-web-"));
  try {
    await playing(
      {
        async *streamRoute() {
          yield { events: [event("started", {}), event("attempt", { number: 1, stage: { model: "small" } }), delta(1, "bad")] };
          yield { events: [event("attempt", { number: 2, stage: { model: "large" } }), event("retract", {}), delta(2, "good é")] };
          yield { events: [event("completed", { completion: { outcome: 1, digest: await digest("good é"), cost: { totalUsd: "0.02" } } })] };
        },
      },
      async ({ baseUrl }) => {
        for (const host of ["127.0.0.1", OTHER]) {
          const address = baseUrl.replace("127.0.0.1", host);
          const options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", `--user-data-dir=${profile}`,
            `--host-resolver-rules=MAP ${OTHER} 127.0.0.1`];
          const shown = new Promise((resolve) => {
            tell = resolve;
          });
          const browser = spawn(BROWSER, [...options, address], { stdio: "ignore", detached: true });
          const ended = new Promise((resolve) => browser.once("close", resolve));
          try {
            assert.deepEqual(await Promise.race([shown, ended]), ["large 0.02", "bad", "good é"], host);
          } finally {
            // With its children, which are its group.
            if (browser.pid !== undefined && browser.exitCode === null) {
              process.kill(-browser.pid, "SIGKILL");
            }
            await ended;
          }
        }
      },
      {},
      {
        get: (path) => {
          if (path.startsWith("/shown?")) {
            tell(JSON.parse(decodeURIComponent(path.slice(7))));
          }
          return pages.get(path);
        },
      },
    );
  } finally {
    rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }
});
