/**
 * A real browser, and pages that tell what they show by fetching "/shown?" and it as JSON.
 *
 *     const site = telling(new Map([["/", ["text/html", page]]]));
 *     await hosting(site, async (address) => { await visit(address, site.told()); });
 *
 * The browser is ended by its process group, whatever happens.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

const BROWSER = ["chromium", "chromium-browser", "google-chrome"].find((name) => spawnSync(name, ["--version"]).status === 0);
/** A name that means this machine to the browser only: to it, an origin on the network. */
export const OTHER = "other.test";

/** @typedef {[type: string, bytes: string | Buffer]} Page */

/**
 * Says why a test that needs a browser cannot run; "" when it can. In CI it must be there.
 *
 * @returns {string}
 */
export function missingBrowser() {
  const needed = BROWSER === undefined ? "needs Chromium: apt-get install chromium" : "";
  assert.ok(needed === "" || process.env["CI"] !== "true", needed);
  return needed;
}

/** @param {string} name in clients/web @param {string} type @returns {Page} */
export function file(name, type) {
  return [type, readFileSync(new URL(`../../${name}`, import.meta.url))];
}

/**
 * Gives pages by their path, and what one of them tells next.
 *
 * @param {Map<string, Page>} pages
 */
export function telling(pages) {
  /** @type {(shown: unknown) => void} */
  let tell = () => {};
  return {
    /** @returns {Promise<unknown>} */
    told: () => new Promise((resolve) => (tell = resolve)),
    /** @param {string} path */
    get: (path) => {
      if (path.startsWith("/shown?")) {
        tell(JSON.parse(decodeURIComponent(path.slice("/shown?".length))));
      }
      return pages.get(path);
    },
  };
}

/**
 * Serves pages while `run` runs.
 *
 * @param {{ get: (path: string) => Page | undefined }} site
 * @param {(address: string) => Promise<void>} run
 */
export async function hosting(site, run) {
  const server = http.createServer(({ url = "" }, response) => {
    const page = site.get(url);
    response.writeHead(page === undefined ? 404 : 200, { "content-type": page?.[0] ?? "text/plain" }).end(page?.[1]);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  try {
    const address = server.address();
    assert.ok(typeof address === "object" && address !== null);
    await run(`http://127.0.0.1:${address.port}`);
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

/**
 * Opens a page and gives what it tells.
 *
 * @param {string} address
 * @param {Promise<unknown>} told
 */
export async function visit(address, told) {
  assert.ok(BROWSER !== undefined);
  const profile = mkdtempSync(join(tmpdir(), "gearshift-web-"));
  const options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", `--user-data-dir=${profile}`,
    `--host-resolver-rules=MAP ${OTHER} 127.0.0.1`];
  const browser = spawn(BROWSER, [...options, address], { stdio: "ignore", detached: true });
  const ended = new Promise((resolve) => browser.once("close", () => resolve("the browser ended")));
  try {
    return await Promise.race([told, ended]);
  } finally {
    // With its children, which are its group.
    if (browser.pid !== undefined && browser.exitCode === null) {
      process.kill(-browser.pid, "SIGKILL");
    }
    await ended;
    rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }
}
