/** The answer as it stands while it is written: what a page shows. */
import { Accumulator } from "./accumulator.js";
import type { AttemptEvent, Event, StartedEvent, SwitchEvent } from "./events.js";
import type { Completion, Cost, StageRef } from "./gen/gearshift/v1/answer_pb.js";
import type { ToolCall } from "./gen/gearshift/v1/call_pb.js";

/** Consecutive text of one attempt. */
export interface Piece {
  readonly text: string;
  readonly reasoning: string;
  /** The number of the attempt that wrote it; 0 when none was told. */
  readonly attempt: number;
  /** The stage that wrote it. */
  readonly stage: StageRef | undefined;
}

/** Text that was taken back, and why. */
export interface Retracted extends Piece {
  readonly reason: string;
}

/** The answer as it stands at one moment. */
export interface Snapshot {
  /** The text that stands. */
  readonly text: string;
  /** The reasoning that stands, apart from the text. */
  readonly reasoning: string;
  /** The text that will never be taken back: the beginning of `text`. */
  readonly committed: string;
  /** The number of the last delta that will never be taken back; 0 is none. */
  readonly checkpoint: number;
  /** The greatest number that has passed its windows: a hint, revocable; 0 is none. */
  readonly passedThrough: number;
  /** A preview until the end, then final. Act on them only when `completion` is set. */
  readonly toolCalls: readonly ToolCall[];
  /** The stage whose text stands last: the model that writes. */
  readonly writer: StageRef | undefined;
  /** The attempt that runs, or ran last. */
  readonly attempt: AttemptEvent | undefined;
  /** Every attempt so far, checks included. */
  readonly attempts: readonly AttemptEvent[];
  /** Every change of stage so far. */
  readonly switches: readonly SwitchEvent[];
  /** What was taken back so far, oldest first. */
  readonly retracted: readonly Retracted[];
  /** The opening event. */
  readonly started: StartedEvent | undefined;
  /** Everything known at the end; until it is there the text is a partial. */
  readonly completion: Completion | undefined;
  /** What the call cost; undefined until the end. */
  readonly cost: Cost | undefined;
  /** Whether text or tool calls are what the server says that it sent; undefined until the end. */
  readonly isIntact: boolean | undefined;
}

/** Something that gives events, and may know which of them came together. */
export interface EventSource extends AsyncIterable<Event> {
  batches?: () => AsyncIterable<readonly Event[]>;
}

/**
 * Gives the answer after each step of a stream: for a stream of this client once for each message, so that a retract
 * and the text that replaces it are one step. At the end it is checked, as `finish` does it.
 *
 * @throws GearshiftError the call failed, after the last snapshot. StreamProtocolError: the events break the contract.
 */
export async function* accumulate(
  events: EventSource,
  answer = new Accumulator(),
): AsyncGenerator<Snapshot, void, undefined> {
  for await (const batch of events.batches?.() ?? eachAlone(events)) {
    for (const event of batch) {
      answer.apply(event);
    }
    yield await answer.snapshot();
  }
  await answer.finish();
}

async function* eachAlone(events: AsyncIterable<Event>): AsyncGenerator<readonly Event[], void, undefined> {
  for await (const event of events) {
    yield [event];
  }
}
