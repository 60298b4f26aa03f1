/** TLS, a certificate of one's own, and keys, against the running service. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { GearshiftError, createClient } from "@gearshift/client";

import { selfSigned, serving } from "./support/service.js";

const HOME = fileURLToPath(new URL("..", import.meta.url));
const SECRET = "0123456789abcdef".repeat(4);
const KEYS = { caller: `gs_caller_${SECRET}`, ops: `gs_ops_${SECRET}` };
const ACCESS = `
access:
  keys:
${Object.entries(KEYS).map(([role, key]) => `    - {id: ${role}, sha256: ${createHash("sha256").update(key).digest("hex")}, tenant: default, role: ${role}}`).join("\n")}
`;

/** @param {import("@gearshift/client").Client} client */
async function label(client) {
  try {
    return (await client.execute("classify", "I was charged twice", { labels: ["billing", "bug"] }, { deadlineMs: 10_000 })).text;
  } catch (error) {
    assert.ok(error instanceof GearshiftError);
    return error.code;
  } finally {
    client.close();
  }
}

test("a certificate of one's own, and keys", { timeout: 60_000 }, () => {
  /** @type {{ certificate: string, key: string }} */
  let files;
  return serving(
    async ({ target }) => {
      const { certificate, key } = files;
      const mutual = { ca: certificate, certificate, key };
      const bytes = { ca: readFileSync(certificate), certificate: readFileSync(certificate), key: readFileSync(key) };
      for (const tls of [mutual, bytes]) {
        assert.equal(await label(createClient({ target, tls, key: KEYS.caller })), "billing");
      }
      assert.equal(await label(createClient({ target, tls: mutual })), "UNAUTHENTICATED");
      const ops = createClient({ target, tls: mutual, key: KEYS.ops });
      assert.match((await ops.ops.getStatus()).version, /^\d/);
      ops.close();
      const caller = createClient({ target, tls: mutual, key: KEYS.caller });
      await assert.rejects(caller.ops.getStatus(), { code: "PERMISSION_DENIED", reason: "FORBIDDEN" });
      caller.close();
      for (const [stranger, tls] of /** @type {[string, boolean | import("@gearshift/client/node").TlsOptions][]} */ ([
        ["no certificate of its own", { ca: certificate }],
        ["the system's roots", true],
        ["another name", { ...mutual, serverName: "other.example" }],
        ["no TLS", false],
      ])) {
        assert.equal(await label(createClient({ target, tls, key: KEYS.caller })), "UNAVAILABLE", stranger);
      }
    },
    (folder) => {
      files = selfSigned(folder);
      const { certificate, key } = files;
      return `server: {tls: {certificate: "${certificate}", key: "${key}", client_ca: "${certificate}"}}${ACCESS}`;
    },
  );
});

test("TLS alone, over gRPC and over gRPC-Web", { timeout: 60_000 }, () => {
  /** @type {{ certificate: string, key: string }} */
  let files;
  return serving(
    async ({ target, baseUrl }) => {
      const ca = files.certificate;
      assert.equal(await label(createClient({ target, tls: { ca }, key: KEYS.caller })), "billing");
      assert.match(baseUrl, /^https:/);
      assert.equal(await label(createClient({ baseUrl, key: KEYS.caller })), "UNAVAILABLE");
      // fetch believes what Node was told when it started.
      const code = `
        import { createClient } from "@gearshift/client";
        const client = createClient(${JSON.stringify({ baseUrl, key: KEYS.caller })});
        console.log((await client.execute("classify", "I was charged twice", { labels: ["billing", "bug"] })).text);`;
      const env = { ...process.env, NODE_EXTRA_CA_CERTS: ca };
      const run = promisify(execFile)(process.execPath, ["--input-type=module", "-e", code], { cwd: HOME, env, timeout: 20_000 });
      assert.equal((await run).stdout, "billing\n");
    },
    (folder) => {
      files = selfSigned(folder);
      return `server: {http_tls: true, tls: {certificate: "${files.certificate}", key: "${files.key}"}}${ACCESS}`;
    },
  );
});
