/**
 * Makes calls on a transport: deadline, key, retries, errors of ours.
 *
 * Rules: the only file that calls Connect. Every call has a deadline, but for a stream that is said to be endless. A
 * call that fails throws GearshiftError; one whose signal was aborted is CANCELLED (DEADLINE_EXCEEDED when the signal
 * was a timeout's). Leaving a stream, however, ends its call.
 */
import type { DescMessage, DescMethodServerStreaming, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { create } from "@bufbuild/protobuf";
import { ConnectError, type Transport } from "@connectrpc/connect";

import { GearshiftError, errorFrom } from "./errors.js";
import { wholeMs, type CallSettings, type Settings } from "./options.js";
import { RetryThrottle, pauseBefore, waitFor } from "./retries.js";

/** A transport and what goes with every call. */
export class Connection {
  readonly #throttle = new RetryThrottle();

  constructor(
    readonly transport: Transport,
    readonly settings: Settings,
  ) {}

  /** Makes one unary call. */
  async unary<In extends DescMessage, Out extends DescMessage>(
    method: DescMethodUnary<In, Out>,
    request: MessageInitShape<In>,
    call: CallSettings = {},
  ): Promise<MessageShape<Out>> {
    const link = new Link(call, this.settings);
    try {
      return await this.#retried(link, async () => {
        const { signal, timeoutMs, headers } = link.sent();
        return (await this.transport.unary(method, signal, timeoutMs, headers, request)).message;
      });
    } catch (thrown) {
      throw link.errorFrom(thrown);
    } finally {
      link.release();
    }
  }

  /** Begins a call that gives messages with the first `next`. */
  stream<In extends DescMessage, Out extends DescMessage>(
    method: DescMethodServerStreaming<In, Out>,
    request: MessageInitShape<In>,
    call: CallSettings = {},
    { isEndless = false }: { isEndless?: boolean } = {},
  ): Messages<MessageShape<Out>> {
    const link = new Link(call, this.settings, isEndless);
    // What Connect wants is an iterable; of its errors it would make rejections that nobody waits for.
    const open = async (): Promise<Started<MessageShape<Out>>> => {
      const { signal, timeoutMs, headers } = link.sent();
      const response = await this.transport.stream(method, signal, timeoutMs, headers, once(create(method.input, request)));
      const iterator = response.message[Symbol.asyncIterator]();
      return { iterator, first: await iterator.next() };
    };
    return new Messages(link, () => this.#retried(link, open));
  }

  /** Runs a call, and again as the settings say; what it gives counts as received. */
  async #retried<Result>(link: Link, run: () => Promise<Result>): Promise<Result> {
    const { retry } = this.settings;
    for (let attempt = 1; ; attempt++) {
      try {
        const result = await run();
        this.#throttle.succeeded();
        return result;
      } catch (thrown) {
        const pause = retry && thrown instanceof ConnectError ? pauseBefore(attempt, retry, thrown, this.#throttle) : undefined;
        if (pause === undefined || link.signal.aborted) {
          throw thrown;
        }
        await waitFor(pause, link.signal);
      }
    }
  }
}

interface Started<Message> {
  readonly iterator: AsyncIterator<Message>;
  readonly first: IteratorResult<Message>;
}

/** The messages of one call; it begins with the first `next`, and ends with `close` or its last message. */
export class Messages<Message> {
  #isClosed = false;
  #iterator: AsyncIterator<Message> | undefined;

  constructor(
    private readonly link: Link,
    private readonly open: () => Promise<Started<Message>>,
  ) {}

  /**
   * Waits for the next message; undefined is the end, also after `close`.
   *
   * @throws GearshiftError the call failed.
   */
  async next(): Promise<Message | undefined> {
    if (this.#isClosed) {
      return undefined;
    }
    try {
      const result = await this.#read();
      if (result.done !== true) {
        return result.value;
      }
    } catch (thrown) {
      // The type does not see that close may have been called meanwhile.
      if (!(this.#isClosed as boolean)) {
        const error = this.link.errorFrom(thrown);
        this.close();
        throw error;
      }
    }
    this.close();
    return undefined;
  }

  /** Ends the call; what the server was doing for it is cancelled. Twice is fine. */
  close(): void {
    if (this.#isClosed) {
      return;
    }
    this.#isClosed = true;
    this.link.abort();
    if (this.#iterator !== undefined) {
      void drain(this.#iterator);
    }
  }

  async #read(): Promise<IteratorResult<Message>> {
    if (this.#iterator !== undefined) {
      return this.#iterator.next();
    }
    const { iterator, first } = await this.open();
    this.#iterator = iterator;
    return first;
  }
}

/** Ties one call to its caller's signal and its deadline. */
class Link {
  readonly #controller = new AbortController();
  readonly #endsAt: number | undefined;
  readonly #onAbort = (): void => {
    this.#controller.abort(this.call.signal?.reason);
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

  get signal(): AbortSignal {
    return this.#controller.signal;
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
    const left = this.#endsAt === undefined ? undefined : this.#endsAt - performance.now();
    if (left !== undefined && !(left > 0)) {
      throw new GearshiftError("DEADLINE_EXCEEDED", "the deadline had passed before the call; nothing was sent");
    }
    const headers = new Headers();
    for (const [name, value] of [...this.settings.headers, ...Object.entries(this.call.headers ?? {})]) {
      headers.append(name, value);
    }
    return { signal: this.signal, timeoutMs: left === undefined ? undefined : wholeMs(left), headers };
  }

  errorFrom(thrown: unknown): GearshiftError {
    return this.call.signal?.aborted === true ? this.#cancelled() : errorFrom(thrown);
  }

  abort(): void {
    this.release();
    this.#controller.abort();
  }

  /** Lets go of the caller's signal, which may live much longer. */
  release(): void {
    this.call.signal?.removeEventListener("abort", this.#onAbort);
  }

  #cancelled(): GearshiftError {
    const cause: unknown = this.signal.reason;
    return cause instanceof DOMException && cause.name === "TimeoutError"
      ? new GearshiftError("DEADLINE_EXCEEDED", "the call's signal timed out", { cause })
      : new GearshiftError("CANCELLED", "the call was cancelled", { cause });
  }
}

/** Reads what had arrived: only at its end does Connect let go of its timer, which keeps a Node process alive. */
async function drain(iterator: AsyncIterator<unknown>): Promise<void> {
  try {
    while ((await iterator.next()).done !== true);
  } catch {
    // It ended, as it was told to.
  }
}

async function* once<Message>(message: Message): AsyncGenerator<Message> {
  yield await Promise.resolve(message);
}
