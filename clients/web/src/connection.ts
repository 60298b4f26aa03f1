/**
 * Makes calls on a transport: deadline, key, retries, errors of ours.
 *
 * Rules: the only file that calls Connect. Every call has a deadline, but for a stream that is said to be endless. A
 * call that fails throws GearshiftError; one whose signal was aborted is CANCELLED (DEADLINE_EXCEEDED when the signal
 * was a timeout's), and so is one whose client was closed. Leaving a stream, however, ends its call.
 */
import type { DescMessage, DescMethodServerStreaming, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { create } from "@bufbuild/protobuf";
import { ConnectError, type Transport } from "@connectrpc/connect";

import { GearshiftError } from "./errors.js";
import { Link } from "./link.js";
import type { CallSettings, Settings } from "./options.js";
import { RetryThrottle, pauseBefore, waitFor } from "./retries.js";

/** A transport and what goes with every call. */
export class Connection {
  readonly #throttle = new RetryThrottle();
  /** The calls that run, each with what lets go of it once it was aborted. */
  readonly #running = new Map<Link, () => void>();
  #isClosed = false;

  constructor(
    readonly transport: Transport,
    readonly settings: Settings,
  ) {}

  /** Ends the calls that run; later ones are CANCELLED. */
  close(): void {
    this.#isClosed = true;
    for (const [link, release] of this.#running) {
      link.abort(new GearshiftError("CANCELLED", "the client was closed"));
      release();
    }
  }

  /** Gives the settings of a call that may have to be made twice: each time with what is left of its one deadline. */
  bounded(call: CallSettings = {}): () => CallSettings {
    const endsAt = performance.now() + (call.deadlineMs ?? this.settings.deadlineMs);
    return () => ({ ...call, deadlineMs: endsAt - performance.now() });
  }

  /** Makes one unary call. */
  async unary<In extends DescMessage, Out extends DescMessage>(
    method: DescMethodUnary<In, Out>,
    request: MessageInitShape<In>,
    call: CallSettings = {},
  ): Promise<MessageShape<Out>> {
    const link = new Link(call, this.settings);
    try {
      return await this.#retried(link, async () => {
        const { signal, timeoutMs, headers } = this.#sent(link);
        return (await this.transport.unary(method, signal, timeoutMs, headers, request)).message;
      });
    } catch (thrown) {
      throw link.errorFrom(thrown);
    } finally {
      this.#running.delete(link);
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
      const { signal, timeoutMs, headers } = this.#sent(link);
      const response = await this.transport.stream(method, signal, timeoutMs, headers, once(create(method.input, request)));
      const iterator = response.message[Symbol.asyncIterator]();
      this.#running.set(link, () => {
        void drain(iterator);
      });
      return { iterator, first: await iterator.next() };
    };
    return new Messages(
      link,
      () => this.#retried(link, open),
      () => this.#running.delete(link),
    );
  }

  /** Gives what goes with a call that is sent now. */
  #sent(link: Link): ReturnType<Link["sent"]> {
    if (this.#isClosed) {
      throw new GearshiftError("CANCELLED", "the client is closed");
    }
    const sent = link.sent();
    this.#running.set(link, () => undefined);
    return sent;
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
        // A wait that outlasts the deadline is none: the caller learns at once what went wrong.
        if (pause === undefined || pause >= link.leftMs || link.signal.aborted) {
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
    private readonly ended: () => void,
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
      if (this.link.signal.aborted) {
        throw this.link.errorFrom(undefined); // its client was closed, which must not look like an end
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
    this.ended();
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
