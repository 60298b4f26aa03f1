/**
 * Generates src/gen from the contract, or with --check says whether it is fresh.
 *
 * Rules: the program is the project's own buf (.venv/bin/buf), or the one on the path; nothing is downloaded.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const HOME = fileURLToPath(new URL("..", import.meta.url));
const GENERATED = join(HOME, "src/gen");

/** @param {string} folder @param {string[]} more */
function generate(folder, more) {
  const own = join(HOME, "../../.venv/bin/buf");
  const run = spawnSync(existsSync(own) ? own : "buf", ["generate", "--output", folder, ...more], { cwd: HOME, stdio: "inherit" });
  if (run.error !== undefined || run.status !== 0) {
    console.error(run.error === undefined ? "buf failed" : "buf is missing; run: make install");
    process.exit(1);
  }
}

/** @param {string} folder @returns {Map<string, string>} */
function filesOf(folder) {
  const names = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map(names.map((entry) => {
    const path = join(entry.parentPath, entry.name);
    return [path.slice(folder.length), readFileSync(path, "utf8")];
  }));
}

if (process.argv.includes("--check")) {
  const fresh = mkdtempSync(join(tmpdir(), "gearshift-web-"));
  try {
    generate(fresh, []);
    const [made, kept] = [filesOf(join(fresh, "src/gen")), filesOf(GENERATED)];
    const stale = [...new Set([...made.keys(), ...kept.keys()])].filter((name) => made.get(name) !== kept.get(name));
    if (stale.length > 0) {
      console.error(`stale: ${stale.map((name) => `src/gen${name}`).join(", ")}; run: make web`);
      process.exitCode = 1;
    }
  } finally {
    rmSync(fresh, { recursive: true });
  }
} else {
  generate(HOME, ["--clean"]);
}
