/**
 * Makes the one file for browsers, and puts it where the service serves it from; with --check says whether that one is
 * fresh. The same sources and the same lock file give the same bytes.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const MOST_BYTES = 150_000;
const SERVED = new URL("../../../server/gearshift/server/web/pages/gearshift.js", import.meta.url);
const MADE = new URL("../dist/gearshift.js", import.meta.url);

/** Pages speak protobuf's binary form only: its JSON form would be a seventh of the bundle. */
const binaryOnly = {
  name: "binary-only",
  /** @param {import("esbuild").PluginBuild} build */
  setup({ onLoad }) {
    onLoad({ filter: /@bufbuild[/\\]protobuf[/\\]dist[/\\]esm[/\\](from|to)-json\.js$/ }, ({ path }) => {
      const names = [...readFileSync(path, "utf8").matchAll(/^export function (\w+)/gm)].map(([, name]) => name);
      const refuse = 'const refuse = () => { throw new Error("the bundle has no JSON form of messages"); };';
      return { contents: `${refuse} export { ${names.map((name) => `refuse as ${name}`).join(", ")} };` };
    });
  },
};

const result = await build({
  absWorkingDir: fileURLToPath(new URL("..", import.meta.url)),
  entryPoints: ["src/web.ts"],
  bundle: true,
  format: "esm",
  platform: "browser",
  target: "es2022",
  minify: true,
  legalComments: "none",
  banner: { js: "// Made by `npm run bundle` in clients/web. Holds @bufbuild/protobuf, @connectrpc/connect and connect-web (Apache-2.0)." },
  plugins: [binaryOnly],
  write: false,
});
const [file] = result.outputFiles;
if (file === undefined || file.contents.length > MOST_BYTES) {
  console.error(`the bundle has ${file?.contents.length} bytes; at most ${MOST_BYTES} are wanted`);
  process.exit(1);
}
if (process.argv.includes("--check")) {
  if (!served().equals(file.contents)) {
    console.error("stale: server/gearshift/server/web/pages/gearshift.js; run: make web");
    process.exit(1);
  }
} else {
  // A test needs the file, and must not mend the one that is served.
  for (const place of process.argv.includes("--only-here") ? [MADE] : [MADE, SERVED]) {
    mkdirSync(new URL(".", place), { recursive: true });
    writeFileSync(place, file.contents);
  }
  writeFileSync(new URL("../dist/gearshift.d.ts", import.meta.url), 'export * from "./web.js";\n');
  console.log(`${file.contents.length} bytes`);
}

function served() {
  try {
    return readFileSync(SERVED);
  } catch {
    return Buffer.alloc(0);
  }
}
