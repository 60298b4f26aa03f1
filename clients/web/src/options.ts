/**
 * What a client is made with, and what one call may say.
 *
 * Rules: a key is never printed, and never crosses a network in the clear unless that is said. Nothing is connected.
 */
import type { Transport } from "@connectrpc/connect";

/** Milliseconds that a call may take when nobody says. */
export const DEFAULT_DEADLINE_MS = 300_000;

/** The longest deadline, ms (27 hours): what gRPC's header can say in milliseconds, in eight digits. */
const LONGEST_MS = 99_999_999;

/** How calls that ended as UNAVAILABLE are tried again, before anything was received. */
export interface RetryOptions {
  /** Calls in all, 2 to 5; 3 when unset. */
  attempts?: number;
  /** Above 0; 200 when unset. */
  initialBackoffMs?: number;
  /** At least initialBackoffMs; 5000 when unset. */
  maxBackoffMs?: number;
}

/** What every client may be made with, wherever it runs. */
export interface CommonOptions {
  /** The key that every call shows, as `gearshift` issued it; empty sends none. */
  key?: string;
  /** Allow the key without TLS beyond this machine, where anyone on the way can read it. */
  plaintextKey?: boolean;
  /** Milliseconds that each call may take, above 0; 300,000 when unset. A call's own wins. */
  deadlineMs?: number;
  /** Sent with every call. */
  headers?: Readonly<Record<string, string>>;
  /** Unset: no retries, for each may be a paid call. */
  retry?: RetryOptions;
}

/** What a client in a browser is made with. */
export interface WebClientOptions extends CommonOptions {
  /** Where gRPC-Web is served, such as "https://gearshift.example.com"; unset is the page's own origin. */
  baseUrl?: string;
  /** Any Connect transport, instead of baseUrl. */
  transport?: Transport;
  /** Instead of the global fetch. */
  fetch?: typeof globalThis.fetch;
}

/** What one call may say. */
export interface CallSettings {
  /** Ends the call, here and upstream. */
  signal?: AbortSignal;
  /** Milliseconds that the call may take, above 0; unset is the client's. */
  deadlineMs?: number;
  /** Sent with this call, after the client's. */
  headers?: Readonly<Record<string, string>>;
}

/** What the options add up to. */
export interface Settings {
  readonly deadlineMs: number;
  readonly headers: readonly (readonly [string, string])[];
  readonly retry: Required<RetryOptions> | undefined;
}

/**
 * Adds the options up for an address.
 *
 * @throws TypeError the key would cross a network in the clear, or is none. RangeError: a number is out of its range.
 */
export function settingsFrom(options: CommonOptions, address: URL | undefined): Settings {
  const { key = "", plaintextKey = false, deadlineMs = DEFAULT_DEADLINE_MS, headers = {} } = options;
  if (!/^[!-~]*$/.test(key)) {
    throw new TypeError("a key is printable ASCII without spaces");
  }
  if (key !== "" && !plaintextKey && address !== undefined && address.protocol !== "https:" && !staysHere(address)) {
    throw new TypeError(`the key would go to ${address.host} in the clear: use https, or plaintextKey: true`);
  }
  if (!(deadlineMs > 0)) {
    throw new RangeError("deadlineMs is above 0");
  }
  return {
    deadlineMs,
    headers: [...Object.entries(headers), ...(key === "" ? [] : [["authorization", `Bearer ${key}`] as const])],
    retry: retryFrom(options.retry),
  };
}

/** Gives the whole milliseconds that go on the wire. */
export function wholeMs(deadlineMs: number): number {
  return Math.max(1, Math.min(Math.floor(deadlineMs), LONGEST_MS));
}

function retryFrom(retry: RetryOptions | undefined): Required<RetryOptions> | undefined {
  if (retry === undefined) {
    return undefined;
  }
  const { attempts = 3, initialBackoffMs = 200, maxBackoffMs = 5000 } = retry;
  if (!Number.isInteger(attempts) || attempts < 2 || attempts > 5) {
    throw new RangeError("attempts is 2 to 5");
  }
  if (!(initialBackoffMs > 0 && initialBackoffMs <= maxBackoffMs)) {
    throw new RangeError("initialBackoffMs is above 0 and at most maxBackoffMs");
  }
  return { attempts, initialBackoffMs, maxBackoffMs };
}

/** Whether an address names this machine only. */
function staysHere({ hostname }: URL): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127(\.\d{1,3}){3}$/.test(hostname);
}
