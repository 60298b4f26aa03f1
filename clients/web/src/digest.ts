/**
 * The digest of an answer: SHA-256, hex.
 *
 * Rules: WebCrypto where there is one. A page that came over plain http from another machine has none
 * (https://w3c.github.io/webappsec-secure-contexts/); there the same sum is worked out here.
 */
import { sha256 } from "./sha256.js";

/** What of a tool call its digest covers. */
export interface DigestedToolCall {
  readonly id: string;
  readonly name: string;
  readonly arguments: string;
}

/** Gives the digest of an answer: of its text's UTF-8, or of the canonical JSON of its tool calls, if it has any. */
export async function digest(text: string, toolCalls: readonly DigestedToolCall[] = []): Promise<string> {
  const told =
    toolCalls.length === 0
      ? text
      : JSON.stringify(toolCalls.map((one) => ({ arguments: one.arguments, id: one.id, name: one.name })));
  const bytes = new TextEncoder().encode(told);
  // The types say that it is always there.
  const subtle = globalThis.crypto?.subtle as SubtleCrypto | undefined; // eslint-disable-line @typescript-eslint/no-unnecessary-condition -- old and insecure contexts have none
  const sum = subtle === undefined ? sha256(bytes) : new Uint8Array(await subtle.digest("SHA-256", bytes));
  return Array.from(sum, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
