/**
 * The service and the simulated providers as processes of their own, as a person starts them; and Envoy before them.
 *
 *     await serving(async (service) => { service.target; service.baseUrl; await service.account(); });
 *     await throughEnvoy(service.target, [], async (address) => { … });
 *
 * They are ended by their process ids, whatever happens.
 */
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../../..", import.meta.url));
const PYTHON = process.env["GEARSHIFT_PYTHON"] ?? join(ROOT, ".venv/bin/python");
const START_MS = 30_000;
const COMMAND = "gearshift.clients.cli";

/** Two stages: the first has the fault of the plan, the second is sound. */
const CONFIG = `
version: 1
providers:
  weak: {kind: openai, dialect: compatible, base_url: "URL/p/weak/v1", api_key: ""}
  strong: {kind: openai, dialect: compatible, base_url: "URL/p/strong/v1", api_key: ""}
models:
  small: {provider: weak, capability: low, context_tokens: 32768, prices: {input_usd: 1, output_usd: 2}, features: [json_schema, json_object, temperature, seed]}
  large: {provider: strong, capability: high, context_tokens: 32768, prices: {input_usd: 10, output_usd: 20}, features: [json_schema, json_object, temperature, seed]}
  vectors: {provider: weak, capability: low, prices: {input_usd: 1}, dimensions: [4]}
chains:
  generate: {stages: [{provider: weak, model: small, max_retries: 0}, {provider: strong, model: large, max_retries: 0}]}
  classify: {stages: [{provider: weak, model: small, max_retries: 0}, {provider: strong, model: large, max_retries: 0}]}
  extract: {stages: [{provider: strong, model: large}]}
  reason: {stages: [{provider: strong, model: large}]}
  embed: {stages: [{provider: weak, model: vectors}]}
defaults: {complexity: {classify: low, extract: low, generate: low, reason: low, embed: low}}
stream: {hold_back_tokens: 4}
`;

const PLAN = `
version: 1
seed: 7
providers:
  weak:
    wire: openai
    models: {small: {}, vectors: {dimensions: 4}}
    latency: {first_token_ms: 5, token_ms: 5, jitter: 0}
    faults:
      - {fault: "cut@30", contains: gearbox}
      - {fault: "cut@5", contains: everywhere}
      - {fault: "drip@1:0.02", contains: slowly}
      - {fault: "hang:20", contains: never comes}
  strong:
    wire: openai
    models: {large: {}}
    latency: {first_token_ms: 5, token_ms: 1, jitter: 0}
    faults:
      - {fault: "cut@5", contains: everywhere}
      - {fault: "hang:20", contains: never comes}
answers:
  - {contains: slowly, words: 2000}
  - {contains: gearbox, provider: weak, words: 90}
  - {contains: gearbox, text: "A gearbox lets an engine run at the speed that suits it."}
  - {contains: charged twice, label: billing}
`;

/**
 * @typedef {object} Service
 * @property {string} target gRPC
 * @property {string} baseUrl the HTTP port
 * @property {() => Promise<any>} account what the providers booked
 */

/**
 * @param {(service: Service) => Promise<void>} run
 * @param {(folder: string) => string} [more] gives more of the configuration; its files may lie in the folder
 */
export async function serving(run, more = () => "") {
  const folder = mkdtempSync(join(tmpdir(), "gearshift-web-"));
  /** @type {Started[]} */
  const running = [];
  try {
    writeFileSync(join(folder, "plan.yaml"), PLAN);
    const simulator = start([COMMAND, "simulate", "--plan", join(folder, "plan.yaml"), "--port", "0"], folder);
    running.push(simulator);
    const [, providers = ""] = await simulator.says(/(http:\/\/127\.0\.0\.1:\d+)/);
    writeFileSync(join(folder, "gearshift.yaml"), CONFIG.replaceAll("URL", providers) + more(folder));
    const options = ["--config", join(folder, "gearshift.yaml"), "--port", "0", "--http-port", "0", "--ledger", ":memory:"];
    const service = start([COMMAND, "serve", ...options], folder);
    running.push(service);
    const [, target = ""] = await service.says(/serving on (127\.0\.0\.1:\d+)/);
    const [, baseUrl = ""] = await service.says(/(https?:\/\/127\.0\.0\.1:\d+)\/metrics/);
    const account = async () => (await fetch(`${providers}/account`)).json();
    await run({ target, baseUrl, account });
  } finally {
    await Promise.all(running.map((one) => one.end()));
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * Runs the real Envoy, with the configuration that is shipped, before a service.
 *
 * @param {string} target where the service speaks gRPC
 * @param {string[]} origins whose pages may call
 * @param {(address: string) => Promise<void>} run
 * @returns {Promise<string>} why it could not be run; "" when it was
 */
export async function throughEnvoy(target, origins, run) {
  const proxy = start(["tests.support.envoy_alone", target, ...origins], ROOT);
  try {
    const [, word, told = ""] = await proxy.says(/^(calls go to|missing:) (.+)$/m);
    if (word === "missing:") {
      return told;
    }
    await run(told);
    return "";
  } finally {
    await proxy.leave();
  }
}

/**
 * Writes a certificate for 127.0.0.1 that is its own authority.
 *
 * @param {string} folder
 * @returns {{ certificate: string, key: string }} files
 */
export function selfSigned(folder) {
  const files = { certificate: join(folder, "tls.crt"), key: join(folder, "tls.key") };
  const code = "import pathlib, sys; from tests.support.loopback_tls import own_authority; "
    + "[pathlib.Path(file).write_bytes(pem) for file, pem in zip(sys.argv[1:], own_authority('tests'))]";
  execFileSync(PYTHON, ["-c", code, files.certificate, files.key], { cwd: ROOT });
  return files;
}

/** @typedef {ReturnType<typeof start>} Started */

/** @param {string[]} words of a Python module, and what it is given @param {string} folder */
function start(words, folder) {
  const child = spawn(PYTHON, ["-m", ...words], { cwd: folder, stdio: ["pipe", "pipe", "pipe"] });
  let said = "";
  let changed = () => {};
  /** @type {Promise<void>} */
  const ended = new Promise((resolve) => child.once("close", () => {
    changed();
    resolve();
  }));
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text) => {
      said += text;
      changed();
    });
  }
  return {
    /** @param {RegExp} pattern @returns {Promise<RegExpMatchArray>} */
    async says(pattern) {
      const until = Date.now() + START_MS;
      for (;;) {
        const found = said.match(pattern);
        if (found !== null) {
          return found;
        }
        if (child.exitCode !== null || Date.now() > until) {
          throw new Error(`${words.join(" ")} never said ${pattern}:\n${said}`);
        }
        await new Promise((resolve) => {
          changed = () => resolve(undefined);
          setTimeout(changed, 1000).unref();
        });
      }
    },
    async end() {
      child.kill("SIGKILL");
      await ended;
    },
    /** Lets it end by itself, as it does when nobody is left who could speak to it. */
    async leave() {
      child.stdin.end();
      await ended;
    },
  };
}
