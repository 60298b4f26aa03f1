/**
 * An answer while it is written; what is taken back is said.
 *
 *     node examples/stream.js 127.0.0.1:50051 "What is a gearbox?"
 */
import { accumulate, call, createClient } from "@gearshift/client";

const [target = "127.0.0.1:50051", prompt = "What is a gearbox?"] = process.argv.slice(2);
const client = createClient({ target, key: process.env.GEARSHIFT_API_KEY ?? "", deadlineMs: 60_000 });
const stream = client.streamRoute(call("story", prompt, { taskType: "generate" }));
let shown = "";
let takenBack = 0;
try {
  for await (const { text, retracted, writer, completion, cost } of accumulate(stream)) {
    for (const piece of retracted.slice(takenBack)) {
      process.stdout.write(`\n[taken back from ${piece.stage?.model}: ${piece.reason}]\n`);
      shown = "";
    }
    takenBack = retracted.length;
    process.stdout.write(text.slice(shown.length));
    shown = text;
    if (completion !== undefined) {
      process.stdout.write(`\n[${writer?.model}, ${completion.attempts.length} attempts, ${cost?.totalUsd} USD]\n`);
    }
  }
} finally {
  client.close();
}
