// Bundles each page into the folder that the service serves; --check fails where a bundle is not what the sources give.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const isCheck = process.argv.includes("--check");
const pages = ["chat", "ops"];

for (const page of pages) {
  const outfile = here(`../../gearshift/server/web/pages/${page}.js`);
  const { outputFiles } = await build({
    entryPoints: [here(`../src/${page}/main.ts`)],
    outfile,
    bundle: true,
    format: "esm",
    target: "es2022",
    minify: true,
    legalComments: "eof",
    charset: "utf8",
    logLevel: "warning",
    write: false,
  });
  const made = outputFiles[0].text;
  if (isCheck) {
    if (readFileSync(outfile, "utf8") !== made) {
      console.error(`stale: ${page}.js; run: npm run bundle in server/pages`);
      process.exitCode = 1;
    }
  } else {
    const { writeFileSync } = await import("node:fs");
    writeFileSync(outfile, made);
    console.log(`${page}.js: ${(made.length / 1024).toFixed(0)} KiB`);
  }
}
