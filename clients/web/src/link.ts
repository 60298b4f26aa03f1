/**
 * Ties one call to its caller's signal, its client and its deadline.
 *
 * Rules: a call is tied when it is made, however often it is sent; its deadline does not move. Who ends the call lets go
 * of the caller's signal, which may live much longer.
 */
import { GearshiftError, errorFrom } from "./errors.js";
import { wholeMs, type CallSettings, type Settings } from "./options.js";

/** What one call is sent with, and how it ends. */
export class Link {
  readonly #controller = new AbortController();
  readonly #endsAt: number | undefined;
  /** What the call throws that was ended by us. */
  #reason: GearshiftError | undefined;
  // Without the caller's reason: by a foreign one, Connect would take what is cancelled for a fault.
  readonly #onAbort = (): void => {
    this.#controller.abort();
  };

  constructor(
    private readonly call: CallSettings,
    private readonly settings: Settings,
    isEndless = false,
  ) {
    const deadlineMs = call.deadlineMs ?? (isEndless ? undefined : settings.deadlineMs);
    this.#endsAt = deadlineMs === undefined ? undefined : performance.now() + deadlineMs;
    if (call.signal?.aborted === true) {
      this.#onAbort();
    }
    call.signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  /** Ends what runs for the call. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Milliseconds until the deadline. */
  get leftMs(): number {
    return this.#endsAt === undefined ? Infinity : this.#endsAt - performance.now();
  }

  /**
   * Gives what goes with the call when it is sent now.
   *
   * @throws GearshiftError it was cancelled, or its deadline has passed; nothing was sent.
   */
  sent(): { signal: AbortSignal; timeoutMs: number | undefined; headers: Headers } {
    if (this.signal.aborted) {
      throw this.#cancelled();
    }
    const left = this.leftMs;
    if (!(left > 0)) {
      throw new GearshiftError("DEADLINE_EXCEEDED", "the deadline had passed before the call; nothing was sent");
    }
    const headers = new Headers();
    for (const [name, value] of [...this.settings.headers, ...Object.entries(this.call.headers ?? {})]) {
      headers.append(name, value);
    }
    return { signal: this.signal, timeoutMs: this.#endsAt === undefined ? undefined : wholeMs(left), headers };
  }

  /** Gives our error for what the call threw. */
  errorFrom(thrown: unknown): GearshiftError {
    return this.signal.aborted ? this.#cancelled() : errorFrom(thrown);
  }

  /** Ends the call; a reason is what it then throws. */
  abort(reason?: GearshiftError): void {
    this.release();
    this.#reason = reason;
    this.#controller.abort();
  }

  /** Lets go of the caller's signal, which may live much longer. */
  release(): void {
    this.call.signal?.removeEventListener("abort", this.#onAbort);
  }

  #cancelled(): GearshiftError {
    if (this.#reason !== undefined) {
      return this.#reason;
    }
    const cause: unknown = this.call.signal?.reason;
    return cause instanceof DOMException && cause.name === "TimeoutError"
      ? new GearshiftError("DEADLINE_EXCEEDED", "the call's signal timed out", { cause })
      : new GearshiftError("CANCELLED", "the call was cancelled", { cause });
  }
}
