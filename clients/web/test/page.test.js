/**
 * Pages with the bundle in a real browser: the example on this machine's own origin, and on one without WebCrypto; and one
 * that calls another origin, which is the real Envoy's.
 */
import assert from "node:assert/strict";
import { test } from "node:test";

import { digest } from "@gearshift/client";

import { OTHER, file, hosting, missingBrowser, telling, visit } from "./support/browser.js";
import { attempt, delta, event } from "./support/events.js";
import { playing } from "./support/player.js";
import { serving, throughEnvoy } from "./support/service.js";

test("a page shows the text, what was taken back, and the cost", { timeout: 60_000 }, async (context) => {
  const missing = missingBrowser();
  if (missing !== "") {
    context.skip(missing);
    return;
  }
  const [type, page] = file("examples/page.html", "text/html");
  // The page asks by itself, and tells what it shows once its button for stopping is off again.
  const asks = page.toString().replace("</script>", `
    await at("ask").onclick();
    const shown = ["who", "taken", "text"].map((id) => at(id).textContent);
    await fetch("/shown?" + encodeURIComponent(JSON.stringify(shown)));
    </script>`);
  /** @type {Map<string, import("./support/browser.js").Page>} */
  const pages = new Map([["/", [type, asks]], ["/gearshift.js", file("dist/gearshift.js", "text/javascript")]]);
  const site = telling(pages);
  await playing(
    {
      async *streamRoute() {
        yield { events: [event("started", {}), attempt(1, "small"), delta(1, "bad")] };
        yield { events: [attempt(2, "large"), event("retract", {}), delta(2, "good é")] };
        yield { events: [event("completed", { completion: { outcome: 1, digest: await digest("good é"), cost: { totalUsd: "0.02" } } })] };
      },
    },
    async ({ baseUrl }) => {
      for (const host of ["127.0.0.1", OTHER]) {
        assert.deepEqual(await visit(baseUrl.replace("127.0.0.1", host), site.told()), ["large 0.02", "bad", "good é"], host);
      }
    },
    {},
    site,
  );
});

/** Streams, fails, and leaves a stream, all of them across origins; tells what it saw. */
const CALLER = `<!doctype html><meta charset="utf-8"><script type="module">
  import { accumulate, call, createClient } from "./gearshift.js";
  const client = createClient({ baseUrl: "SERVICE", retry: { attempts: 3, initialBackoffMs: 1 } });
  const ask = (prompt) => call("story", prompt, { taskType: "generate", noCache: true });
  const shown = {};
  for await (const { text, retracted, writer, isIntact } of accumulate(client.streamRoute(ask("What is a gearbox?")))) {
    Object.assign(shown, { text, writer: writer?.model, takenFrom: retracted[0]?.stage.model, isIntact });
  }
  const failed = await client.route(ask("It breaks everywhere")).catch((error) => error);
  Object.assign(shown, { code: failed.code, reason: failed.reason, attempts: failed.attempts?.length });
  for await (const { kind } of client.streamRoute(ask("Write slowly"), { stream: { holdBackTokens: 0 } })) {
    if (kind === "delta") break;
  }
  await fetch("/shown?" + encodeURIComponent(JSON.stringify(shown)));
</script>`;

test("a page calls through Envoy from another origin", { timeout: 60_000 }, async (context) => {
  const missing = missingBrowser();
  if (missing !== "") {
    context.skip(missing);
    return;
  }
  /** @type {Map<string, import("./support/browser.js").Page>} */
  const pages = new Map([["/gearshift.js", file("dist/gearshift.js", "text/javascript")]]);
  const site = telling(pages);
  await serving((service) =>
    hosting(site, async (origin) => {
      const envoyMissing = await throughEnvoy(service.target, [origin], async (address) => {
        pages.set("/", ["text/html", CALLER.replace("SERVICE", `http://${address}`)]);
        assert.deepEqual(await visit(origin, site.told()), {
          text: "A gearbox lets an engine run at the speed that suits it.",
          writer: "large",
          takenFrom: "small",
          isIntact: true,
          code: "UNAVAILABLE",
          reason: "CHAIN_EXHAUSTED",
          attempts: 2,
        });
        let requests = [];
        while (requests.length < 5) {
          ({ requests } = await service.account());
        }
        // The service said not to try again, which a page of another origin must be allowed to hear.
        assert.equal(requests.length, 5);
        assert.equal(requests.at(-1).end, "client left");
      });
      if (envoyMissing !== "") {
        context.skip(envoyMissing);
      }
    }),
  );
});
