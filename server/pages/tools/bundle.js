// Bundles each page into the folder that the service serves; --check fails where a bundle is not what the sources give.
import { readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const isCheck = process.argv.includes("--check");

for (const page of ["chat", "ops"]) {
  const { outputFiles } = await build({
    entryPoints: [here(`../src/${page}/main.ts`)],
    outfile: here(`../../gearshift/server/web/pages/${page}.js`),
    bundle: true,
    format: "esm",
    target: "es2022",
    minify: true,
    legalComments: "eof",
    charset: "utf8",
    logLevel: "warning",
    write: false,
  });
  for (const { path, text } of outputFiles) {
    if (!isCheck) {
      writeFileSync(path, text);
      console.log(`${basename(path)}: ${(text.length / 1024).toFixed(0)} KiB`);
    } else if (readFileSync(path, "utf8") !== text) {
      console.error(`stale: ${basename(path)}; run: npm run bundle in server/pages`);
      process.exitCode = 1;
    }
  }
}
