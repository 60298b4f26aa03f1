/**
 * One prompt, one answer, and what it cost.
 *
 *     node examples/answer.js 127.0.0.1:50051
 */
import { GearshiftError, Outcome, createClient, wordOf } from "@gearshift/client";

const client = createClient({ target: process.argv[2] ?? "127.0.0.1:50051", key: process.env.GEARSHIFT_API_KEY ?? "" });
try {
  const answer = await client.execute("classify", "I was charged twice this month.", {
    task: "email-triage",
    labels: ["billing", "bug", "praise"],
  });
  const { completion } = answer;
  console.log(`${answer.text} (${wordOf(Outcome, completion?.outcome)}, by ${completion?.servedBy?.model})`);
  console.log(`cost ${completion?.cost?.totalUsd} USD; the strongest model: ${completion?.cost?.strongestUsd} USD`);
} catch (error) {
  if (!(error instanceof GearshiftError)) {
    throw error;
  }
  // Branch on `code` and `reason`, never on a text.
  const wait = error.code === "RESOURCE_EXHAUSTED" ? `; try again in ${error.retryAfter} s` : "";
  console.error(`${error.message}${wait}`);
  process.exitCode = 1;
} finally {
  client.close();
}
