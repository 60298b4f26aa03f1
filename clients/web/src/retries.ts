/**
 * When a call that ended as UNAVAILABLE is tried again, as gRPC's own retries do it
 * (https://github.com/grpc/proposal/blob/master/A6-client-retries.md).
 *
 * Rules: the server's pushback wins, also its no. A server in trouble is not asked again by everybody: retries stop
 * while half of the calls fail.
 */
import { Code, type ConnectError } from "@connectrpc/connect";

import { codeOf } from "./errors.js";
import type { RetryOptions } from "./options.js";

const MAX_TOKENS = 10;
const TOKEN_RATIO = 0.1;

/** Counts failures against successes. */
export class RetryThrottle {
  #tokens = MAX_TOKENS;

  succeeded(): void {
    this.#tokens = Math.min(MAX_TOKENS, this.#tokens + TOKEN_RATIO);
  }

  failed(): void {
    this.#tokens = Math.max(0, this.#tokens - 1);
  }

  get isOpen(): boolean {
    return this.#tokens > MAX_TOKENS / 2;
  }
}

/** Gives the milliseconds to wait before the next attempt, undefined when there is none. */
export function pauseBefore(
  attempt: number,
  retry: Required<RetryOptions>,
  error: ConnectError,
  throttle: RetryThrottle,
): number | undefined {
  if (codeOf(error) !== Code.Unavailable) {
    return undefined;
  }
  throttle.failed();
  const pushback = error.metadata.get("grpc-retry-pushback-ms");
  if (attempt >= retry.attempts || !throttle.isOpen || (pushback !== null && !/^\d+$/.test(pushback))) {
    return undefined;
  }
  if (pushback !== null) {
    return Number(pushback);
  }
  const most = Math.min(retry.initialBackoffMs * 2 ** (attempt - 1), retry.maxBackoffMs);
  return most * (0.8 + 0.4 * Math.random());
}

/** Waits, but not longer than the signal lets. */
export function waitFor(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
  });
}
