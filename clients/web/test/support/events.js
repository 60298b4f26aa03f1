/** What scripted servers say: events in the fields of the contract, and a refusal. */
import { digest } from "@gearshift/client";

/** google.rpc.Status of FAILED_PRECONDITION with ErrorInfo PROMPT_NOT_CACHED, as the service sends it. */
export const FORGOTTEN = Buffer.from([
  0x08, 0x09, 0x1a, 0x48, 0x0a, 0x28, ...Buffer.from("type.googleapis.com/google.rpc.ErrorInfo"), 0x12, 0x1c, 0x0a, 0x11,
  ...Buffer.from("PROMPT_NOT_CACHED"), 0x12, 0x07, ...Buffer.from("gearshi"),
]).toString("base64");

/** A system prompt that is worth sending once. */
export const LONG = "Sort mails by what they ask for. ".repeat(20);

/** @param {any} kind @param {any} value @returns {any} */
export const event = (kind, value) => ({ kind: { case: kind, value } });
/** @param {number} number @param {string} text */
export const delta = (number, text) => event("delta", { number, parts: [{ content: { case: "text", value: text } }] });
/** @param {number} number @param {string} model */
export const attempt = (number, model) => event("attempt", { number, stage: { model } });
/** @param {string} text @param {string} [promptKey] */
export const completed = async (text, promptKey = "") =>
  event("completed", { completion: { outcome: 1, digest: await digest(text), promptKey, cost: { totalUsd: "0.01" } } });

/** @param {AbortSignal} signal @returns {Promise<never>} what a handler awaits that answers nothing until its caller leaves */
export const left = (signal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
