/**
 * Streams that are iterated over and closed.
 *
 * Rules: a stream has one reader. Its call begins with the first `next` and ends with the last event, `close`, or
 * leaving `for await`.
 */
import { Accumulator } from "./accumulator.js";
import type { Messages } from "./connection.js";
import { GearshiftError } from "./errors.js";
import { eventFrom, type Event } from "./events.js";
import type { Answer } from "./gen/gearshift/v1/answer_pb.js";
import type { Event as WireEvent } from "./gen/gearshift/v1/stream_pb.js";

/** What all streams offer. */
export abstract class Stream<Item> implements AsyncIterableIterator<Item> {
  #isClosed = false;

  /**
   * Waits for the next one.
   *
   * @throws GearshiftError the call failed.
   */
  abstract receive(): Promise<Item | undefined>;

  /** Ends the call; what the server was doing for it is cancelled. Twice is fine. */
  close(): void {
    this.#isClosed = true;
  }

  async next(): Promise<IteratorResult<Item, undefined>> {
    const value = this.#isClosed ? undefined : await this.receive();
    return value === undefined ? { done: true, value: undefined } : { done: false, value };
  }

  return(): Promise<IteratorResult<Item, undefined>> {
    this.close();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

/** The messages of one call as they are. */
export class MessageStream<Message> extends Stream<Message> {
  constructor(private readonly messages: Messages<Message>) {
    super();
  }

  override receive(): Promise<Message | undefined> {
    return this.messages.next();
  }

  override close(): void {
    super.close();
    this.messages.close();
  }
}

/** One call that gives events. */
export interface RouteCall {
  readonly messages: Messages<{ readonly events: WireEvent[] }>;
  /** Told of every completion. */
  readonly ended: (promptKey: string) => Promise<void>;
  /** Gives the call to make instead, when the server has forgotten what this one counted on. */
  readonly again: ((error: GearshiftError) => Promise<RouteCall | undefined>) | undefined;
}

/**
 * The events of one answer.
 *
 * A system prompt that was sent by its key and is no longer known is sent again as text, by itself, once, before the
 * first event.
 */
export class RouteStream extends Stream<Event> {
  readonly #open: () => Promise<RouteCall>;
  #call: RouteCall | undefined;
  #isFirst = true;
  #isOver = false;
  #pending: Event[] = [];

  constructor(open: () => Promise<RouteCall>) {
    super();
    this.#open = open;
  }

  override async receive(): Promise<Event | undefined> {
    while (this.#pending.length === 0) {
      const batch = await this.#read();
      if (batch === undefined) {
        return undefined;
      }
      this.#pending = batch;
    }
    return this.#pending.shift();
  }

  /** Gives the events in the lists in which they came: what is in one list belongs on the screen at once. */
  async *batches(): AsyncGenerator<readonly Event[], void, undefined> {
    try {
      for (;;) {
        const batch = this.#pending.length > 0 ? this.#pending.splice(0) : await this.#read();
        if (batch === undefined) {
          return;
        }
        yield batch;
      }
    } finally {
      this.close();
    }
  }

  /**
   * Reads to the end and gives the answer, checked; `into` holds what stands also when this throws.
   *
   * @param into what has folded every event that was received before.
   * @throws GearshiftError the call failed. StreamProtocolError: the stream broke a rule of the contract, or ended
   *   without `completed`.
   */
  async fold(into = new Accumulator()): Promise<Answer> {
    for await (const batch of this.batches()) {
      for (const event of batch) {
        into.apply(event);
      }
    }
    return into.finish();
  }

  override close(): void {
    super.close();
    this.#isOver = true;
    this.#pending = [];
    this.#call?.messages.close();
  }

  async #read(): Promise<Event[] | undefined> {
    for (;;) {
      this.#call ??= await this.#open();
      if (this.#isOver) {
        this.#call.messages.close();
        return undefined;
      }
      try {
        const message = await this.#call.messages.next();
        this.#isFirst = false;
        if (message === undefined) {
          return undefined;
        }
        return await this.#taken(message.events, this.#call);
      } catch (error) {
        const instead = error instanceof GearshiftError && this.#isFirst ? await this.#call.again?.(error) : undefined;
        if (instead === undefined) {
          throw error;
        }
        this.#call = instead;
      }
    }
  }

  async #taken(events: readonly WireEvent[], call: RouteCall): Promise<Event[]> {
    const taken = events.map(eventFrom);
    for (const event of taken) {
      if (event.kind === "completed") {
        await call.ended(event.completion?.promptKey ?? "");
      }
    }
    return taken;
  }
}
